"""Pushes recorded runs to MongoDB; a push can be repeated.

    python src/sync.py RUN ... [--mongo URL[:DB]]

RUN is a run's folder, a folder of runs, a Sacred id (3 is results/sacred/3) or `latest`.
Without --mongo, the environment variable EOI_MONGO names the database.
"""

from eoi.utils.start import launch

import sys
from collections.abc import Sequence

from eoi.records.mongo import VARIABLE, Database, Pushed, adopt, chosen
from eoi.records.reader import locate
from eoi.utils.errors import UserError
from eoi.utils.script import Parser, guarded


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUN")
    result.add_argument(
        "--mongo", metavar="URL[:DB]", help=f"default: the environment variable {VARIABLE}"
    )
    return result


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    if not chosen(options.mongo):
        raise UserError(f"no database: give --mongo HOST:PORT:DB, or set {VARIABLE}")
    database, folders = Database(chosen(options.mongo)), locate(options.runs)
    damaged = False
    for folder in folders:
        try:
            adopt(folder)
            Pushed(folder).push(database)
        except UserError as error:  # concerns this run alone
            print(f"error: {error}", file=sys.stderr)
            damaged = True
            continue
        except database.errors as error:
            reason = str(error).splitlines()[0][:160]
            print(
                f"error: MongoDB at {database.shown}: {reason}; call again when it is back",
                file=sys.stderr,
            )
            raise SystemExit(1) from None
        print(f"{folder} -> {database.shown}")
    database.close()
    if damaged:
        raise SystemExit(2)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
