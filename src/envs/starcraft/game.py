"""StarCraft II itself, through oxwhirl's SMAC (Samvelyan et al. 2019) as it is: one game in each worker process.

SMAC plays one episode after the other in a game that is started once, so the game is started by a copy's first reset, whose seed is the
game's; later seeds are not used. SMAC ends an episode that runs out of time like any other; here it is truncated, and value learners
bootstrap through it. When a game dies, its episode ends as `dropped`, which nobody learns from, and the next reset starts another game.

Axes: A agents, U actions, O observation, S state, J units (agents first).
"""

import functools
import os
from typing import Any

import numpy as np
import torch

from eoi.envs.base import EnvSpec
from eoi.envs.starcraft import installation
from eoi.envs.starcraft.picture import draw_fight, enemy_letter, write_fight
from eoi.envs.starcraft.settings import SMAC_ARGUMENTS, StarCraftConfig
from eoi.envs.workers import GameEnv, GameStep
from eoi.utils.errors import Failure
from eoi.utils.shapes import Int, UInt8

_TRIES = 3  # at starting a game
_SIDE = 640  # pixels of a picture, about


class GameDied(Exception):
    """The game's process is gone, or does not answer."""


@functools.cache
def _fight() -> type[Any]:
    """SMAC's environment with ranges of one's own; the class exists only where SMAC does."""
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
            """SMAC's would end the episode as if the agents had finished it, and start a second game beside the next reset's."""
            raise GameDied

    return Fight


@functools.cache
def _losses() -> tuple[type[Exception], ...]:
    """What a game that dies, or cannot be started, makes pysc2 raise."""
    from pysc2.lib import protocol, remote_controller, sc_process  # pyright: ignore[reportMissingImports] # optional

    known = (
        protocol.ProtocolError,
        protocol.ConnectionError,
        remote_controller.ConnectError,
        sc_process.SC2LaunchError,
    )
    return (GameDied, OSError, *known)


class SMACGame:
    """One copy of one map. `folder` is where the game is: a worker's environment variables may be older than this process's."""

    def __init__(self, cfg: StarCraftConfig, folder: str):
        from eoi.envs.starcraft import launch  # needs pysc2

        os.environ["SC2PATH"] = folder
        launch.is_talkative = cfg.debug
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
            return (
                None if self.cfg.reward_scale else 1.0
            )  # SMAC divides by a sum of healths, which is known once a game runs
        return self.cfg.reward_scale_rate if self.cfg.reward_scale else None

    def _notice(self) -> str:
        if self.cfg.engine == "server":
            return "WARNING: NOT StarCraft II: this project's server plays by the lite engine's rules. Its results are not SMAC's."
        return f"StarCraft II: {installation.game(self.cfg.game_version).found}, SMAC {installation.packages()[-1].found}"

    def _made(self, seed: int) -> Any:
        ranges = {"sight_range": self.cfg.sight_range, "shoot_range": self.cfg.shoot_range}
        return _fight()(**self._arguments, **ranges, seed=((self.cfg.seed or 0) + seed) % 2**31)

    def reset(self, seed: int) -> GameStep:
        """Raises Failure when no game can be started."""
        reason: Exception | None = None
        for attempt in range(_TRIES):
            try:
                if self.fight is not None and not self.fight.battles_game:
                    self._abandon()  # until a battle is over SMAC starts a game at each reset, and counts its enemies once more
                if self.fight is None:
                    self.fight, self._seed = self._made(seed + attempt), seed + attempt
                obs, state = self.fight.reset()
                return self._moment(obs, state, 0.0, False, False, {})
            except _losses() as error:
                reason = error
                self._abandon()
        said = f"{type(reason).__name__}: {reason}"
        raise Failure(
            f"StarCraft II did not start in {_TRIES} tries ({said}); with env_args.debug=True it says why"
        )

    def step(self, actions: Int[np.ndarray, " A"]) -> GameStep:
        assert self.fight is not None, "reset comes first"
        late = self.fight.timeouts
        try:
            reward, over, info = self.fight.step(actions.tolist())
        except _losses():
            self._abandon()
            return self._last._replace(
                reward=0.0, truncated=True, info=self._last.info | {"dropped": 1.0}
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
        obs: Any,
        state: Any,
        reward: float,
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
    ) -> GameStep:
        assert self.fight is not None
        told = {name: float(info.get(name, 0)) for name in self.spec.metrics} | {
            "timed_out": float(truncated),
            "dropped": 0.0,
        }
        avail = np.asarray(self.fight.get_avail_actions(), dtype=bool)
        seen = np.asarray(obs, dtype=np.float32)
        if self.cfg.obs_timestep_number:
            seen = np.delete(
                seen, -2, axis=1
            )  # SMAC leaves a 0 before the time, which it does not count in the size
        known = (
            seen.ravel() if self.cfg.obs_instead_of_state else np.asarray(state, dtype=np.float32)
        )
        self._last = GameStep(seen, known, avail, reward, terminated, truncated, told)
        return self._last

    def _abandon(self) -> None:
        """What is left of a game that died."""
        fight, self.fight = self.fight, None
        try:
            if fight is not None:
                fight.close()
        except _losses():
            pass  # it is gone: nothing to say goodbye to

    def save_replay(self) -> str:
        """Of all episodes of this game so far. The folder."""
        if self.fight is not None:
            self.fight.replay_prefix = f"{self.cfg.replay_prefix or self.cfg.map_name}_{self._seed}"  # pysc2 adds but the second
            self.fight.save_replay()
        return os.path.join(installation.folder(), "Replays", self.cfg.replay_dir)

    def _units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions [J, 2], healths [J] and greatest healths [J]."""
        assert self.fight is not None
        units = [*self.fight.agents.values(), *self.fight.enemies.values()]
        values = np.array(
            [(unit.pos.x, unit.pos.y, unit.health, unit.health_max, unit.radius) for unit in units]
        )
        return values[:, :2], values[:, 2], values[:, 3:]

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        assert self.fight is not None
        position, health, (greatest, radius) = *self._units()[:2], self._units()[2].T
        ground = np.asarray(self.fight.pathing_grid, dtype=bool).T[::-1]  # SMAC's is [x, y]
        nobody = np.arange(len(health))
        return draw_fight(
            ground,
            position,
            health / greatest,
            radius,
            nobody,
            self.spec.n_agents,
            max(4, _SIDE // max(ground.shape)),
        )

    def text(self) -> str:
        assert self.fight is not None
        position, health, _ = self._units()
        return write_fight(
            self.fight.map_y,
            self.fight.map_x,
            position,
            health,
            self.spec.n_agents,
            min(1.0, 32 / self.fight.map_y),
        )

    def close(self) -> None:
        self._abandon()


class GameStarCraft(GameEnv):
    """Copies of one map, each a game in a process of its own; never more than `cfg.games`."""

    Config = StarCraftConfig

    def __init__(self, cfg: StarCraftConfig, n_envs: int, device: torch.device | str = "cpu"):
        self.cfg = cfg
        n_envs = min(n_envs, cfg.games)
        super().__init__(
            functools.partial(SMACGame, cfg, str(installation.folder())), n_envs, n_envs, device
        )
        enemies = [
            f"act on {enemy_letter(i)}" for i in range(self.spec.n_actions - 6)
        ]  # medivacs heal the ally of that number
        self.action_names = ("no-op", "stop", "north", "south", "east", "west", *enemies)

    def save_replay(self) -> list[str]:
        """The folders that the games' replays lie in."""
        return sorted(set(self.ask_games("save_replay")))
