"""All that a run has logged since its beginning, in the form of Sacred's metrics.json."""

import datetime
from typing import Any

Series = dict[str, dict[str, list[Any]]]  # name -> steps, values, timestamps (ISO 8601, UTC)


def append(series: Series, name: str, step: int, value: float, when: str) -> None:
    entry = series.setdefault(name, {"steps": [], "values": [], "timestamps": []})
    entry["steps"].append(step)
    entry["values"].append(value)
    entry["timestamps"].append(when)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()


def copied(series: Series) -> Series:
    return {
        name: {key: list(column) for key, column in entry.items()} for name, entry in series.items()
    }
