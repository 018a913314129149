"""The environments as gymnasium vector environments on arrays, for use in other programs.

    from eoi.envs.to_gymnasium import vector_env

    envs = vector_env("firefighters", num_envs=64, tank=8)

Requires gymnasium besides torch and numpy.

Axes: N copies, A agents, U actions, O observation, S state.
"""

import secrets

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from eoi.config.schema import parse
from eoi.envs import REGISTRY
from eoi.envs.base import TimeStep
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Bool, Float, Int, Shaped

Info = dict[str, np.ndarray]


class Worlds(VectorEnv):
    """N copies of an environment of fixed episode length.

    For gymnasium a copy is one player with a row for each agent: observations [A, O], actions [A],
    and the team reward. `info["action_mask"]` [N, A, U] marks the available actions.

    Next-step autoreset: the step after the last one of an episode ignores its actions, returns
    reward 0 and the first observation of the next episode.
    """

    def __init__(self, name: str, num_envs: int = 1, **env_args: object):
        cls = REGISTRY[name]
        self.world = cls(parse(cls.Config, env_args, "env_args."), num_envs)
        spec = self.world.spec
        if not spec.fixed_length:  # all copies are reset together
            raise UserError(
                f"{name}: its episodes differ in length, and copies can only be reset together"
            )
        self.num_envs, self.render_mode = num_envs, "rgb_array"
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 4,
            "name": name,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
        }
        self._small = spec.obs_dtype == torch.uint8
        self.single_observation_space = box((spec.n_agents, spec.obs_size), self._small)
        self.single_action_space = spaces.MultiDiscrete([spec.n_actions] * spec.n_agents)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._root, self._episodes = root_key(secrets.randbits(31), "gymnasium"), 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Shaped[np.ndarray, "N A O"], Info]:
        """Start an episode in each copy. `seed`: restarts the streams of episodes; None: next."""
        if seed is not None:
            self._root, self._episodes = root_key(seed, "gymnasium"), 0
        key = fold(self._root, self._episodes)
        self._now = self.world.reset(fold(key, torch.arange(self.num_envs)))
        self._episodes += 1
        return self._seen(self._now), self._info(self._now)

    def step(
        self, actions: Int[np.ndarray, "N A"]
    ) -> tuple[
        Shaped[np.ndarray, "N A O"],
        Float[np.ndarray, " N"],
        Bool[np.ndarray, " N"],
        Bool[np.ndarray, " N"],
        Info,
    ]:
        if self._now.done.all():
            obs, info = self.reset()
        elif not self.action_space.contains(actions):
            raise ValueError(f"actions: expected an array in {self.action_space}")
        else:
            self._now = self.world.step(torch.as_tensor(actions, dtype=torch.int64))
            obs, info = self._seen(self._now), self._info(self._now)
        now = self._now
        return (
            obs,
            now.reward.numpy().copy(),
            now.terminated.numpy().copy(),
            now.truncated.numpy().copy(),
            info,
        )

    def _seen(self, now: TimeStep) -> Shaped[np.ndarray, "N A O"]:
        return (now.obs if self._small else now.obs.float()).numpy()

    def _info(self, now: TimeStep) -> Info:
        """The action mask, and the statistics of finished episodes."""
        return {"action_mask": now.avail.numpy().astype(np.int8)} | {
            name: value.numpy() for name, value in now.info.items()
        }

    def state(self) -> Float[np.ndarray, "N S"]:
        return self._now.state.numpy()

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self.world.render(copy) for copy in range(self.num_envs))

    def close_extras(self) -> None:
        self.world.close()


def box(shape: tuple[int, ...], small: bool) -> spaces.Box:
    return (
        spaces.Box(0, 255, shape, np.uint8)
        if small
        else spaces.Box(-np.inf, np.inf, shape, np.float32)
    )


def vector_env(name: str, num_envs: int = 1, **env_args: object) -> Worlds:
    """Vector environment of `num_envs` copies. `env_args`: its settings. Raises UserError."""
    return Worlds(name, num_envs, **env_args)
