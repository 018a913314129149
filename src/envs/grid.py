"""Grid worlds as tensors. A step of N copies is a few gathers, with no loop over copies or agents.

A map is a list of free cells with tables of neighbours and of 5x5 views. It is drawn in ASCII: `#`
is wall, `.` floor, `S` a start cell, any other character a region of that name.

Axes: N copies, A agents, U actions, O observation, S state; C free cells, K kinds of things.
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec, TimeStep
from eoi.utils.errors import UserError
from eoi.utils.places import ROOT, expanded
from eoi.utils.seeding import uniform
from eoi.utils.shapes import Bool, Float, Int, Shaped

UP, DOWN, LEFT, RIGHT = range(4)
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # rows grow downwards
VIEW = 5  # side of an agent's square view
BORDER = 2  # walls around a generated map
RGB = tuple[int, int, int]


def plus_map(
    centre: int,
    corridors: tuple[int, int, int, int],
    width: int,
    depth: int,
    names: str,
    border: int = BORDER,
) -> str:
    """Drawing of four areas around a square, at the ends of one-cell-wide corridors.

    `corridors` and `names` are in the order top, bottom, left, right; the fifth name is that of
    the square. An area is `width` cells across its corridor and `depth` cells along it. Raises
    UserError where areas overlap.
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
    grid[r0:r1, c0:c1] = names[4]
    across, down = (slice(at - half, at - half + width) for at in (column, row))
    areas = (
        (slice(border, border + depth), across),
        (slice(r1 + bottom, r1 + bottom + depth), across),
        (down, slice(border, border + depth)),
        (down, slice(c1 + right, c1 + right + depth)),
    )
    for name, area in zip(names, areas, strict=False):
        grid[area] = name
    for name, area in zip(names, areas, strict=False):
        if grid[area].size < width * depth or (grid[area] != name).any():
            raise UserError(
                f"env_args: areas of {width} x {depth} cells overlap on this map;"
                " make them narrower, or the corridors longer"
            )
    return "\n".join("".join(line) for line in grid)


_ONE_LINE = (
    "env_args.layout: {}; in a YAML file, put `|` after `layout:` "
    "and each line of the map on a line of its own"
)


def read_layout(layout: str | None, letters: Mapping[str, str]) -> str:
    """The map that `layout` holds, or that is in the file of that name. Raises UserError.

    `letters`: meaning of each character that the map may contain.
    """
    if layout is None:  # YAML takes lines that begin with # for comments
        raise UserError(_ONE_LINE.format("the map is empty"))
    if not layout:
        return ""
    if "\n" not in layout.strip("\n"):
        layout = _read_map_file(layout, letters)
    rows = [row.rstrip() for row in layout.strip("\n").splitlines()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise UserError(
                f"env_args.layout: all lines of a map must have one length; line 1 has "
                f"{len(rows[0])} characters and line {number} has {len(row)}"
            )
        unknown = sorted(set(row) - {"#", *letters})
        if unknown:
            raise UserError(
                f"env_args.layout: unknown letter {unknown[0]!r} in line {number}. "
                f"{explained(letters)}"
            )
    return "\n".join(rows)


def _read_map_file(name: str, letters: Mapping[str, str]) -> str:
    """Text of a map file, looked for in the current directory, then in the checkout."""
    if "#" in name:
        raise UserError(_ONE_LINE.format("the map has only one line"))
    for folder in (pathlib.Path(), ROOT):
        path = folder / expanded(name)
        if path.is_file():
            text = path.read_text(errors="replace")
            if "\n" in text.strip():
                return text
            found = "the map has only one line" if text.strip() else "the file is empty"
            raise UserError(
                f"env_args.layout: {path}: {found}; a map has lines of one length, such as "
                f"##### then #...# then #####. {explained(letters)}"
            )
    raise UserError(
        f"env_args.layout: there is no file {name!r} here, beside the YAML file that names it, "
        f"or in {ROOT}"
    )


def explained(letters: Mapping[str, str]) -> str:
    """A sentence with the meaning of each letter."""
    return "Letters: # wall, " + ", ".join(f"{key} {word}" for key, word in letters.items()) + "."


@dataclass(frozen=True)
class GridMap:
    """Tables of a drawn map. The C free cells are numbered in reading order; C means any wall."""

    drawing: str
    letters: str = ""  # the sentence about letters that ends an error message

    @cached_property
    def grid(self) -> np.ndarray:
        return np.array([list(line) for line in self.drawing.strip("\n").split("\n")])

    @cached_property
    def cells(self) -> list[tuple[int, int]]:
        return [(int(r), int(c)) for r, c in np.argwhere(self.grid != "#")]

    @cached_property
    def _index(self) -> dict[tuple[int, int], int]:
        return {cell: i for i, cell in enumerate(self.cells)}

    def drawn(self, name: str) -> Int[Tensor, " K"]:
        """Numbers of the cells drawn as `name`."""
        found = [i for i, cell in enumerate(self.cells) if self.grid[cell] == name]
        return torch.tensor(found, dtype=torch.int64)

    def region(self, name: str) -> Int[Tensor, " K"]:
        """Numbers of the cells drawn as `name`. Raises UserError if there are none."""
        if not self.has(name):
            raise UserError(
                f"env_args.layout: the map has no cell {name!r}. {self.letters}".strip()
            )
        return self.drawn(name)

    def has(self, name: str) -> bool:
        return bool((self.grid == name).any())

    @cached_property
    def neighbours(self) -> Int[Tensor, "C 4"]:
        """Cell reached by each move; a move into a wall leads back to the same cell."""
        rows = [
            [self._index.get((r + dr, c + dc), i) for dr, dc in _MOVES]
            for i, (r, c) in enumerate(self.cells)
        ]
        return torch.tensor(rows)

    def parts(self, name: str) -> list[Int[Tensor, " K"]]:
        """Connected parts of the cells drawn as `name`, in reading order."""
        left, table, found = set(self.region(name).tolist()), self.neighbours.tolist(), []
        while left:
            part, edge = set(), {min(left)}
            while edge:
                part |= edge
                edge = {there for cell in edge for there in table[cell]} & left - part
            left -= part
            found.append(torch.tensor(sorted(part)))
        return found

    @cached_property
    def windows(self) -> Int[Tensor, "C 25"]:
        """Cells in the view around each cell, row by row; C for walls and outside the map."""
        half, outside = VIEW // 2, len(self.cells)
        span = range(-half, half + 1)
        return torch.tensor(
            [
                [self._index.get((r + dr, c + dc), outside) for dr in span for dc in span]
                for r, c in self.cells
            ]
        )


_COLOURS = "d62728 1f77b4 ffbb00 9467bd 17becf e377c2 2ca02c ff7f0e 8c564b 96a01e"
AGENT_COLOURS = np.array(
    [list(bytes.fromhex(colour)) for colour in _COLOURS.split()], dtype=np.uint8
)  # [10, RGB]
FLOOR, WALL = (238, 238, 232), (52, 58, 70)


def picture(
    grid_map: GridMap, fills: dict[int, RGB], agents: list[int], scale: int = 16
) -> np.ndarray:
    """RGB picture. `fills`: colours of cells. Agents are squares, side by side in a shared cell."""
    height, width = grid_map.grid.shape
    image = np.full((height * scale, width * scale, 3), WALL, dtype=np.uint8)
    for i, (r, c) in enumerate(grid_map.cells):
        image[r * scale : (r + 1) * scale - 1, c * scale : (c + 1) * scale - 1] = fills.get(
            i, FLOOR
        )
    for agent, cell in enumerate(agents):
        r, c = grid_map.cells[cell]
        crowd = [other for other, there in enumerate(agents) if there == cell]
        shift, size = (
            (crowd.index(agent) * scale // 4, scale // 2)
            if len(crowd) > 1
            else (scale // 8, 3 * scale // 4)
        )
        image[
            r * scale + shift : r * scale + shift + size,
            c * scale + shift : c * scale + shift + size,
        ] = AGENT_COLOURS[agent % len(AGENT_COLOURS)]
    return image


def drawing(grid_map: GridMap, marks: dict[int, str], agents: list[int]) -> str:
    """Drawing in characters. `marks`: contents of cells. Agents are digits."""
    canvas = np.where(grid_map.grid == "#", "#", " ")
    for i, mark in marks.items():
        canvas[grid_map.cells[i]] = mark
    for agent, cell in enumerate(agents):
        canvas[grid_map.cells[cell]] = str(agent)
    return "\n".join("".join(line) for line in canvas)


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Settings of every grid world."""

    # Meaning of each character of a map, besides `#`
    letters: ClassVar[Mapping[str, str]] = {".": "floor", "S": "start cell"}

    n_agents: int = setting(1, 255, default=4)  # they are counted in bytes
    episode_limit: int = setting(1, default=30)  # T, steps
    see_others: bool = True  # False: the channel of other agents is empty
    layout: str | None = ""  # a map, or the file of a map; "": the generated map

    def __post_init__(self) -> None:
        # The record of a run holds the map itself: the file may change later.
        object.__setattr__(self, "layout", read_layout(self.layout, self.letters))

    def _map(self, generated: str) -> GridMap:
        return GridMap(self.layout or generated, explained(self.letters))


class GridWorld:
    """N copies of a grid world on one device: time, positions, views, state and pictures.

    A subclass adds the rules. The team reward is paid at the last step, which terminates the
    episode.

    Observation: a 5x5 view for each kind of thing: walls, other scenery, items, and other agents
    as a count; then the gauges. State: for every free cell the number of agents and whether it
    holds each item; then the gauges and t/T. Parts that never change are left out.
    """

    action_names: tuple[str, ...] = ("up", "down", "left", "right")
    scenery: str = ""  # characters of a map that agents see and that never change
    items: tuple[str, ...] = ()  # kinds of things that come and go
    gauges: tuple[str, ...] = ()  # numbers that every agent observes
    # Character and colour of each kind of item and scenery
    looks: ClassVar[Mapping[str, tuple[str, RGB]]] = {}
    words: ClassVar[Mapping[str, str]] = {}  # key of `looks`: its word in a picture's legend
    regions: str = "regions"  # name, in metrics, for the parts of the map that agents divide
    metrics: tuple[str, ...] = ()
    obs_dtype = torch.uint8

    def __init__(
        self,
        cfg: GridConfig,
        grid_map: GridMap,
        regions: Sequence[Int[Tensor, " K"]],
        reward_max: float,
        n_envs: int,
        device: torch.device | str = "cpu",
    ):
        self.cfg, self.map, self.n_envs, self.device = cfg, grid_map, n_envs, torch.device(device)
        cells, actions = len(grid_map.cells), len(self.action_names)
        fixed, moving = (1 + len(self.scenery)) * VIEW**2, (len(self.items) + 1) * VIEW**2
        self.spec = EnvSpec(
            n_agents=cfg.n_agents,
            n_actions=actions,
            obs_size=fixed + moving + len(self.gauges),
            state_size=(1 + len(self.items)) * cells + len(self.gauges) + 1,
            episode_limit=cfg.episode_limit,
            fixed_length=True,
            obs_dtype=self.obs_dtype,
            metrics=self.metrics,
            reward_max=reward_max,
            n_cells=cells,
        )
        stay = torch.arange(cells)[:, None].expand(-1, actions - 4)
        self._next = torch.cat([grid_map.neighbours, stay], 1).flatten().to(device)  # [C * U]
        self._still = self._seen_scenery().to(device)  # [C, fixed]
        # One row a copy holds all that changes: kind k at k * (C + 1), with an entry for the
        # outside as its last; then the gauges.
        kinds = len(self.items) + 1
        gauges = torch.arange(len(self.gauges)).expand(cells, -1) + kinds * (cells + 1)
        self._views = torch.cat(
            [*(grid_map.windows + k * (cells + 1) for k in range(kinds)), gauges], 1
        ).to(device)
        self._others = slice(fixed + moving - VIEW**2, fixed + moving)
        self._centre = self._others.start + VIEW**2 // 2  # an agent does not see itself
        self._memory = torch.zeros(
            n_envs, kinds * (cells + 1) + len(self.gauges), dtype=self.obs_dtype, device=device
        )
        maps = self._memory[:, : kinds * (cells + 1)]
        self._maps = maps.unflatten(1, (kinds, cells + 1))  # [N, K, C + 1]
        self._gauges = self._memory[:, kinds * (cells + 1) :]
        # Allocated once, because it is large
        self._seen = self._views.new_empty(n_envs * cfg.n_agents, self._views.shape[1])
        self._avail = torch.ones(n_envs, cfg.n_agents, actions, dtype=torch.bool, device=device)
        self._zero = torch.zeros(n_envs, device=device)
        self._never = torch.zeros(n_envs, dtype=torch.bool, device=device)
        self._always = ~self._never
        self._ones = torch.ones(n_envs, cfg.n_agents, dtype=self.obs_dtype, device=device)
        square = torch.ones(cfg.n_agents, cfg.n_agents, dtype=torch.bool, device=device)
        self._in_order = square.tril(-1)  # [i, j]: j < i
        self._position = torch.zeros(n_envs, cfg.n_agents, dtype=torch.int64, device=device)
        region_of = torch.full((cells,), len(regions))  # the last number means "in no region"
        for k, region in enumerate(regions):
            region_of[region] = k
        self._region_of = region_of.to(device)
        self._visited = torch.zeros(n_envs, len(regions) + 1, dtype=torch.bool, device=device)
        self._t = cfg.episode_limit

    def _seen_scenery(self) -> Shaped[Tensor, "C fixed"]:
        """Views of walls and scenery from each cell."""
        drawn = [*(self.map.grid[cell] for cell in self.map.cells), "#"]  # the last: outside
        layers = torch.tensor(
            [[character == kind for character in drawn] for kind in "#" + self.scenery]
        )
        return torch.cat([layer[self.map.windows] for layer in layers], 1).to(self.obs_dtype)

    # Rules, from the subclass

    def _begin(self, keys: Int[Tensor, " N"]) -> None:
        """Place the agents and the items of a new episode."""
        raise NotImplementedError

    def _act(self, actions: Int[Tensor, "N A"]) -> None:
        """Apply the moves, then the other actions."""
        raise NotImplementedError

    def _earned(self) -> Shaped[Tensor, " N"]:
        """Team reward of the episode, computed at its last step."""
        raise NotImplementedError

    def _info(self) -> dict[str, Tensor]:
        """Statistics of the episode, computed at its last step."""
        raise NotImplementedError

    # Tools for the rules

    def _drawn_starts(
        self, keys: Int[Tensor, " N"], cells: Int[Tensor, " K"]
    ) -> Int[Tensor, "N A"]:
        """Distinct random cells out of `cells`, one for each agent."""
        return cells[uniform(keys, len(cells)).argsort(1)[:, : self.cfg.n_agents]]

    def _move(self, actions: Int[Tensor, "N A"]) -> None:
        self._position = self._next[self._position * self.spec.n_actions + actions]

    def _on(self, item: int) -> Bool[Tensor, "N A"]:
        """Agents on a cell that holds the item; `item` is its index in `items`."""
        return self._maps[:, item].gather(1, self._position) > 0

    def _first(
        self, tries: Bool[Tensor, "N A"], ahead: Bool[Tensor, "*N A A"]
    ) -> Bool[Tensor, "N A"]:
        """For each cell, the first of the agents in it that try; `ahead` [i, j]: j precedes i."""
        together = self._position[:, :, None] == self._position[:, None, :]
        return tries & ~(together & tries[:, None, :] & ahead).any(2)

    def _take(self, item: int, takes: Bool[Tensor, "N A"]) -> None:
        """Remove the item from the cells of the agents in `takes`."""
        # The other agents write to the entry for the outside, which is always 0.
        self._maps[:, item].scatter_(1, torch.where(takes, self._position, self.spec.n_cells), 0)

    # The interface

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        self._t = 0
        self._begin(keys)
        self._visited.zero_()
        self._visit()
        return self._moment()

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        if self._t < self.cfg.episode_limit:
            self._t += 1
            self._act(actions)
            self._visit()
            return self._moment()
        return self._moment(repeated=True)

    def _visit(self) -> None:
        self._visited.scatter_(1, self._region_of[self._position], True)

    def _presence(self) -> dict[str, Tensor]:
        """Number of regions visited in the episode so far, and of regions occupied now."""
        occupied = torch.zeros_like(self._visited).scatter_(
            1, self._region_of[self._position], True
        )
        return {
            f"{self.regions}_{how}": at[:, :-1].sum(1).float()
            for how, at in (("visited", self._visited), ("occupied", occupied))
        }

    def _moment(self, repeated: bool = False) -> TimeStep:
        agents = self._maps[:, -1].zero_()
        agents.scatter_add_(1, self._position, self._ones)
        places = self._position.flatten()
        torch.index_select(self._views, 0, places, out=self._seen)
        moving = self._memory.gather(1, self._seen.view(self.n_envs, -1)).view(len(places), -1)
        obs = torch.cat([self._still.index_select(0, places), moving], 1).view(
            self.n_envs, self.cfg.n_agents, -1
        )
        if self.cfg.see_others:
            obs[..., self._centre] -= 1
        else:
            obs[..., self._others] = 0
        done = self._t >= self.cfg.episode_limit
        reward = self._earned().float() if done and not repeated else self._zero
        terminated = self._always if done else self._never
        return TimeStep(
            obs,
            self._state(),
            self._avail,
            reward,
            terminated,
            self._never,
            self._info() | self._presence() if done else {},
        )

    def _state(self) -> Float[Tensor, "N S"]:
        cells, gauges = self.spec.n_cells, len(self.gauges)
        state = torch.empty(self.n_envs, self.spec.state_size, device=self.device)
        state[:, :cells] = self._maps[:, -1, :cells]
        state[:, cells : -1 - gauges] = self._maps[:, :-1, :cells].flatten(1)
        if gauges:
            state[:, -1 - gauges : -1] = self._gauges
        state[:, -1] = self._t / self.cfg.episode_limit
        return state

    @property
    def position(self) -> Int[Tensor, "N A"]:
        """Free cell of each agent, for position maps."""
        return self._position

    def history(self, copy: int = 0) -> dict[str, float]:
        """Quantities to plot over an episode, by name."""
        return {}

    @property
    def legend(self) -> dict[str, RGB]:
        """Colours of a picture, without those of the agents."""
        found = {word: self.looks[key][1] for key, word in self.words.items()}
        return found | {"floor": FLOOR, "wall": WALL}

    def _contents(self, copy: int) -> dict[int, tuple[str, RGB]]:
        """Character and colour of each cell that is not plain floor."""
        scenery = {
            i: self.looks[self.map.grid[cell]]
            for i, cell in enumerate(self.map.cells)
            if self.map.grid[cell] in self.looks
        }
        return scenery | {
            cell: self.looks[self.items[item]]
            for item, cell in self._maps[copy, :-1, :-1].nonzero().tolist()
        }

    def render(self, copy: int = 0) -> np.ndarray:
        return picture(
            self.map,
            {cell: colour for cell, (_, colour) in self._contents(copy).items()},
            self._position[copy].tolist(),
        )

    def text(self, copy: int = 0) -> str:
        return drawing(
            self.map,
            {cell: mark for cell, (mark, _) in self._contents(copy).items()},
            self._position[copy].tolist(),
        )

    def close(self) -> None: ...
