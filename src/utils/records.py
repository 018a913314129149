"""Reads the runs that Sacred's file observer wrote: folders with config.json, run.json and, once something was logged, metrics.json."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from eoi.utils.errors import UserError
from eoi.utils.places import ROOT

SACRED = ROOT / "results" / "sacred"


class Series(NamedTuple):
    """One metric of one run, in the order it was logged."""

    steps: np.ndarray  # [K] environment steps
    values: np.ndarray  # [K]


@dataclass(frozen=True)
class Record:
    """One run, as far as it got."""

    folder: pathlib.Path
    config: dict[str, Any]
    status: str  # Sacred's: RUNNING, COMPLETED, INTERRUPTED, FAILED, ...
    metrics: dict[str, Series]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration with dotted keys: `eoi.alpha`."""
        return dict(_flat(self.config))


def find_runs(paths: Sequence[str | pathlib.Path]) -> list[Record]:
    """The runs that `locate` finds. Raises UserError."""
    return [read(folder) for folder in locate(paths)]


def locate(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    """Folders of runs, each once, in the order given.

    A path is a run's folder, a folder of runs at any depth, a Sacred id (`3` is results/sacred/3) or `latest`, the last run that
    is no evaluation. Raises UserError.
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
    metrics = _read_json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    try:
        series = {
            name: Series(np.array(entry["steps"], int), np.array(entry["values"], float))
            for name, entry in metrics.items()
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(
            f"{folder / 'metrics.json'}: damaged, a metric of it has no list of steps and of values"
        ) from None
    uneven = [name for name, entry in series.items() if entry.steps.shape != entry.values.shape]
    if uneven:
        raise UserError(
            f"{folder / 'metrics.json'}: damaged, {uneven[0]} has {len(series[uneven[0]].steps)} steps for other values"
        )
    logged = {name: entry for name, entry in series.items() if len(entry.steps)}
    status = str(read_run(folder).get("status", "UNKNOWN"))
    return Record(folder, read_config(folder), status, logged)


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Every setting that was in effect. Raises UserError."""
    config = _read_json(folder / "config.json")
    if config.get("env") == "sc2_lite":  # its name before it was an engine of `sc2`
        config |= {"env": "sc2", "env_args": {"engine": "lite", **config.get("env_args", {})}}
    return config


def labelled(name: str, env_args: Mapping[str, Any]) -> str:
    """`name` with the engine of worlds that have several: what one engine plays is not to be taken for what another does."""
    return f"{name}_{env_args['engine']}" if "engine" in env_args else name


def read_run(folder: pathlib.Path) -> dict[str, Any]:
    """Sacred's run.json. Raises UserError."""
    return _read_json(folder / "run.json")


def is_run(folder: pathlib.Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "run.json").is_file()


def _expand(name: str) -> list[pathlib.Path]:
    folder = _folder(name)
    if not folder.is_dir():
        raise UserError(
            f"{name}: there is no such run or folder of runs"
            if not folder.exists()
            else f"{name}: a file; name the run's folder"
        )
    runs = sorted(_runs_below(folder), key=_natural)
    if not runs:
        raise UserError(
            f"{name}: no run in it (a run is a folder with Sacred's config.json and run.json)"
        )
    return [_newest(runs)] if name == "latest" else runs


def _newest(runs: Sequence[pathlib.Path]) -> pathlib.Path:
    """The last that trained: an evaluation has neither networks nor curves."""
    return next((run for run in reversed(runs) if not read_config(run).get("evaluate")), runs[-1])


def _folder(name: str) -> pathlib.Path:
    """What exists under that name comes first; else an id or `latest`."""
    folder = pathlib.Path(name).expanduser()
    if folder.exists():
        return folder
    if name == "latest":
        return SACRED
    return SACRED / name if name.isdigit() else folder


def _runs_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    if is_run(folder):
        yield folder
        return
    for inner in folder.iterdir():
        if (
            inner.is_dir() and not inner.is_symlink() and not inner.name.startswith(("_", "."))
        ):  # _sources are Sacred's own
            yield from _runs_below(inner)


def _natural(folder: pathlib.Path) -> list[str | int]:
    """Run 10 comes after run 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(folder))]


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file, so this folder is no run") from None
    except (ValueError, UnicodeDecodeError):
        raise UserError(
            f"{path}: damaged, not valid JSON; if the run is still writing, try again, else leave it out"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, expected a JSON object")
    return content


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
