"""Metrics of one run since its beginning, in the form of Sacred's metrics.json."""

import datetime
from typing import TypedDict


class Entries(TypedDict):
    """Logged values of one metric, in their order."""

    steps: list[int]  # environment steps
    values: list[float]
    timestamps: list[str]  # ISO 8601, UTC


Metrics = dict[str, Entries]


def append(metrics: Metrics, name: str, step: int, value: float, when: str) -> None:
    entries = metrics.setdefault(name, Entries(steps=[], values=[], timestamps=[]))
    entries["steps"].append(step)
    entries["values"].append(value)
    entries["timestamps"].append(when)


def timestamp() -> str:
    """The present time."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()


def copied(metrics: Metrics) -> Metrics:
    return {
        name: Entries(
            steps=list(entries["steps"]),
            values=list(entries["values"]),
            timestamps=list(entries["timestamps"]),
        )
        for name, entries in metrics.items()
    }
