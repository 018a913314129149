"""Grid worlds as tensors: a map is a list of free cells with tables of neighbours and 5x5 views, so that a step of N copies is a
few gathers and no loop over copies or agents.

A map is drawn in ASCII: `#` wall, `.` floor, `S` a start cell, any other character a region of that name.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from utils.errors import UserError

UP, DOWN, LEFT, RIGHT = range(4)
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows grow downwards
VIEW = 5  # side of an agent's square view


def plus_map(centre: int, corridors: tuple[int, int, int, int], width: int, depth: int, names: str, border: int = 2) -> str:
    """Four areas around a square of start cells, at the end of one-cell-wide corridors.

    `corridors`, and the characters in `names`, go top, bottom, left, right; an area is `width` across its corridor and `depth`
    along it.
    """
    top, bottom, left, right = corridors
    height = 2 * border + top + bottom + 2 * depth + centre
    breadth = 2 * border + left + right + 2 * depth + centre
    grid = np.full((height, breadth), "#")
    r0, c0 = border + depth + top, border + depth + left  # upper left corner of the centre
    r1, c1, mid, half = r0 + centre, c0 + centre, centre // 2, width // 2
    row, column = r0 + mid, c0 + mid
    grid[r0 - top : r1 + bottom, column] = "."
    grid[row, c0 - left : c1 + right] = "."
    grid[r0:r1, c0:c1] = "S"
    grid[border : border + depth, column - half : column - half + width] = names[0]
    grid[r1 + bottom : r1 + bottom + depth, column - half : column - half + width] = names[1]
    grid[row - half : row - half + width, border : border + depth] = names[2]
    grid[row - half : row - half + width, c1 + right : c1 + right + depth] = names[3]
    return "\n".join("".join(line) for line in grid)


@dataclass(frozen=True)
class GridMap:
    """The tables of a drawn map. C free cells, numbered in reading order; C itself stands for every wall cell."""

    drawing: str

    @cached_property
    def grid(self) -> np.ndarray:
        lines = [line for line in self.drawing.strip("\n").split("\n")]
        if len({len(line) for line in lines}) != 1:
            raise UserError("env_args.layout: the lines of a map must have one length")
        return np.array([list(line) for line in lines])

    @cached_property
    def cells(self) -> list[tuple[int, int]]:
        return [(int(r), int(c)) for r, c in np.argwhere(self.grid != "#")]

    @cached_property
    def _index(self) -> dict[tuple[int, int], int]:
        return {cell: i for i, cell in enumerate(self.cells)}

    def region(self, name: str) -> Int[Tensor, " K"]:
        """The cells drawn as `name`."""
        found = [i for i, cell in enumerate(self.cells) if self.grid[cell] == name]
        if not found:
            raise UserError(f"env_args.layout: the map has no cell {name!r}")
        return torch.tensor(found)

    @cached_property
    def neighbours(self) -> Int[Tensor, "C 4"]:
        """The cell reached by each move; a move into a wall stays."""
        rows = [[self._index.get((r + dr, c + dc), i) for dr, dc in _MOVES] for i, (r, c) in enumerate(self.cells)]
        return torch.tensor(rows)

    @cached_property
    def windows(self) -> Int[Tensor, "C 25"]:
        """The cells in the view centred on each cell, row by row; C for walls and beyond the map."""
        half, outside = VIEW // 2, len(self.cells)
        span = range(-half, half + 1)
        return torch.tensor([[self._index.get((r + dr, c + dc), outside) for dr in span for dc in span] for r, c in self.cells])


_COLOURS = "d62728 1f77b4 ffbb00 9467bd 17becf e377c2 2ca02c ff7f0e 8c564b 96a01e"
AGENT_COLOURS = np.array([list(bytes.fromhex(colour)) for colour in _COLOURS.split()], dtype=np.uint8)  # [10, RGB]
FLOOR, WALL = (238, 238, 232), (52, 58, 70)


def picture(grid_map: GridMap, fills: dict[int, tuple[int, int, int]], agents: list[int], scale: int = 16) -> np.ndarray:
    """RGB picture: `fills` colours cells, agents are squares that shift a little when several share a cell."""
    height, width = grid_map.grid.shape
    image = np.full((height * scale, width * scale, 3), WALL, dtype=np.uint8)
    for i, (r, c) in enumerate(grid_map.cells):
        image[r * scale : (r + 1) * scale - 1, c * scale : (c + 1) * scale - 1] = fills.get(i, FLOOR)
    for who, cell in enumerate(agents):
        r, c = grid_map.cells[cell]
        crowd = [other for other, there in enumerate(agents) if there == cell]
        shift, size = (crowd.index(who) * scale // 4, scale // 2) if len(crowd) > 1 else (scale // 8, 3 * scale // 4)
        image[r * scale + shift : r * scale + shift + size, c * scale + shift : c * scale + shift + size] = AGENT_COLOURS[
            who % len(AGENT_COLOURS)
        ]
    return image


def drawing(grid_map: GridMap, marks: dict[int, str], agents: list[int]) -> str:
    """The picture in characters: agents are digits, marks are cells' contents."""
    canvas = np.where(grid_map.grid == "#", "#", " ")
    for i, mark in marks.items():
        canvas[grid_map.cells[i]] = mark
    for who, cell in enumerate(agents):
        canvas[grid_map.cells[cell]] = str(who)
    return "\n".join("".join(line) for line in canvas)
