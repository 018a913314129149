"""Any PettingZoo parallel environment with discrete actions (Terry et al. 2021).

    --env-config=pettingzoo with env_args.key=mpe2.simple_spread_v3

Observations are flattened (gymnasium.spaces.flatten) and padded with zeros to the longest. Actions
beyond an agent's own, and those outside its `action_mask`, are unavailable. An agent that has left
observes zeros and has one action, which is ignored. The state is all observations side by side, or
the environment's own state. Requires the packages in requirements-pettingzoo.txt.

Axes: A agents, U actions, O observation, S state.
"""

import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.envs.workers import GameEnv, GameStep
from eoi.utils.errors import UserError
from eoi.utils.places import PIP, install
from eoi.utils.shapes import Float, Int, UInt8

if TYPE_CHECKING:  # optional packages
    from gymnasium import Space
    from pettingzoo import ParallelEnv

_RGB = "rgb_array"  # the render mode whose pictures are arrays
_RESET = ("observations", "infos")
_STEP = ("observations", "rewards", "terminations", "truncations", "infos")
_PACKAGES = ("mpe2", "pettingzoo", "gymnasium")  # those of requirements-pettingzoo.txt


@dataclass(frozen=True, kw_only=True)
class PettingZooConfig:
    key: str = "mpe2.simple_spread_v3"  # a module with `parallel_env`, or MODULE:FUNCTION
    kwargs: dict | None = None  # arguments of the function
    # Steps; null: the environment's max_cycles
    episode_limit: int | None = setting(1, default=None)
    # Team reward from the agents' rewards; individual: each agent learns from its own
    reward: Literal["sum", "mean", "individual"] = "sum"
    state: Literal["observations", "own"] = "observations"
    # Processes; 0: all copies in the current process
    workers: int = setting(0, default=0, inert=True)

    def __post_init__(self) -> None:
        constructor(self.key)

    @property
    def modules(self) -> tuple[str, ...]:
        """The module of the game."""
        return (self.key.partition(":")[0],)


def constructor(key: str) -> Callable[..., Any]:
    """Function that `key` names. Raises UserError."""
    module, _, name = key.partition(":")
    name = name or "parallel_env"
    if not module or module.startswith("."):
        raise UserError(f"env_args.key: expected a module or MODULE:FUNCTION, got {key!r}")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UserError(f"env_args.key: {_not_imported(key, error)}") from None
    if not callable(found):
        raise UserError(
            f"env_args.key: {module} has no function {name!r}; "
            "write MODULE:FUNCTION for a function with another name"
        )
    return found


def _not_imported(key: str, error: ImportError) -> str:
    """Reason and remedy. The user's own module must be on the path; a package, installed."""
    first = re.split(r"[.:]", key)[0]
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    package = missing.split(".")[0]
    if missing == first and first not in _PACKAGES:
        return f"no module named {first} was found; put its folder on PYTHONPATH"
    if key.startswith("pettingzoo.mpe"):
        remedy = f"the MPE games are now in the package mpe2: {install('pettingzoo')}"
    elif package == first and importlib.util.find_spec(first):
        remedy = f"{first} is installed, but has no module {missing}"
    elif not package or package in _PACKAGES:
        remedy = f"install its packages: {install('pettingzoo')}"
    else:
        remedy = f"install the package {package}: {PIP} {package}"
    return f"{key} cannot be imported ({error}); {remedy}"


class Parallel:
    """One copy of a PettingZoo parallel environment as a game."""

    def __init__(self, cfg: PettingZooConfig):
        from gymnasium import spaces  # an optional package

        self._flatten, self.cfg = spaces.flatten, cfg
        kwargs = dict(cfg.kwargs or {})
        self.env = self._made(constructor(cfg.key), kwargs)
        self._replaced: list[ParallelEnv] = []
        # Whether to make it again, in a mode that draws
        self._drawable = "render_mode" not in kwargs and _RGB in _render_modes(self.env)
        self.names: list[str] = list(self.env.possible_agents)
        self._views = {name: _unmasked(self.env.observation_space(name)) for name in self.names}
        moves: dict[str, spaces.Discrete] = {}
        for name in self.names:
            space = self.env.action_space(name)
            if not isinstance(space, spaces.Discrete):
                raise UserError(
                    f"env_args.key: the actions of {name} in {cfg.key} are {space}, not Discrete"
                )
            moves[name] = space
        self._first = {name: int(space.start) for name, space in moves.items()}
        self._own = np.zeros(
            (len(self.names), max(int(space.n) for space in moves.values())), dtype=bool
        )
        for i, space in enumerate(moves.values()):
            self._own[i, : int(space.n)] = True
        self._widths = {name: spaces.flatdim(space) for name, space in self._views.items()}
        width = max(self._widths.values())
        self._obs = np.zeros((len(self.names), width), dtype=np.float32)
        self._failed = False  # drawing
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

    def _made(
        self, make: "Callable[..., ParallelEnv]", kwargs: Mapping[str, object]
    ) -> "ParallelEnv":
        try:
            made = make(**kwargs)
        except ImportError as error:
            raise UserError(f"env_args.key: {_not_imported(self.cfg.key, error)}") from None
        except TypeError as error:
            raise UserError(
                f"env_args.kwargs: {self.cfg.key} does not take them ({error})"
            ) from None
        if not hasattr(made, "possible_agents"):
            raise UserError(
                f"env_args.key: {self.cfg.key} makes no parallel environment of PettingZoo, but a"
                f" {type(made).__name__}"
            )
        return made

    def _limit(self) -> int:
        limit = self.cfg.episode_limit or getattr(self.env.unwrapped, "max_cycles", None)
        if limit is None:
            raise UserError(
                f"env_args.episode_limit: {self.cfg.key} has no max_cycles; "
                "set the number of steps of an episode"
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
                f"env_args.state: {self.cfg.key} has no state of its own; "
                "set env_args.state=observations"
            ) from None

    def reset(self, seed: int) -> GameStep:
        self._seed = seed
        self.t, self.returns = 0, np.zeros(len(self.names), dtype=np.float32)
        observations, infos = self._parts("reset", self.env.reset(seed=seed), _RESET)
        return self._moment(observations, infos, self._shared(self.returns), False, False)

    def step(self, actions: Int[np.ndarray, " A"]) -> GameStep:
        self.t += 1
        chosen = {
            name: int(actions[i]) + self._first[name]
            for i, name in enumerate(self.names)
            if name in self.env.agents
        }
        found = self._parts("step", self.env.step(chosen), _STEP)
        observations, rewards, _, truncations, infos = found
        if unknown := rewards.keys() - self._views.keys():
            raise self._wrong(f"a reward for {min(unknown)}, which is not in possible_agents")
        earned = np.array([float(rewards.get(name, 0.0)) for name in self.names], dtype=np.float32)
        self.returns = self.returns + earned
        over = not self.env.agents
        truncated = (over and any(truncations.values())) or (not over and self.t >= self.limit)
        return self._moment(
            observations, infos, self._shared(earned), over and not truncated, truncated
        )

    def _parts(self, method: str, found: object, parts: Sequence[str]) -> tuple[Any, ...]:
        """What a method has returned. Raises UserError unless it is a tuple of these parts."""
        if isinstance(found, tuple) and len(found) == len(parts):
            return found
        raise self._wrong(f"{method} must return a tuple of {', '.join(parts)}")

    def _wrong(self, reason: str) -> UserError:
        return UserError(f"env_args.key: {self.cfg.key}: {reason}")

    def _shared(self, earned: Float[np.ndarray, " A"]) -> float | np.ndarray:
        if self.cfg.reward == "individual":
            return earned
        return float(earned.sum() if self.cfg.reward == "sum" else earned.mean())

    def _moment(
        self,
        observations: Mapping[str, object],
        infos: Mapping[str, Mapping],
        reward: float | np.ndarray,
        terminated: bool,
        truncated: bool,
    ) -> GameStep:
        if unseen := set(self.env.agents) - observations.keys():
            raise self._wrong(f"no observation of {min(unseen)}, which is in agents")
        obs, avail = np.zeros_like(self._obs), np.zeros_like(self._own)
        avail[:, 0] = True  # for agents that have left
        for i, name in enumerate(self.names):
            if name in observations:
                seen, mask = observations[name], (infos.get(name) or {}).get("action_mask")
                if isinstance(seen, Mapping) and "observation" in seen:
                    seen, mask = seen["observation"], seen.get("action_mask", mask)
                obs[i, : self._widths[name]] = self._flat(name, seen)
                # At a time-out no agent acts, but learners read the value of the next action.
                if name in self.env.agents or truncated:
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

    def _flat(self, name: str, seen: object) -> np.ndarray:
        """An observation as a vector. Raises UserError unless it is as long as its space."""
        flat = np.asarray(self._flatten(self._views[name], seen))
        if len(flat) != self._widths[name]:
            raise self._wrong(
                f"an observation of {name} has length {len(flat)}, "
                f"and its observation_space {self._widths[name]}"
            )
        return flat

    def _state(self, obs: Float[np.ndarray, "A O"]) -> Float[np.ndarray, " S"]:
        if self.cfg.state == "own":
            return np.asarray(self.env.state(), dtype=np.float32).ravel()
        return obs.ravel()

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """Picture by the environment, if it offers render_mode="rgb_array"; else the observations.

        In the latter, each agent is a row and grey levels are values. An environment in no mode is
        made again in that one when it is drawn at the start of an episode.
        """
        try:
            if self._drawable and self.t == 0:
                self._drawable = False
                self._make_again()
            if getattr(self.env.unwrapped, "render_mode", None) == _RGB and not self._failed:
                return _without_alpha(self.env.render())
        except Exception as error:  # the environment's code may raise any
            self._failed = True
            reason = f"{type(error).__name__}: {error}"
            print(f"{self.cfg.key}: no picture ({reason}); observations instead", file=sys.stderr)
        obs = self._last
        low, high = obs.min(), max(obs.max(), obs.min() + 1e-6)
        grey = ((obs - low) / (high - low) * 255).astype(np.uint8)
        return np.repeat(np.repeat(grey, 24, 0), 8, 1)[..., None].repeat(3, 2)

    def _make_again(self) -> None:
        """Replaces the environment by one that draws, at the start of the same episode."""
        kwargs = dict(self.cfg.kwargs or {}) | {"render_mode": _RGB}
        env = self._made(constructor(self.cfg.key), kwargs)
        env.reset(seed=self._seed)
        self._replaced.append(self.env)
        self.env = env

    def text(self) -> str:
        rows = [
            f"{name}: {' '.join(f'{value:.2f}' for value in row)}"
            for name, row in zip(self.names, self._last, strict=True)
        ]
        return "\n".join([self.cfg.key, f"step {self.t}", *rows])

    def close(self) -> None:
        # Not earlier: an environment may end its drawing library for the whole process.
        for env in (*self._replaced, self.env):
            env.close()


def _without_alpha(picture: object) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue of a picture. Raises ValueError for any other array."""
    pixels = np.asarray(picture)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"render() returned an array of shape {pixels.shape}")
    return pixels[..., :3].astype(np.uint8)


def _render_modes(env: "ParallelEnv") -> Sequence[str]:
    return (getattr(env, "metadata", None) or {}).get("render_modes", ())


def _unmasked(space: "Space") -> "Space":
    """Space of the observation alone, without the action mask beside it."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict) and "observation" in space.spaces:
        return space["observation"]
    return space


class PettingZoo(GameEnv):
    """N copies of a PettingZoo parallel environment."""

    Config = PettingZooConfig
    colours_agents = False  # a picture is the environment's own

    def __init__(self, cfg: PettingZooConfig, n_envs: int, device: torch.device | str = "cpu"):
        self.cfg = cfg
        super().__init__(functools.partial(Parallel, cfg), n_envs, cfg.workers, device)
