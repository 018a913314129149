"""Tables of runs: one gzipped CSV file for a whole study.

Columns: run, seed, status, settings, metric, step, value, commit. First one row for each run with
its settings as JSON and its commit; then one row for each logged value, under the run's name. A
table is to be shared: it does not contain the machine's folders. Older tables lack the last column.
"""

import csv
import gzip
import io
import json
import os
import pathlib
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from eoi.records.record import Config, Record, Series, recorded
from eoi.utils.errors import UserError
from eoi.utils.files import put
from eoi.utils.places import expanded

SUFFIX = ".csv.gz"
COLUMNS = ("run", "seed", "status", "settings", "metric", "step", "value", "commit")
_DIGITS = 6  # significant digits of a value
_RUNS = frozenset({"checkpoint_path", "skills_from"})  # settings that name another run
_PARTS = 3  # of its path: results, sacred, id


def is_table(path: str | pathlib.Path) -> bool:
    return str(path).endswith(SUFFIX) and expanded(path).is_file()


def write(
    path: pathlib.Path, records: Sequence[Record], metrics: Iterable[str] | None = None
) -> None:
    """Writes a table of these runs. Values keep six significant digits.

    metrics: names to keep; None keeps all. Raises UserError, OSError.
    """
    wanted = None if metrics is None else set(metrics)
    names = run_names(records)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, record in zip(names, records, strict=True):
        settings = json.dumps(_shared(record.config), sort_keys=True, separators=(",", ":"))
        rows.writerow([name, record.seed, record.status, settings, "", "", "", record.commit])
    for name, record in zip(names, records, strict=True):
        for metric, series in sorted(record.metrics.items()):
            if wanted is None or metric in wanted:
                pairs = zip(series.steps.tolist(), series.values.tolist(), strict=True)
                rows.writerows(
                    [name, "", "", "", metric, step, f"{value:.{_DIGITS}g}", ""]
                    for step, value in pairs
                )
    content = gzip.compress(text.getvalue().encode(), 9, mtime=0)  # equal runs, equal files
    put(path.parent, lambda file: file.write(content), lambda: path.name)


def _shared(config: Config) -> Config:
    """Settings without the folder of results; of another run's folder its last parts remain."""
    kept = {key: value for key, value in config.items() if key != "local_results_path"}
    for key in _RUNS & kept.keys():
        kept[key] = "/".join(pathlib.PurePath(str(kept[key])).parts[-_PARTS:])
    return kept


def run_names(records: Sequence[Record]) -> list[str]:
    """A name for each run: its folder below the folder that all have in common."""
    folders = [record.folder.resolve() for record in records]
    common = os.path.commonpath([folder.parent for folder in folders])
    return [folder.relative_to(common).as_posix() for folder in folders]


def read(path: pathlib.Path) -> list[Record]:
    """The runs of a table, in its order. Raises UserError for a damaged file."""
    try:
        with gzip.open(path, "rt", newline="") as file:
            return list(_runs(path, csv.reader(file)))
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError):
        raise UserError(f"{path}: damaged, not a whole gzip file") from None
    except (ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path}: damaged, not a table of runs ({error})") from None


def _runs(path: pathlib.Path, rows: Iterator[list[str]]) -> Iterator[Record]:
    head = next(rows, [])
    if tuple(head) not in (COLUMNS, COLUMNS[:-1]):
        raise ValueError(f"expected the columns {', '.join(COLUMNS)}")
    heads: dict[str, tuple[str, Config, str]] = {}  # status, settings and commit of each run
    entries: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row has {len(row)} cells for {len(head)} columns")
        run, _, status, settings, metric, step, value, *commit = row
        if settings:
            heads[run] = (status, recorded(json.loads(settings)), "".join(commit))
            entries[run] = {}
        else:
            steps, values = entries[run].setdefault(metric, ([], []))
            steps.append(int(step))
            values.append(float(value))
    for run, (status, config, commit) in heads.items():
        series = {
            metric: Series(np.array(steps, int), np.array(values, float))
            for metric, (steps, values) in entries[run].items()
        }
        yield Record(path / run, config, status, series, run, commit)
