"""Draws pictures of runs, and prints tables of their final values.

    python src/plot.py RUNS ... [options]            learning curves, and a table of final values
    python src/plot.py RUNS ... --over KEY           final values over a setting, as eoi.alpha
    python src/plot.py RUNS ... --out FILE.md        the table alone, in Markdown
    python src/plot.py --heatmap RUN ... [options]   where the agents of saved runs spend their time

RUNS is a run's folder, a folder of runs, a Sacred id (3 is results/sacred/3), `latest`, or a table
of runs (FILE.csv.gz, made by src/export.py). The final value of a run is the mean of the last 10 %
of its entries, their number rounded up.
"""

from eoi.utils.start import launch

import pathlib
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import matplotlib
from matplotlib.figure import Figure

from eoi.pictures.curves import BANDS
from eoi.pictures.learning import learning_curves
from eoi.pictures.look import LOOK
from eoi.pictures.panels import Panel, not_finite, panels, remarks
from eoi.pictures.sweeps import sweeps
from eoi.records import summary
from eoi.records.groups import selected, split
from eoi.records.labels import INTRINSIC
from eoi.records.reader import find_runs, locate, trained
from eoi.records.record import Record
from eoi.records.shipped import sentence
from eoi.records.statistics import FINAL
from eoi.utils.errors import UserError
from eoi.utils.script import (
    FIGURES,
    Parser,
    guarded,
    output,
    positive,
    tell,
    write_text,
    write_whole,
)

_USUAL = frozenset({"test_return_mean", INTRINSIC})  # metrics that a file's name leaves out
_PAGE = ".md"  # the suffix of a table in Markdown


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUNS")
    result.add_argument(
        "--out",
        type=output,
        metavar="FILE",
        help="default: in results/figures; .png, .pdf, .svg, or .md for the table alone",
    )
    _add_choice_of_runs(result)
    _add_curves(result)
    _add_maps(result)
    return result


def _add_choice_of_runs(parser: Parser) -> None:
    group = parser.add_argument_group("which runs, and how they are grouped")
    group.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help="runs with these settings alone; a value may be a pattern, and `run` a folder's name",
    )
    group.add_argument(
        "--by",
        metavar="KEY[,KEY]",
        help="settings that make a group, as name,eoi.alpha; default: name, and each other setting"
        " in which runs of one name differ; unfinished runs are always a group of their own",
    )
    group.add_argument(
        "--until", type=positive, metavar="STEP", help="entries up to this environment step alone"
    )
    group.add_argument(
        "--metric",
        metavar="NAME[,NAME]",
        help=f"default: test_return_mean, and {INTRINSIC} where a run has it",
    )
    group.add_argument(
        "--each",
        metavar="NAME[,NAME]",
        help="in Markdown: further metrics with a value for each seed",
    )
    group.add_argument(
        "--baseline", metavar="GROUP", help="in the table: difference of each group to this one"
    )


def _add_curves(parser: Parser) -> None:
    group = parser.add_argument_group("learning curves")
    group.add_argument(
        "--x",
        choices=("steps", "episodes"),
        help="default: episodes where all episodes are equally long",
    )
    group.add_argument(
        "--over", metavar="KEY", help="final values over this setting instead of curves over time"
    )
    group.add_argument(
        "--smooth",
        type=positive,
        metavar="K",
        help="entries that are averaged; default: a twentieth of them",
    )
    group.add_argument("--band", choices=BANDS, default="std", help="default: std, as in the paper")


def _add_maps(parser: Parser) -> None:
    group = parser.add_argument_group("position maps")
    group.add_argument(
        "--heatmap", action="store_true", help="draw them, from greedy episodes, instead of curves"
    )
    group.add_argument("--episodes", type=positive, default=64, help="default: 64")
    group.add_argument("--seed", type=int, default=0, help="of these episodes; default: 0")
    group.add_argument(
        "--model",
        choices=("best", "last"),
        default="best",
        help="which saved networks; default: best",
    )


def curves(options: Namespace) -> None:
    records = chosen(options)
    by = [key for key in options.by.split(",") if key] if options.by is not None else None
    over = [options.over] if options.over else []
    rows = panels(records, options.metric, options.x, by, over)
    each = [name for name in options.each.split(",") if name] if options.each else []
    _refuse_unshown(each, rows)
    tables = [[replace(panel, groups=split(panel.groups, over)) for panel in row] for row in rows]
    if options.out and options.out.suffix.lower() == _PAGE:
        write_text(options.out, page(tables, each, options.baseline))
        print(options.out)
    else:
        text = [line for row in tables for line in printed(row, options.baseline)]
        if over:
            figure = sweeps(rows, options.over, options.band)
        else:
            figure = learning_curves(rows, options.smooth, options.band)
        kind = f"over_{options.over}" if over else "curves"
        save(figure, options.out or FIGURES / f"{default_name(kind, rows)}.png")
        print("\n".join(text))
    tell(remark for row in tables for remark in remarks(row[0], by))
    tell(line for row in rows for panel in row for line in not_finite(panel))


def chosen(options: Namespace) -> list[Record]:
    """The runs to draw, as far as they are to be drawn; notes the others. Raises UserError."""
    damaged: list[str] = []
    records = find_runs(options.runs, damaged)
    tell([f"{reason}; the run is left out" for reason in damaged])
    records = selected(usable(records), options.where)
    if options.until is None:
        return records
    return usable([record.until(options.until) for record in records])


def usable(records: Sequence[Record]) -> list[Record]:
    """Runs that trained and have logged something; notes the others. Raises UserError."""
    left, others = trained(records)
    tell(others)
    return left


def _refuse_unshown(each: Sequence[str], rows: Sequence[Sequence[Panel]]) -> None:
    """Raises UserError for a metric of --each that has no column."""
    shown = [panel.metric for panel in rows[0]]
    for name in each:
        if name not in shown:
            raise UserError(
                f"--each {name}: not among the metrics of the table, {', '.join(shown)}"
            )


def printed(row: Sequence[Panel], baseline: str | None) -> Iterator[str]:
    """A world's tables for the terminal, and the settings that tell runs from shipped ones."""
    for panel in row:
        if panel.groups:
            rows = _final_values([panel], [], baseline)
            yield f"{panel.world}: {panel.metric}, {FINAL}\n{summary.aligned(rows)}"
    if row[0].changed:
        yield f"  {sentence(row[0].changed)}"


def page(rows: Sequence[Sequence[Panel]], each: Sequence[str], baseline: str | None) -> str:
    """A Markdown table for each world, under the world's name if there are several."""
    parts = []
    for row in rows:
        title = row[0].world if len(rows) > 1 else ""
        content = summary.markdown(_final_values(row, each, baseline))
        parts += filter(None, (title, content, sentence(row[0].changed, "`")))
    return "\n\n".join(parts) + "\n"


def _final_values(row: Sequence[Panel], each: Sequence[str], baseline: str | None) -> summary.Rows:
    """Final values of all groups that have logged any of the metrics."""
    names = dict.fromkeys(name for panel in row for name in panel.groups)
    groups = {name: next(p.groups[name] for p in row if name in p.groups) for name in names}
    if baseline is not None and baseline not in groups:
        raise UserError(f"--baseline {baseline}: the groups are {'; '.join(groups)}")
    return summary.final_values(groups, [panel.metric for panel in row], each, baseline)


def default_name(kind: str, rows: Sequence[Sequence[Panel]]) -> str:
    groups = sorted({name for row in rows for panel in row for name in panel.groups})
    compared = groups if len(groups) <= 4 else [f"{len(groups)}_groups"]
    return slug(
        [
            kind,
            *(row[0].world for row in rows),
            *compared,
            *(panel.metric for panel in rows[0] if panel.metric not in _USUAL),
        ]
    )


def slug(parts: Iterable[str]) -> str:
    """A file's name made of texts, no longer than file systems allow."""
    return re.sub(r"[^\w.=-]+", "-", "_".join(parts))[:120].strip("-_.")


def position_maps(options: Namespace) -> None:
    from eoi.pictures.positions import heat_maps  # here, because curves do not need torch

    folders = locate(options.runs)
    figure = heat_maps(folders, options.episodes, options.seed, options.model)
    save(
        figure,
        options.out
        or FIGURES / f"{slug(['positions', *(folder.resolve().name for folder in folders)])}.png",
    )


def save(figure: Figure, path: pathlib.Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower()))
    print(path)


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    known = {*Figure().canvas.get_supported_filetypes(), *(() if options.heatmap else ("md",))}
    known -= {"pgf"}  # requires LaTeX
    if options.out and options.out.suffix[1:].lower() not in known:
        raise UserError(
            f"--out {options.out}: the name has to end with .{', .'.join(sorted(known))}"
        )
    with matplotlib.rc_context(LOOK):
        (position_maps if options.heatmap else curves)(options)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
