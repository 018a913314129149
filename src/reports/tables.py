"""Tables of a report, as HTML."""

import html
from collections.abc import Sequence

from eoi.records.groups import IGNORED, WITHIN, idle, order, setting_apart, value
from eoi.records.labels import plain
from eoi.records.record import Record
from eoi.records.shipped import sentence
from eoi.records.summary import Rows, final_values
from eoi.reports.commands import training_command
from eoi.reports.runs import origin
from eoi.reports.worlds import AGAINST, World

_LONG = 60  # characters of a setting's value
NONE = "\N{EN DASH}"  # a cell without a value


def table(rows: Rows, title: str, kind: str = "") -> str:
    """A table with a head, which scrolls by itself; the first cell of each row names it."""
    head, *body = [[html.escape(cell) for cell in row] for row in rows]
    lines = ["".join(f'<th scope="col">{cell}</th>' for cell in head)]
    lines += [
        f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells)
        for first, *cells in body
    ]
    top, *others = (f"<tr>{line}</tr>" for line in lines)
    inside = f"<thead>{top}</thead><tbody>{''.join(others)}</tbody>"
    place = f'class="scroll {kind}" tabindex="0" role="region" aria-label="{html.escape(title)}"'
    return f"<div {place}><table>{inside}</table></div>"


def final_table(world: World) -> str:
    """Final values of all arms: mean, interquartile mean, each seed, and further metrics."""
    metrics = [world.main.metric, *(name for name in AGAINST if name in world.panels)]
    head, *body = final_values(world.groups, list(dict.fromkeys(metrics)))
    others = len(metrics) > 1
    named = [cell.replace(metrics[0], plain(metrics[0])) if others else cell for cell in head[:5]]
    return table([[*named, *map(plain, head[5:])], *body], f"Final values, {world.name}")


def settings_table(world: World) -> str:
    """Settings in which the world's runs differ, a column each; a row for each arm.

    Below stand those that differ from the shipped ones and are in no arm's name.
    """
    unlike = f"<p>{html.escape(sentence(world.main.changed))}</p>" if world.main.changed else ""
    keys = setting_apart(world.records)
    if not keys:
        return f"<p>All runs have the same settings but for their seeds.</p>{unlike}"
    rows = [
        [name, *(_values(records, key) for key in keys)] for name, records in world.groups.items()
    ]
    return table([["", *keys], *rows], f"Settings that differ, {world.name}") + unlike


def _values(records: Sequence[Record], key: str) -> str:
    """All values of a setting within an arm."""
    found = {value(r, key) for r in records if key in r.settings and not idle(r, key)}
    return ", ".join(_cut(str(each)) for each in sorted(found, key=order)) or NONE


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def common_table(world: World) -> str:
    """Settings that are the same in all runs of the world."""
    first = world.records[0]
    apart = {*setting_apart(world.records), *IGNORED, *WITHIN}
    rows = [
        [key, _cut(str(found))]
        for key, found in sorted(first.settings.items())
        if key not in apart and not idle(first, key)
    ]
    inside = table([["setting", "value"], *rows], f"Settings of all runs, {world.name}")
    return f"<details><summary>{len(rows)} settings of all runs</summary>{inside}</details>"


def runs_table(world: World) -> str:
    """Where each run came from, and the command that asks for it."""
    head = ["run", "arm", "seed", "status", "steps", "commit", "engine", "began (UTC)", "lasted"]
    rows = [[*head, "command"]]
    for name, records in world.groups.items():
        for record in sorted(records, key=lambda each: each.seed or 0):
            found = origin(record)
            seed = str(record.seed)
            cells = [found.steps, found.commit, found.engine, found.began, found.lasted]
            rows.append([record.run, name, seed, record.status, *(cell or NONE for cell in cells)])
            rows[-1].append(training_command(record) or NONE)
    return table(rows, f"Runs, {world.name}", "runs")
