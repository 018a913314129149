"""Pac-Men (EOI, sections 4.1 and A.4): four agents, four rooms, one team reward at the end.

The map is a reconstruction from the paper's figure.

Observation [75]: 5x5 views of walls, dots and other agents.
State [155]: agents and dots of each of the 77 free cells, then t/T.
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

EAT = 4
ROOMS = "TBLR"  # top, bottom, left, right
_DOT = 0  # item


@dataclass(frozen=True, kw_only=True)
class PacMenConfig(GridConfig):
    letters: ClassVar[Mapping[str, str]] = {
        ".": "floor",
        "S": "start cell",
        "T": "top room",
        "B": "bottom room",
        "L": "left room",
        "R": "right room",
    }

    # Dots are placed at random in each episode, in distinct cells.
    dots_per_room: int = setting(1, default=10, varies=True)
    easy: bool = False  # dots in the bottom room only (paper A.4)
    distinct_starts: bool = True  # False: every agent starts in the middle of the centre
    # Lengths: top, bottom, left, right
    corridors: tuple[int, int, int, int] = setting(0, default=(3, 1, 2, 2))
    room_width: int = setting(1, default=3)  # across the corridor
    room_depth: int = setting(1, default=5)  # along the corridor

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = [len(room) for room in self.rooms if len(room)]
        if not sizes:
            raise UserError(f"env_args.layout: the map has no room. {self.map.letters}")
        smallest, starts = min(sizes), len(self.map.region("S"))
        if self.dots_per_room > smallest:
            raise UserError(
                f"env_args.dots_per_room: {self.dots_per_room} dots do not fit a room of "
                f"{smallest} cells; set at most {smallest}"
            )
        if self.distinct_starts and self.n_agents > starts:
            raise UserError(
                f"env_args.n_agents: {self.n_agents} agents do not fit {starts} start cells; "
                f"set at most {starts}, or env_args.distinct_starts=False"
            )

    @property
    def map(self) -> GridMap:
        size = self.room_width, self.room_depth
        return self._map(plus_map(3, self.corridors, *size, ROOMS + "S"))

    @property
    def rooms(self) -> list[Int[Tensor, " K"]]:
        """Cells of each room, in the order of ROOMS; none for a room that the map lacks."""
        return [self.map.drawn(name) for name in ROOMS]


class PacMen(GridWorld):
    """N copies of Pac-Men on one device. Actions: up, down, left, right, eat."""

    Config = PacMenConfig
    action_names = ("up", "down", "left", "right", "eat")
    items = ("dot",)
    looks: ClassVar = {"dot": ("*", (122, 176, 96))}
    words: ClassVar = {"dot": "dot"}
    regions = "rooms"
    metrics = ("dots_eaten", "rooms_visited", "rooms_occupied")
    cfg: PacMenConfig

    def __init__(self, cfg: PacMenConfig, n_envs: int, device: torch.device | str = "cpu"):
        with_dots = [cfg.map.region("B")] if cfg.easy else [r for r in cfg.rooms if len(r)]
        best = float(cfg.dots_per_room * len(with_dots))
        super().__init__(cfg, cfg.map, cfg.rooms, best, n_envs, device)
        self._dot_rooms = [room.to(device) for room in with_dots]
        self._starts = self.map.region("S").to(device)
        self.dots_per_room = torch.full((n_envs,), cfg.dots_per_room, device=device)

    def _begin(self, keys: Int[Tensor, " N"]) -> None:
        if self.cfg.distinct_starts:
            self._position = self._drawn_starts(fold(keys, 0), self._starts)
        else:
            middle = self._starts[len(self._starts) // 2]
            self._position = middle.expand(self.n_envs, self.cfg.n_agents).contiguous()
        dots = self._maps[:, _DOT].zero_()
        for k, room in enumerate(self._dot_rooms):
            draw = uniform(fold(keys, 1 + k), len(room))  # [N, K]
            # The highest draw that still gets a dot
            last = draw.sort(1).values.gather(1, self.dots_per_room[:, None] - 1)
            dots[:, room] = (draw <= last).to(torch.uint8)
        self._eaten = torch.zeros_like(self._position)

    def _act(self, actions: Int[Tensor, "N A"]) -> None:
        self._move(actions)
        self._eat(actions == EAT)

    def _eat(self, tries: Bool[Tensor, "N A"]) -> None:
        eating = tries & self._on(_DOT)
        self._eaten += self._first(eating, self._in_order)
        self._take(_DOT, eating)

    def _earned(self) -> Int[Tensor, " N"]:
        return self._eaten.sum(1)

    def _info(self) -> dict[str, Tensor]:
        return {
            "dots_eaten": self._eaten.float(),  # [N, A]
            # [N, A], at the end: 0 to 3 as in ROOMS, 4 outside of all rooms
            "room": self._region_of[self._position],
        }

    def history(self, copy: int = 0) -> dict[str, float]:
        return {"dots eaten": float(self._eaten[copy].sum())}
