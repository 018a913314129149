"""Finds and reads recorded runs.

A run's folder has Sacred's config.json and run.json and, once something was logged, metrics.json.
"""

import json
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from eoi.records import table
from eoi.records.record import Config, Record, Series, recorded
from eoi.utils.errors import UserError
from eoi.utils.places import ROOT, command, expanded

SACRED = ROOT / "results" / "sacred"


def find_runs(
    paths: Sequence[str | pathlib.Path], damaged: list[str] | None = None
) -> list[Record]:
    """All runs in these tables and folders, each once, in the order given. Raises UserError.

    damaged: takes the messages on damaged runs, which are left out if others remain; None: they
    raise UserError.
    """
    found: dict[pathlib.Path, Record] = {}
    for path in paths:
        tables = _tables(path)
        if tables:
            records = [record for each in tables for record in table.read(each)]
        else:
            records = [each for folder in _expand(str(path)) for each in _read(folder, damaged)]
        found |= {record.folder.resolve(): record for record in records}
    if damaged and not found:
        raise UserError(damaged[0])
    return list(found.values())


def _tables(path: str | pathlib.Path) -> list[pathlib.Path]:
    """The table, or the tables that a folder without runs holds; empty: no table."""
    own = expanded(path)
    if table.is_table(own):
        return [own]
    if not own.is_dir() or any(_runs_below(own)):
        return []
    return sorted(own.glob(f"*{table.SUFFIX}"))


def _read(folder: pathlib.Path, damaged: list[str] | None) -> Iterator[Record]:
    try:
        yield read(folder)
    except UserError as error:
        if damaged is None:
            raise
        damaged.append(str(error))


def trained(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Runs that trained and have logged something, and a remark that names the others.

    Raises UserError if none is left.
    """
    evaluations = [record for record in records if record.config.get("evaluate")]
    silent = [r for r in records if not r.metrics and not r.config.get("evaluate")]
    kept = [r for r in records if r.metrics and not r.config.get("evaluate")]
    if not kept:
        raise UserError("nothing to show: these runs have logged nothing yet, or are evaluations")
    reasons = {"an evaluation, which has no curves": evaluations, "nothing logged yet": silent}
    return kept, [
        f"left out, {reason}: {', '.join(str(record.folder) for record in out)}"
        for reason, out in reasons.items()
        if out
    ]


def locate(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    """Folders of runs, each once, in the order given. Raises UserError.

    A path is a run's folder, a folder that holds runs at any depth, a Sacred id (`3` is
    results/sacred/3) or `latest`, the last run that is not an evaluation.
    """
    found = {folder.resolve(): folder for path in paths for folder in _expand(str(path))}
    return list(found.values())


def only_run(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of a single run. Raises UserError."""
    folders = locate([path])
    if len(folders) > 1:
        raise UserError(
            f"{path}: holds {len(folders)} runs, from {folders[0]} to {folders[-1]}; name one"
        )
    return folders[0]


def read(folder: pathlib.Path) -> Record:
    """Raises UserError when a file of the run is missing or damaged."""
    path = folder / "metrics.json"
    metrics = _read_json(path) if path.exists() else {}
    try:
        series = {
            name: Series(np.array(entry["steps"], int), np.array(entry["values"], float))
            for name, entry in metrics.items()
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(
            f"{path}: damaged, a metric in it has no list of steps and of values"
        ) from None
    for name, entry in series.items():
        if entry.steps.ndim != 1:
            raise UserError(f"{path}: damaged, the steps of {name} are no list of numbers")
        if entry.steps.shape != entry.values.shape:
            raise UserError(
                f"{path}: damaged, {name} has {len(entry.steps)} steps"
                f" for {len(entry.values)} values"
            )
    logged = {name: entry for name, entry in series.items() if len(entry.steps)}
    run = read_run(folder)
    status = str(run.get("status", "UNKNOWN"))
    return Record(folder, read_config(folder), status, logged, folder.name, _commit(run))


def _commit(run: Config) -> str:
    for repository in (run.get("experiment") or {}).get("repositories", []):
        if repository.get("commit"):
            changes = " + changes" if repository.get("dirty") else ""
            return f"{repository['commit'][:12]}{changes}"
    return ""


def read_config(folder: pathlib.Path) -> Config:
    """Every setting that was in effect. Raises UserError."""
    path = folder / "config.json"
    try:
        return recorded(_read_json(path))
    except ValueError as error:
        raise UserError(f"{path}: damaged, {error}") from None


def read_run(folder: pathlib.Path) -> Config:
    """Content of Sacred's run.json. Raises UserError."""
    return _read_json(folder / "run.json")


def is_run(folder: pathlib.Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "run.json").is_file()


def _expand(name: str) -> list[pathlib.Path]:
    folder = _folder(name)
    if name == "latest" and not folder.exists():
        raise UserError(
            f"latest: no run in {SACRED} yet; `{command('train')} --config=qmix` trains one"
        )
    if not folder.is_dir():
        raise UserError(f"{name}: {_no_folder(folder)}")
    runs = sorted(_runs_below(folder), key=_natural)
    if not runs:
        if any(folder.glob(f"*{table.SUFFIX}")):
            raise UserError(f"{name}: no run's folder in it, only tables, which have no networks")
        raise UserError(
            f"{name}: no run in it (a run is a folder with Sacred's config.json and run.json)"
        )
    return [_newest(runs)] if name == "latest" else runs


def _no_folder(path: pathlib.Path) -> str:
    if not path.exists():
        return "there is no such run or folder of runs"
    if table.is_table(path):
        return "a table of metrics, which has no networks; name the run's folder"
    return "a file; name the run's folder"


def _newest(runs: Sequence[pathlib.Path]) -> pathlib.Path:
    """The last run that trained: an evaluation has neither networks nor curves."""
    return next((run for run in reversed(runs) if not read_config(run).get("evaluate")), runs[-1])


def _folder(name: str) -> pathlib.Path:
    """An existing folder of that name, else the folder of a Sacred id or of `latest`."""
    folder = expanded(name)
    if folder.exists():
        return folder
    if name == "latest":
        return SACRED
    return SACRED / name if name.isdigit() else folder


def _runs_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders of runs at any depth. Names with _ or . in front are Sacred's own, or set aside."""
    if is_run(folder):
        yield folder
        return
    for inner in folder.iterdir():
        if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith(("_", ".")):
            yield from _runs_below(inner)


def _natural(folder: pathlib.Path) -> list[str | int]:
    """A key that sorts run 10 after run 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(folder))]


def _read_json(path: pathlib.Path) -> Config:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file, so this folder is no run") from None
    except (ValueError, UnicodeDecodeError):
        raise UserError(
            f"{path}: damaged, not valid JSON; if the run is still writing, try again,"
            " else leave it out"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, expected a JSON object")
    return content
