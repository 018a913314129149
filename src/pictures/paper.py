"""The pictures of a figure of the paper: a picture for each kind of its panels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from matplotlib.figure import Figure as Picture

from eoi.pictures.choices import initial_choices
from eoi.pictures.embedding import embeddings
from eoi.pictures.learning import learning_curves
from eoi.pictures.panels import Panel, lasts_equally, remarks
from eoi.pictures.positions import heat_maps
from eoi.pictures.sweeps import over_worlds
from eoi.records.figures import Figure, Part
from eoi.records.record import Record
from eoi.records.statistics import final_value
from eoi.utils.errors import UserError

Note = Callable[[str], None]
COLUMNS = 3  # panels in a row, where one world has more than four
PLAYED = ("positions", "embedding")  # kinds of panels that need saved networks
ALONE = (*PLAYED, "actions")  # kinds that show no metric
EPISODES = 64  # greedy episodes that a picture is made of
Arms = Mapping[str, Sequence[Record]]  # runs of each arm


def drawn(figure: Figure, arms: Arms, note: Note) -> Iterator[tuple[str, Picture]]:
    """Each picture, and the ending of its file's name: empty for the first kind of panels."""
    for kind, suffix in suffixes(figure).items():
        parts = [part for part in figure.parts if part.kind == kind]
        if kind == "curves":
            picture = curves(figure, parts, arms, note)
        elif kind == "worlds":
            picture = worlds(figure, parts, arms, note)
        else:
            picture = _played(kind, figure, parts[0], arms, note)
        if picture is not None:
            yield suffix, picture


def suffixes(figure: Figure) -> dict[str, str]:
    """The ending of the picture's name for each kind of panels."""
    kinds = dict.fromkeys(part.kind for part in figure.parts)
    return {kind: f"_{kind}" if place else "" for place, kind in enumerate(kinds)}


def curves(figure: Figure, parts: Sequence[Part], arms: Arms, note: Note) -> Picture | None:
    """Learning curves: a row for each world, a column for each panel."""
    names = dict.fromkeys(_world(figure, name, r) for name in arms for r in arms[name])
    rows = [[_panel(figure, part, arms, world) for part in parts] for world in names]
    rows = [row for row in rows if any(panel.groups for panel in row)]
    if not rows:
        return _none_logged(figure, parts, note)
    _note_remarks(rows, note)
    if len(rows) == 1 and len(parts) > 4:
        rows = [rows[0][k : k + COLUMNS] for k in range(0, len(parts), COLUMNS)]
    band = "minmax" if any(part.log for part in parts) else "iqm"
    return learning_curves(rows, None, band, _like(figure))


def worlds(figure: Figure, parts: Sequence[Part], arms: Arms, note: Note) -> Picture | None:
    """Final values over worlds: a plot for each panel."""
    rows = [
        [
            replace(_panel(figure, part, arms, world), world=tick)
            for tick, world in (part.worlds or {}).items()
        ]
        for part in parts
    ]
    if not any(panel.groups for row in rows for panel in row):
        return _none_logged(figure, parts, note)
    _note_remarks(rows, note)
    return over_worlds(rows, [part.over for part in parts], "iqm", _like(figure))


def _like(figure: Figure) -> dict[str, str]:
    """Arms that are drawn dotted, each with the arm whose colour it takes."""
    return {arm.label: arm.like for arm in figure.arms.values() if arm.like}


def _note_remarks(rows: Sequence[Sequence[Panel]], note: Note) -> None:
    for remark in dict.fromkeys(x for row in rows for panel in row for x in remarks(panel)):
        note(remark)


def _none_logged(figure: Figure, parts: Sequence[Part], note: Note) -> None:
    note(f"figure {figure.name}: no run has logged {', '.join(part.metric for part in parts)}")


def _world(figure: Figure, name: str, record: Record) -> str:
    """Name of a run's world: the figure's, or the run's where the figure has one world."""
    return figure.arms[name].world or record.world


def _panel(figure: Figure, part: Part, arms: Arms, world: str) -> Panel:
    groups = {}
    for name in figure.shown(part):
        there = [r for r in arms.get(name, ()) if _world(figure, name, r) == world]
        logged = [r for r in there if part.metric in r.metrics]
        if logged:
            groups[figure.arms[name].label] = logged
    equal = all(lasts_equally(r) for records in groups.values() for r in records)
    axis = "episodes" if groups and equal else "steps"
    return Panel(world, part.metric, groups, axis, part.log)


def _played(kind: str, figure: Figure, part: Part, arms: Arms, note: Note) -> Picture | None:
    """A picture for which the typical run of each arm is played, or its team before training."""
    chosen = {
        name: typical(arms[name], part.metric) for name in figure.shown(part) if arms.get(name)
    }
    try:
        if kind == "actions":
            return initial_choices(chosen, EPISODES) if chosen else None
        saved = {name: r for name, r in chosen.items() if (r.folder / "models").is_dir()}
        for name in chosen.keys() - saved.keys():
            where = chosen[name].folder
            note(f"figure {figure.name}: {kind}: {name} has no saved networks at {where}")
        return _of_saved(kind, saved) if saved else None
    except UserError as error:  # a world without positions, or damaged networks
        note(f"figure {figure.name}: {kind}: {error}")
        return None


def _of_saved(kind: str, saved: Mapping[str, Record]) -> Picture:
    """Raises UserError."""
    folders, names = [record.folder for record in saved.values()], list(saved)
    if kind == "positions":
        return heat_maps(folders, EPISODES, 0, "best", names)
    return embeddings(folders, names, EPISODES, 0, "best")


def typical(records: Sequence[Record], metric: str) -> Record:
    """The run whose final value is the median, the lower one of two."""
    logged = [r for r in records if metric in r.metrics] or list(records)
    if metric not in logged[0].metrics:
        return logged[0]
    ranked = sorted(logged, key=lambda r: (final_value(r.metrics[metric].values), r.seed or 0))
    return ranked[(len(ranked) - 1) // 2]
