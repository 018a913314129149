"""Final values over a setting or over worlds: mean and band over seeds, a point for each run."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eoi.pictures.curves import BANDS, Curve, summarise
from eoi.pictures.learning import Styles, finish, label_y, show_zero, styles_of
from eoi.pictures.panels import Panel
from eoi.records.groups import Value, idle, order, value
from eoi.records.labels import literal
from eoi.records.record import Record
from eoi.records.statistics import FINAL, final_value
from eoi.utils.errors import UserError


def sweeps(rows: Sequence[Sequence[Panel]], key: str, band: str) -> Figure:
    """A row of panels for each world, with the values of `key` at equal distances.

    A group in which `key` has no effect is a level line.
    band: a key of BANDS. Raises UserError if `key` has no effect in any run.
    """
    values = {
        value(r, key): None
        for row in rows
        for panel in row
        for group in panel.groups.values()
        for r in group
        if not idle(r, key)
    }
    if not values:
        raise UserError(f"--over {key}: it has no effect in any of these runs")
    ticks = sorted(values, key=order)
    styles = styles_of(rows)
    columns = len(rows[0])
    figure = Figure(figsize=(3.5 * columns + 0.3, 2.6 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        axes[i, 0].set_title(textwrap.fill(literal(row[0].world), 48))
        for j, panel in enumerate(row):
            _draw(axes[i, j], panel, key, ticks, band, styles)
    finish(figure, rows, styles, _explanation(band, " and shades"))
    return figure


def over_worlds(
    rows: Sequence[Sequence[Panel]],
    labels: Sequence[str],
    band: str,
    like: Mapping[str, str] | None = None,
) -> Figure:
    """A plot for each row, with the worlds of its panels at equal distances.

    labels: x label of each plot. band: a key of BANDS.
    like: groups that are drawn dotted, each in the colour of another group.
    """
    styles = styles_of(rows, like)
    ticks = [[panel.world for panel in row] for row in rows]
    sizes = [1 + len(names) for names in ticks]
    figure = Figure(figsize=(0.95 * sum(sizes) + 0.5, 3.2), layout="constrained")
    axes = figure.subplots(
        1, len(rows), squeeze=False, sharey=True, gridspec_kw={"width_ratios": sizes}
    )[0]
    lowest = []
    for one, row, names, label in zip(axes, rows, ticks, labels, strict=True):
        groups = {
            name: [_finals(panel.groups.get(name, ()), panel.metric) for panel in row]
            for name in styles
        }
        lowest.append(_draw_points(one, groups, band, styles))
        _set_ticks(one, names, label)
    label_y(axes[0], rows[0][0])
    show_zero(axes[0], min(lowest))
    finish(figure, rows, styles, _explanation(band))
    return figure


def _explanation(band: str, shades: str = "") -> str:
    middle = "interquartile mean" if band == "iqm" else "mean"
    return f"points: each run, {FINAL};  diamonds: {middle};  bars{shades}: {BANDS[band]}"


def _draw(
    axes: Axes,
    panel: Panel,
    key: str,
    ticks: Sequence[Value],
    band: str,
    styles: Styles,
) -> None:
    lowest = 0.0
    for name, records in panel.groups.items():
        level = [r for r in records if idle(r, key)]
        if level:
            mean, low, high = _summary(_finals(level, panel.metric), band)
            lowest = min(lowest, low)
            axes.axhline(mean, linewidth=1.4, **styles[name])
            axes.axhspan(low, high, color=styles[name]["color"], alpha=0.12, linewidth=0)
    groups = {
        name: [
            _finals(
                [r for r in records if value(r, key) == tick and not idle(r, key)], panel.metric
            )
            for tick in ticks
        ]
        for name, records in panel.groups.items()
    }
    lowest = min(lowest, _draw_points(axes, groups, band, styles))
    _set_ticks(axes, [str(tick) for tick in ticks], key)
    label_y(axes, panel)
    show_zero(axes, lowest)


def _draw_points(
    axes: Axes, groups: Mapping[str, Sequence[np.ndarray]], band: str, styles: Styles
) -> float:
    """A point for each run, and each group's mean with its band. Returns the lowest end, or 0.

    groups: values [R] of a group's runs at each tick. Groups stand side by side, so that no bar
    hides another.
    """
    lowest = [0.0]
    for k, (name, every) in enumerate(groups.items()):
        aside = 0.05 * (k - (len(groups) - 1) / 2)
        there = [(x + aside, values) for x, values in enumerate(every) if len(values)]
        for x, values in there:
            axes.plot(
                [x] * len(values),
                values,
                "o",
                color=styles[name]["color"],
                markersize=2.5,
                alpha=0.45,
            )
            lowest.append(float(values.min()))
        if there:
            x, mean, low, high = np.array([(x, *_summary(v, band)) for x, v in there]).T
            axes.errorbar(
                x,
                mean,
                np.maximum([mean - low, high - mean], 0),  # rounding can put a mean past its ends
                marker="D",
                markersize=3.5,
                capsize=2,
                linewidth=1.6,
                elinewidth=1,
                **styles[name],
            )
            lowest += low.tolist()
    return float(np.nanmin(lowest))


def _set_ticks(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_xticks(range(len(names)), [literal(name) for name in names])
    axes.set_xlim(-0.4, len(names) - 0.6)
    axes.set_xlabel(label)


def _finals(records: Sequence[Record], metric: str) -> np.ndarray:
    """Final values [R]."""
    return np.array([final_value(record.metrics[metric].values) for record in records])


def _summary(values: np.ndarray, band: str) -> tuple[float, float, float]:
    """Mean, and the lower and upper end of the band."""
    points = [Curve(np.zeros(1), np.array([value])) for value in values]
    _, *found = summarise(points, band)
    mean, low, high = (float(each[0]) for each in found)
    return mean, low, high
