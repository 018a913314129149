"""How a learner is fed: with transitions from a replay, or with the episodes just played. Axes: B batch, N copies, T time, A agents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi.components.action_selection import UpdateDraws
from eoi.components.episodes import Episodes
from eoi.components.replay_buffer import Batch, ReplayBuffer
from eoi.config.schema import setting
from eoi.utils.seeding import fold, uniform


@dataclass(frozen=True, kw_only=True)
class ReplayedConfig:
    update_interval: int = setting(1)  # environment steps an update
    learning_starts: int = setting(0)  # environment steps


class Replayed:
    """Off-policy: the updates due since the last call, each on transitions drawn from everything that was lived."""

    Config = ReplayedConfig

    def __init__(
        self, cfg: ReplayedConfig, learner: Any, replay: ReplayBuffer, batch_size: int, delta_t: int
    ):
        self.cfg, self.learner, self.replay, self.batch_size, self.delta_t = (
            cfg,
            learner,
            replay,
            batch_size,
            delta_t,
        )

    def insert(self, episodes: Episodes) -> None:
        self.replay.insert(episodes)

    def batches(
        self, key: Int[Tensor, ""], now: Float[Tensor, ""], t: int, updates: int
    ) -> Iterator[Batch]:
        """After `t` environment steps and `updates` updates."""
        due = t // self.cfg.update_interval - updates if t >= self.cfg.learning_starts else 0
        if due <= 0:
            return
        keys = fold(key, updates + torch.arange(due, device=key.device))
        drawn = self.replay.draw(keys, self.batch_size, self.delta_t)
        draws = (
            UpdateDraws.of_updates(keys, self.batch_size, self.replay.n_agents)
            if self.learner.draws
            else [None] * due
        )
        for rows, chance in zip(drawn, draws, strict=True):
            yield replace(self.replay.read(rows), draws=chance)


@dataclass(frozen=True, kw_only=True)
class RolledConfig:
    epochs: int = setting(1)  # passes over the episodes just played


@dataclass(frozen=True)
class Lesson:
    """Moments of the episodes just played, of one run or of R (*r), and what the learner made of them before its first step."""

    obs: Float[Tensor, "*r B A O"]
    state: Float[Tensor, "*r B S"]
    avail: Bool[Tensor, "*r B A U"]
    actions: Int[Tensor, "*r B A"]
    log_p: Float[Tensor, "*r B A"]  # log pi_i(a_i | o_i) of the policies that acted
    advantage: Float[Tensor, "*r B A"]
    returns: Float[Tensor, "*r B A"]
    memory: Batch | None = (
        None  # transitions of this and earlier rollouts, for extra terms that want more than the last one
    )

    def at(self, rows: Int[Tensor, " C"], memory: Batch | None) -> "Lesson":
        fields = {name: value[rows] for name, value in vars(self).items() if name != "memory"}
        return Lesson(**fields, memory=memory)


class Rolled:
    """On-policy: the episodes just played, shuffled and cut into minibatches, `epochs` times.

    A replay serves extra terms only, which may learn from more than the last rollout: one draw beside each minibatch.
    """

    Config = RolledConfig

    def __init__(
        self, cfg: RolledConfig, learner: Any, replay: ReplayBuffer, batch_size: int, delta_t: int
    ):
        self.cfg, self.learner, self.replay, self.batch_size, self.delta_t = (
            cfg,
            learner,
            replay,
            batch_size,
            delta_t,
        )
        self._episodes: Episodes | None = None

    def insert(self, episodes: Episodes) -> None:
        self._episodes = episodes
        if len(self.learner.extras):
            self.replay.insert(episodes)

    def batches(
        self, key: Int[Tensor, ""], now: Float[Tensor, ""], t: int, updates: int
    ) -> Iterator[Lesson]:
        assert self._episodes is not None, "a rollout comes first"
        lesson: Lesson = self.learner.study(self._episodes, now)
        count = len(lesson.obs)
        parts, key = max(1, count // self.batch_size), fold(key, updates)
        orders = uniform(
            fold(key, torch.arange(self.cfg.epochs, device=key.device)), count
        ).argsort(1)  # [epochs, rows]
        chosen = [rows for order in orders for rows in order.tensor_split(parts)]
        keys = fold(fold(key, self.cfg.epochs), torch.arange(len(chosen), device=key.device))
        memory = (
            self.replay.draw(keys, self.batch_size, self.delta_t)
            if len(self.learner.extras)
            else [None] * len(chosen)
        )
        for rows, remembered in zip(chosen, memory, strict=True):
            yield lesson.at(rows, None if remembered is None else self.replay.read(remembered))
