"""Makes one HTML page of runs: figures to hover, zoom and switch, tables, maps and replays.

    python src/report.py RUNS ... [--out report.html] [--metric NAME[,NAME]] [--where KEY=VALUE]
                         [--by KEY[,KEY]] [--smooth K] [--play RUN[,RUN]|none]

RUNS is a run's folder, a folder of runs, a Sacred id (3 is results/sacred/3), `latest`, or a table
of runs (FILE.csv.gz, made by src/export.py). The page needs no network. With the runs' folders it
plays the median run of each arm, for position maps, distances between agents, and replays.
"""

from eoi.utils.start import launch

import pathlib
import sys
from argparse import Namespace
from collections.abc import Sequence

from eoi.pictures.panels import panels, remarks
from eoi.records.groups import selected
from eoi.records.reader import find_runs
from eoi.records.record import Record
from eoi.reports.page import Report, page
from eoi.reports.played import Chosen, Played, has_networks, median_runs, named_runs, play
from eoi.reports.runs import usable
from eoi.reports.worlds import MAIN, World, arms_of, worlds_of
from eoi.utils.errors import UserError
from eoi.utils.places import command
from eoi.utils.script import FIGURES, Parser, guarded, output, positive, tell, write_text

_PLAYED = 8  # runs, at most, if none are named
_NAMED = 4  # names, at most, in the page's title
_PICTURES = 1_600_000  # bytes of the pictures of all replays together


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUNS")
    result.add_argument(
        "--out",
        type=output,
        metavar="FILE.html",
        help="default: report.html in results/figures",
    )
    result.add_argument(
        "--metric", metavar="NAME[,NAME]", help="the main metric first; default: all"
    )
    result.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="runs with these settings alone; a value may be a pattern, and `run` a folder's name",
    )
    result.add_argument(
        "--by",
        metavar="KEY[,KEY]",
        help="settings that make an arm, as name,eoi.alpha; default: name, and each other setting"
        " in which runs of one name differ",
    )
    result.add_argument("--x", choices=("steps", "episodes"), help="default: as src/plot.py")
    result.add_argument(
        "--smooth", type=positive, default=1, metavar="K", help="entries averaged; default: 1"
    )
    result.add_argument(
        "--play",
        metavar="RUN[,RUN]|none",
        help=f"runs to play; default: the median run of each arm, at most {_PLAYED}",
    )
    return result


def metrics(records: Sequence[Record]) -> str:
    """Every metric that was logged: the test return, then other tests, then the rest."""
    known = {name for record in records for name in record.metrics}
    order = sorted(known, key=lambda name: (name != MAIN, not name.startswith("test_"), name))
    return ",".join(order)


def chosen(options: Namespace, worlds: Sequence[World]) -> list[Chosen]:
    """The runs to play. Raises UserError."""
    if options.play == "none":
        return []
    if options.play:
        return named_runs(worlds, [name for name in options.play.split(",") if name])
    return median_runs(worlds, _PLAYED)


def played(runs: Sequence[Chosen], problems: list[str]) -> list[Played]:
    """These runs, played; `problems` takes a line on each that was not, or not as a whole."""
    found = []
    for place, run in enumerate(runs, 1):
        print(f"playing run {run.record.run} ({place} of {len(runs)})", file=sys.stderr)
        try:
            one = play(run, str(place), _PICTURES // len(runs))
        except UserError as error:
            problems.append(f"run {run.record.run} not played: {error}")
        else:
            found.append(one)
            if one.left_out:
                problems.append(f"run {run.record.run}: {one.left_out}, to keep the page small")
    return found


def unplayed(options: Namespace, worlds: Sequence[World], found: Sequence[Played]) -> str:
    """A sentence with the command for the missing parts; empty if runs were played."""
    if found:
        return ""
    report = command("report")
    if options.play == "none":
        return f"No run was played, as --play none asks. <code>{report} RUNS</code> plays some."
    if any(has_networks(record) for world in worlds for record in world.records):
        return "No run could be played; the remarks at the top have the reasons."
    return (
        "These runs have no networks here (a table of runs never has)."
        f" <code>{report} results/sacred</code>, with the folders of saved runs, adds this."
    )


def named(paths: Sequence[str]) -> str:
    """Names of the files or folders, of which many are only counted."""
    names = list(dict.fromkeys(pathlib.Path(path).name for path in paths))
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMED - 1])} and {len(names) - _NAMED + 1} more"


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    out = options.out or FIGURES / "report.html"
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: the name of a page ends with .html")
    damaged: list[str] = []
    records = find_runs(options.runs, damaged)
    records, others = usable(selected(records, options.where))
    by = [key for key in options.by.split(",") if key] if options.by is not None else None
    rows = panels(records, options.metric or metrics(records), options.x, by)
    worlds = worlds_of(rows)
    told = [*damaged, *others, *(text for world in worlds for text in remarks(world.main, by))]
    found = played(chosen(options, worlds), told)
    content = Report(
        f"Report: {named(options.runs)}",
        worlds,
        arms_of(rows, worlds),
        options.smooth,
        told,
        found,
        unplayed(options, worlds, found),
    )
    write_text(out, page(content))
    tell(told)
    print(f"{out}: {len(records)} runs, {out.stat().st_size / 1e6:.1f} MB")


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
