"""The worlds of a report, and the arms that are compared in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from eoi.pictures.learning import styles_of
from eoi.pictures.panels import Panel
from eoi.records.labels import INTRINSIC
from eoi.records.record import Record
from eoi.records.summary import finals
from eoi.reports.curves import centre
from eoi.reports.figures import Arm

MAIN = "test_return_mean"
AGAINST = (INTRINSIC, "test_probe_accuracy", "test_snd", "test_position_overlap")
SHOWN = 8  # arms that are drawn until others are chosen


@dataclass(frozen=True)
class World:
    """One world: a panel for each metric that a run in it has logged, the main metric first."""

    number: int
    name: str
    panels: dict[str, Panel]  # by metric
    groups: dict[str, list[Record]]  # every run, by the name of its arm

    @property
    def main(self) -> Panel:
        return next(iter(self.panels.values()))

    @property
    def records(self) -> list[Record]:
        return [record for records in self.groups.values() for record in records]

    @property
    def against(self) -> list[str]:
        """Measures of individuality that were logged beside the main metric."""
        return [name for name in AGAINST if name in self.panels and name != self.main.metric]


def worlds_of(rows: Sequence[Sequence[Panel]]) -> list[World]:
    """A world for each row of panels in which a run has logged something."""
    found: list[World] = []
    for row in rows:
        logged = {panel.metric: panel for panel in row if panel.groups}
        if logged:
            groups = _groups(list(logged.values()))
            found.append(World(len(found), row[0].world, logged, groups))
    return found


def _groups(panels: Sequence[Panel]) -> dict[str, list[Record]]:
    """Every run once, under the arm that it has in the first of the panels that show it."""
    first: dict[int, tuple[str, Record]] = {}
    for panel in panels:
        for name, records in panel.groups.items():
            for record in records:
                first.setdefault(id(record), (name, record))
    groups: dict[str, list[Record]] = {}
    for name, record in first.values():
        groups.setdefault(name, []).append(record)
    return dict(sorted(groups.items()))


def arms_of(rows: Sequence[Sequence[Panel]], worlds: Sequence[World]) -> dict[str, Arm]:
    """Every arm by its name, with the colour and dashes that it has in all figures.

    Those that are drawn at first have the most distinct ones.
    """
    styles = styles_of(rows)
    first = [name for world in worlds for name in first_shown(world)]
    names = list(dict.fromkeys([*first, *styles] if len(styles) > SHOWN else styles))
    return {
        name: Arm(number, name, style["color"], _dash(style["linestyle"]))
        for number, (name, style) in enumerate(zip(names, styles.values(), strict=True))
    }


def _dash(style: str | tuple[float, Sequence[float]]) -> str:
    """matplotlib's dashes as plotly's."""
    if isinstance(style, str):
        return "solid"
    return ",".join(f"{2.4 * length:g}px" for length in style[1])


def first_shown(world: World) -> list[str]:
    """Arms that are drawn at first: all, or of many those that end highest."""
    names = list(world.groups)
    if len(names) <= SHOWN:
        return names
    panel = world.main
    ends = {
        name: centre(finals(records, panel.metric).values, "std")[0]
        for name, records in panel.groups.items()
    }
    best = sorted(ends, key=lambda name: (ends[name] != ends[name], -ends[name]))[:SHOWN]
    return [name for name in names if name in best]
