"""Final values over one setting: mean and band over seeds, and a point for each run."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eoi.pictures.curves import BANDS, Curve, summarise
from eoi.pictures.learning import Styles, finish, label_y, show_zero, styles_of
from eoi.pictures.panels import Panel
from eoi.records.groups import Value, idle, order, value
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
        axes[i, 0].set_title(textwrap.fill(row[0].world, 48))
        for j, panel in enumerate(row):
            _draw(axes[i, j], panel, key, ticks, band, styles)
    explanation = f"points: each run, {FINAL};  bars and shades: {BANDS[band]}"
    finish(figure, rows, styles, textwrap.fill(explanation, 60 * columns))
    return figure


def _draw(
    axes: Axes,
    panel: Panel,
    key: str,
    ticks: Sequence[Value],
    band: str,
    styles: Styles,
) -> None:
    for k, (name, records) in enumerate(panel.groups.items()):
        colour = styles[name]["color"]
        level = [r for r in records if idle(r, key)]
        if level:
            mean, low, high = _summary(level, panel.metric, band)
            axes.axhline(mean, linewidth=1.4, **styles[name])
            axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        # Groups stand side by side, so that no bar hides another.
        aside = 0.05 * (k - (len(panel.groups) - 1) / 2)
        found = []
        for x, tick in enumerate(ticks):
            there = [r for r in records if value(r, key) == tick and not idle(r, key)]
            if there:
                found.append((x + aside, *_summary(there, panel.metric, band)))
                finals = [final_value(r.metrics[panel.metric].values) for r in there]
                axes.plot(
                    [x + aside] * len(there), finals, "o", color=colour, markersize=2.5, alpha=0.45
                )
        if found:
            x, mean, low, high = np.array(found).T
            axes.errorbar(
                x,
                mean,
                [mean - low, high - mean],
                capsize=2,
                linewidth=1.6,
                elinewidth=1,
                **styles[name],
            )
    axes.set_xticks(range(len(ticks)), [str(tick) for tick in ticks])
    axes.set_xlim(-0.4, len(ticks) - 0.6)
    axes.set_xlabel(key)
    label_y(axes, panel)
    values = [final_value(r.metrics[panel.metric].values) for g in panel.groups.values() for r in g]
    show_zero(axes, min(values, default=0))


def _summary(records: Sequence[Record], metric: str, band: str) -> tuple[float, float, float]:
    """Mean, and the lower and upper end of the band."""
    points = [
        Curve(np.zeros(1), np.array([final_value(r.metrics[metric].values)])) for r in records
    ]
    _, *found = summarise(points, band)
    mean, low, high = (float(each[0]) for each in found)
    return mean, low, high
