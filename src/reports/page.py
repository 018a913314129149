"""A report as one HTML page: text and tables as they are, figures as packed JSON.

The page needs no network. The library that draws is plotly.js, packed as the data are.
"""

import base64
import gzip
import html
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np
from plotly.offline import get_plotlyjs

from eoi.records.labels import plain
from eoi.records.reader import is_run
from eoi.records.statistics import FINAL
from eoi.reports import figures, tables
from eoi.reports.curves import BANDS, points
from eoi.reports.figures import Arms, Figure
from eoi.reports.played import Played
from eoi.reports.worlds import SHOWN, World, first_shown

_FOLDER = pathlib.Path(__file__).parent
_THIN = 40  # runs, at most, of which each is drawn until it is asked for
_WHAT = '<figcaption class="what" data-what></figcaption>'
_THEATRE = """<div id="theatre" hidden><p><label>Run <select id="replay"></select></label></p>
<iframe id="player" title="Replay of an episode"></iframe></div>"""
_PLAYER_STYLE = """<style>
:root { color-scheme: light dark; } body { margin: 12px auto; } #chart[hidden] { display: none; }
@media (prefers-color-scheme: dark) {
  body { background: #14171c; color: #e4e7eb; }
  .bar, #info, #info2, #legend, svg text { color: #9aa3af !important; fill: #9aa3af; }
  .bar span { background: #343b45; }
}
</style></head>"""


@dataclass(frozen=True)
class Report:
    """Everything that a page shows."""

    title: str
    worlds: list[World]
    arms: Arms
    smooth: int  # entries that are averaged
    remarks: list[str]
    played: list[Played]
    unplayed: str  # why runs were not played; empty if all were

    @property
    def points(self) -> int:
        """Points of a curve."""
        curves = (len(r.metrics) for world in self.worlds for r in world.records)
        return points(sum(curves))


def page(report: Report) -> str:
    sections = list(_sections(report))
    texts = [("library", get_plotlyjs()), ("data", _json(_data(report)))]
    texts += [(name, _json(piece)) for name, piece in _pieces(report)]
    parts = {
        "title": html.escape(report.title),
        "summary": html.escape(_summary(report)),
        "remarks": _listed(report.remarks),
        "contents": _contents(sections),
        "sections": "\n".join(section.html for section in sections),
        "bands": "".join(f'<option value="{key}">{text}</option>' for key, text in BANDS.items()),
        "data": "\n".join(_packed(name, text) for name, text in texts),
    }
    for name, file in (("style", "report.css"), ("script", "report.js")):
        parts[name] = (_FOLDER / file).read_text()
    return Template((_FOLDER / "report.html").read_text()).substitute(parts)


def _summary(report: Report) -> str:
    runs = sum(len(world.records) for world in report.worlds)
    counts = ((runs, "run"), (len(report.arms), "arm"), (len(report.worlds), "world"))
    return ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts) + "."


def _listed(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    inside = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    opened = " open" if len(texts) <= 3 else ""
    head = f"{len(texts)} remark{'s' * (len(texts) != 1)}"
    return f"<details{opened}><summary>{head}</summary><ul>{inside}</ul></details>"


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    text: str  # HTML
    body: str  # HTML

    @property
    def html(self) -> str:
        head = f'<h2 id="{self.anchor}-title">{self.title}</h2>\n<p class="faint">{self.text}</p>'
        opening = f'<section id="{self.anchor}" aria-labelledby="{self.anchor}-title">'
        return f"{opening}\n{head}\n{self.body}\n</section>"


def _contents(sections: Iterable[Section]) -> str:
    links = (f'<li><a href="#{each.anchor}">{each.title}</a></li>' for each in sections)
    return f"<ul>{''.join(links)}</ul>"


def _chart(kind: str, key: str = "", shape: str = "tall", name: str = "") -> str:
    own = f' data-key="{key}"' if key else ""
    what = html.escape(name or kind)
    data = f'data-kind="{kind}"{own}'
    return f'<div class="chart {shape}" {data} role="group" aria-label="{what}"></div>'


def _figure(kind: str, name: str, what: bool = True) -> str:
    return f"<figure>{_WHAT if what else ''}{_chart(kind, name=name)}</figure>"


def _sections(report: Report) -> Iterable[Section]:
    averaged = f" Each is averaged over {report.smooth} entries." if report.smooth > 1 else ""
    yield Section(
        "curves",
        "Learning curves",
        "Thin: every run, if chosen. Thick: the middle of an arm's runs, over the range that they"
        f" share, with its band.{averaged} A run with more than {report.points} entries is drawn as"
        f" {report.points} means of neighbouring entries. Drag to zoom; a double click resets."
        f" Of more than {SHOWN} arms, those that end highest are drawn at first.",
        _figure("curves", "Learning curves"),
    )
    yield Section(
        "finals",
        "Final values",
        f"The {FINAL}, their number rounded up. Dots are runs; the diamond is their middle with"
        " the chosen band. A single run has no interval; a bootstrap needs three runs.",
        _figure("finals", "Final values") + _each_world(report, tables.final_table),
    )
    yield Section(
        "profiles",
        "Performance profiles",
        "Share of an arm's runs whose final value exceeds each level, with a 95 % bootstrap"
        " interval. A curve further to the right is better.",
        _figure("profiles", "Performance profiles"),
    )
    yield _phase_section()
    yield Section(
        "settings",
        "Settings that differ",
        f"Side by side, but for seeds. {tables.NONE} marks a setting without effect.",
        _each_world(report, lambda w: tables.settings_table(w) + tables.common_table(w)),
    )
    yield from _played_sections(report)
    yield Section(
        "runs",
        "Runs",
        "The command asks this version for a run with the same settings; settings that have no"
        f" effect are left out. {_untold(report)}",
        _each_world(report, tables.runs_table),
    )


def _each_world(report: Report, body: Callable[[World], str]) -> str:
    many = len(report.worlds) > 1
    return "".join(
        f'<div data-world="{world.number}">'
        + (f"<h3>{html.escape(world.name)}</h3>" if many else "")
        + f"{body(world)}</div>"
        for world in report.worlds
    )


def _phase_section() -> Section:
    chooser = '<p><label>Individuality by <select id="against"></select></label></p>'
    return Section(
        "phases",
        "Individuality beside return",
        "How both change in training, from the circle to the diamond. A thick line is the mean"
        " over an arm's runs, a thin one is a run. Arms that have not logged both are not drawn.",
        chooser + _figure("phases", "Individuality beside return", what=False),
    )


def _untold(report: Report) -> str:
    """A sentence on runs that come from a table."""
    every = [record for world in report.worlds for record in world.records]
    if all(is_run(record.folder) for record in every):
        return ""
    return "A table of runs has no times, and an older one no commits; the runs' folders have them."


def _played_sections(report: Report) -> Iterable[Section]:
    if report.unplayed:
        text = f"Distances between agents, position maps and replays: {report.unplayed}"
        yield Section("alike", "Agents", text, _THEATRE)
        return
    matrices = [_played(each, _matrices(each)) for each in report.played if each.distances]
    yield Section(
        "alike",
        "Which agents are alike",
        "Distance of each two agents: 0 alike, 1 apart. Policies: total variation on the same"
        " observations. Positions: Jensen-Shannon divergence of the cells they visit, in bits.",
        f'<div class="row">{"".join(matrices)}</div>',
    )
    if any(each.shares is not None for each in report.played):
        yield Section(
            "positions",
            "Position maps",
            "Where each agent spends its time in greedy episodes. Walls are grey. The depth of a"
            " colour is the square root of the share of time.",
            "".join(_played(each, _maps(each)) for each in report.played),
        )
    yield Section(
        "replays",
        "Replays",
        "One greedy episode. Arrow keys step, the space bar plays.",
        _THEATRE,
    )


def _played(each: Played, inside: str) -> str:
    title = html.escape(each.title)
    return f'<div data-world="{each.run.world}"><h3>{title}</h3>{inside}</div>'


def _matrices(each: Played) -> str:
    drawn = "".join(
        f"<figure>{_chart('matrices', f'{each.key} {what}', '', f'Distances, {what}')}"
        f"<figcaption>{what}: {_extremes(values)}</figcaption></figure>"
        for what, values in each.distances.items()
    )
    return f'<div class="squares">{drawn}</div>'


def _maps(each: Played) -> str:
    if each.shares is None:
        return '<p class="faint">This world has no positions.</p>'
    drawn = "".join(
        f"<figure>{_chart('maps', f'{each.key} {i}', '', f'Positions of agent {i}')}"
        f"<figcaption>agent {i}</figcaption></figure>"
        for i in range(len(each.shares))
    )
    deepest = f"The deepest colour is {100 * np.nanmax(each.shares):.0f} % of an agent's time."
    return f'<p class="faint">{deepest}</p><div class="squares maps">{drawn}</div>'


def _extremes(values: np.ndarray) -> str:
    """The two agents that are most alike, in words."""
    first, second = np.triu_indices(len(values), 1)
    least = int(np.argmin(values[first, second]))
    i, j = first[least], second[least]
    return f"agents {i} and {j} are most alike ({values[i, j]:.2f})"


def _data(report: Report) -> dict[str, object]:
    """What the page's script reads."""
    arms = report.arms
    drawn = [[len(w.groups[name]) for name in first_shown(w)] for w in report.worlds]
    return {
        "runs": max(map(sum, drawn)) <= _THIN,
        "arms": [{"name": a.name, "colour": a.colour, "dash": a.dash} for a in arms.values()],
        "worlds": [
            {
                "name": world.name,
                "metrics": list(world.panels),
                "against": world.against,
                "arms": [arms[name].number for name in world.groups],
                "shown": [arms[name].number for name in first_shown(world)],
            }
            for world in report.worlds
        ],
        "metrics": {name: plain(name) for world in report.worlds for name in world.panels},
        "figures": _agents(report),
        "replays": [
            {"key": each.key, "world": each.run.world, "name": each.title} for each in report.played
        ],
    }


def _pieces(report: Report) -> Iterator[tuple[str, object]]:
    """Parts of the data that the page unpacks when they are needed, by the name it asks for."""
    for world in report.worlds:
        for name, panel in world.panels.items():
            yield (
                f"{world.number} {name}",
                {
                    "curves": figures.learning(panel, report.arms, report.smooth, report.points),
                    "finals": figures.final_values(panel, report.arms),
                    "profiles": figures.profiles(panel, report.arms),
                },
            )
        for name in world.against:
            yield f"{world.number} against {name}", figures.phases(world.main, name, report.arms)
    for each in report.played:
        yield f"player {each.key}", each.player.replace("</head>", _PLAYER_STYLE, 1)


def _agents(report: Report) -> dict[str, dict[str, Figure]]:
    """Figures of the runs that were played."""
    return {
        "matrices": {
            f"{each.key} {what}": figures.matrix(values, what)
            for each in report.played
            for what, values in each.distances.items()
        },
        "maps": {
            f"{each.key} {i}": drawn
            for each in report.played
            if each.shares is not None
            for i, drawn in enumerate(figures.position_maps(each.shares, each.colours))
        },
    }


def _packed(name: str, content: str) -> str:
    """Text as a part of the page that its script can unpack by name."""
    packed = base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode()
    return f'<script type="application/gzip" id="{html.escape(name)}">{packed}</script>'


def _json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
