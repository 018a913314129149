"""A run's folder, written by Sacred's file observer: every file whole at every moment, one writer, and the same folder when resumed."""

import json
import logging
import pathlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from sacred.observers import FileStorageObserver
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
    """The beginning of the output; the end of a crash is in run.json's fail_trace."""
    return text if len(text) <= OUTPUT else text[:OUTPUT] + _BEYOND


def number() -> int:
    """A name for a run that no other run has: the second, then 24 random bits. Below 2^53, so that JavaScript can read it."""
    return (int(time.time()) - _EPOCH) << 24 | random.SystemRandom().getrandbits(24)


class Folder(FileStorageObserver):
    """Begins the observers in `then` once it is there. What a full disk refuses is written later; no metric is lost."""

    def __init__(
        self,
        basedir: pathlib.Path,
        resumed: pathlib.Path | None = None,
        metrics: series.Metrics | None = None,
        then: Sequence[Any] = (),
    ):
        super().__init__(basedir)
        self._resumed, self._then = resumed, list(then)
        self._before = reader.read_run(resumed) if resumed else {}
        self._series: series.Metrics = series.copied(metrics or {})  # as of the checkpoint
        self._lock = Lock(resumed) if resumed else None
        if resumed:
            sweep(resumed)
        self._warned = False
        self.trouble: OSError | None = None  # why the record on disk is not complete

    @property
    def folder(self) -> pathlib.Path | None:
        return pathlib.Path(self.dir) if self.dir else None

    def _make_run_dir(self, _id: Any) -> None:
        if self._resumed is None:
            super()._make_run_dir(_id)
            self._lock = Lock(pathlib.Path(str(self.dir)))
        else:
            self.dir = str(self._resumed)

    def started_event(
        self,
        ex_info: Any,
        command: Any,
        host_info: Any,
        start_time: Any,
        config: Any,
        meta_info: Any,
        _id: Any,
    ) -> Any:
        """Raises SacredError, which Sacred prints as one line."""
        try:
            return self._start(ex_info, command, host_info, start_time, config, meta_info, _id)
        except OSError as error:
            reason = (
                f"{error.filename or self.basedir}: {error.strerror or error}; nothing was begun"
            )
            raise SacredError(reason, print_traceback=False, filter_traceback="never") from None

    def _start(
        self,
        ex_info: Any,
        command: Any,
        host_info: Any,
        start_time: Any,
        config: Any,
        meta_info: Any,
        _id: Any,
    ) -> Any:
        meta = dict(meta_info) | {"number": self._before.get("meta", {}).get("number") or number()}
        _id = super().started_event(ex_info, command, host_info, start_time, config, meta, _id)
        entry: Any = self.run_entry
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
        return _id

    def log_metrics(self, metrics_by_name: Any, info: Any) -> None:
        for name, entry in metrics_by_name.items():
            for step, value, when in zip(
                entry["steps"], entry["values"], entry["timestamps"], strict=True
            ):
                series.append(self._series, name, step, value, when.isoformat())
        if metrics_by_name or self.trouble:
            self._try(self._save_metrics)

    def heartbeat_event(self, info: Any, captured_out: Any, beat_time: Any, result: Any) -> None:
        self._try(
            lambda: super(Folder, self).heartbeat_event(info, captured_out, beat_time, result)
        )

    def completed_event(self, stop_time: Any, result: Any) -> None:
        self._end(lambda: super(Folder, self).completed_event(stop_time, result))

    def interrupted_event(self, interrupt_time: Any, status: Any) -> None:
        self._end(lambda: super(Folder, self).interrupted_event(interrupt_time, status))

    def failed_event(self, fail_time: Any, fail_trace: Any) -> None:
        self._end(lambda: super(Folder, self).failed_event(fail_time, fail_trace))

    def _end(self, event: Callable[[], None]) -> None:
        if self.run_entry is None:  # it never began
            return
        if self.trouble:
            self._try(self._save_metrics)
        self._try(event)
        self.close()

    def close(self) -> None:
        """Another process may write the folder now."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
            self.trouble = None
        except OSError as error:
            self.trouble = error
            if not self._warned:
                self._warned = True
                reason = f"{error.filename or self.dir}: {error.strerror or error}"
                log.warning(
                    "warning: %s; the record stays in memory and is written as soon as that is possible",
                    reason,
                )

    def _save_metrics(self) -> None:
        self._write("metrics.json", json.dumps(self._series, separators=(",", ":")))

    def save_json(self, obj: Any, filename: str) -> None:
        self._write(filename, json.dumps(flatten(obj), sort_keys=True, indent=2))

    def _write(self, filename: str, text: str) -> None:
        write_text(pathlib.Path(str(self.dir)) / filename, text)
