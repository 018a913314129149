"""Firefighters (EOI, section 4.3): two burning areas, two rivers, four agents with a shared tank.

The map is a reconstruction from the paper's figure.

Observation [101]: 5x5 views of walls, river, fire and other agents, then the tank's level / 4, in
half precision, which represents counts and quarters exactly.
State [108]: agents and fire of each of the 53 free cells, then level / 4 and t/T.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eoi.config.schema import setting
from eoi.envs.grid import GridConfig, GridMap, GridWorld, plus_map
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, uniform
from eoi.utils.shapes import Bool, Int

SPRAY, PUMP = 4, 5
AREAS = "AB"  # burning cells of a map; `W` is water
_FIRE = 0  # item
UNIT = 0.25  # one unit of water on the gauge; a power of two, so that every level is exact


@dataclass(frozen=True, kw_only=True)
class FirefightersConfig(GridConfig):
    letters: ClassVar[Mapping[str, str]] = {
        ".": "floor",
        "A": "first burning area",
        "B": "second burning area",
        "W": "water",
        "S": "start cell (none: agents start in area A)",
    }

    episode_limit: int = setting(1, default=20)  # T, steps
    tank: int = setting(0, 500, default=4)  # units of water at the start
    # Lengths: top, bottom, left, right
    corridors: tuple[int, int, int, int] = setting(0, default=(2, 2, 2, 2))
    area_width: int = setting(1, default=3)  # across the corridor
    area_depth: int = setting(1, default=3)  # along the corridor

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in AREAS + "W":
            self.map.region(name)
        if self.n_agents > len(self.starts):
            raise UserError(
                f"env_args.n_agents: {self.n_agents} agents do not fit {len(self.starts)} "
                "start cells"
            )
        if self.tank + self.n_agents * self.episode_limit > 2048 * UNIT:
            raise UserError(
                "env_args.episode_limit: the agents could pump more water than the gauge can "
                "represent exactly; tank + n_agents * episode_limit may be at most 512"
            )

    @property
    def map(self) -> GridMap:
        return self._map(plus_map(3, self.corridors, self.area_width, self.area_depth, "WWAB."))

    @property
    def starts(self) -> Int[Tensor, " K"]:
        """Start cells of the map, or area A if it has none."""
        return self.map.region("S" if self.map.has("S") else "A")


class Firefighters(GridWorld):
    """N copies of Firefighters on one device. Actions: up, down, left, right, spray, pump.

    Within a step, all agents move, then all pump, then all spray. They spray in a random order,
    drawn at each step, while there is water. Spraying without water, or on a cell that does not
    burn, has no effect and uses no water.
    """

    Config = FirefightersConfig
    action_names = ("up", "down", "left", "right", "spray", "pump")
    scenery = "W"
    items = ("fire",)
    looks: ClassVar = {
        "fire": ("^", (226, 112, 42)),
        "W": ("~", (92, 150, 206)),
        "A": (" ", (206, 196, 186)),  # extinguished
        "B": (" ", (206, 196, 186)),
    }
    words: ClassVar = {"fire": "fire", "A": "fire put out", "W": "river"}
    gauges = ("water",)
    regions = "areas"
    metrics = (
        "extinguished_a",
        "extinguished_b",
        "water_pumped",
        "sprayed",
        "pumped",
        "areas_visited",
        "areas_occupied",
    )
    obs_dtype = torch.float16
    cfg: FirefightersConfig

    def __init__(self, cfg: FirefightersConfig, n_envs: int, device: torch.device | str = "cpu"):
        fires = [cfg.map.region(name) for name in AREAS]
        regions = [*fires, *cfg.map.parts("W")]  # rivers have one letter
        best = float(sum(len(area) for area in fires))
        super().__init__(cfg, cfg.map, regions, best, n_envs, device)
        self._areas = [area.to(device) for area in fires]
        self._starts = cfg.starts.to(device)
        self._river = torch.tensor(
            [self.map.grid[cell] == "W" for cell in self.map.cells], device=device
        )
        self._all_fires = torch.zeros(self.spec.n_cells + 1, dtype=self.obs_dtype, device=device)
        self._all_fires[torch.cat(self._areas)] = 1

    def _begin(self, keys: Int[Tensor, " N"]) -> None:
        cfg = self.cfg
        self._position = self._drawn_starts(fold(keys, 0), self._starts)
        turn = uniform(fold(keys, 1), cfg.episode_limit, cfg.n_agents)
        mine, theirs = turn[..., :, None], turn[..., None, :]
        # [N, T, A, A]; [i, j]: j is served before i
        self._ahead = (theirs < mine) | ((theirs == mine) & self._in_order)
        self._maps[:, _FIRE] = self._all_fires
        self._water = torch.full((self.n_envs,), cfg.tank, device=self.device)
        self._sprayed = torch.zeros_like(self._position)
        self._pumped = torch.zeros_like(self._position)
        self._gauges[:] = cfg.tank * UNIT

    def _act(self, actions: Int[Tensor, "N A"]) -> None:
        self._move(actions)
        pumps = (actions == PUMP) & self._river[self._position]
        self._pumped += pumps
        self._water = self._water + pumps.sum(1)
        served = self._served((actions == SPRAY) & self._on(_FIRE))
        self._sprayed += served
        self._water = self._water - served.sum(1)
        self._take(_FIRE, served)
        self._gauges[:] = self._water[:, None] * UNIT

    def _served(self, sprays: Bool[Tensor, "N A"]) -> Bool[Tensor, "N A"]:
        """Agents that extinguish a fire: first in their cell, with water left."""
        ahead = self._ahead[:, self._t - 1]
        first = self._first(sprays, ahead)
        before = (first[:, None, :] & ahead).sum(2)  # [N, A] number of agents served before
        return first & (before < self._water[:, None])

    def _earned(self) -> Int[Tensor, " N"]:
        return self._sprayed.sum(1)

    def _info(self) -> dict[str, Tensor]:
        fire = self._maps[:, _FIRE]
        out_a, out_b = (len(area) - fire[:, area].sum(1).float() for area in self._areas)
        return {
            "extinguished_a": out_a,
            "extinguished_b": out_b,
            "water_pumped": self._pumped.sum(1).float(),
            "sprayed": self._sprayed.float(),  # [N, A] fires extinguished
            "pumped": self._pumped.float(),  # [N, A] units
        }

    def history(self, copy: int = 0) -> dict[str, float]:
        return {"water": float(self._water[copy]), "fire": float(self._maps[copy, _FIRE].sum())}

    def text(self, copy: int = 0) -> str:
        return f"{super().text(copy)}\nwater:{int(self._water[copy])}"
