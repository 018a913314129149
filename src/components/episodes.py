"""N whole episodes, padded to the longest possible. Axes: N copies, T time, A agents, U actions, O observation, S state."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi.envs.base import EnvSpec


@dataclass(frozen=True)
class Outcome:
    """How N episodes ended."""

    returns: Float[Tensor, " N"]  # undiscounted team return
    length: Int[Tensor, " N"]  # steps
    info: dict[str, Tensor]  # [N] or [N, A]


@dataclass(frozen=True)
class Episodes:
    """Written by the runner, one time step after the other; rows past an episode's `length` are padding."""

    obs: Tensor  # [N, T + 1, A, O], spec.obs_dtype
    state: Float[Tensor, "N T1 S"]
    avail: Bool[Tensor, "N T1 A U"]
    actions: Int[Tensor, "N T A"]
    reward: Float[Tensor, "N T"]
    terminated: Bool[Tensor, "N T"]
    length: Int[Tensor, " N"]
    rewards: Float[Tensor, "N T A"] | None = None  # each agent's own, in worlds that have them
    q: Float[Tensor, "N T A U"] | None = (
        None  # the action values the agents acted on, where somebody wants them
    )
    info: dict[str, Tensor] = field(default_factory=dict)  # of the finished episodes

    @staticmethod
    def allocate(
        spec: EnvSpec, n_envs: int, device: torch.device, with_q: bool = False
    ) -> "Episodes":
        n, t, agents, actions = n_envs, spec.episode_limit, spec.n_agents, spec.n_actions
        return Episodes(
            obs=torch.zeros(n, t + 1, agents, spec.obs_size, dtype=spec.obs_dtype, device=device),
            state=torch.zeros(n, t + 1, spec.state_size, device=device),
            avail=torch.zeros(n, t + 1, agents, actions, dtype=torch.bool, device=device),
            actions=torch.zeros(n, t, agents, dtype=torch.int64, device=device),
            reward=torch.zeros(n, t, device=device),
            terminated=torch.zeros(n, t, dtype=torch.bool, device=device),
            length=torch.full((n,), t, device=device),
            rewards=torch.zeros(n, t, agents, device=device) if spec.individual_rewards else None,
            q=torch.zeros(n, t, agents, actions, device=device) if with_q else None,
        )

    def at(self, copies: Bool[Tensor, " N"]) -> "Episodes":
        """Some of them."""
        fields: dict[str, Any] = {
            name: None if value is None else value[copies]
            for name, value in vars(self).items()
            if name != "info"
        }
        return Episodes(**fields, info={name: value[copies] for name, value in self.info.items()})

    def outcome(self) -> "Outcome":
        """What remains of the episodes when their memory is written over."""
        return Outcome(self.reward.sum(1), self.length.clone(), dict(self.info))
