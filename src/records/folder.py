"""A run's folder, written through Sacred's file observer.

Every file is complete at every moment. One process writes the folder. A resumed run keeps it.
"""

import datetime
import json
import logging
import pathlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from sacred.observers import FileStorageObserver, RunObserver
from sacred.serializer import flatten
from sacred.utils import SacredError

from eoi.records import reader
from eoi.utils import series
from eoi.utils.files import sweep
from eoi.utils.locks import Lock
from eoi.utils.script import write_text

log = logging.getLogger(__name__)

OUTPUT = 1_000_000  # characters of captured output that are kept
_BEYOND = f"\n[output beyond {OUTPUT} characters is not kept]\n"
_EPOCH = 1_600_000_000  # seconds


def capped(text: str) -> str:
    """The first `OUTPUT` characters; run.json's fail_trace has the end of a crash."""
    return text if len(text) <= OUTPUT else text[:OUTPUT] + _BEYOND


def number() -> int:
    """A unique number for a run: the time in seconds, then 24 random bits.

    It is below 2^53, so that JavaScript reads it exactly.
    """
    return (int(time.time()) - _EPOCH) << 24 | random.SystemRandom().getrandbits(24)


class Logged(TypedDict):
    """New entries of a metric, as Sacred passes them to observers."""

    steps: list[int]
    values: list[float]
    timestamps: list[datetime.datetime]


class Follower(RunObserver):
    """An observer that works on the run's folder."""

    def observe(self, folder: pathlib.Path) -> None:
        """Starts, once the folder exists."""
        raise NotImplementedError


class Folder(FileStorageObserver):
    """Writes the run's folder, and starts the observers in `then` once the folder exists.

    If a write fails, as on a full disk, the record stays in memory and is written later.
    """

    def __init__(
        self,
        basedir: pathlib.Path,
        resumed: pathlib.Path | None = None,
        metrics: series.Metrics | None = None,
        then: Sequence[Follower] = (),
        together: int = 1,
    ):
        """`together`: runs of the fleet that it is one of."""
        super().__init__(basedir)
        self._together = together
        self._resumed, self._then = resumed, list(then)
        self._before = reader.read_run(resumed) if resumed else {}
        self._series: series.Metrics = series.copied(metrics or {})  # as of the checkpoint
        self._lock = Lock(resumed) if resumed else None
        if resumed:
            sweep(resumed)
        self._warned = False
        self._unsaved = False  # whether metrics.json lacks entries
        self.trouble: OSError | None = None  # why the record on disk is incomplete

    @property
    def folder(self) -> pathlib.Path | None:
        return pathlib.Path(self.dir) if self.dir else None

    def _make_run_dir(self, _id: object) -> None:
        if self._resumed is None:
            super()._make_run_dir(_id)
            self._lock = Lock(pathlib.Path(str(self.dir)))
        else:
            self.dir = str(self._resumed)

    def started_event(
        self,
        ex_info: object,
        command: object,
        host_info: object,
        start_time: object,
        config: object,
        meta_info: Mapping[str, object],
        _id: object,
    ) -> str | None:
        """Raises SacredError, which Sacred prints as one line."""
        own = self._before.get("meta", {}).get("number") or number()
        meta = dict(meta_info) | {"number": own, "together": self._together}
        try:
            identity = super().started_event(
                ex_info, command, host_info, start_time, config, meta, _id
            )
            self._begin(meta)
        except OSError as error:
            reason = (
                f"{error.filename or self.basedir}: {error.strerror or error}; nothing was begun"
            )
            raise SacredError(reason, print_traceback=False, filter_traceback="never") from None
        return identity

    def _begin(self, meta: dict[str, object]) -> None:
        """Completes Sacred's record with that of the run before it was resumed."""
        entry = self.run_entry
        assert isinstance(entry, dict), "Sacred has begun the run"
        if self._before:
            entry["resumed"] = [*self._before.get("resumed", []), entry["start_time"]]
            entry |= {
                key: self._before[key]
                for key in ("start_time", "resources", "artifacts")
                if key in self._before
            }
        meta["folder"] = pathlib.Path(str(self.dir)).name
        self.save_json(entry, "run.json")
        if self._before:
            self._save_metrics()
        for observer in self._then:
            observer.observe(pathlib.Path(str(self.dir)))

    def log_metrics(self, metrics_by_name: Mapping[str, Logged], info: object) -> None:
        for name, entry in metrics_by_name.items():
            for step, value, when in zip(
                entry["steps"], entry["values"], entry["timestamps"], strict=True
            ):
                series.append(self._series, name, step, value, when.isoformat())
        self._unsaved |= bool(metrics_by_name)
        if self._unsaved:
            self._try(self._save_metrics)

    def heartbeat_event(
        self, info: object, captured_out: object, beat_time: object, result: object
    ) -> None:
        self._try(
            lambda: super(Folder, self).heartbeat_event(info, captured_out, beat_time, result)
        )

    def completed_event(self, stop_time: object, result: object) -> None:
        self._end(lambda: super(Folder, self).completed_event(stop_time, result))

    def interrupted_event(self, interrupt_time: object, status: object) -> None:
        self._end(lambda: super(Folder, self).interrupted_event(interrupt_time, status))

    def failed_event(self, fail_time: object, fail_trace: object) -> None:
        self._end(lambda: super(Folder, self).failed_event(fail_time, fail_trace))

    def _end(self, event: Callable[[], None]) -> None:
        if self.run_entry is None:  # the run never began
            return
        if self._unsaved:
            self._try(self._save_metrics)
        self._try(event)
        self.close()

    def close(self) -> None:
        """Lets other processes write the folder."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
            if not self._unsaved:
                self.trouble = None
        except OSError as error:
            self.trouble = error
            if not self._warned:
                self._warned = True
                reason = f"{error.filename or self.dir}: {error.strerror or error}"
                log.warning(
                    "warning: %s; the record stays in memory, and is written as soon as possible",
                    reason,
                )

    def _save_metrics(self) -> None:
        self._write("metrics.json", json.dumps(self._series, separators=(",", ":")))
        self._unsaved = False

    def save_json(self, obj: object, filename: str) -> None:
        self._write(filename, json.dumps(flatten(obj), sort_keys=True, indent=2))

    def _write(self, filename: str, text: str) -> None:
        write_text(pathlib.Path(str(self.dir)) / filename, text)
