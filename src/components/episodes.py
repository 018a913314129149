"""N whole episodes, padded to the longest possible.

Axes: N copies, T time (T1 = T + 1), A agents, U actions, O observation, S state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from eoi.components.batch import Batch, last_of
from eoi.envs.base import EnvSpec
from eoi.utils.shapes import Bool, Float, Int
from eoi.utils.trees import map_tensors


class Kept(NamedTuple):
    """Storage of one tensor that acting produces at every step."""

    shape: tuple[int, ...]  # of one step of one copy
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Outcome:
    """Results of N finished episodes."""

    returns: Float[Tensor, " N"]  # undiscounted team return
    length: Int[Tensor, " N"]  # steps
    info: dict[str, Tensor]  # [N] or [N, A]


@dataclass(frozen=True)
class Episodes:
    """Written by the runner, one time step after the other; rows past `length` are padding."""

    obs: Tensor  # [N, T1, A, O], spec.obs_dtype
    state: Float[Tensor, "N T1 S"]
    avail: Bool[Tensor, "N T1 A U"]
    actions: Int[Tensor, "N T A"]
    reward: Float[Tensor, "N T"]
    terminated: Bool[Tensor, "N T"]
    length: Int[Tensor, " N"]
    rewards: Float[Tensor, "N T A"] | None = None  # each agent's own, in worlds that have them
    kept: dict[str, Tensor] = field(default_factory=dict)  # [N, T, ...], from `Choice.keep`
    info: dict[str, Tensor] = field(default_factory=dict)  # of the finished episodes
    cells: Int[Tensor, "N T1 A"] | None = None  # each agent's cell, if recorded

    @staticmethod
    def allocate(
        spec: EnvSpec,
        n_envs: int,
        device: torch.device,
        keeps: Mapping[str, Kept] | None = None,
        with_cells: bool = False,
    ) -> "Episodes":
        """Memory for N episodes. `with_cells`: for the agents' cells, in worlds that have them."""
        n, t, agents = n_envs, spec.episode_limit, spec.n_agents

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(n, *shape, dtype=dtype, device=device)

        return Episodes(
            obs=zeros(t + 1, agents, spec.obs_size, dtype=spec.obs_dtype),
            state=zeros(t + 1, spec.state_size),
            avail=zeros(t + 1, agents, spec.n_actions, dtype=torch.bool),
            actions=zeros(t, agents, dtype=torch.int64),
            reward=zeros(t),
            terminated=zeros(t, dtype=torch.bool),
            length=torch.full((n,), t, device=device),
            rewards=zeros(t, agents) if spec.individual_rewards else None,
            kept={k: zeros(t, *x.shape, dtype=x.dtype) for k, x in (keeps or {}).items()},
            cells=zeros(t + 1, agents, dtype=torch.int64) if with_cells and spec.n_cells else None,
        )

    def at(self, copies: Bool[Tensor, " N"] | slice) -> "Episodes":
        """Episodes selected by the mask or slice `copies`."""
        return map_tensors(lambda x: x[copies], self)

    def outcome(self) -> Outcome:
        """Results, copied out of the memory that the next rollout writes over."""
        return Outcome(self.reward.sum(1), self.length.clone(), dict(self.info))

    def valid(self) -> Bool[Tensor, "N T"]:
        """False for padding."""
        steps = torch.arange(self.reward.shape[1], device=self.reward.device)
        return steps < self.length[:, None]

    def batch(self) -> Batch:
        """All episodes as one batch [N, T]."""
        obs = self.obs.float()
        return Batch(
            obs=obs[:, :-1],
            state=self.state[:, :-1],
            avail=self.avail[:, :-1],
            actions=self.actions,
            reward=self.reward,
            terminated=self.terminated.float(),
            next_obs=obs[:, 1:],
            next_state=self.state[:, 1:],
            next_avail=self.avail[:, 1:],
            rewards=self.rewards,
            valid=self.valid().float(),
            last_actions=last_of(self.actions),
            kept=self.kept,
            cells=None if self.cells is None else self.cells[:, :-1],
            next_cells=None if self.cells is None else self.cells[:, 1:],
        )
