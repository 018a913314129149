"""The runs of a report: which can be used, what is wrong with the others, where each came from."""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from eoi.records import reader
from eoi.records.record import Record, Series


class Origin(NamedTuple):
    """Where a run came from; empty where its record does not tell."""

    commit: str
    engine: str  # of the world, if it has several
    began: str  # date and time, UTC
    lasted: str
    steps: str  # environment steps at the last entry


def usable(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Runs that trained and logged something, and a remark on what is wrong with the others.

    Raises UserError if none is left.
    """
    kept, remarks = reader.trained(records)
    both = [cleaned(record) for record in kept]
    return [record for record, _ in both], [*remarks, *(text for _, text in both if text)]


def cleaned(record: Record) -> tuple[Record, str]:
    """The run with nan for infinite entries, and a remark on entries that are not finite."""
    steps = {name: record.not_finite(name) for name in record.metrics}
    bad = {name: step for name, step in steps.items() if step is not None}
    if not bad:
        return record, ""
    gaps = {
        name: Series(steps, np.where(np.isfinite(values), values, np.nan))
        for name, (steps, values) in record.metrics.items()
    }
    names = ", ".join(list(bad)[:4]) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "")
    first = min(bad.values())
    remark = f"run {record.run}: {names} not finite from step {first:,}; gaps in its curves"
    return replace(record, metrics=gaps), remark


def origin(record: Record) -> Origin:
    content = reader.read_run(record.folder) if reader.is_run(record.folder) else {}
    last = max(int(series.steps[-1]) for series in record.metrics.values())
    engine = record.settings.get("env_args.engine", "")
    return Origin(record.commit, str(engine), *_time(content), f"{last:,}")


def _time(content: dict[str, Any]) -> tuple[str, str]:
    """Beginning of a run, and the time from there to its end, breaks included."""
    try:
        start = datetime.datetime.fromisoformat(content["start_time"])
        end = datetime.datetime.fromisoformat(content["stop_time"])
    except (KeyError, TypeError, ValueError):
        return str(content.get("start_time") or "")[:16].replace("T", " "), ""
    breaks = " with breaks" if content.get("resumed") else ""
    return start.isoformat(" ", "minutes"), f"{lasting((end - start).total_seconds())}{breaks}"


def lasting(seconds: float) -> str:
    """Seconds, minutes or hours with two significant digits at least."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{1 if seconds < 10 * length else 0}f} {unit}"
    return f"{seconds:.0f} s"
