"""Puts the settings and metrics of many runs into one small table.

    python src/export.py RUN_OR_FOLDER ... --out FILE.csv.gz [--metric NAME[,NAME]]

The table holds no networks and no output. `python src/plot.py FILE.csv.gz` reads it like a folder
of runs. Its columns: run, seed, status, settings (JSON, once for each run), metric, step, value.
"""

from eoi.utils.start import launch

import pathlib
from collections.abc import Sequence

from eoi.config.schema import nearest
from eoi.records import reader, table
from eoi.utils.errors import UserError
from eoi.utils.script import Parser, guarded


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUN_OR_FOLDER")
    result.add_argument("--out", type=pathlib.Path, required=True, metavar=f"FILE{table.SUFFIX}")
    result.add_argument("--metric", metavar="NAME[,NAME]", help="metrics to keep; default: all")
    return result


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    if not options.out.name.endswith(table.SUFFIX):
        raise UserError(f"--out {options.out}: the name of a table ends with {table.SUFFIX}")
    records = reader.find_runs(options.runs)
    names = [name for name in options.metric.split(",") if name] if options.metric else None
    known = {name for record in records for name in record.metrics}
    for name in names or ():
        if name not in known:
            raise UserError(f"--metric {name}: no run has logged it.{nearest(name, known)}")
    table.write(options.out, records, names)
    print(f"{options.out}: {len(records)} runs, {options.out.stat().st_size / 1e6:.2f} MB")


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
