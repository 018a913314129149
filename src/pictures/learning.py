"""Learning curves: mean and band over seeds, every seed behind them."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from eoi.pictures.curves import BANDS, Curve, automatic_width, smoothed, summarise
from eoi.pictures.panels import INTRINSIC, Panel, curve

Styles = dict[str, dict[str, Any]]  # matplotlib's options for each group's line

# Okabe and Ito's colours, distinct to the colour-blind; without yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)))  # with more groups than colours
LABELS = {
    "test_return_mean": "Test return (environment reward)",
    "return_mean": "Training return",
    "test_battle_won_mean": "Test win rate",
    INTRINSIC: r"Intrinsic reward, mean $p(i\,|\,o_i)$",
    "classifier_accuracy": "Accuracy of the classifier",
}


def learning_curves(rows: Sequence[Sequence[Panel]], smooth: int | None, band: str) -> Figure:
    """A row of panels for each world.

    smooth: entries that are averaged; None chooses a number. band: a key of BANDS.
    """
    styles = styles_of(rows)
    columns = len(rows[0])
    figure = Figure(figsize=(3.5 * columns + 0.3, 2.6 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex="row")
    drawn = [
        record.metrics[panel.metric]
        for row in rows
        for panel in row
        for group in panel.groups.values()
        for record in group
    ]
    width = smooth or automatic_width(max(len(series.steps) for series in drawn))
    for i, row in enumerate(rows):
        axes[i, 0].set_title(row[0].world)
        for j, panel in enumerate(row):
            _draw(axes[i, j], panel, width, band, styles)
    finish(figure, rows, styles, textwrap.fill(_explanation(width, band), 60 * columns))
    return figure


def styles_of(rows: Sequence[Sequence[Panel]]) -> Styles:
    """Colour and dashes of each group of runs, the same in all panels."""
    names = list(dict.fromkeys(name for row in rows for panel in row for name in panel.groups))
    return {
        name: {"color": _COLOURS[i % 7], "linestyle": _DASHES[i // 7 % 3]}
        for i, name in enumerate(names)
    }


def finish(
    figure: Figure,
    rows: Sequence[Sequence[Panel]],
    styles: Styles,
    explanation: str,
) -> None:
    """Adds the legend above the panels and the explanation below them."""
    lines = [Line2D([], [], linewidth=1.8, **style) for style in styles.values()]
    _legend(figure, lines, [f"{name} ({_seeds(rows, name)})" for name in styles])
    figure.supxlabel(explanation, fontsize=7, color="0.45")


def _legend(figure: Figure, lines: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Adds a legend in as many columns as fit, and makes the figure taller by its height."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(
            lines, labels, loc="outside upper center", ncols=columns, handlelength=1.8
        )
        extent = legend.get_window_extent(renderer)
        if columns == 1 or extent.width <= figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)
            return
        legend.remove()


def _draw(axes: Axes, panel: Panel, width: int, band: str, styles: Styles) -> None:
    groups = {
        name: [curve(record, panel.metric, panel.x) for record in records]
        for name, records in panel.groups.items()
    }
    raw = [each for curves in groups.values() for each in curves]
    for name, curves in groups.items():
        for each in curves:
            axes.plot(*each, color=styles[name]["color"], linewidth=0.6, alpha=0.35)
        summary = summarise([Curve(each.x, smoothed(each.y, width)) for each in curves], band)
        if len(curves) > 1:
            axes.fill_between(
                summary.x,
                summary.low,
                summary.high,
                color=styles[name]["color"],
                alpha=0.16,
                linewidth=0,
            )
        axes.plot(summary.x, summary.mean, linewidth=1.8, **styles[name])
    if not raw:
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color="0.5")
    _label(axes, panel)
    if raw and min(np.nanmin(each.y, initial=0) for each in raw) >= 0:
        axes.set_ylim(bottom=0)


def _label(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel("Environment steps" if panel.x == "steps" else "Episodes")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)
    label_y(axes, panel)


def label_y(axes: Axes, panel: Panel) -> None:
    """Adds the metric's name, and a line at chance for the probability of an agent."""
    axes.set_ylabel(LABELS.get(panel.metric, panel.metric))
    agents = {
        record.settings.get("env_args.n_agents")
        for records in panel.groups.values()
        for record in records
    }
    if panel.metric == INTRINSIC and len(agents) == 1 and isinstance(n := agents.pop(), int):
        axes.axhline(1 / n, color="0.5", linewidth=0.8, linestyle=(0, (2, 2)))
        at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(
            "chance", (1, 1 / n), (-2, -2), ha="right", va="top", fontsize=7, color="0.45", **at
        )


def _seeds(rows: Sequence[Sequence[Panel]], name: str) -> str:
    """Number of seeds in the group, or of runs if a seed occurs more than once."""
    groups = [panel.groups[name] for row in rows for panel in row if name in panel.groups]
    counts = sorted({len(records) for records in groups})
    unlike = all(
        len({record.config.get("seed") for record in records}) == len(records) for records in groups
    )
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{many} {'seed' if unlike else 'run'}{'s' * (many != '1')}"


def _explanation(width: int, band: str) -> str:
    averaged = f", each averaged over {width} entries" if width > 1 else ""
    return f"thick: mean over seeds{averaged};  band: {BANDS[band]};  thin: every seed as logged"
