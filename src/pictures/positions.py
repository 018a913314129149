"""Position maps: where each agent of a saved run spends its time.

Axes: N copies, A agents, H rows from the top, W columns.
"""

import contextlib
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
from eoi.utils.shapes import Float

_WALL = (0.86, 0.875, 0.895)
_BINS = 40  # across, where positions are coordinates

# Counts each agent at each place at this moment, over the copies selected by a mask [N].
Count = Callable[[Tensor], Float[np.ndarray, "A H W"]]


class Maps(NamedTuple):
    """Where the agents of one run spend their time."""

    title: str
    share: Float[np.ndarray, "A H W"]  # of the agent's time; nan at places that no agent can enter


def heat_maps(
    folders: Sequence[pathlib.Path],
    episodes: int,
    seed: int,
    model: str,
    names: Sequence[str] | None = None,
) -> Figure:
    """A row for each run: a panel for each agent, darker where it spends more time, and all.

    names: of the rows; None: the algorithm of each run.
    """
    given = names or [None] * len(folders)
    rows = [
        measure(folder, episodes, seed, model, name)
        for folder, name in zip(folders, given, strict=True)
    ]
    columns = 1 + max(len(row.share) for row in rows)
    width, height = _panel_size(rows, columns)
    figure = Figure(
        figsize=(width * columns + 1.3, (height + 0.15) * len(rows) + 0.35), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    norm = PowerNorm(0.5, 0, max(np.nanmax(row.share) for row in rows))
    for i, row in enumerate(rows):
        _draw(list(axes[i]), row, norm, titles=i == 0 or len(row.share) != len(rows[i - 1].share))
    grey = ListedColormap(shade(np.full(3, 0.55), np.linspace(0, 1, 256)))
    bar = figure.colorbar(
        ScalarMappable(norm, grey), ax=list(axes.flat), fraction=0.02, aspect=22, pad=0.01
    )
    bar.set_label("share of time", fontsize=8, color="0.3")
    bar.ax.tick_params(labelsize=7)
    figure.supxlabel("grey: walls", fontsize=7, color="0.45")
    return figure


def _panel_size(rows: Sequence[Maps], columns: int) -> tuple[float, float]:
    """Width and height of a panel in inches: about as large for a wide map as for a square one."""
    heights, widths = zip(*(row.share.shape[1:] for row in rows), strict=True)
    aspect = max(widths) / max(heights)
    width = min(1.45 * aspect**0.5, 2.6, 13 / columns)
    lowest = 0.95  # so that a row's title, of three lines, fits beside it
    return width, max(width / aspect, lowest)


def measure(
    folder: pathlib.Path, episodes: int, seed: int, model: str, name: str | None = None
) -> Maps:
    """Plays greedy episodes of a saved run. Raises UserError."""
    env, learner, settings = load(folder, episodes, model)
    with contextlib.closing(env):
        moments = greedy_episodes(env, learner, seed, settings.run.t_max)
        start = next(moments)
        count, returns = _counter(env), start.now.reward  # positions exist after a reset
        visits = count(start.running)
        for moment in moments:
            visits = visits + count(moment.running)
            returns = returns + moment.now.reward
    name = name or labelled(settings.run.name, vars(settings.env))
    title = f"{name}\nseed {settings.run.seed}\nreturn {returns.mean():.2f}"
    return Maps(title, visits / np.nansum(visits, (1, 2), keepdims=True).clip(1))


def _counter(env: Any) -> Count:
    """Counts on the cells of a map, or in squares of a plane.

    A world has `map` and `position`, or `bounds` and `xy`. Raises UserError if it has neither.
    """
    if hasattr(env, "position"):
        return lambda copies: _on_cells(env, env.position[copies])
    if hasattr(env, "xy"):
        return lambda copies: _rimmed(_on_plane(env, env.xy[copies]))
    raise UserError(f"--heatmap: {type(env).__name__} does not give the positions of its agents")


def _on_cells(env: Any, cells: Tensor) -> Float[np.ndarray, "A H W"]:
    """`cells` [n, A] are numbers of free cells."""
    rows, columns = np.array(env.map.cells).T
    grid = np.full((cells.shape[1], *env.map.grid.shape), np.nan)
    grid[:, rows, columns] = [
        np.bincount(own, minlength=len(rows)) for own in cells.T.cpu().numpy()
    ]
    return grid[:, _edge(rows), _edge(columns)]


def _edge(index: np.ndarray) -> slice:
    """From one before the lowest index to one after the highest: free cells and a rim of wall."""
    return slice(max(index.min() - 1, 0), index.max() + 2)


def _on_plane(env: Any, places: Tensor) -> Float[np.ndarray, "A H W"]:
    """`places` [n, A, 2] are x and y, y upwards; nan for an agent that has left."""
    across, up = env.bounds
    bins = (_BINS, max(1, round(_BINS * (up[1] - up[0]) / (across[1] - across[0]))))
    of_agents = places.transpose(0, 1).cpu().numpy()  # [A, n, 2]
    return np.stack(
        [np.histogram2d(own[:, 0], own[:, 1], bins, (across, up))[0].T[::-1] for own in of_agents]
    )


def _rimmed(grid: Float[np.ndarray, "A H W"]) -> Float[np.ndarray, "A H+2 W+2"]:
    """With a wall around it: the bounds of a plane are where its agents can walk."""
    return np.pad(grid, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)


def shade(colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Red, green and blue [..., 3] for amounts [...].

    White at 0, `colour` [..., 3] in the middle, a dark tone of it at 1.
    """
    amount = amount[..., None]
    return np.where(
        amount < 0.5, 1 - 2 * amount * (1 - colour), colour * (1 - 1.3 * (amount - 0.5))
    )


def _draw(axes: Sequence[Axes], row: Maps, norm: Normalize, titles: bool) -> None:
    colours = (
        np.array([AGENT_COLOURS[i % len(AGENT_COLOURS)] for i in range(len(row.share))]) / 255
    )  # [A, 3]
    mixture = (
        np.einsum("ahw,ac->hwc", row.share, colours) / np.maximum(row.share.sum(0), 1e-9)[..., None]
    )
    pictures = [
        *(shade(colour, norm(share)) for colour, share in zip(colours, row.share, strict=True))
    ]
    pictures.append(shade(mixture, np.asarray(norm(row.share.max(0)))))
    names = [*(f"agent {i}" for i in range(len(colours))), "all"]
    for one in axes:
        one.set_axis_off()
    for one, picture, name in zip(axes, pictures, names, strict=False):
        one.imshow(np.where(np.isnan(picture), _WALL, picture), interpolation="nearest")
        if titles:
            one.set_title(name, loc="center", fontsize=8)
    axes[0].text(
        -0.06, 0.5, row.title, transform=axes[0].transAxes, ha="right", va="center", fontsize=8
    )
