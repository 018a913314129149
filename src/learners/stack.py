"""Learners of many runs as one: parameters and buffers with a leading axis R.

The loss and the choice of actions are mapped over R. This is the only place where learners meet
that axis. The members stay whole, ordinary learners whose parameters are views into the stack's:
the stack's updates are tested, measured and saved through them. Runs never mix: each has its own
slice of every product, of the optimiser's moments and of the clipping; one that diverges diverges
alone.

Axes: R runs, N copies of one run, A agents, O observation, U actions.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from eoi.components.action_selection import Carry, Choice, Keys
from eoi.components.batch import Batch
from eoi.learners.base import Group, Learner, LearnerConfig, Losses, Pair, Scalar
from eoi.learners.descent import Descent, DescentState, ParameterGroup
from eoi.utils.shapes import Bool, Float
from eoi.utils.trees import map_tensors

Result = TypeVar("Result")


def lifted(
    function: Callable[..., Result], trees: Sequence[object], axes: Sequence[int | None]
) -> Result:
    """function(*trees) for every run at once: torch.vmap for arguments that are trees.

    `axes`: 0 for a tree with an axis R, None for one that all runs share.
    """
    found: list[tuple[Tensor, int | None]] = []
    for tree, axis in zip(trees, axes, strict=True):
        map_tensors(lambda x, axis=axis: found.append((x, axis)) or x, tree)

    def flat(*tensors: Tensor) -> Result:
        following = iter(tensors)
        return function(*map_tensors(lambda _: next(following), tuple(trees)))

    return vmap(flat, in_dims=tuple(axis for _, axis in found))(*(x for x, _ in found))


class _Slots:
    """Every place of a module that holds a parameter or a buffer.

    Calling it fills them with other tensors for a while, as torch.func.functional_call does at many
    times the cost.
    """

    def __init__(self, module: nn.Module):
        stores: list[dict[str, Any]] = [
            store for m in module.modules() for store in (m._parameters, m._buffers)
        ]
        self._slots = [
            (store, name) for store in stores for name, x in store.items() if x is not None
        ]
        self.own: list[Tensor] = [store[name] for store, name in self._slots]

    @contextlib.contextmanager
    def __call__(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        self._fill(tensors)
        try:
            yield
        finally:
            self._fill(self.own)

    def _fill(self, tensors: Sequence[Tensor]) -> None:
        for (store, name), x in zip(self._slots, tensors, strict=True):
            store[name] = x


class Seen(NamedTuple):
    """Arguments of `Learner.act` that differ from run to run."""

    obs: Tensor
    avail: Tensor
    carry: Carry
    keys: Keys


class Stack(nn.Module):
    """R learners of one structure. Takes batches [R, ...]; gives terms and statistics [R]."""

    def __init__(self, members: Sequence[Learner], compiled: bool = False):
        """Raises ValueError when the members are not of one structure.

        Numbers that are 0-dim buffers may differ.
        """
        super().__init__()
        shapes = {
            tuple((name, x.shape) for name, x in (*m.named_parameters(), *m.named_buffers()))
            for m in members
        }
        if len(shapes) > 1:
            raise ValueError("learners of different structures cannot be stacked")
        # In a plain list, so that the members' views are not this module's parameters.
        self.members = list(members)
        self.whole = copy.deepcopy(members[0])
        self.projected, self.scaled = self.whole.projected, self.whole.scaled
        self.phases = self.whole.phases
        for kind in ("parameter", "buffer"):
            for name, ours in list(getattr(self.whole, f"named_{kind}s")()):
                theirs = [getattr(m, f"get_{kind}")(name) for m in members]
                ours.data = torch.stack([x.data for x in theirs])
                for x, slice_ in zip(theirs, ours.data, strict=True):
                    x.data = slice_
        plain = self._plain_losses
        self._losses: Callable[..., Losses] = torch.compile(plain) if compiled else plain
        self._slots = _Slots(self.whole)

    @property
    def cfg(self) -> LearnerConfig:
        return self.whole.cfg

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        return self._losses(batch, t, phase)

    def _plain_losses(self, batch: Batch, t: Scalar, phase: int) -> Losses:
        def losses(state: tuple[Tensor, ...], batch: Batch, t: Scalar) -> Losses:
            with self._slots(state):
                return self.whole(batch, t, phase)

        return lifted(losses, (tuple(self._slots.own), batch, t), (0, 0, None))

    def start(self, n: int, device: torch.device) -> Carry:
        """The agents' memory before the first step of `n` episodes of all runs together."""
        return self.whole.start(n, device)

    @torch.no_grad()
    def act(
        self,
        obs: Float[Tensor, "RN A O"],
        avail: Bool[Tensor, "RN A U"],
        carry: Carry,
        keys: Keys,
        t: Scalar,
        greedy: bool,
    ) -> Choice:
        """`Learner.act` for R * N copies, those of one run together."""

        def act(state: tuple[Tensor, ...], seen: Seen, t: Scalar) -> Choice:
            with self._slots(state):
                return self.whole.act(*seen, t, greedy)

        runs, seen = len(self.members), Seen(obs, avail, carry, keys)
        seen = map_tensors(lambda x: x.unflatten(0, (runs, -1)), seen)
        choice = lifted(act, (tuple(self._slots.own), seen, t), (0, 0, None))
        return map_tensors(lambda x: x.flatten(0, 1), choice)

    def shared(self) -> Sequence[nn.Parameter]:
        return self.whole.shared()

    def groups(self) -> Sequence[Group]:
        return self.whole.groups()

    def rates(self) -> list[list[float]]:
        """The learning rate of each group in each run."""
        every = zip(*(m.groups() for m in self.members), strict=True)
        return [[group.lr for group in groups] for groups in every]

    def targets(self) -> Sequence[Pair]:
        return self.whole.targets()


class StackDescent(Descent):
    """One optimiser for all runs.

    An optimiser has one learning rate for a tensor; neighbouring runs with equal rates share one.
    """

    run_axes = 1
    learner: Stack

    def __init__(self, stack: Stack, graphs: bool = False):
        # A parameter, the part of it that is optimised apart, and the runs of that part.
        self._cuts: list[tuple[nn.Parameter, Tensor, slice]] = []
        super().__init__(stack, graphs)

    def _optimised(self) -> list[ParameterGroup]:
        """Slices [r, ...] of each parameter [R, ...]: r neighbouring runs of one learning rate."""
        found: list[ParameterGroup] = []
        every = zip(self.learner.rates(), self.learner.groups(), strict=True)
        rates = [lrs for lrs, group in every if _has_parameters(group)]
        for (_, parameters), lrs in zip(self._groups, rates, strict=True):
            for lr, runs in groupby(range(len(lrs)), lrs.__getitem__):
                first, *more = runs
                span = slice(first, [first, *more][-1] + 1)
                cuts = [(p, p.detach()[span], span) for p in parameters]
                found.append({"params": [cut for _, cut, _ in cuts], "lr": lr})
                self._cuts += cuts
        return found

    def _apply(self) -> None:
        for p, cut, span in self._cuts:
            cut.grad = None if p.grad is None else p.grad[span]
        super()._apply()

    def broken(self, run: int = 0) -> tuple[list[str], int]:
        return self.finite.broken(run)

    def state_of(self, run: int = 0) -> DescentState:
        """State of a `Descent` of this run alone."""
        alone = Descent(self.learner.members[run])
        whole = self.learner.whole.parameters()
        views = dict(zip(map(id, whole), self.learner.members[run].parameters(), strict=True))
        for p, cut, span in self._cuts:
            if span.start <= run < span.stop and cut in self.optimiser.state:
                alone.optimiser.state[views[id(p)]] = {
                    name: x[run - span.start].clone() if x.dim() else x.clone()
                    for name, x in self.optimiser.state[cut].items()
                }
        alone.copied_at = self.copied_at
        return alone.state_of()


def _has_parameters(group: Group) -> bool:
    return any(True for module in group.modules for _ in module.parameters())
