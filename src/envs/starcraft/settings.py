"""The settings of `sc2`, and the engine that they come to on this machine.

| engine | what plays |
|---|---|
| game | StarCraft II, through SMAC |
| lite | this project's simulator, marine maps only |
| server | that simulator behind the game's own protocol, through SMAC: for tests of `game` without the game |
| auto | `game` when everything is there that the map needs, else `lite` where it knows the map |

The engine is settled before a run begins; its record, and all that is made from it, name the one that played.
"""

import dataclasses
from dataclasses import dataclass, fields
from typing import Any, Literal

from eoi.config.schema import nearest, parse, setting
from eoi.envs.starcraft import installation
from eoi.envs.starcraft.lite import LiteConfig
from eoi.envs.starcraft.maps import MAPS
from eoi.envs.starcraft.rules import Rules
from eoi.utils.checks import listed
from eoi.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class StarCraftConfig(Rules):
    """Besides the rules: what the game alone has."""

    engine: Literal["auto", "game", "server", "lite"] = "auto"
    difficulty: Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "A"] = (
        "7"  # of the enemies' script
    )
    seed: int | None = setting(
        0, 2**31 - 1, default=None
    )  # each game has its own, from the run's; this is added to it
    game_version: str | None = None  # as 4.10.0; null: the newest one installed
    continuing_episode: bool = False  # SMAC then marks time-outs; here they are always told apart
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    sight_range: float = setting(0, default=9.0)  # cells
    shoot_range: float = setting(0, default=6.0)  # cells: who may be ordered to attack
    heuristic_ai: bool = (
        False  # SMAC's script plays, whatever the agents choose: to look at, not to learn from
    )
    heuristic_rest: bool = False  # the script keeps to the available actions
    replay_dir: str = ""  # below the game's Replays, or absolute; see save_replay
    replay_prefix: str = ""  # "": the map's name
    window_size_x: int = setting(1, default=1920)  # pixels; not on Linux
    window_size_y: int = setting(1, default=1200)
    debug: bool = False  # SMAC's own remarks, and what the game says
    games: int = setting(1, default=8)  # at most; fewer than batch_size_run are then played at once

    def settled(self) -> "StarCraftConfig | LiteConfig":
        """With the engine that plays. Raises UserError when it cannot, or not with these settings."""
        if self.engine == "lite":
            return self._on_lite()
        missing = installation.missing(self.map_name, self.game_version, self.engine == "server")
        if not missing:
            return dataclasses.replace(self, engine="game") if self.engine == "auto" else self
        if self.engine == "auto" and self.map_name in MAPS:
            return self._on_lite(
                ", and the game is not here: `python src/doctor.py` says what is missing"
            )
        raise UserError(
            self._refusal() + ", and of what it needs this is missing:\n" + listed(missing)
        )

    def _refusal(self) -> str:
        if self.engine == "auto":
            near = nearest(self.map_name, MAPS)
            return f"env_args.map_name={self.map_name}: no map of the lite engine.{near} Only StarCraft II might play it"
        return f"env_args.engine={self.engine}: {self.map_name} is to be played through SMAC"

    def _on_lite(self, why: str = "") -> LiteConfig:
        if self.map_name not in MAPS:
            raise UserError(
                f"env_args.map_name: the lite engine has no map {self.map_name!r}.{nearest(self.map_name, MAPS)}"
            )
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for f in fields(StarCraftConfig):
            if values[f.name] != f.default and f.name not in _LITE | _NO_MATTER:
                raise UserError(
                    f"env_args.{f.name}={values[f.name]}: the lite engine has it at {f.default!r} alone{why}"
                )
        return parse(
            LiteConfig,
            {name: values[name] for name in _LITE} | {"engine": "lite", "difficulty": "7"},
            "env_args.",
        )


_LITE = {f.name for f in fields(LiteConfig)} - {"difficulty"}
_NO_MATTER = {
    "games",
    "window_size_x",
    "window_size_y",
    "debug",
}  # about the game's program, not about what is played
SMAC_ARGUMENTS = tuple(
    f.name
    for f in fields(StarCraftConfig)
    if f.name not in {"engine", "seed", "sight_range", "shoot_range", "games"}
)
