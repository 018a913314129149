"""Many runs' learners as one: parameters and buffers with a leading axis R, the loss and the choice of actions lifted over it.

This is the only place where learners meet the axis R. The members stay whole, ordinary learners whose parameters are views into the
stack's, so what is learnt in the stack is tested, measured and saved through them. Runs never meet: each has its own slice of
every product, of the optimiser's moments and of the clipping, and one that breaks breaks alone.

Axes: R runs, N copies of one run, A agents, O observation, U actions.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import vmap

from eoi.components.action_selection import Draws
from eoi.learners.learner import Descent, Group, Losses, Pair, Scalar

Tree = TypeVar("Tree")


def map_tensors(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """`tree` with function(x, its counterparts in `others`) for every tensor x; through dataclasses, tuples and dictionaries."""
    if isinstance(tree, Tensor):
        return function(tree, *others)  # pyright: ignore[reportReturnType] # a Tensor for a Tensor
    made: Any = tree
    rest: tuple[Any, ...] = others
    if is_dataclass(tree) and not isinstance(tree, type):
        names = [f.name for f in fields(tree)]
        made = replace(
            tree,
            **{
                n: map_tensors(function, getattr(tree, n), *(getattr(o, n) for o in rest))
                for n in names
            },
        )
    elif isinstance(tree, tuple):
        found = [map_tensors(function, *xs) for xs in zip(tree, *rest, strict=True)]
        made = type(tree)(*found) if hasattr(tree, "_fields") else tuple(found)
    elif isinstance(tree, dict):
        made = {k: map_tensors(function, x, *(o[k] for o in rest)) for k, x in tree.items()}
    return made


def stacked(trees: Sequence[Tree]) -> Tree:
    """All tensors of the trees along a new leading axis R."""
    return map_tensors(lambda *xs: torch.stack(xs), *trees)


def member(tree: Tree, run: int) -> Tree:
    """What is one run's in a stacked tree."""
    return map_tensors(lambda x: x[run], tree)


def lifted(function: Callable[..., Any], trees: Sequence[Any], axes: Sequence[int | None]) -> Any:
    """function(*trees) for every run at once: torch.vmap for arguments that are trees; their axis is 0, or None: the same for all."""
    found: list[tuple[Tensor, int | None]] = []
    for tree, axis in zip(trees, axes, strict=True):
        map_tensors(lambda x, axis=axis: found.append((x, axis)) or x, tree)

    def flat(*tensors: Tensor) -> Any:
        following = iter(tensors)
        return function(*map_tensors(lambda _: next(following), tuple(trees)))

    return vmap(flat, in_dims=tuple(axis for _, axis in found))(*(x for x, _ in found))


class _Lent:
    """Lends a module other parameters and buffers for the length of a call. torch.func.functional_call does, at many times the cost."""

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


class Stack(nn.Module):
    """A Learner made of R learners of one structure. Takes stacked batches [R, ...]; gives terms and statistics [R]."""

    def __init__(self, members: Sequence[Any], compiled: bool = False):
        """Raises ValueError when the members are not of one structure; numbers that are 0-dim buffers may differ."""
        super().__init__()
        if (
            len(
                {
                    tuple(
                        (name, x.shape) for name, x in (*m.named_parameters(), *m.named_buffers())
                    )
                    for m in members
                }
            )
            > 1
        ):
            raise ValueError("learners of different structures cannot be stacked")
        self.members = list(
            members
        )  # in a plain list, so that their views are not this module's parameters
        self.whole = copy.deepcopy(members[0])
        self.projected, self.phases = self.whole.projected, self.whole.phases
        for kind in ("parameter", "buffer"):
            for name, ours in list(getattr(self.whole, f"named_{kind}s")()):
                theirs = [getattr(m, f"get_{kind}")(name) for m in members]
                ours.data = torch.stack([x.data for x in theirs])
                for x, slice_ in zip(theirs, ours.data, strict=True):
                    x.data = slice_
        self._losses: Callable[..., Losses] = (
            torch.compile(self._plain_losses) if compiled else self._plain_losses
        )
        self._lent = _Lent(self.whole)

    def forward(self, batch: Any, t: Scalar, phase: int = 0) -> Losses:
        return self._losses(batch, t, phase)

    def _plain_losses(self, batch: Any, t: Scalar, phase: int) -> Losses:
        return self._lifted("forward", (batch, t), (0, None), phase)

    @torch.no_grad()
    def act(
        self,
        obs: Float[Tensor, "RN A O"],
        avail: Bool[Tensor, "RN A U"],
        draws: Draws,
        t: Scalar,
        greedy: bool,
    ) -> tuple[Int[Tensor, "RN A"], Float[Tensor, "RN A U"]]:
        """A Policy for R * N copies, those of one run together."""
        runs = len(self.members)
        apart = map_tensors(lambda x: x.unflatten(0, (runs, -1)), (obs, avail, draws))
        return map_tensors(
            lambda x: x.flatten(0, 1), self._lifted("act", (*apart, t), (0, 0, 0, None), greedy)
        )

    def _lifted(
        self, method: str, trees: Sequence[Any], axes: Sequence[int | None], *more: Any
    ) -> Any:
        def call(state: tuple[Tensor, ...], *args: Any) -> Any:
            with self._lent(state):
                return getattr(self.whole, method)(*args, *more)

        return lifted(call, (tuple(self._lent.own), *trees), (0, *axes))

    def shared(self) -> Sequence[nn.Parameter]:
        return self.whole.shared()

    def groups(self) -> Sequence[Group]:
        return self.whole.groups()

    def rates(self) -> list[list[float]]:
        """The learning rate of each group in each run."""
        return [
            [group.lr for group in groups]
            for groups in zip(*(m.groups() for m in self.members), strict=True)
        ]

    def targets(self) -> Sequence[Pair]:
        return self.whole.targets()

    def diagnose(self, batch: Any, t: Scalar) -> dict[str, Tensor]:
        return stacked([m.diagnose(member(batch, run), t) for run, m in enumerate(self.members)])


class StackDescent(Descent):
    """One optimiser for all runs. Adam's learning rate is one for a tensor: neighbours with the same rate share one."""

    run_axes = 1
    learner: Stack

    def __init__(self, stack: Stack):
        self._cuts: list[
            tuple[nn.Parameter, Tensor, slice]
        ] = []  # a parameter, its part that is optimised alone, which runs that is
        super().__init__(stack)

    def _optimised(self) -> list[dict[str, Any]]:
        found = []
        rates = [
            lrs
            for lrs, group in zip(self.learner.rates(), self.learner.groups(), strict=True)
            if _has_parameters(group)
        ]
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

    def state_of(self, run: int) -> dict[str, Any]:
        """What a Descent of this run alone would save."""
        alone = Descent(self.learner.members[run])
        views = {
            id(p): q
            for p, q in zip(
                self.learner.whole.parameters(), self.learner.members[run].parameters(), strict=True
            )
        }
        for p, cut, span in self._cuts:
            if span.start <= run < span.stop and cut in self.optimiser.state:
                state = self.optimiser.state[cut]
                moments = {
                    name: state[name][run - span.start].clone()
                    for name in ("exp_avg", "exp_avg_sq")
                }
                alone.optimiser.state[views[id(p)]] = {"step": state["step"].clone(), **moments}
        return {"optimiser": alone.optimiser.state_dict(), "copied_at": self.copied_at}


def _has_parameters(group: Group) -> bool:
    return any(True for module in group.modules for _ in module.parameters())
