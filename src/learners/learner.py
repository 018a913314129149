"""What every learner shares: how a pure loss becomes a gradient step, and how target networks follow.

A learner is an nn.Module that owns all its networks. `forward(batch, t, phase)` is pure: no random draw, no host synchronisation, no
state written; numbers that may differ from run to run (discount, alpha, ...) are 0-dim buffers. So the same code serves one run
or, lifted by torch.vmap over stacked parameters and buffers, many (learners/stack.py).

An update descends a learner's phases one after the other (a critic, then the actors by the critic just moved); a phase moves the
parameters its loss reaches, and no others. Most learners have one.

Axes: B batch, A agents, U actions.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from eoi.components.replay_buffer import Batch
from eoi.learners.finite import Finite

Scalar = Float[Tensor, ""]
PerRun = Float[Tensor, "*r"]  # [] in one run, [R] in a stack
Stats = dict[str, Scalar]


class Losses(NamedTuple):
    """The terms of one loss, by name; their sum is descended. Statistics carry no gradient. Both are PerRun."""

    terms: dict[str, Scalar]
    stats: Stats


class Group(NamedTuple):
    """Parameters with one learning rate, clipped together."""

    modules: Sequence[nn.Module]
    lr: float
    clip: float = 0.0  # largest gradient norm; 0: any
    axes: int = (
        0  # leading axes of every parameter whose slices are clipped one by one; 1: agent by agent
    )


class Pair(NamedTuple):
    """A target network and what it follows."""

    target: nn.Module
    online: nn.Module
    tau: float  # share taken over at each update
    interval: int = 0  # episodes between whole copies; 0: soft, at every update


class Values(NamedTuple):
    """What a value learner has computed already and lends to the extra terms of its loss."""

    q: Float[Tensor, "B A U"]  # online, with its graph
    next_q: Float[Tensor, "B A U"]  # target network, next observation, no graph


class Policies(NamedTuple):
    """What a policy learner lends instead."""

    log_p: Float[Tensor, "B A U"]  # log pi_i(. | o_i), with its graph
    of: Callable[
        [Float[Tensor, "*b A O"], Bool[Tensor, "*b A U"]], Float[Tensor, "*b A U"]
    ]  # the same of other observations


@runtime_checkable
class Extra(Protocol):
    """Further terms of a learner's loss, with networks of their own. The learner knows no more of them than this."""

    projected: frozenset[str]

    def losses(self, batch: Batch, values: Any, t: Scalar) -> Losses: ...  # Values, or Policies
    def groups(self) -> Sequence[Group]: ...
    def targets(self) -> Sequence[Pair]: ...
    def diagnose(self, batch: Batch, values: Any) -> Stats: ...


@runtime_checkable
class Learner(Protocol):
    """One loss over its own networks."""

    projected: frozenset[str]  # terms whose gradient gives up what opposes the rest's
    phases: int  # losses descended one after the other

    def __call__(
        self, batch: Any, t: Scalar, phase: int = 0
    ) -> Losses: ...  # a Batch, or what the learner is fed with
    def shared(
        self,
    ) -> Sequence[nn.Parameter]: ...  # the agents' parameters, which several terms reach
    def groups(self) -> Sequence[Group]: ...
    def targets(self) -> Sequence[Pair]: ...
    def diagnose(self, batch: Any, t: Scalar) -> Stats: ...


Shaping = Callable[
    [Batch, Scalar], Float[Tensor, "B A"]
]  # rewards of the single agents, added to the team's
Rearrange = Callable[
    [Batch, Scalar], tuple[Batch, Stats]
]  # hands agents each other's experience before they learn

# Where others attach to a learner: what it lends to extra terms, and arguments of its constructor. A learner `accepts` some, an
# addition `needs` some; every learner takes extra terms that need nothing.
Slot = Literal["values", "policies", "shaping", "explore", "rearrange"]


def weighted(x: Float[Tensor, "B A"], weight: Float[Tensor, "B A"] | None) -> Float[Tensor, "B A"]:
    """The same value with a gradient `weight` times as large."""
    return x if weight is None else weight * x + ((1 - weight) * x).detach()


def scalar(module: nn.Module, name: str, value: int | float) -> None:
    """A number that may differ between stacked runs: a buffer that is not part of a checkpoint."""
    module.register_buffer(name, torch.tensor(float(value)), persistent=False)


@torch.no_grad()
def track(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau online."""
    for ours, theirs in zip(target.parameters(), online.parameters(), strict=True):
        ours.lerp_(theirs, tau)


Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """A target network: equal at the start, and never descended."""
    return copy.deepcopy(module).requires_grad_(False)


def norm(gradients: Sequence[Tensor]) -> Scalar:
    """Euclidean norm of all of them as one vector."""
    return torch.stack([g.square().sum() for g in gradients]).sum().sqrt()


def cosine(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Scalar:
    dot = torch.stack([(a * b).sum() for a, b in zip(ours, theirs, strict=True)]).sum()
    return dot / (norm(ours) * norm(theirs)).clamp(min=1e-20)


def _sums(tensors: Sequence[Tensor], axes: int) -> Tensor:
    """The sum over all tensors of what lies behind their first `axes` axes."""
    return torch.stack([x.flatten(axes).sum(-1) for x in tensors]).sum(0)


def _beside(scale: Tensor, x: Tensor) -> Tensor:
    """`scale`, of x's leading axes, in a shape that broadcasts over the rest."""
    return scale.view(*scale.shape, *(1 for _ in x.shape[scale.dim() :]))


def without_conflict(side: Sequence[Tensor], main: Sequence[Tensor], axes: int = 1) -> list[Tensor]:
    """`side` less its component against `main`, slice by slice of the first axes (agents): a conflict is a negative product."""
    dot = _sums([s * m for s, m in zip(side, main, strict=True)], axes)
    share = dot.clamp(max=0) / _sums([m.square() for m in main], axes).clamp(min=1e-20)
    return [s - _beside(share, m) * m for s, m in zip(side, main, strict=True)]


def clip_each(gradients: Sequence[Tensor], limit: float, axes: int = 1) -> None:
    """Scales the gradients in place so that no slice of their first axes (agents) has a norm above `limit`."""
    share = (limit / (_sums([g.square() for g in gradients], axes).sqrt() + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(_beside(share, g))


class Descent:
    """One optimiser over all of a learner's parameters: loss, backward, clip, step, targets."""

    run_axes = 0  # leading axes of parameters, losses and statistics that number runs

    def __init__(self, learner: Learner):
        self.learner = learner
        groups = [
            (group, [p for m in group.modules for p in m.parameters()])
            for group in learner.groups()
        ]
        self._groups = [(group, parameters) for group, parameters in groups if parameters]
        self.optimiser = torch.optim.Adam(self._optimised(), fused=True)
        self.copied_at = 0  # training episodes at the last hard copy of the targets
        self.finite = Finite()

    def update(self, batch: Any, t: Scalar, episode: int) -> dict[str, PerRun]:
        """One step down the loss of each phase; `episode` counts the training episodes so far."""
        terms, stats = {}, {}
        for phase in range(self.learner.phases):
            losses = self._step(batch, t, phase)
            terms |= losses.terms
            stats |= losses.stats
        self.finite.see(terms)
        self._follow(episode)
        return stats

    def _optimised(self) -> list[dict[str, Any]]:
        return [{"params": parameters, "lr": group.lr} for group, parameters in self._groups]

    def _step(self, batch: Any, t: Scalar, phase: int) -> Losses:
        for _, parameters in self._groups:
            for p in parameters:
                p.grad = None  # Adam leaves alone what has no gradient
        losses = self.learner(batch, t, phase)
        self._backward(losses.terms)
        for group, parameters in self._groups:
            gradients = [p.grad for p in parameters if p.grad is not None]
            if group.clip and gradients:
                clip_each(gradients, group.clip, group.axes + self.run_axes)
        self._apply()
        return losses

    def _apply(self) -> None:
        self.optimiser.step()

    def broken(self) -> tuple[list[str], int]:
        """The terms of the loss that ceased to be finite first, and how many updates ago."""
        return self.finite.broken()

    def state(self) -> dict[str, Any]:
        return {"optimiser": self.optimiser.state_dict(), "copied_at": self.copied_at}

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimiser"])
        self.copied_at = state["copied_at"]

    def _backward(self, terms: dict[str, PerRun]) -> None:
        side = {name: term for name, term in terms.items() if name in self.learner.projected}
        gradients = [
            torch.autograd.grad(term.sum(), self.learner.shared(), retain_graph=True)
            for term in side.values()
        ]
        torch.stack([term for name, term in terms.items() if name not in side]).sum().backward()
        main = (
            [
                torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for p in self.learner.shared()
            ]
            if side
            else []
        )
        for gradient in gradients:
            for p, g, m in zip(
                self.learner.shared(),
                without_conflict(gradient, main, 1 + self.run_axes),
                main,
                strict=True,
            ):
                p.grad = (m if p.grad is None else p.grad) + g

    def _follow(self, episode: int) -> None:
        copied = False
        for target, online, tau, interval in self.learner.targets():
            if not interval:
                track(target, online, tau)
            elif episode - self.copied_at >= interval:
                track(target, online, 1.0)
                copied = True
        if copied:
            self.copied_at = episode
