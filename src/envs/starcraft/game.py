"""StarCraft II itself, through unmodified SMAC (Samvelyan et al. 2019), one game per worker.

SMAC plays all episodes in a game that is started once. A copy's first reset starts the game, with
the seed of that reset; later seeds are not used. An episode that runs out of time is truncated
here, and value learners bootstrap through it. When a game dies, its episode is marked `dropped`
and not learned from, and the next reset starts another game.

Axes: N copies, A agents, U actions, O observation, S state, J units (agents first); H rows of
cells, W columns.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eoi.envs.base import EnvSpec
from eoi.envs.starcraft import installation
from eoi.envs.starcraft.picture import LEGEND, draw_fight, enemy_letter, write_fight
from eoi.envs.starcraft.settings import SMAC_ARGUMENTS, StarCraftConfig
from eoi.envs.workers import GameEnv, GameStep
from eoi.utils.errors import Failure
from eoi.utils.shapes import Bool, Float, Int, UInt8

_TRIES = 3  # attempts at starting a game
_SIDE = 640  # pixels, approximate side of a picture


class GameDied(Exception):
    """The game's process is gone, or does not answer."""


@functools.cache
def _fight() -> type[Any]:
    """SMAC's environment with configurable ranges. SMAC is optional, hence this function."""
    from smac.env import StarCraft2Env  # pyright: ignore[reportMissingImports] # optional

    class Fight(StarCraft2Env):
        def __init__(self, sight_range: float, shoot_range: float, **arguments: Any):
            super().__init__(**arguments)
            self._sight_range, self._shoot_range = sight_range, shoot_range

        def unit_sight_range(self, agent_id: int) -> float:
            return self._sight_range

        def unit_shoot_range(self, agent_id: int) -> float:
            return self._shoot_range

        def full_restart(self) -> None:
            # SMAC's method would count the episode as finished and start a second game.
            raise GameDied

    return Fight


@functools.cache
def _losses() -> tuple[type[Exception], ...]:
    """Exceptions that pysc2 raises when a game dies or cannot be started."""
    from pysc2.lib import (  # pyright: ignore[reportMissingImports] # optional
        protocol,
        remote_controller,
        sc_process,
    )

    known = (
        protocol.ProtocolError,
        protocol.ConnectionError,
        remote_controller.ConnectError,
        sc_process.SC2LaunchError,
    )
    return (GameDied, OSError, *known)


def _show_messages() -> None:
    """Prints SMAC's messages, which it logs for debugging."""
    from absl import logging  # comes with pysc2

    logging.set_verbosity(logging.DEBUG)


class SMACGame:
    """One copy of one map.

    `folder`: the game's folder. It is passed because a worker's environment variables may be
    older than those of this process.
    """

    def __init__(self, cfg: StarCraftConfig, folder: str):
        from eoi.envs.starcraft import launch  # needs pysc2

        os.environ["SC2PATH"] = folder
        launch.is_talkative = cfg.debug
        if cfg.debug:
            _show_messages()
        self.cfg, self.fight = cfg, None
        self._arguments = {name: getattr(cfg, name) for name in SMAC_ARGUMENTS}
        unstarted = self._made(0)
        facts = unstarted.get_env_info()
        self.spec = EnvSpec(
            n_agents=facts["n_agents"],
            n_actions=facts["n_actions"],
            obs_size=facts["obs_shape"],
            state_size=facts["state_shape"],
            episode_limit=facts["episode_limit"],
            fixed_length=False,
            obs_dtype=torch.float32,
            metrics=("battle_won", "dead_allies", "dead_enemies"),
            reward_max=self._reward_max(),
            notice=self._notice(),
            scarce=True,
        )

    def _reward_max(self) -> float | None:
        if self.cfg.reward_sparse:
            # SMAC's scale is a sum of healths, which is unknown before a game runs.
            return None if self.cfg.reward_scale else 1.0
        return self.cfg.reward_scale_rate if self.cfg.reward_scale else None

    def _notice(self) -> str:
        if self.cfg.engine == "server":
            return (
                "WARNING: NOT StarCraft II: this project's server plays by the lite engine's "
                "rules. Its results are not SMAC's."
            )
        found = installation.game(self.cfg.game_version).found
        return f"StarCraft II: {found}, SMAC {installation.packages()[-1].found}"

    def _made(self, seed: int) -> Any:
        ranges = {"sight_range": self.cfg.sight_range, "shoot_range": self.cfg.shoot_range}
        return _fight()(**self._arguments, **ranges, seed=((self.cfg.seed or 0) + seed) % 2**31)

    def reset(self, seed: int) -> GameStep:
        """Start an episode, and a game if there is none. Raises Failure if no game starts."""
        reason: Exception | None = None
        for attempt in range(_TRIES):
            try:
                # Before its first battle ends, SMAC would start another game at each reset and
                # count the enemies twice.
                if self.fight is not None and not self.fight.battles_game:
                    self._abandon()
                if self.fight is None:
                    self.fight, self._seed = self._made(seed + attempt), seed + attempt
                obs, state = self.fight.reset()
                self._shown = self.fight
                return self._moment(obs, state, 0.0, False, False, {})
            except _losses() as error:
                reason = error
                self._abandon()
        said = f"{type(reason).__name__}: {reason}"
        raise Failure(
            f"StarCraft II did not start in {_TRIES} tries ({said}); "
            "env_args.debug=True prints its own messages"
        )

    def step(self, actions: Int[np.ndarray, " A"]) -> GameStep:
        assert self.fight is not None, "reset comes first"
        late = self.fight.timeouts
        try:
            reward, over, info = self.fight.step(actions.tolist())
        except _losses():
            self._abandon()
            return self._last._replace(
                reward=0.0, truncated=True, info={**self._last.info, "dropped": 1.0}
            )
        truncated = self.fight.timeouts > late
        return self._moment(
            self.fight.get_obs(),
            self.fight.get_state(),
            float(reward),
            over and not truncated,
            truncated,
            info,
        )

    def _moment(
        self,
        obs: Sequence[np.ndarray],
        state: np.ndarray,
        reward: float,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, float | int],
    ) -> GameStep:
        assert self.fight is not None
        told = {name: float(info.get(name, 0)) for name in self.spec.metrics} | {
            "timed_out": float(truncated),
            "dropped": 0.0,
        }
        avail = np.asarray(self.fight.get_avail_actions(), dtype=bool)
        seen = np.asarray(obs, dtype=np.float32)
        if self.cfg.obs_timestep_number:
            # SMAC puts a 0 before the time, which its observation size does not count.
            seen = np.delete(seen, -2, axis=1)
        if self.cfg.obs_instead_of_state:
            state = seen.ravel()
        self._last = GameStep(
            seen, np.asarray(state, dtype=np.float32), avail, reward, terminated, truncated, told
        )
        return self._last

    def _abandon(self) -> None:
        """Close the game, if it still answers, and forget it."""
        fight, self.fight = self.fight, None
        try:
            if fight is not None:
                fight.close()
        except _losses():
            pass  # the process is gone already

    def save_replay(self) -> str:
        """Save a replay of all episodes of this game so far. Returns its folder."""
        if self.fight is not None:
            # With the seed: pysc2 tells replays apart by the second in which they are saved.
            prefix = self.cfg.replay_prefix or self.cfg.map_name
            self.fight.replay_prefix = f"{prefix}_{self._seed}"
            self.fight.save_replay()
        return os.path.join(installation.folder(), "Replays", self.cfg.replay_dir)

    def _units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions [J, 2], healths [J], and columns [J, 2] of greatest health and radius.

        After a game has died, those of its last step.
        """
        units = [*self._shown.agents.values(), *self._shown.enemies.values()]
        values = np.array(
            [(unit.pos.x, unit.pos.y, unit.health, unit.health_max, unit.radius) for unit in units]
        )
        return values[:, :2], values[:, 2], values[:, 3:]

    def xy(self) -> Float[np.ndarray, "A 2"]:
        """Positions of the agents, y upwards; NaN for dead agents, and where no game runs."""
        agents = self.spec.n_agents
        if self.fight is None:
            return np.full((agents, 2), np.nan)
        position, health, _ = self._units()
        return np.where(health[:agents, None] > 0, position[:agents], np.nan)

    def ground(self) -> Bool[np.ndarray, "H W"]:
        """Walkable cells of the map, rows from the top."""
        return np.asarray(self._shown.pathing_grid, dtype=bool).T[::-1]  # SMAC's is [x, y]

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        position, health, sizes = self._units()
        greatest, radius = sizes.T
        ground, no_targets = self.ground(), np.arange(len(health))
        return draw_fight(
            ground,
            position,
            health / greatest,
            radius,
            no_targets,
            self.spec.n_agents,
            max(4, _SIDE // max(ground.shape)),
        )

    def text(self) -> str:
        position, health, _ = self._units()
        return write_fight(
            self._shown.map_y,
            self._shown.map_x,
            position,
            health,
            self.spec.n_agents,
            min(1.0, 32 / self._shown.map_y),
        )

    def close(self) -> None:
        self._abandon()


class GameStarCraft(GameEnv):
    """Copies of one map, each a game in a process of its own; at most `cfg.games` copies."""

    Config = StarCraftConfig
    legend = LEGEND
    corner = (0.0, 0.0)  # x and y of the lower left corner of `ground`

    def __init__(self, cfg: StarCraftConfig, n_envs: int, device: torch.device | str = "cpu"):
        self.cfg = cfg
        n_envs = min(n_envs, cfg.games)
        super().__init__(
            functools.partial(SMACGame, cfg, str(installation.folder())), n_envs, n_envs, device
        )
        # Medivacs use the same actions to heal the ally of that number.
        enemies = [f"act on {enemy_letter(i)}" for i in range(self.spec.n_actions - 6)]
        self.action_names = ("no-op", "stop", "north", "south", "east", "west", *enemies)

    @property
    def xy(self) -> Float[Tensor, "N A 2"]:
        """Positions of the agents, y upwards; NaN for dead agents."""
        return torch.from_numpy(np.stack(self.ask_games("xy")))

    @property
    def ground(self) -> Bool[np.ndarray, "H W"]:
        """Walkable cells, rows from the top; known after the first reset."""
        return self.ask_games("ground")[0]

    def save_replay(self) -> list[str]:
        """Save the replays of all games. Returns their folders."""
        return sorted(set(self.ask_games("save_replay")))
