"""Any PettingZoo parallel environment with discrete actions (Terry et al. 2021): padded, masked, with one team
reward or each agent's own.

    --env-config=pettingzoo with env_args.key=mpe2.simple_spread_v3

Observations of any kind are flattened (gymnasium.spaces.flatten) and padded with zeros to the longest; actions beyond an agent's own
are unavailable, as are those that its `action_mask` rules out. An agent that is gone sees zeros and has one action, which nobody reads.
The state is all observations side by side, or the environment's own. Needs requirements-pettingzoo.txt.

Axes: A agents, U actions, O observation, S state.
"""

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.envs.workers import GameEnv, GameStep
from eoi.utils.errors import UserError
from eoi.utils.shapes import Float, Int, UInt8

_INSTALL = "install what it needs: bash run.sh pip install -r requirements-pettingzoo.txt"
_INSTALLED = ("mpe2", "pettingzoo")  # by it


@dataclass(frozen=True, kw_only=True)
class PettingZooConfig:
    key: str = "mpe2.simple_spread_v3"  # a module with `parallel_env`, or MODULE:FUNCTION
    kwargs: dict | None = None  # what the function takes
    episode_limit: int | None = setting(
        1, default=None
    )  # steps; null: the environment's own max_cycles
    reward: Literal["sum", "mean", "individual"] = (
        "sum"  # of the agents' rewards, as the team's; individual: everybody learns from its own
    )
    state: Literal["observations", "own"] = "observations"
    workers: int = setting(0, default=0)  # processes; 0: all copies in this one

    def __post_init__(self) -> None:
        constructor(self.key)


def constructor(key: str) -> Callable[..., Any]:
    """The function that `key` names. Raises UserError."""
    module, _, name = key.partition(":")
    name = name or "parallel_env"
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UserError(f"env_args.key: {_not_imported(key, error)}") from None
    if not callable(found):
        raise UserError(
            f"env_args.key: {module} has no function {name!r}; MODULE:FUNCTION names another one"
        )
    return found


def _not_imported(key: str, error: ImportError) -> str:
    """Why, and what helps: a module of the user's own is to be found, not to be installed."""
    first = re.split(r"[.:]", key)[0]
    if isinstance(error, ModuleNotFoundError) and error.name == first and first not in _INSTALLED:
        return f"no module named {first} was found; put the folder it is in on PYTHONPATH"
    moved = (
        "; the MPE games are in a package of their own now, mpe2"
        if key.startswith("pettingzoo.mpe")
        else ""
    )
    return f"{key} cannot be imported ({error}){moved}; {_INSTALL}"


class Parallel:
    """One copy of a PettingZoo parallel environment as a game."""

    def __init__(self, cfg: PettingZooConfig):
        from gymnasium import spaces  # an optional package: only this class needs it

        self._flatten, self.cfg = spaces.flatten, cfg
        kwargs = dict(cfg.kwargs or {})
        self.env = self._made(constructor(cfg.key), kwargs)
        self.names: list[str] = list(self.env.possible_agents)
        self._views = {
            name: _inner(spaces, self.env.observation_space(name)) for name in self.names
        }
        moves = {name: self.env.action_space(name) for name in self.names}
        for name, space in moves.items():
            if not isinstance(space, spaces.Discrete):
                raise UserError(
                    f"env_args.key: the actions of {name} in {cfg.key} are {space}, not Discrete"
                )
        self._first = {name: int(space.start) for name, space in moves.items()}
        self._own = np.zeros(
            (len(self.names), max(int(space.n) for space in moves.values())), dtype=bool
        )
        for i, space in enumerate(moves.values()):
            self._own[i, : int(space.n)] = True
        width = max(spaces.flatdim(space) for space in self._views.values())
        self._obs = np.zeros((len(self.names), width), dtype=np.float32)
        self.limit = self._limit()
        self.spec = EnvSpec(
            n_agents=len(self.names),
            n_actions=self._own.shape[1],
            obs_size=width,
            state_size=self._state_size(),
            episode_limit=self.limit,
            fixed_length=False,
            obs_dtype=torch.float32,
            metrics=("agent_return",),
            individual_rewards=self.cfg.reward == "individual",
        )

    def _made(self, make: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        try:
            return make(**kwargs)
        except TypeError as error:
            raise UserError(
                f"env_args.kwargs: {self.cfg.key} does not take them ({error})"
            ) from None

    def _limit(self) -> int:
        limit = self.cfg.episode_limit or getattr(self.env.unwrapped, "max_cycles", None)
        if limit is None:
            raise UserError(
                f"env_args.episode_limit: {self.cfg.key} does not say how long an episode is; set it"
            )
        return int(limit)

    def _state_size(self) -> int:
        if self.cfg.state == "observations":
            return self._obs.size
        self.env.reset(seed=0)
        try:
            return int(np.asarray(self.env.state()).size)
        except (NotImplementedError, AttributeError):
            raise UserError(
                f"env_args.state: {self.cfg.key} has no state of its own; set env_args.state=observations"
            ) from None

    def reset(self, seed: int) -> GameStep:
        self.t, self.returns = 0, np.zeros(len(self.names), dtype=np.float32)
        observations, infos = self.env.reset(seed=seed)
        return self._moment(observations, infos, self._shared(self.returns), False, False)

    def step(self, actions: Int[np.ndarray, " A"]) -> GameStep:
        self.t += 1
        chosen = {
            name: int(actions[i]) + self._first[name]
            for i, name in enumerate(self.names)
            if name in self.env.agents
        }
        observations, rewards, _, truncations, infos = self.env.step(chosen)
        earned = np.array([float(rewards.get(name, 0.0)) for name in self.names], dtype=np.float32)
        self.returns = self.returns + earned
        over = not self.env.agents
        truncated = (over and any(truncations.values())) or (not over and self.t >= self.limit)
        return self._moment(
            observations, infos, self._shared(earned), over and not truncated, truncated
        )

    def _shared(self, earned: Float[np.ndarray, " A"]) -> float | np.ndarray:
        if self.cfg.reward == "individual":
            return earned
        return float(earned.sum() if self.cfg.reward == "sum" else earned.mean())

    def _moment(
        self,
        observations: Mapping[str, Any],
        infos: Mapping[str, Any],
        reward: float | np.ndarray,
        terminated: bool,
        truncated: bool,
    ) -> GameStep:
        obs, avail = np.zeros_like(self._obs), np.zeros_like(self._own)
        avail[:, 0] = True  # of the agents that are gone
        for i, name in enumerate(self.names):
            if name in observations:
                seen, mask = observations[name], (infos.get(name) or {}).get("action_mask")
                if isinstance(seen, Mapping) and "observation" in seen:
                    seen, mask = seen["observation"], seen.get("action_mask", mask)
                flat: Any = self._flatten(self._views[name], seen)
                obs[i, : len(flat)] = flat
                if name in self.env.agents:
                    avail[i] = self._own[i]
                    if mask is not None and np.any(mask):
                        avail[i, : len(mask)] &= np.asarray(mask, dtype=bool)
        self._last = obs
        return GameStep(
            obs,
            self._state(obs),
            avail,
            reward,
            terminated,
            truncated,
            {"agent_return": self.returns},
        )

    def _state(self, obs: Float[np.ndarray, "A O"]) -> Float[np.ndarray, " S"]:
        if self.cfg.state == "own":
            return np.asarray(self.env.state(), dtype=np.float32).ravel()
        return obs.ravel()

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """The environment's own picture, if it was made with render_mode rgb_array; else the observations, an agent a row."""
        if getattr(self.env.unwrapped, "render_mode", None) == "rgb_array":
            return np.asarray(self.env.render(), dtype=np.uint8)
        obs = self._last
        low, high = obs.min(), max(obs.max(), obs.min() + 1e-6)
        grey = ((obs - low) / (high - low) * 255).astype(np.uint8)
        return np.repeat(np.repeat(grey, 24, 0), 8, 1)[..., None].repeat(3, 2)

    def text(self) -> str:
        rows = [
            f"{name}: {' '.join(f'{value:.2f}' for value in row)}"
            for name, row in zip(self.names, self._last, strict=True)
        ]
        return "\n".join([self.cfg.key, f"step {self.t}", *rows])

    def close(self) -> None:
        self.env.close()


def _inner(spaces: Any, space: Any) -> Any:
    """The space of what is seen, where it comes with an action mask."""
    is_masked = isinstance(space, spaces.Dict) and "observation" in space.spaces
    return space["observation"] if is_masked else space


class PettingZoo(GameEnv):
    """N copies of a PettingZoo parallel environment."""

    Config = PettingZooConfig

    def __init__(self, cfg: PettingZooConfig, n_envs: int, device: torch.device | str = "cpu"):
        self.cfg = cfg
        super().__init__(functools.partial(Parallel, cfg), n_envs, cfg.workers, device)
