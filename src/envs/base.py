"""The interface of every environment: a batch of N independent copies. A single game is N = 1.

Axes: N copies, A agents, U actions, O observation, S state.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from eoi.utils.shapes import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class EnvSpec:
    """Facts about an environment. They are measured, never configured."""

    n_agents: int
    n_actions: int
    obs_size: int
    state_size: int
    episode_limit: int  # longest episode, in steps
    fixed_length: bool  # every episode lasts exactly `episode_limit` steps
    # uint8 where an observation is small counts, so that a replay stays small
    obs_dtype: torch.dtype
    # entries of TimeStep.info that are logged, as means over episodes
    metrics: tuple[str, ...]
    reward_max: float | None = None  # best possible return; None: unknown
    notice: str = ""  # a warning about this environment, printed once when a run starts
    # Copies are heavy programs: there may be fewer than asked for, and tests use those of training.
    scarce: bool = False
    # Each agent has its own reward; the team reward is their sum.
    individual_rewards: bool = False
    n_cells: int = 0  # grid worlds: free cells, the size of a position map


@dataclass(frozen=True)
class TimeStep:
    """Data of one time step. A finished copy repeats its last step, with reward 0, until reset."""

    obs: Tensor  # [N, A, O], spec.obs_dtype
    state: Float[Tensor, "N S"]
    avail: Bool[Tensor, "N A U"]
    reward: Float[Tensor, " N"]
    terminated: Bool[Tensor, " N"]  # the task ended: no bootstrapping
    truncated: Bool[Tensor, " N"]  # time ran out: value learners bootstrap
    # [N] or [N, A]; statistics of the episode so far, final once it is done. In the entry
    # `dropped`, 1 marks an episode that a fault of the machine cut short; it must not be used.
    info: dict[str, Tensor] = field(default_factory=dict)
    rewards: Float[Tensor, "N A"] | None = None  # each agent's own, if spec.individual_rewards

    @property
    def done(self) -> Bool[Tensor, " N"]:
        return self.terminated | self.truncated


@runtime_checkable
class VecEnv(Protocol):
    """N copies that step together, without auto-reset."""

    spec: EnvSpec
    n_envs: int

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        """Start an episode in every copy; its key is its only source of randomness."""
        ...

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        """Play one step.

        Worlds with unavailable actions raise ValueError if an unfinished copy gets one. The others
        do not look whether an action exists.
        """
        ...

    def render(self, copy: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """RGB picture of one copy."""
        ...

    def text(self, copy: int = 0) -> str:
        """Drawing of one copy in characters, for a terminal."""
        ...

    def close(self) -> None: ...
