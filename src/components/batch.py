"""The experience that a loss learns from.

Axes: *b is B transitions, or B episodes of T steps; A agents, U actions, O observation, S state.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from eoi.utils.shapes import Bool, Float, Int
from eoi.utils.trees import map_tensors


@dataclass(frozen=True)
class Batch:
    """Transitions [B], or episodes [B, T] padded to one length.

    A batch of a fleet has an axis R in front of all others (see learners/stack.py).
    Of the optional fields, the replay fills in those that the learner `wants`, where it has them;
    sources, learners and extras fill in the others.
    """

    obs: Float[Tensor, "*b A O"]
    state: Float[Tensor, "*b S"]
    avail: Bool[Tensor, "*b A U"]
    actions: Int[Tensor, "*b A"]
    reward: Float[Tensor, "*b"]  # the team's
    terminated: Float[Tensor, "*b"]  # 1: nothing is bootstrapped
    next_obs: Float[Tensor, "*b A O"]
    next_state: Float[Tensor, "*b S"]
    next_avail: Bool[Tensor, "*b A U"]
    rewards: Float[Tensor, "*b A"] | None = None  # each agent's own, in worlds that have them
    valid: Float[Tensor, "*b"] | None = None  # 0 for padding; None: there is none
    last_actions: Int[Tensor, "*b A"] | None = None  # -1 at the first step of an episode
    earlier: Float[Tensor, "*b A O"] | None = None  # an observation some steps before (EOI, eq. 2)
    last_obs: Float[Tensor, "*b A O"] | None = None  # the observation one step before
    has_earlier: Float[Tensor, "*b"] | None = None  # 0 at the first step, where both are `obs`
    kept: dict[str, Tensor] = field(default_factory=dict)  # [*b, ...]: `Choice.keep`, `PPO.study`
    key: Int[Tensor, "*r"] | None = None  # for losses that draw random numbers
    cells: Int[Tensor, "*b A"] | None = None  # of a rollout: each agent's cell, if recorded
    next_cells: Int[Tensor, "*b A"] | None = None
    weight: Float[Tensor, "*b A"] | None = None  # of each agent's gradient; None: 1
    unswapped: "Batch | None" = None  # before agents were given each other's experience (LFO)
    memory: "Batch | None" = None  # on-policy learners: transitions of this and earlier rollouts
    phases: tuple[int, ...] | None = None  # of the loss that it is for; None: all

    @property
    def earned(self) -> Float[Tensor, "*b M"]:
        """Reward in a target: the team's [*b, 1], or each agent's own [*b, A]."""
        return self.reward[..., None] if self.rewards is None else self.rewards

    @property
    def length(self) -> Int[Tensor, " B"] | None:
        """Steps of each episode, where they differ."""
        return None if self.valid is None else self.valid.sum(1).long()

    def mean(self, x: Tensor) -> Tensor:
        """Mean of `x` [*b, ...] over the batch, padding left out: [...]."""
        axes = tuple(range(self.reward.dim()))
        if self.valid is None:
            return x.mean(axes)
        valid = self.valid.view(*self.valid.shape, *(1 for _ in x.shape[len(axes) :]))
        return (x * valid).sum(axes) / self.valid.sum()


def mean_of(batch: Batch, x: Tensor) -> Tensor:
    """Mean over everything in `x` [*b, ...], padding left out: a scalar."""
    return x.mean() if batch.valid is None else batch.mean(x).mean()


def weighted(
    x: Float[Tensor, "*b A"], weight: Float[Tensor, "*b A"] | None
) -> Float[Tensor, "*b A"]:
    """`x` with its gradient multiplied by `weight`; the value stays."""
    return x if weight is None else weight * x + ((1 - weight) * x).detach()


def of_actions(x: Float[Tensor, "*b U"], actions: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Value of each chosen action."""
    return x.gather(-1, actions[..., None]).squeeze(-1)


def last_of(actions: Int[Tensor, "B T A"]) -> Int[Tensor, "B T A"]:
    """Each step's previous action; -1 at the first step."""
    return torch.cat([torch.full_like(actions[:, :1], -1), actions[:, :-1]], 1)


def plain(batch: Batch | None) -> dict[str, Any] | None:
    """Dictionaries and tensors in place of a batch: a checkpoint holds no classes."""
    if batch is None:
        return None
    batch = map_tensors(torch.clone, batch)  # a file would hold all of the memory behind a view
    nested = {"unswapped": plain(batch.unswapped), "memory": plain(batch.memory)}
    return vars(batch) | nested


def from_plain(content: dict[str, Any] | None) -> Batch | None:
    """The batch that `plain` was given."""
    if content is None:
        return None
    nested = {name: from_plain(content[name]) for name in ("unswapped", "memory")}
    fields: dict[str, Any] = content | nested
    return Batch(**fields)
