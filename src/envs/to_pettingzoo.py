"""The environments as PettingZoo parallel environments, one game each, for use in other programs.

    from eoi.envs.to_pettingzoo import parallel_env

    env = parallel_env("firefighters", tank=8)

Requires pettingzoo besides torch and numpy. For many copies at once, use `to_gymnasium`, on arrays,
or the environment itself, on tensors and without auto-reset (`base.VecEnv`).

Axes: A agents, U actions, O observation, S state.
"""

import secrets
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from eoi.config.schema import parse
from eoi.envs import REGISTRY
from eoi.envs.base import TimeStep
from eoi.envs.to_gymnasium import box
from eoi.utils.seeding import fold, root_key

T = TypeVar("T")
PerAgent = dict[str, T]


class World(ParallelEnv[str, np.ndarray, np.int64]):
    """One copy of an environment. Every agent receives the team reward.

    `infos[agent]["action_mask"]` marks the available actions. An unavailable action is replaced by
    the first available one, because PettingZoo's own programs ignore masks.
    """

    def __init__(self, name: str, render_mode: str | None = None, **env_args: object):
        cls = REGISTRY[name]
        self.world = cls(parse(cls.Config, env_args, "env_args."), 1)
        self.metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4, "name": name}
        self.render_mode, self.spec = render_mode, self.world.spec
        self.possible_agents = [f"agent_{i}" for i in range(self.spec.n_agents)]
        self.agents: list[str] = []
        self._small = self.spec.obs_dtype == torch.uint8
        self._seen = {
            agent: box((self.spec.obs_size,), self._small) for agent in self.possible_agents
        }
        self._moves = {
            agent: spaces.Discrete(self.spec.n_actions) for agent in self.possible_agents
        }
        self._root, self._episodes = root_key(secrets.randbits(31), "pettingzoo"), 0
        self.state_space = box((self.spec.state_size,), small=False)

    def observation_space(self, agent: str) -> spaces.Box:
        return self._seen[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        return self._moves[agent]

    def reset(
        self, seed: int | None = None, options: dict | None = None
    ) -> tuple[PerAgent[np.ndarray], PerAgent[dict[str, np.ndarray]]]:
        """Start an episode. `seed`: restarts the stream of episodes; None: the next episode."""
        if seed is not None:
            self._root, self._episodes = root_key(seed, "pettingzoo"), 0
        self._now = self.world.reset(fold(self._root, self._episodes)[None])
        self._episodes += 1
        self.agents = list(self.possible_agents)
        return self._observations(self._now), self._infos(self._now)

    def step(
        self, actions: Mapping[str, int | np.integer]
    ) -> tuple[
        PerAgent[np.ndarray],
        PerAgent[float],
        PerAgent[bool],
        PerAgent[bool],
        PerAgent[dict[str, np.ndarray]],
    ]:
        chosen = [int(actions[agent]) for agent in self.possible_agents]
        for agent, action in zip(self.possible_agents, chosen, strict=True):
            if not 0 <= action < self.spec.n_actions:
                raise ValueError(f"{agent}: there is no action {action}")
        avail = self._now.avail[0]
        allowed = [u if avail[i, u] else int(avail[i].int().argmax()) for i, u in enumerate(chosen)]
        self._now = now = self.world.step(torch.tensor([allowed]))
        reward, terminated, truncated = float(now.reward), bool(now.terminated), bool(now.truncated)
        there = self.agents
        if terminated or truncated:
            self.agents = []
        ended, timed_out = dict.fromkeys(there, terminated), dict.fromkeys(there, truncated)
        return (
            self._observations(now),
            dict.fromkeys(there, reward),
            ended,
            timed_out,
            self._infos(now),
        )

    def _observations(self, now: TimeStep) -> dict[str, np.ndarray]:
        obs = (now.obs[0] if self._small else now.obs[0].float()).numpy()
        return {agent: row.copy() for agent, row in zip(self.possible_agents, obs, strict=True)}

    def _infos(self, now: TimeStep) -> PerAgent[dict[str, np.ndarray]]:
        """The action mask, and the statistics of a finished episode."""
        statistics = {name: value[0].numpy() for name, value in now.info.items()}
        masks = now.avail[0].numpy().astype(np.int8)
        return {
            agent: {"action_mask": mask, **statistics}
            for agent, mask in zip(self.possible_agents, masks, strict=True)
        }

    def state(self) -> np.ndarray:
        return self._now.state[0].numpy()

    def render(self) -> np.ndarray | str | None:
        if self.render_mode is None:
            return None
        return self.world.render() if self.render_mode == "rgb_array" else self.world.text()

    def close(self) -> None:
        self.world.close()


def parallel_env(name: str, render_mode: str | None = None, **env_args: object) -> World:
    """Parallel environment of one copy. `env_args`: its settings. Raises UserError."""
    return World(name, render_mode, **env_args)
