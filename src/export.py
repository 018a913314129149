"""Puts many runs into one small file.

    python src/export.py RUN_OR_FOLDER ... --out FILE.csv.gz [--metric NAME[,NAME]]
    python src/export.py RUN_OR_FOLDER ... --out FILE.json|FILE.csv|FILE.tex [--by KEY[,KEY]]

.csv.gz is a table of settings and metrics, which `python src/plot.py FILE.csv.gz` reads like a
folder of runs. Its columns: run, seed, status, settings (JSON, once for each run), metric, step,
value. The others are for other programs:

    .json   the tests of every run in the format of marl-eval
    .csv    the final values, and absolute ones where there are any: a row for each run and metric
    .tex    a LaTeX table of interquartile means
"""

from eoi.utils.start import launch

import json
import pathlib
import sys
from argparse import Namespace
from collections.abc import Sequence

from eoi.config.schema import nearest
from eoi.records import exports, reader, table
from eoi.records.groups import apart_by_name, grouped, refuse_unknown, worlds
from eoi.records.record import Record
from eoi.utils.errors import UserError
from eoi.utils.script import Parser, guarded, write_text

_RETURN = "test_return_mean"
_OTHERS = (".json", ".csv", ".tex")


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUN_OR_FOLDER")
    result.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        metavar=f"FILE{table.SUFFIX}|.json|.csv|.tex",
    )
    result.add_argument(
        "--metric",
        metavar="NAME[,NAME]",
        help=f"metrics to keep; default: all in {table.SUFFIX}, else {_RETURN}",
    )
    result.add_argument(
        "--by", metavar="KEY[,KEY]", help="settings that make an algorithm, as in src/plot.py"
    )
    return result


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    _refuse_other_names(options.out)
    records = reader.find_runs(options.runs)
    names = [name for name in options.metric.split(",") if name] if options.metric else None
    known = {name for record in records for name in record.metrics}
    for name in names or ():
        if name not in known:
            raise UserError(f"--metric {name}: no run has logged it.{nearest(name, known)}")
    if options.out.name.endswith(table.SUFFIX):
        table.write(options.out, records, names)
    else:
        _for_others(options, records, names)
    print(f"{options.out}: {len(records)} runs, {options.out.stat().st_size / 1e6:.2f} MB")


def _refuse_other_names(out: pathlib.Path) -> None:
    if not out.name.endswith(table.SUFFIX) and out.suffix not in _OTHERS:
        raise UserError(
            f"--out {out}: the name of a table ends with {table.SUFFIX},"
            f" and that of a file for other programs with {', '.join(_OTHERS)}"
        )


def _for_others(options: Namespace, records: Sequence[Record], names: list[str] | None) -> None:
    metrics = names or [_RETURN]
    by = [key for key in options.by.split(",") if key] if options.by else None
    logged = [r for r in records if any(metric in r.metrics for metric in metrics)]
    if not logged:
        raise UserError(f"nothing to export: no run has logged {', '.join(metrics)}")
    every = _grouped(logged, by)
    for record in logged:
        for metric in metrics:
            if (step := record.not_finite(metric)) is not None:
                place = f"{metric} of {record.folder}"
                print(f"note: {place} is not finite at step {step:,}", file=sys.stderr)
    if options.out.suffix == ".json":
        content, notes = exports.marl_eval(every, metrics)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        write_text(options.out, json.dumps(content))
    else:
        make = exports.latex if options.out.suffix == ".tex" else exports.table_of_runs
        write_text(options.out, make(every, metrics))


def _grouped(
    records: Sequence[Record], by: Sequence[str] | None
) -> dict[str, dict[str, list[Record]]]:
    """Runs by world and group. Raises UserError for an unknown setting."""
    refuse_unknown(records, by or (), "--by")
    divided = worlds(records, by or ())
    apart = apart_by_name(divided.values())
    return {world: grouped(members, by, apart) for world, members in divided.items()}


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
