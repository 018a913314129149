"""Tables of final values, for the terminal and for a page of Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eoi.records.record import Record
from eoi.records.statistics import (
    Difference,
    bootstrap_interval,
    deviation,
    difference,
    final_value,
    interquartile_mean,
)

Rows = list[list[str]]


@dataclass(frozen=True)
class Finals:
    """Final values of the runs of one group, in the order of their seeds."""

    seeds: list[int | None]
    values: np.ndarray  # [R]

    @property
    def mean(self) -> str:
        """Mean ± standard deviation."""
        mean = number(self.values.mean().item())
        spread = number(deviation(self.values).item())
        return mean if len(self.values) < 2 else f"{mean} ± {spread}"

    @property
    def iqm(self) -> str:
        """Interquartile mean, and its 95 % interval."""
        middle = number(interquartile_mean(self.values).item())
        low, high = (end.item() for end in bootstrap_interval([self.values]))
        return middle if math.isnan(low) else f"{middle} [{number(low)}, {number(high)}]"

    @property
    def middle(self) -> str:
        return number(interquartile_mean(self.values).item())

    @property
    def each(self) -> str:
        return "  ".join(
            f"{seed}: {number(value)}" for seed, value in zip(self.seeds, self.values, strict=True)
        )


def finals(records: Sequence[Record], metric: str) -> Finals:
    """Final values of the runs that have logged the metric."""
    logged = sorted((r for r in records if metric in r.metrics), key=lambda r: r.seed or 0)
    values = [final_value(record.metrics[metric].values) for record in logged]
    return Finals([record.seed for record in logged], np.array(values, float))


def number(value: float) -> str:
    """Three significant digits, thousands apart: 0.0123, 5.20, 21.3, 1,190."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else str(float(value))
    digits = 2 - math.floor(math.log10(abs(value)))
    value = round(value, digits)
    return f"{value:.1e}" if digits > 6 else f"{value:,.{max(digits, 0)}f}"


def one_metric(
    groups: Mapping[str, Sequence[Record]], metric: str, baseline: str | None = None
) -> Rows:
    """A row for each group: mean, interquartile mean, difference to the baseline, each run."""
    found = {name: finals(records, metric) for name, records in groups.items()}
    against = found.get(baseline) if baseline is not None else None
    head = ["", "runs", "mean ± sd", "IQM [95 % interval]"]
    rows = [[*head, *([f"against {baseline}"] if against else []), "seed: final value"]]
    for name, group in found.items():
        compared = []
        if against:
            same = group is against
            compared = ["" if same else compare(difference(group.values, against.values))]
        rows.append([name, str(len(group.values)), group.mean, group.iqm, *compared, group.each])
    return rows


def compare(found: Difference) -> str:
    """Difference of means, its 95 % interval, and the probability of improvement."""
    middle, low, high = (f"{'+' if x > 0 else ''}{number(x)}" for x in found[:3])
    interval = "" if math.isnan(found.low) else f" [{low}, {high}]"
    return f"{middle}{interval}, P {found.better:.2f}"


def several_metrics(
    groups: Mapping[str, Sequence[Record]], metrics: Sequence[str], each: Sequence[str]
) -> Rows:
    """A row for each group: for metrics in `each` mean, interquartile mean and each run.

    The others have their interquartile mean alone.
    """
    head = ["", "runs"]
    for metric in metrics:
        title = metric if len(metrics) > 1 else ""
        detailed = [f"{title} mean ± sd".strip(), "IQM [95 % interval]", "seed: final value"]
        head += detailed if metric in each else [metric]
    rows = [head]
    for name, records in groups.items():
        row = [name, str(len(records))]
        for metric in metrics:
            group = finals(records, metric)
            if not len(group.values):
                row += [""] * (3 if metric in each else 1)
            elif metric in each:
                row += [group.mean, group.iqm, group.each]
            else:
                row.append(group.middle)
        rows.append(row)
    return rows


def aligned(rows: Rows, indent: str = "  ") -> str:
    """Columns for the terminal."""
    width = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = (
        "  ".join(f"{cell:{size}}" for cell, size in zip(row, width, strict=True)) for row in rows
    )
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def markdown(rows: Rows) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
