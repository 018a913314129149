"""The settings of `sc2`, and the engine that they resolve to on this machine.

| engine | program |
|---|---|
| game | StarCraft II, through SMAC |
| lite | this project's simulator, marine maps only |
| server | the simulator behind the game's protocol, through SMAC; to test `game` without the game |
| auto | `game` if everything for the map is installed, else `lite` if it has the map |

The engine is resolved before a run begins. The run's record, and everything made from it, name the
engine that played.
"""

import dataclasses
from dataclasses import dataclass, fields
from typing import Any, Literal

from eoi.config.schema import inert, nearest, parse, setting
from eoi.envs.starcraft import installation
from eoi.envs.starcraft.lite import LiteConfig
from eoi.envs.starcraft.maps import MAPS, SMAC_MAPS
from eoi.envs.starcraft.rules import Rules
from eoi.utils.checks import listed
from eoi.utils.errors import UserError
from eoi.utils.places import command


@dataclass(frozen=True, kw_only=True)
class StarCraftConfig(Rules):
    """The rules, and the settings that only the game has."""

    engine: Literal["auto", "game", "server", "lite"] = "auto"
    # Skill of the enemies' script
    difficulty: Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "A"] = "7"
    # Added to the seed of each game, which follows from the seed of the run
    seed: int | None = setting(0, 2**31 - 1, default=None)
    game_version: str | None = None  # such as 4.10.0; null: the newest installed version
    # No effect: time-outs are always marked as truncated
    continuing_episode: bool = setting(default=False, inert=True)
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    sight_range: float = setting(0, default=9.0)  # cells
    shoot_range: float = setting(0, default=6.0)  # cells at which an attack may be ordered
    # SMAC's script plays and ignores the agents' actions; to watch, not to learn from
    heuristic_ai: bool = False
    heuristic_rest: bool = False  # the script uses available actions only
    # Below the game's Replays, or absolute; see save_replay
    replay_dir: str = setting(default="", inert=True)
    replay_prefix: str = setting(default="", inert=True)  # "": the map's name
    window_size_x: int = setting(1, default=1920, inert=True)  # pixels; no effect on Linux
    window_size_y: int = setting(1, default=1200, inert=True)
    debug: bool = setting(default=False, inert=True)  # print the messages of SMAC and of the game
    # Most games at once, even if batch_size_run is larger
    games: int = setting(1, default=8, inert=True)

    def resolved(self) -> "StarCraftConfig | LiteConfig":
        """Settings with the engine that plays. Raises UserError if none can play them."""
        if self.engine == "lite":
            return self._on_lite()
        known = {*SMAC_MAPS, *installation.maps()}
        if self.map_name not in known:
            raise UserError(
                f"env_args.map_name: there is no map {self.map_name!r}."
                f"{nearest(self.map_name, known)}"
            )
        missing = installation.missing(self.map_name, self.game_version, self.engine == "server")
        if not missing:
            return dataclasses.replace(self, engine="game") if self.engine == "auto" else self
        if self.engine == "auto" and self.map_name in MAPS:
            return self._on_lite(
                f", and the game is not installed: `{command('doctor')}` lists the missing parts"
            )
        raise UserError(f"{self._refusal()}, and these parts are missing:\n{listed(missing)}")

    def _refusal(self) -> str:
        if self.engine == "auto":
            near = nearest(self.map_name, MAPS)
            return (
                f"env_args.map_name={self.map_name}: not a map of the lite engine.{near} "
                "It requires StarCraft II"
            )
        return f"env_args.engine={self.engine}: {self.map_name} is played through SMAC"

    def _on_lite(self, reason: str = "") -> LiteConfig:
        if self.map_name not in MAPS:
            raise UserError(
                f"env_args.map_name: the lite engine has no map {self.map_name!r}."
                f"{nearest(self.map_name, MAPS)}"
            )
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for f in fields(StarCraftConfig):
            if values[f.name] != f.default and f.name not in _IGNORED:
                raise UserError(
                    f"env_args.{f.name}={values[f.name]}: the lite engine supports only "
                    f"{f.default!r}{reason}"
                )
        return parse(
            LiteConfig,
            {name: values[name] for name in _LITE} | {"engine": "lite", "difficulty": "7"},
            "env_args.",
        )


_LITE = {f.name for f in fields(LiteConfig)} - {"difficulty"}
# Settings that the lite engine knows, or does not need; it saves no replays
_IGNORED = _LITE | inert(StarCraftConfig) - {"replay_dir", "replay_prefix"}
SMAC_ARGUMENTS = tuple(
    f.name
    for f in fields(StarCraftConfig)
    if f.name not in {"engine", "seed", "sight_range", "shoot_range", "games"}
)
