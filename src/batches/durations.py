"""How long runs take: measured on finished ones, else estimated."""

import contextlib
import datetime
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eoi.batches.jobs import Job
from eoi.records import reader
from eoi.records.record import Config
from eoi.utils.errors import UserError

ESTIMATE = 1000.0  # environment steps a second, where no run of its kind has finished


@dataclass(frozen=True)
class Speeds:
    """Steps a second of finished runs, by algorithm and world."""

    measured: dict[tuple[str, str], float]

    def of(self, job: Job) -> float:
        """Of its algorithm in its world; else the mean over algorithms there; else an estimate."""
        own = self.measured.get(_kind(job.config))
        if own is not None:
            return own
        there = [speed for (_, env), speed in self.measured.items() if env == job.config["env"]]
        return float(np.mean(there)) if there else ESTIMATE

    def left(self, jobs: Iterable[Job]) -> float:
        """Seconds that the unfinished ones take on one core."""
        left = (_steps_left(job) / self.of(job) for job in jobs if job.state != "finished")
        return float(sum(left))


def _kind(config: Config) -> tuple[str, str]:
    return str(config.get("name")), str(config.get("env"))


def _steps_left(job: Job) -> int:
    done = 0
    if job.folder is not None:
        with contextlib.suppress(UserError):
            series = reader.read(job.folder).metrics.values()
            done = max((int(each.steps[-1]) for each in series), default=0)
    return max(job.t_max - done, 0)


def measured(bases: Sequence[pathlib.Path]) -> Speeds:
    """Median speed of the finished runs in these folders."""
    found: dict[tuple[str, str], list[float]] = {}
    for base in bases:
        with contextlib.suppress(UserError):  # no run there yet
            for folder in reader.locate([base]):
                with contextlib.suppress(UserError, KeyError, ValueError, TypeError):
                    config = reader.read_config(folder)
                    speed = _speed(folder, config)
                    found.setdefault(_kind(config), []).append(speed)
    return Speeds({kind: float(np.median(speeds)) for kind, speeds in found.items()})


def _speed(folder: pathlib.Path, config: Config) -> float:
    """Raises ValueError for a run that has not finished, or not in one go."""
    run = reader.read_run(folder)
    if run["status"] != "COMPLETED" or run.get("resumed") or config.get("evaluate"):
        raise ValueError("not timed")
    start, stop = (datetime.datetime.fromisoformat(run[key]) for key in ("start_time", "stop_time"))
    seconds = max((stop - start).total_seconds(), 0.1)
    return config["t_max"] * run["meta"].get("together", 1) / seconds
