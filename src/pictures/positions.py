"""Position maps: where each agent of a saved run spends its time.

Axes: N copies, A agents, H rows from the top, W columns.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from eoi.envs.grid import AGENT_COLOURS
from eoi.records.record import labelled
from eoi.saved import greedy_episodes, load
from eoi.utils.errors import UserError
from eoi.utils.shapes import Bool, Float, Int

_WALL = (0.86, 0.875, 0.895)
_WIDTH = 9.0  # inches, of all panels on a line

# Counts each agent at each place at this moment, over the copies selected by a mask [N].
Count = Callable[[Tensor], Float[np.ndarray, "A H W"]]


class Maps(NamedTuple):
    """Where the agents of one run spend their time."""

    title: str
    share: Float[np.ndarray, "A H W"]  # of the agent's time; nan at walls
    world: str = ""


class Layout(NamedTuple):
    """Panels of a picture: each run has as many lines of panels as it needs."""

    columns: int
    width: float  # inches, of a panel
    lines: list[int]  # of each run
    heights: list[float]  # inches, of a panel of each run


def heat_maps(
    folders: Sequence[pathlib.Path],
    episodes: int,
    seed: int,
    model: str,
    names: Sequence[str] | None = None,
) -> Figure:
    """For each run a panel for each agent, darker where it spends more time, and one for all.

    names: of the runs; None: the algorithm of each run.
    """
    given = names or [None] * len(folders)
    runs = [
        measure(folder, episodes, seed, model, name)
        for folder, name in zip(folders, given, strict=True)
    ]
    if len({run.world for run in runs}) > 1:
        runs = [run._replace(title=f"{run.world}\n{run.title}") for run in runs]
    columns, width, lines, heights = layout = _layout(runs)
    tall = [height for height, n in zip(heights, lines, strict=True) for _ in range(n)]
    figure = Figure(
        figsize=(width * columns + 1.3, sum(tall) + 0.2 * len(tall) + 0.3), layout="constrained"
    )
    axes = figure.subplots(len(tall), columns, squeeze=False, height_ratios=tall)
    norm = PowerNorm(0.5, 0, max(np.nanmax(run.share) for run in runs))
    for i, run in enumerate(runs):
        first = sum(lines[:i])
        _draw(list(axes[first : first + lines[i]].flat), run, norm, _titled(runs, layout, i))
    grey = ListedColormap(shade(np.full(3, 0.55), np.linspace(0, 1, 256)))
    bar = figure.colorbar(
        ScalarMappable(norm, grey), ax=list(axes.flat), fraction=0.02, aspect=22, pad=0.01
    )
    bar.set_label("share of time", fontsize=8, color="0.3")
    bar.ax.tick_params(labelsize=7)
    figure.supxlabel("grey: walls", fontsize=7, color="0.45")
    return figure


def _layout(runs: Sequence[Maps]) -> Layout:
    """Panels about as large for a wide map as for a square one, and a page wide at most."""
    shapes = [run.share.shape[1:] for run in runs]
    aspect = max(across / down for down, across in shapes)
    width = min(1.45 * aspect**0.5, 2.6)
    panels = [1 + len(run.share) for run in runs]
    columns = max(3, int(_WIDTH / width))
    columns = math.ceil(max(panels) / math.ceil(max(panels) / columns))  # lines equally long
    lowest, highest = 0.95, 1.6  # a run's title, of up to four lines, fits beside the lowest
    return Layout(
        columns,
        width,
        [math.ceil(n / columns) for n in panels],
        [min(max(width * down / across, lowest), highest) for down, across in shapes],
    )


def _titled(runs: Sequence[Maps], layout: Layout, i: int) -> bool:
    """Whether the agents' names are above the run's panels, not only above those before it."""
    return not i or layout.lines[i] > 1 or len(runs[i].share) != len(runs[i - 1].share)


def measure(
    folder: pathlib.Path, episodes: int, seed: int, model: str, name: str | None = None
) -> Maps:
    """Plays greedy episodes of a saved run. Raises UserError."""
    env, learner, settings = load(folder, episodes, model)
    with contextlib.closing(env):
        moments = greedy_episodes(env, learner, seed, settings.run.t_max)
        start = next(moments)
        walls, count = plan(env)  # positions exist after a reset
        visits, returns = count(start.running), start.now.reward
        for moment in moments:
            visits = visits + count(moment.running)
            returns = returns + moment.now.reward
    name = name or labelled(settings.run.name, vars(settings.env))
    title = f"{name}\nseed {settings.run.seed}\nreturn {returns.mean():.2f}"
    return Maps(title, _shares(visits, walls), settings.world)


def _shares(
    visits: Float[np.ndarray, "A H W"], walls: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "A rows columns"]:
    """Share of each agent's time, on the part of the map that can be entered and a rim of wall."""
    free = ~walls | visits.any(0)
    share = np.where(free, visits / visits.sum((1, 2), keepdims=True).clip(1), np.nan)
    rows, columns = (slice(index.min(), index.max() + 1) for index in free.nonzero())
    return np.pad(share[:, rows, columns], ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)


def plan(env: Any) -> tuple[Bool[np.ndarray, "H W"], Count]:
    """Walls of a world, and a function that counts its agents.

    A world of free cells has `map` and `position`; one with a plane has `xy`, and its walkable
    cells in `ground`, whose lower left corner is at `corner`. Raises UserError for other worlds.
    """
    if hasattr(env, "position"):
        walls = env.map.grid == "#"
        return walls, lambda copies: _on_cells(~walls, env.position[copies])
    if hasattr(env, "xy"):
        ground, corner = env.ground, env.corner
        return ~ground, lambda copies: _on_plane(ground.shape, corner, env.xy[copies])
    raise UserError(f"--heatmap: {type(env).__name__} does not give the positions of its agents")


def _on_cells(
    free: Bool[np.ndarray, "H W"], cells: Int[Tensor, "n A"]
) -> Float[np.ndarray, "A H W"]:
    """`cells` are numbers of free cells, in reading order."""
    grid, n_cells = np.zeros((cells.shape[1], *free.shape)), int(free.sum())
    grid[:, free] = [np.bincount(own, minlength=n_cells) for own in cells.T.cpu().numpy()]
    return grid


def _on_plane(
    shape: tuple[int, int], corner: tuple[float, float], places: Float[Tensor, "n A 2"]
) -> Float[np.ndarray, "A H W"]:
    """`places` are x and y, y upwards; nan for an agent that has left.

    `corner`: x and y of the lower left corner of a map of `shape` cells.
    """
    (x, y), (down, across) = corner, shape
    bins, area = (across, down), ((x, x + across), (y, y + down))
    of_agents = places.transpose(0, 1).cpu().numpy()  # [A, n, 2]
    return np.stack(
        [np.histogram2d(own[:, 0], own[:, 1], bins, area)[0].T[::-1] for own in of_agents]
    )


def shade(colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Red, green and blue [..., 3] for amounts [...].

    White at 0, `colour` [..., 3] in the middle, a dark tone of it at 1.
    """
    amount = amount[..., None]
    return np.where(
        amount < 0.5, 1 - 2 * amount * (1 - colour), colour * (1 - 1.3 * (amount - 0.5))
    )


def _draw(axes: Sequence[Axes], run: Maps, norm: Normalize, titles: bool) -> None:
    colours = (
        np.array([AGENT_COLOURS[i % len(AGENT_COLOURS)] for i in range(len(run.share))]) / 255
    )  # [A, 3]
    mixture = (
        np.einsum("ahw,ac->hwc", run.share, colours) / np.maximum(run.share.sum(0), 1e-9)[..., None]
    )
    pictures = [
        *(shade(colour, norm(share)) for colour, share in zip(colours, run.share, strict=True))
    ]
    pictures.append(shade(mixture, np.asarray(norm(run.share.max(0)))))
    names = [*(f"agent {i}" for i in range(len(colours))), "all"]
    for one in axes:
        one.set_axis_off()
    for one, picture, name in zip(axes, pictures, names, strict=False):
        one.imshow(np.where(np.isnan(picture), _WALL, picture), interpolation="nearest")
        if titles:
            one.set_title(name, loc="center", fontsize=8)
    axes[0].text(
        -0.06, 0.5, run.title, transform=axes[0].transAxes, ha="right", va="center", fontsize=8
    )
