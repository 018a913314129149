"""The gradient step: loss, backward, clip, optimiser, target networks."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from eoi.components.batch import Batch
from eoi.learners.base import LearnerConfig, Losses, PerRun, Scalar, Trainable, gradient
from eoi.learners.finite import Finite
from eoi.learners.graphs import Graphs
from eoi.utils.errors import UserError

ParameterGroup = dict[str, Sequence[Tensor] | float]


class DescentState(TypedDict):
    """State of a descent in a checkpoint."""

    optimiser: dict[str, object]
    copied_at: list[int] | int  # of each pair of target networks; old checkpoints have one for all


@torch.no_grad()
def track(target: nn.Module, online: nn.Module, tau: float) -> None:
    """target <- (1 - tau) target + tau online."""
    for ours, theirs in zip(target.parameters(), online.parameters(), strict=True):
        ours.lerp_(theirs, tau)


def _sums(tensors: Sequence[Tensor], axes: int) -> Tensor:
    """Sum over all tensors of everything behind their first `axes` axes."""
    return torch.stack([x.flatten(axes).sum(-1) for x in tensors]).sum(0)


def _beside(scale: Tensor, x: Tensor) -> Tensor:
    """`scale`, of x's leading axes, in a shape that broadcasts over the rest."""
    return scale.view(*scale.shape, *(1 for _ in x.shape[scale.dim() :]))


def without_conflict(side: Sequence[Tensor], main: Sequence[Tensor], axes: int = 1) -> list[Tensor]:
    """`side` less its component against `main`, slice by slice of the first axes (agents)."""
    dot = _sums([s * m for s, m in zip(side, main, strict=True)], axes)
    share = dot.clamp(max=0) / _sums([m.square() for m in main], axes).clamp(min=1e-20)
    return [s - _beside(share, m) * m for s, m in zip(side, main, strict=True)]


def as_share(
    side: Sequence[Tensor], main: Sequence[Tensor], share: Tensor, axes: int = 1
) -> list[Tensor]:
    """`side` scaled to `share` times the norm of `main`, slice by slice of the first axes.

    `share` has the leading axes that number runs, none in a single run.
    """
    ours, theirs = (_sums([g.square() for g in gradients], axes) for gradients in (side, main))
    scale = _beside(share, ours) * (theirs / ours.clamp(min=1e-30)).sqrt()
    return [_beside(scale, s) * s for s in side]


def clip_each(gradients: Sequence[Tensor], limit: float, axes: int = 1) -> None:
    """Scales gradients in place so that no slice of their first axes has a norm above `limit`."""
    share = (limit / (_sums([g.square() for g in gradients], axes).sqrt() + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(_beside(share, g))


class Descent:
    """One optimiser over all parameters of a learner."""

    run_axes = 0  # leading axes of parameters, losses and statistics that number runs

    def __init__(self, learner: Trainable, graphs: bool = False):
        """`graphs`: record updates, and replay them as CUDA graphs; no effect on a CPU."""
        self.learner = learner
        groups = [
            (group, [p for m in group.modules for p in m.parameters()])
            for group in learner.groups()
        ]
        self._groups = [(group, parameters) for group, parameters in groups if parameters]
        self.optimiser = make_optimiser(learner.cfg, self._optimised())
        # Training episodes at the last hard copy of each target network.
        self.copied_at = [0 for _ in learner.targets()]
        self.finite = Finite()
        self._ahead = {*range(learner.phases)}  # phases without an update so far
        self._names: set[str] = set()  # of the terms of the others
        on_gpu = any(p.is_cuda for _, parameters in self._groups for p in parameters)
        plain = self._plain_descend
        self._descend = Graphs(plain) if graphs and on_gpu else plain

    def update(self, batch: Batch, t: Scalar, episode: int) -> dict[str, PerRun]:
        """One step down the loss of each phase; `episode` counts the training episodes so far.

        Raises UserError for a side term that does not exist, or whose share is not in `scaled`.
        """
        stats = self._descend(batch, t)
        self._follow(episode, self._phases(batch))
        return stats

    def _phases(self, batch: Batch) -> Sequence[int]:
        return range(self.learner.phases) if batch.phases is None else batch.phases

    def _plain_descend(self, batch: Batch, t: Scalar) -> dict[str, PerRun]:
        terms: dict[str, PerRun] = {}
        stats: dict[str, PerRun] = {}
        for phase in self._phases(batch):
            losses = self._step(batch, t, phase)
            terms |= losses.terms
            stats |= losses.stats
        self.finite.see(terms)
        if self._ahead:
            self._see(batch, terms)
        return stats

    def _see(self, batch: Batch, terms: Mapping[str, PerRun]) -> None:
        """Raises UserError for a side term that no phase has."""
        self._ahead -= {*self._phases(batch)}
        self._names |= terms.keys()
        unknown = {*self.learner.projected, *self.learner.scaled} - self._names
        if unknown and not self._ahead:
            raise UserError(
                f"projected, scaled: there is no loss term {min(unknown)!r}; "
                f"there are {', '.join(sorted(self._names))}"
            )

    def _optimised(self) -> list[ParameterGroup]:
        """The optimiser's groups: tensors with their learning rate."""
        return [{"params": parameters, "lr": group.lr} for group, parameters in self._groups]

    def _step(self, batch: Batch, t: Scalar, phase: int) -> Losses:
        for _, parameters in self._groups:
            for p in parameters:
                p.grad = None  # the optimiser leaves alone what has no gradient
        losses = self.learner(batch, t, phase)
        self._backward(losses)
        for group, parameters in self._groups:
            gradients = [p.grad for p in parameters if p.grad is not None]
            if group.clip and gradients:
                clip_each(gradients, group.clip, group.axes + self.run_axes)
        self._apply()
        return losses

    def _apply(self) -> None:
        self.optimiser.step()

    def _backward(self, losses: Losses) -> None:
        """Gradients of all terms; those of side terms meet the main ones agent by agent."""
        terms, axes = losses.terms, 1 + self.run_axes
        if undeclared := losses.shares.keys() - self.learner.scaled:
            raise UserError(f"Losses.shares: {min(undeclared)!r} is not in scaled; list it there")
        aside = {*losses.shares, *self.learner.projected} & terms.keys()
        shared = self.learner.shared()
        every = {name: gradient(term, shared) for name, term in terms.items() if name in aside}
        gradients = {name: found for name, found in every.items() if found}
        torch.stack([term for name, term in terms.items() if name not in aside]).sum().backward()
        if not gradients:
            return
        main = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in shared]
        for name, found in gradients.items():
            side: Sequence[Tensor] = found
            if name in losses.shares:
                side = as_share(side, main, losses.shares[name].detach(), axes)
            if name in self.learner.projected:
                side = without_conflict(side, main, axes)
            for p, g, m in zip(shared, side, main, strict=True):
                p.grad = (m if p.grad is None else p.grad) + g

    def _follow(self, episode: int, phases: Sequence[int]) -> None:
        for k, (target, online, tau, interval, phase) in enumerate(self.learner.targets()):
            if phase is not None and phase not in phases:
                continue
            if not interval:
                track(target, online, tau)
            elif episode - self.copied_at[k] >= interval:
                track(target, online, 1.0)
                self.copied_at[k] = episode

    def broken(self, run: int = 0) -> tuple[list[str], int]:
        """Loss terms that ceased to be finite first, and how many updates ago."""
        return self.finite.broken()

    def state_of(self, run: int = 0) -> DescentState:
        """State for a checkpoint of the run."""
        return {"optimiser": self.optimiser.state_dict(), "copied_at": [*self.copied_at]}

    def load_state(self, state: DescentState) -> None:
        devices = [group["capturable"] for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(state["optimiser"])
        # A property of this device, and not of the one that wrote the checkpoint.
        for group, capturable in zip(self.optimiser.param_groups, devices, strict=True):
            group["capturable"] = capturable
        copied = state["copied_at"]
        alike = [copied] * len(self.copied_at) if isinstance(copied, int) else copied
        self.copied_at = [*alike]


def make_optimiser(cfg: LearnerConfig, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """The optimiser that the settings name."""
    every: list[dict[str, Any]] = [dict(group) for group in groups]
    graphs = any(p.is_cuda for group in every for p in group["params"])
    if cfg.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            every, alpha=cfg.optim_alpha, eps=cfg.optim_eps, capturable=graphs
        )
    return torch.optim.Adam(every, eps=cfg.optim_eps, fused=True, capturable=graphs)
