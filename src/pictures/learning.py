"""Learning curves: mean and band over seeds, every seed behind them."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from eoi.pictures.curves import BANDS, Curve, automatic_width, smoothed, summarise
from eoi.pictures.panels import Panel, curve
from eoi.records.labels import chance, label, literal

Styles = dict[str, dict[str, Any]]  # matplotlib's options for each group's line

# Okabe and Ito's colours, distinct to the colour-blind; without yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)))  # with more groups than colours
_DOTTED = (0, (1, 1))
_WRAP = 30  # characters of a panel's label in a line
_ABOVE = 4  # groups, at most, of a single panel's legend above it; more are beside it
_LINES = 25  # seeds of a panel whose lines do not hide each other


def learning_curves(
    rows: Sequence[Sequence[Panel]],
    smooth: int | None,
    band: str,
    like: Mapping[str, str] | None = None,
) -> Figure:
    """A row of panels for each world; a row may be shorter than the first.

    smooth: entries that are averaged; None: a twentieth of each curve's own. band: a key of BANDS.
    like: groups that are drawn dotted, each in the colour of another group.
    """
    styles = styles_of(rows, like or {})
    columns = len(rows[0])
    figure = Figure(figsize=(3.5 * columns + 0.3, 2.6 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex="row")
    widths: set[int] = set()
    for i, row in enumerate(rows):
        if i == 0 or row[0].world != rows[i - 1][0].world:
            axes[i, 0].set_title(textwrap.fill(literal(row[0].world), 48))
        for j, panel in enumerate(row):
            widths |= _draw(axes[i, j], panel, smooth, band, styles)
        for unused in axes[i, len(row) :]:
            unused.set_axis_off()
    finish(figure, rows, styles, _explanation(widths, band))
    return figure


def styles_of(rows: Sequence[Sequence[Panel]], like: Mapping[str, str] | None = None) -> Styles:
    """Colour and dashes of each group of runs, the same in all panels.

    like: groups that take the colour of another one, dotted.
    """
    names = list(dict.fromkeys(name for row in rows for panel in row for name in panel.groups))
    twins = {name: other for name, other in (like or {}).items() if other in names}
    own = [name for name in names if name not in twins]
    styles = {
        name: {"color": _COLOURS[i % 7], "linestyle": _DASHES[i // 7 % 3]}
        for i, name in enumerate(own)
    }
    dotted = {name: styles[other] | {"linestyle": _DOTTED} for name, other in twins.items()}
    return {name: (styles | dotted)[name] for name in names}


def finish(
    figure: Figure,
    rows: Sequence[Sequence[Panel]],
    styles: Styles,
    explanation: str,
) -> None:
    """Adds the legend above or beside the panels, and the explanation below them."""
    lines = [Line2D([], [], linewidth=1.8, **style) for style in styles.values()]
    width = round(12 * figure.get_figwidth()) - 6  # characters of a line that fits
    labels = [textwrap.fill(f"{literal(name)} ({_seeds(rows, name)})", width) for name in styles]
    if len(rows[0]) == 1 and len(labels) > _ABOVE:
        _legend_beside(figure, lines, labels)
    else:
        legend_above(figure, lines, labels)
    width = round(16 * figure.get_figwidth())
    figure.supxlabel(textwrap.fill(explanation, width), fontsize=7, color="0.45")


def _legend_beside(figure: Figure, lines: Sequence[Artist], labels: Sequence[str]) -> None:
    """Adds a legend on the right, and makes the figure as much wider, and as high as it is."""
    legend = figure.legend(lines, labels, loc="outside right upper", handlelength=1.8)
    extent = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    figure.set_figwidth(figure.get_figwidth() + extent.width / figure.dpi)
    figure.set_figheight(max(figure.get_figheight(), extent.height / figure.dpi + 0.2))


def legend_above(
    figure: Figure, lines: Sequence[Artist], labels: Sequence[str], length: float = 1.8
) -> None:
    """Adds a legend in as many columns as fit, and makes the figure taller by its height."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(
            lines, labels, loc="outside upper center", ncols=columns, handlelength=length
        )
        extent = legend.get_window_extent(renderer)
        if columns == 1 or extent.width <= figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)
            return
        legend.remove()


def _draw(axes: Axes, panel: Panel, smooth: int | None, band: str, styles: Styles) -> set[int]:
    """Draws the panel's curves. Returns the windows that they are averaged over."""
    groups = {
        name: [curve(record, panel.metric, panel.x) for record in records]
        for name, records in panel.groups.items()
    }
    raw = [each for curves in groups.values() for each in curves]
    widths: set[int] = set()
    faint = 0.35 * min(1.0, _LINES / max(len(raw), 1))
    for name, curves in groups.items():
        for each in curves:
            axes.plot(*each, color=styles[name]["color"], linewidth=0.6, alpha=faint)
        # A group has one window, so that none of its runs is smoothed more than its shortest.
        width = smooth or automatic_width(min(len(each.x) for each in curves))
        widths.add(width)
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
    if panel.log:
        axes.set_yscale("log")
    elif raw:
        show_zero(axes, min(np.nanmin(each.y, initial=0) for each in raw))
    return widths


def show_zero(axes: Axes, lowest: float) -> None:
    """Begins the axis a little below 0 if no value is negative, so that a curve at 0 is seen.

    Else marks 0 with a line, where it is in sight.
    """
    low, high = axes.get_ylim()
    if lowest >= 0:
        highest = axes.dataLim.y1  # far from 0, the margin above was a share of a small range
        axes.set_ylim(-0.025 * high, max(high, 1.05 * highest))
    elif low < 0 < high:
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0.5)


def _label(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel("Environment steps" if panel.x == "steps" else "Episodes")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)
    label_y(axes, panel)


def label_y(axes: Axes, panel: Panel) -> None:
    """Adds the metric's name, and a line at chance where that is known."""
    axes.set_ylabel(wrapped(label(panel.metric)))
    records = [record for group in panel.groups.values() for record in group]
    level = chance(panel.metric, records)
    if level is not None:
        axes.axhline(level, color="0.5", linewidth=0.8, linestyle=(0, (2, 2)))
        at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(
            "chance", (1, level), (-2, -2), ha="right", va="top", fontsize=7, color="0.45", **at
        )


def wrapped(text: str) -> str:
    """A label in lines that fit beside a panel."""
    return textwrap.fill(text, _WRAP)


def _seeds(rows: Sequence[Sequence[Panel]], name: str) -> str:
    """Number of seeds in the group, or of runs if a seed occurs more than once."""
    groups = [panel.groups[name] for row in rows for panel in row if name in panel.groups]
    counts = sorted({len(records) for records in groups})
    unlike = all(
        len({record.config.get("seed") for record in records}) == len(records) for records in groups
    )
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{many} {'seed' if unlike else 'run'}{'s' * (many != '1')}"


def _explanation(widths: set[int], band: str) -> str:
    low, high = (min(widths), max(widths)) if widths else (1, 1)
    averaged = f", each averaged over {low}" if high > 1 else ""
    if averaged:
        averaged += " entries" if low == high else f" to {high} entries"
    middle = "interquartile mean" if band == "iqm" else "mean"
    return (
        f"thick: {middle} over seeds{averaged};  band: {BANDS[band]};  thin: every seed as logged"
    )
