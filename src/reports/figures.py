"""Figures of a report, in plotly's form: traces that the page shows or hides by arm and band.

A trace's `meta` has the number of its arm, its band, and whether it is a single run's. The page
adds colours of the paper and the grid, so that a figure fits a light and a dark page.
Axes: R runs, A agents, H rows from the top, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from eoi.pictures.curves import Curve, Summary, smoothed
from eoi.pictures.panels import Panel, curve
from eoi.records.labels import chance, plain
from eoi.records.record import Record
from eoi.records.statistics import performance_profile, profile_interval
from eoi.records.summary import finals, number
from eoi.reports.curves import BANDS, centre, middle, thinned
from eoi.utils.shapes import Float

Figure = dict[str, Any]  # plotly's JSON: data, layout

DIGITS = 5  # significant digits of a number in the page
_LEVELS = 60  # of a performance profile
_TRAIL = 40  # points of a phase plot's line
_TEXT = 10  # agents, at most, for numbers in the cells of a matrix
_DISTANCE = [[0, "#f7fbff"], [0.5, "#6baed6"], [1, "#08306b"]]  # light: alike; dark: apart


@dataclass(frozen=True)
class Arm:
    """A group of runs: its number among all, its name, and how its lines look in every figure."""

    number: int
    name: str
    colour: str
    dash: str  # plotly's

    def line(self, width: float) -> dict[str, object]:
        return {"color": self.colour, "dash": self.dash, "width": width}


Arms = Mapping[str, Arm]  # by name


def rounded(values: Any) -> list[float | None]:
    """Numbers with DIGITS significant digits, as JSON has them: None for nan."""
    return [
        None if value != value else float(f"{value:.{DIGITS}g}")
        for value in np.asarray(values, float).tolist()
    ]


def figure(data: Sequence[go.Scatter | go.Heatmap], **layout: object) -> Figure:
    """Traces and layout, checked by plotly, without its template."""
    return {
        "data": [trace.to_plotly_json() for trace in data],
        "layout": go.Layout(**layout).to_plotly_json(),
    }


def learning(panel: Panel, arms: Arms, smooth: int, most: int) -> Figure:
    """Curves over training: each run, and for each arm a middle line with each kind of band.

    smooth: entries that are averaged; most: points of a curve.
    """
    data: list[go.Scatter] = []
    for name, records in panel.groups.items():
        arm = arms[name]
        curves = [_shown(curve(r, panel.metric, panel.x), smooth, most) for r in records]
        for record, each in zip(records, curves, strict=True):
            data.append(_run(arm, record, each))
        for band in BANDS:
            data += _middle(arm, middle(curves, band), band, len(records))
    title = "Environment steps" if panel.x == "steps" else "Episodes"
    return figure(
        data,
        xaxis={"title": {"text": title}, "rangemode": "tozero"},
        yaxis={"rangemode": "tozero"},
        **_chance_line(panel),
    )


def _shown(curve: Curve, smooth: int, most: int) -> Curve:
    return thinned(Curve(curve.x, smoothed(curve.y, smooth)) if smooth > 1 else curve, most)


def _run(arm: Arm, record: Record, shown: Curve) -> go.Scatter:
    return go.Scatter(
        x=rounded(shown.x),
        y=rounded(shown.y),
        mode="lines" if len(shown.x) > 1 else "markers",
        line={"color": arm.colour, "width": 0.8},
        opacity=0.45,
        name=f"{arm.name}<br>run {record.run}, seed {record.seed}",
        hovertemplate="%{y:.4g} at %{x:,}",
        meta={"arm": arm.number, "run": True},
    )


def _middle(arm: Arm, found: Summary, band: str, runs: int) -> list[go.Scatter]:
    """The middle line and the area of its band, which a single run does not have."""
    meta = {"arm": arm.number, "band": band}
    inside = np.isfinite(found.low) & np.isfinite(found.high)
    line = go.Scatter(
        x=rounded(found.x),
        y=rounded(found.mean),
        customdata=[
            [number(low), number(high)] for low, high in zip(found.low, found.high, strict=True)
        ],
        mode="lines" if len(found.x) > 1 else "markers",
        line=arm.line(2.4),
        name=f"{arm.name}<br>{runs} run{'s' * (runs != 1)}",
        hovertemplate="%{y:.4g} at %{x:,}"
        + (" (%{customdata[0]} to %{customdata[1]})" if runs > 1 else ""),
        meta=meta,
    )
    if runs < 2 or not inside.any():
        return [line]
    x, low, high = found.x[inside], found.low[inside], found.high[inside]
    area = go.Scatter(
        x=rounded([*x, *x[::-1]]),
        y=rounded([*high, *low[::-1]]),
        fill="toself",
        fillcolor=_transparent(arm.colour),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        meta=meta,
    )
    return [area, line]


def _transparent(colour: str, alpha: float = 0.18) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _chance_line(panel: Panel, axis: str = "y") -> dict[str, object]:
    """A dotted line at chance, with its name."""
    members = [record for records in panel.groups.values() for record in records]
    at = chance(panel.metric, members)
    if at is None:
        return {}
    other = "x" if axis == "y" else "y"
    ends = {f"{axis}0": at, f"{axis}1": at, f"{other}0": 0, f"{other}1": 1}
    line = {"color": "gray", "width": 1, "dash": "dot"}
    place = {axis: at, other: 1, f"{other}ref": "paper", "xanchor": "right", "yanchor": "top"}
    return {
        "shapes": [{"type": "line", f"{other}ref": "paper", **ends, "line": line}],
        "annotations": [{"text": "chance", "showarrow": False, "font": {"size": 11}, **place}],
    }


def final_values(panel: Panel, arms: Arms) -> Figure:
    """A row for each arm: a dot for each run, and a middle with each kind of interval."""
    data: list[go.Scatter] = []
    labels = []
    for name, records in panel.groups.items():
        arm, found = arms[name], finals(records, panel.metric)
        logged = sorted((r for r in records), key=lambda record: record.seed or 0)
        data.append(
            go.Scatter(
                x=rounded(found.values),
                y=[name] * len(logged),
                text=[f"run {record.run}, seed {record.seed}" for record in logged],
                mode="markers",
                marker={"color": arm.colour, "size": 9, "opacity": 0.5},
                cliponaxis=False,
                name=name,
                hovertemplate="%{x:.4g}, %{text}",
                meta={"arm": arm.number},
            )
        )
        data += [_interval(arm, band, found.values) for band in BANDS]
        labels.append(_row_label(arm))
    return figure(
        data,
        xaxis={"rangemode": "tozero"},
        yaxis={"type": "category", "showticklabels": False, "autorange": "reversed"},
        annotations=labels,
        meta={"rows": True},
        **{key: value for key, value in _chance_line(panel, "x").items() if key == "shapes"},
    )


def _interval(arm: Arm, band: str, values: Float[np.ndarray, " R"]) -> go.Scatter:
    at, low, high = centre(values, band)
    ends = "" if np.isnan(low) else f" ({number(low)} to {number(high)})"
    return go.Scatter(
        x=rounded([at]),
        y=[arm.name],
        mode="markers",
        marker={"color": arm.colour, "size": 13, "symbol": "diamond"},
        cliponaxis=False,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": rounded([high - at]),
            "arrayminus": rounded([at - low]),
            "color": arm.colour,
            "thickness": 2,
        },
        name=arm.name,
        hovertemplate=f"{number(at)}{ends}",
        meta={"arm": arm.number, "band": band},
    )


def _row_label(arm: Arm) -> dict[str, Any]:
    """The arm's name above its row, where it has the figure's whole width: the page wraps it."""
    return {
        "name": str(arm.number),
        "text": arm.name,
        "x": 0,
        "xref": "paper",
        "y": arm.name,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 9,
        "align": "left",
        "showarrow": False,
        "font": {"size": 12},
    }


def profiles(panel: Panel, arms: Arms) -> Figure:
    """Share of each arm's runs whose final value exceeds each level, with a bootstrap interval."""
    scores = {name: finals(records, panel.metric).values for name, records in panel.groups.items()}
    levels = _levels(np.concatenate(list(scores.values())))
    data: list[go.Scatter] = []
    for name, values in scores.items():
        share = performance_profile(values, levels)
        edges = profile_interval([values], levels) if len(values) > 1 else (share, share)
        found = Summary(*_steps(levels, share, *edges))
        for trace in _middle(arms[name], found, "", len(values)):
            data.append(trace.update(meta={"arm": arms[name].number}))
    return figure(
        data,
        xaxis={"title": {"text": "Final value"}},
        yaxis={"range": [0, 1.03], "tickformat": ".0%"},
    )


def _levels(scores: Float[np.ndarray, " R"]) -> Float[np.ndarray, " G"]:
    """Levels at which a profile can change, from zero to beyond the highest score."""
    known = np.unique(scores[np.isfinite(scores)])
    if not len(known):
        return np.zeros(1)
    low, high = min(known[0], 0.0), known[-1]
    if len(known) > _LEVELS:
        known = np.linspace(low, high, _LEVELS)
    return np.unique([low, *known, high + 0.03 * (high - low or 1)])


def _steps(
    levels: Float[np.ndarray, " G"], *shares: Float[np.ndarray, " G"]
) -> Iterator[Float[np.ndarray, " K"]]:
    """Corners of stairs: each share lasts until the next level."""
    yield np.repeat(levels, 2)[1:]
    for share in shares:
        yield np.repeat(share, 2)[:-1]


def phases(panel: Panel, against: str, arms: Arms) -> Figure:
    """The panel's metric over another one, as both change in training: from circle to diamond."""
    data: list[go.Scatter] = []
    groups = {
        name: [record for record in records if against in record.metrics]
        for name, records in panel.groups.items()
    }
    for name, records in groups.items():
        trails = [_trail(record, against, panel.metric) for record in records]
        data += [_one_trail(arms[name], trail) for trail in trails]
        if trails:
            data.append(_mean_trail(arms[name], trails))
    other = Panel(panel.world, against, panel.groups, panel.x)
    return figure(
        data,
        xaxis={"title": {"text": plain(against)}, "rangemode": "tozero"},
        yaxis={"title": {"text": plain(panel.metric)}, "rangemode": "tozero"},
        **_chance_line(other, "x"),
    )


Trail = Float[np.ndarray, "3 G"]  # steps, and the two metrics


def _trail(record: Record, against: str, metric: str) -> Trail:
    """Two metrics at the same steps of a run, each as means of neighbouring entries."""
    both = [thinned(curve(record, name, "steps"), _TRAIL) for name in (against, metric)]
    start, end = max(each.x[0] for each in both), min(each.x[-1] for each in both)
    steps = np.linspace(start, max(start, end), _TRAIL)
    return np.stack([steps, *(np.interp(steps, *each) for each in both)])


def _one_trail(arm: Arm, trail: Trail) -> go.Scatter:
    return go.Scatter(
        x=rounded(trail[1]),
        y=rounded(trail[2]),
        mode="lines",
        line={"color": arm.colour, "width": 0.8},
        opacity=0.45,
        hoverinfo="skip",
        meta={"arm": arm.number, "run": True},
    )


def _mean_trail(arm: Arm, trails: Sequence[Trail]) -> go.Scatter:
    """Mean over runs of each share of training."""
    steps, x, y = np.mean(trails, 0)
    inside = [4] * (len(steps) - 2)
    return go.Scatter(
        x=rounded(x),
        y=rounded(y),
        customdata=rounded(steps),
        mode="lines+markers",
        line=arm.line(2.4),
        marker={
            "size": [11, *inside, 14],
            "symbol": ["circle-open", *("circle" for _ in inside), "diamond"],
            "line": {"width": [2, *(0 for _ in inside), 0]},
        },
        name=f"{arm.name}<br>mean of {len(trails)} run{'s' * (len(trails) != 1)}",
        hovertemplate="%{y:.4g} at %{x:.3f}, step %{customdata:,.0f}",
        meta={"arm": arm.number},
    )


def matrix(values: Float[np.ndarray, "A A"], what: str) -> Figure:
    """Distance of each pair of agents: 0 alike, 1 apart."""
    names = [f"agent {i}" for i in range(len(values))]
    square = go.Heatmap(
        z=[rounded(row) for row in values],
        x=names,
        y=names,
        text=[[f"{value:.2f}" for value in row] for row in values],
        texttemplate="%{text}" if len(values) <= _TEXT else "",
        hovertemplate=f"%{{y}} and %{{x}}: {what} %{{z:.3f}}<extra></extra>",
        colorscale=_DISTANCE,
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    return figure(
        [square],
        xaxis={"showgrid": False, "tickangle": -45},
        yaxis={"showgrid": False, "autorange": "reversed"},
        meta={"square": True},
    )


def position_maps(share: Float[np.ndarray, "A H W"], colours: Sequence[str]) -> list[Figure]:
    """A map for each agent; the deeper the colour, the more of its time it spends there."""
    top = float(np.sqrt(np.nanmax(share)))
    return [_position_map(own, colour, top) for own, colour in zip(share, colours, strict=True)]


def _position_map(share: Float[np.ndarray, "H W"], colour: str, top: float) -> Figure:
    """Walls are grey. Colours follow the root of the share, so that short visits are visible."""
    walls = np.where(np.isnan(share), 1.0, np.nan)
    hidden = {"visible": False, "fixedrange": True}
    grey = go.Heatmap(
        z=[rounded(row) for row in walls],
        colorscale=[[0, "rgba(128,128,128,0.55)"], [1, "rgba(128,128,128,0.55)"]],
        showscale=False,
        hoverinfo="skip",
    )
    visits = go.Heatmap(
        z=[rounded(row) for row in np.sqrt(share)],
        customdata=[rounded(row) for row in share],
        colorscale=[[0, _transparent(colour, 0.05)], [1, _transparent(colour, 1.0)]],
        zmin=0,
        zmax=top,
        showscale=False,
        hovertemplate="%{customdata:.1%} of its time<extra></extra>",
        hoverongaps=False,
    )
    height, width = share.shape
    return figure(
        [grey, visits],
        xaxis=hidden,
        yaxis=hidden | {"autorange": "reversed", "scaleanchor": "x"},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        meta={"ratio": height / width},
    )
