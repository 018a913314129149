"""One recorded run: its settings, its status and its metrics as arrays."""

import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

Config = dict[str, Any]  # settings, nested as in the YAML files


class Series(NamedTuple):
    """One metric of one run, in the order it was logged."""

    steps: np.ndarray  # [K] environment steps
    values: np.ndarray  # [K]

    def until(self, step: int) -> "Series":
        """Entries up to and including `step`."""
        kept = self.steps <= step
        return Series(self.steps[kept], self.values[kept])


@dataclass(frozen=True)
class Record:
    """One run, finished or not."""

    folder: pathlib.Path  # of a run in a table: the table's path, then the run's name in it
    config: Config
    status: str  # Sacred's: RUNNING, COMPLETED, INTERRUPTED, FAILED, ...
    metrics: dict[str, Series]
    run: str  # the folder's name, or the run's name in its table
    commit: str = ""  # twelve digits, and `+ changes` if files differed from it; "": not known

    @cached_property
    def settings(self) -> Config:
        """Settings by dotted keys, such as `eoi.alpha`."""
        return dict(flat(self.config))

    @property
    def end(self) -> int:
        """Environment steps at the last entry; 0: nothing is logged."""
        return max((int(series.steps[-1]) for series in self.metrics.values()), default=0)

    @property
    def unfinished(self) -> bool:
        """Whether it was cut, or goes on, before its t_max; its last values are not final."""
        return self.status != "COMPLETED" and self.end < self.config.get("t_max", float("inf"))

    def until(self, step: int) -> "Record":
        """Its entries up to and including `step`. A run that reached `step` counts as finished."""
        parts = {name: series.until(step) for name, series in self.metrics.items()}
        status = self.status if self.end < step else "COMPLETED"
        kept = {name: part for name, part in parts.items() if len(part.steps)}
        return replace(self, metrics=kept, status=status)

    def not_finite(self, metric: str) -> int | None:
        """Step of the metric's first entry that is nan or infinite; None: there is none."""
        if metric not in self.metrics:
            return None
        steps, values = self.metrics[metric]
        bad = steps[~np.isfinite(values)]
        return int(bad[0]) if len(bad) else None

    @property
    def seed(self) -> int | None:
        return self.config.get("seed")

    @property
    def world(self) -> str:
        """Name of the environment, with its engine if it has several."""
        return world_of(self.config)


def world_of(config: Config) -> str:
    """Name of the environment in these settings, with its engine if it has several."""
    name = config.get("world") or config.get("env")
    return labelled(str(name), config.get("env_args") or {})


def labelled(name: str, env_args: Mapping[str, object]) -> str:
    """`name`, and the engine if the world has several: results differ between engines."""
    return f"{name}_{env_args['engine']}" if "engine" in env_args else name


_KINDS = {"seed": int, "t_max": (int, float), "env_args": dict}


def recorded(config: object) -> Config:
    """Settings of a run's file, under their present names.

    Raises ValueError where they cannot be those of a run.
    """
    if not isinstance(config, dict):
        raise ValueError(f"the settings are {config!r}")
    for key, kind in _KINDS.items():
        value = config.get(key)
        optional = key == "seed" or key not in config
        if not isinstance(value, kind) and not (optional and value is None):
            raise ValueError(f"{key} is {value!r}")
    if config.get("env") == "sc2_lite":  # became an engine of sc2
        config = config | {
            "env": "sc2",
            "env_args": {"engine": "lite", **config.get("env_args", {})},
        }
    eoi = config.get("eoi")
    return config | {"eoi": _renamed(eoi)} if isinstance(eoi, dict) else config


def _renamed(eoi: Config) -> Config:
    """EOI's settings: `centred` became `intrinsic`, and the `chooser` of form=explore was fixed."""
    now = {key: value for key, value in eoi.items() if key != "centred"}
    if "centred" in eoi:
        now.setdefault("intrinsic", "centred" if eoi["centred"] else "p")
    if eoi.get("form") == "explore":
        now.setdefault("chooser", "own")
    return now


def flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Settings by dotted keys."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
