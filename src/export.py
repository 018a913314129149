"""Puts many runs into one small file.

    python src/export.py RUN_OR_FOLDER ... --out FILE.csv.gz [--metric NAME[,NAME]]
    python src/export.py RUN_OR_FOLDER ... --out FILE.json|FILE.csv|FILE.tex [--by KEY[,KEY]]

.csv.gz is a table of settings and metrics, which `python src/plot.py FILE.csv.gz` reads like a
folder of runs. Its columns: run, seed, status, settings (JSON, once for each run), metric, step,
value, commit. The others are for other programs:

    .json   the tests of every run in the format of marl-eval
    .csv    the final values, and absolute ones where there are any: a row for each run and metric
    .tex    a LaTeX table of interquartile means
"""

from eoi.utils.start import launch

import json
import pathlib
from argparse import Namespace
from collections.abc import Sequence

from eoi.pictures.panels import chosen_metrics
from eoi.records import exports, reader, table
from eoi.records.groups import (
    apart_by_name,
    grouped,
    in_labels,
    refuse_unknown,
    twice,
    worlds,
)
from eoi.records.record import Record
from eoi.records.shipped import changed, sentence
from eoi.utils.errors import UserError
from eoi.utils.script import Parser, guarded, output, tell, write_text

_RETURN = "test_return_mean"
_OTHERS = (".json", ".csv", ".tex")


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUN_OR_FOLDER")
    result.add_argument(
        "--out",
        type=output,
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
    if options.by and options.out.name.endswith(table.SUFFIX):
        raise UserError(f"--by: has no effect on {table.SUFFIX}, which keeps all settings")
    damaged: list[str] = []
    records = reader.find_runs(options.runs, damaged)
    tell(f"{reason}; the run is left out" for reason in damaged)
    names = None if options.metric is None else chosen_metrics(records, options.metric)
    if options.out.name.endswith(table.SUFFIX):
        table.write(options.out, records, names)
        runs = len(records)
    else:
        runs = _for_others(options, records, names)
    print(f"{options.out}: {runs} runs, {options.out.stat().st_size / 1e6:.2f} MB")


def _refuse_other_names(out: pathlib.Path) -> None:
    if not out.name.endswith(table.SUFFIX) and out.suffix not in _OTHERS:
        raise UserError(
            f"--out {out}: the name of a table ends with {table.SUFFIX},"
            f" and that of a file for other programs with {', '.join(_OTHERS)}"
        )


def _for_others(options: Namespace, records: Sequence[Record], names: list[str] | None) -> int:
    """Writes a file for other programs. Returns the number of runs in it."""
    metrics = names or [_RETURN]
    by = [key for key in options.by.split(",") if key] if options.by else None
    kept, others = reader.trained(records)
    tell(others)
    logged = [r for r in kept if any(metric in r.metrics for metric in metrics)]
    if not logged:
        raise UserError(f"nothing to export: no run has logged {', '.join(metrics)}")
    refuse_unknown(logged, by or (), "--by")
    divided = worlds(logged, by or ())
    apart = apart_by_name(divided.values())
    every = {world: grouped(members, by, apart) for world, members in divided.items()}
    unlike = [
        f"{world}: {sentence(other)}"
        for world, members in divided.items()
        if (other := changed(members, in_labels(apart, by)))
    ]
    tell(
        f"{metric} of {record.folder} is not finite at step {step:,}"
        for record in logged
        for metric in metrics
        if (step := record.not_finite(metric)) is not None
    )
    remarks = [
        *unlike,
        *(
            remark
            for world, groups in every.items()
            for name, members in groups.items()
            for remark in twice(f"{world}, {name}", members)
        ),
    ]
    tell(remarks)
    if options.out.suffix == ".json":
        content, notes, runs = exports.marl_eval(every, metrics)
        tell(notes)
        write_text(options.out, json.dumps(content))
        return runs
    if options.out.suffix == ".tex":
        write_text(options.out, exports.latex(every, metrics, remarks))
    else:
        write_text(options.out, exports.table_of_runs(every, metrics))
    return len(logged)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
