"""The one interface of every world: a batch of N independent copies; a single game is N = 1.

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
    """Facts about a world. They are measured, never configured."""

    n_agents: int
    n_actions: int
    obs_size: int
    state_size: int
    episode_limit: int  # longest episode, in steps
    fixed_length: bool  # every episode lasts exactly `episode_limit` steps
    obs_dtype: (
        torch.dtype
    )  # uint8 where an observation is small counts, so that a replay stays small
    metrics: tuple[
        str, ...
    ]  # the entries of TimeStep.info whose mean over episodes is worth a curve
    reward_max: float | None = None  # best possible return, where it is known
    notice: str = ""  # what the user must know of this world; said once when a run starts
    scarce: bool = False  # copies are heavy programs: there may be fewer than asked for, and training and tests share them
    individual_rewards: bool = False  # agents earn for themselves; the team's reward is the sum
    n_cells: int = 0  # grid worlds: free cells, the size of a position map


@dataclass(frozen=True)
class TimeStep:
    """All that belongs to one moment. A finished copy repeats its last moment with reward 0 until the next reset."""

    obs: Tensor  # [N, A, O], spec.obs_dtype
    state: Float[Tensor, "N S"]
    avail: Bool[Tensor, "N A U"]
    reward: Float[Tensor, " N"]
    terminated: Bool[Tensor, " N"]  # the task ended: nothing is bootstrapped past it
    truncated: Bool[Tensor, " N"]  # time ran out: value learners bootstrap through it
    # [N] or [N, A]; about the episode so far, final once it is done. Where there is an entry `dropped`, a 1 says that the episode broke
    # off by a fault of the machine and must not be used.
    info: dict[str, Tensor] = field(default_factory=dict)
    rewards: Float[Tensor, "N A"] | None = None  # each agent's own, where spec.individual_rewards

    @property
    def done(self) -> Bool[Tensor, " N"]:
        return self.terminated | self.truncated


@runtime_checkable
class VecEnv(Protocol):
    """N copies played in step. There is no auto-reset."""

    spec: EnvSpec
    n_envs: int

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        """Starts an episode in every copy. All of a copy's randomness comes from its key (utils.seeding)."""
        ...

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        """Plays one step. Raises ValueError on an action that is not available to a living copy."""
        ...

    def render(self, copy: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of one copy."""
        ...

    def text(self, copy: int = 0) -> str:
        """The same for a terminal, without colours."""
        ...

    def close(self) -> None: ...
