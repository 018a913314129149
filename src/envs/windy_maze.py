"""Windy Maze (EOI, section 4.2): two agents, a box at each end of a T, wind to the right.

The map is a reconstruction from the paper's figure.

Observation [75]: 5x5 views of walls, closed boxes and other agents; the wind is not observed.
State [29]: agents and closed boxes of each of the 14 free cells, then t/T.

With the default map and T, the best policy opens the left box with probability 0.8546 and the right
box with probability 0.9993. One agent cannot open both. The best mean return is 1.854.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eoi.config.schema import setting
from eoi.envs.grid import BORDER, RIGHT, GridConfig, GridMap, GridWorld
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, uniform
from eoi.utils.shapes import Int

OPEN = 4
BOXES = "LR"  # cells of a map: the left box, out of the wind, and the right box, in the wind
WIND = ">"  # floor in the wind
_BOX = 0  # item
UNOPENED = -1


def t_map(stem: int, arm: int, wind_from: int, border: int = BORDER) -> str:
    """Drawing of a bar with a box at each end, and a stem of `stem` cells below its middle.

    The last cell of the stem is the start. The wind blows on the bar, beginning `wind_from` cells
    right of the junction.
    """
    grid = np.full((2 * border + 1 + stem, 2 * border + 2 * arm + 1), "#")
    grid[border, border:-border] = "."
    grid[border, border + arm + wind_from : -border] = WIND
    grid[border + 1 : -border, border + arm] = "."
    grid[border + stem, border + arm] = "S"
    grid[border, [border, -border - 1]] = list(BOXES)
    return "\n".join("".join(line) for line in grid)


@dataclass(frozen=True, kw_only=True)
class WindyMazeConfig(GridConfig):
    letters: ClassVar[Mapping[str, str]] = {
        ".": "floor",
        WIND: "floor in the wind",
        "S": "start cell",
        "L": "left box (one)",
        "R": "right box (one), in the wind",
    }

    n_agents: int = setting(1, 255, default=2)
    episode_limit: int = setting(1, default=15)  # T, steps
    # Probability, at each step and for each agent in the wind, of being blown to the right
    wind: float = setting(0, 1, default=0.4)
    stem: int = setting(1, default=1)  # cells below the junction
    arm: int = setting(1, default=6)  # cells on each side of the junction
    wind_from: int = 0  # where the wind begins: cells right of the junction; negative: left of it

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -self.arm < self.wind_from <= self.arm:
            raise UserError(
                f"env_args.wind_from: must lie on the bar right of its left end, "
                f"{1 - self.arm} to {self.arm}"
            )
        for name in BOXES:
            if len(self.map.region(name)) > 1:
                raise UserError(f"env_args.layout: a Windy Maze has one box {name}")
        self.map.region("S")

    @property
    def map(self) -> GridMap:
        return self._map(t_map(self.stem, self.arm, self.wind_from))


class WindyMaze(GridWorld):
    """N copies of Windy Maze on one device. Actions: up, down, left, right, open.

    The wind replaces the action of an agent that is blown to the right.
    """

    Config = WindyMazeConfig
    action_names = ("up", "down", "left", "right", "open")
    items = ("box",)
    looks: ClassVar = {
        "box": ("*", (176, 124, 50)),
        "L": ("o", (220, 203, 176)),  # open
        "R": ("o", (220, 203, 176)),
        WIND: (WIND, (202, 220, 236)),
    }
    words: ClassVar = {"box": "closed box", "L": "open box", WIND: "wind"}
    regions = "ends"  # the two ends of the bar, with the boxes
    metrics = ("left_open", "right_open", "ends_visited", "ends_occupied")
    cfg: WindyMazeConfig

    def __init__(self, cfg: WindyMazeConfig, n_envs: int, device: torch.device | str = "cpu"):
        ends = [cfg.map.region(name) for name in BOXES]
        super().__init__(cfg, cfg.map, ends, float(len(BOXES)), n_envs, device)
        self._starts = self.map.region("S").to(device)
        self._boxes = torch.cat(ends).to(device)
        self._windy = torch.tensor(
            [self.map.grid[cell] in (WIND, "R") for cell in self.map.cells], device=device
        )
        self._agents = torch.arange(cfg.n_agents, device=device).expand(n_envs, -1)

    def _begin(self, keys: Int[Tensor, " N"]) -> None:
        cfg = self.cfg
        # Several agents may share a start cell.
        start = (uniform(fold(keys, 0), cfg.n_agents) * len(self._starts)).long()
        self._position = self._starts[start]
        draw = uniform(fold(keys, 1), cfg.episode_limit, cfg.n_agents)
        self._gusts = draw < cfg.wind  # [N, T, A]
        self._maps[:, _BOX, self._boxes] = 1
        self._opener = torch.full((self.n_envs, len(BOXES) + 1), UNOPENED, device=self.device)

    def _act(self, actions: Int[Tensor, "N A"]) -> None:
        blown = self._gusts[:, self._t - 1] & self._windy[self._position]
        actions = torch.where(blown, RIGHT, actions)
        self._move(actions)
        opens = self._first((actions == OPEN) & self._on(_BOX), self._in_order)
        self._take(_BOX, opens)
        box = torch.where(opens, self._region_of[self._position], len(BOXES))
        self._opener.scatter_(1, box, self._agents)

    def _earned(self) -> Int[Tensor, " N"]:
        return (self._opener[:, :-1] != UNOPENED).sum(1)

    def _info(self) -> dict[str, Tensor]:
        opener = self._opener[:, :-1].clone()
        left, right = (opener != UNOPENED).float().unbind(1)
        # opener [N, 2]: the agent that opened the left box and the right box; -1: closed
        return {"left_open": left, "right_open": right, "opener": opener}

    def history(self, copy: int = 0) -> dict[str, float]:
        return {"boxes open": float((self._opener[copy, :-1] != UNOPENED).sum())}
