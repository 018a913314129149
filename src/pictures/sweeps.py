"""What a sweep over a setting found: final values of every run, mean and band over seeds, a point for every seed."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eoi.pictures.curves import BANDS, Curve, final, summarise
from eoi.pictures.learning import finish, label_y, styles_of
from eoi.pictures.panels import Panel, idle, order, value
from eoi.utils.errors import UserError
from eoi.utils.records import Record


def sweeps(rows: Sequence[Sequence[Panel]], key: str, band: str) -> Figure:
    """A row of panels for each world. Values of `key` stand at equal distances; a group that has no use for it is a level line.

    `band` is a key of BANDS. Raises UserError where no run has a use for `key`.
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
        raise UserError(f"--over {key}: none of these runs has a use for it")
    ticks = sorted(values, key=order)
    styles = styles_of(rows)
    columns = len(rows[0])
    figure = Figure(figsize=(3.5 * columns + 0.3, 2.6 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        axes[i, 0].set_title(row[0].world)
        for j, panel in enumerate(row):
            _draw(axes[i, j], panel, key, ticks, band, styles)
    explanation = (
        f"points: every run, mean of the last tenth of its entries;  bars and shades: {BANDS[band]}"
    )
    finish(figure, rows, styles, textwrap.fill(explanation, 60 * columns))
    return figure


def _draw(
    axes: Axes,
    panel: Panel,
    key: str,
    ticks: Sequence[Any],
    band: str,
    styles: dict[str, dict[str, Any]],
) -> None:
    for k, (name, records) in enumerate(panel.groups.items()):
        colour = styles[name]["color"]
        level = [r for r in records if idle(r, key)]
        if level:
            mean, low, high = _summary(level, panel.metric, band)
            axes.axhline(mean, linewidth=1.4, **styles[name])
            axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
        aside = 0.05 * (
            k - (len(panel.groups) - 1) / 2
        )  # so that bars of several groups do not hide each other
        found = []
        for x, tick in enumerate(ticks):
            there = [r for r in records if value(r, key) == tick and not idle(r, key)]
            if there:
                found.append((x + aside, *_summary(there, panel.metric, band)))
                finals = [final(r.metrics[panel.metric].values) for r in there]
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
    if (
        axes.get_ylim()[0]
        < 0
        <= min(
            (final(r.metrics[panel.metric].values) for g in panel.groups.values() for r in g),
            default=0,
        )
    ):
        axes.set_ylim(bottom=0)


def _summary(records: Sequence[Record], metric: str, band: str) -> tuple[float, float, float]:
    """Mean, and the lower and upper end of the band."""
    points = [Curve(np.zeros(1), np.array([final(r.metrics[metric].values)])) for r in records]
    _, *found = summarise(points, band)
    mean, low, high = (float(each[0]) for each in found)
    return mean, low, high
