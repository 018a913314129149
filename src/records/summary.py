"""Tables of final values, for the terminal and for a page of Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eoi.records.record import Record
from eoi.records.statistics import (
    FEWEST,
    Difference,
    Statistic,
    Strata,
    bootstrap_interval,
    deviation,
    difference,
    final_value,
    interquartile_mean,
    optimality_gap,
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
        """Interquartile mean, and its 95 % interval if there are three runs or more."""
        return _interval([self.values], interquartile_mean)

    @property
    def middle(self) -> str:
        """Interquartile mean alone; empty if no run has logged the metric."""
        return number(interquartile_mean(self.values).item()) if len(self.values) else ""

    @property
    def each(self) -> str:
        return ", ".join(
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
    rounded = float(f"{value:.2e}")
    digits = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.2e}" if digits > 6 else f"{rounded:,.{max(digits, 0)}f}"


def final_values(
    groups: Mapping[str, Sequence[Record]],
    metrics: Sequence[str],
    each: Sequence[str] = (),
    baseline: str | None = None,
) -> Rows:
    """A head, then a row for each group of runs.

    Of a group the runs that have logged the first metric are counted.

    The first metric has mean, interquartile mean, the difference to the group `baseline` if it is
    given, and each run's final value. Of the others those in `each` have each run's final value,
    and the rest their interquartile mean.
    """
    first, *others = metrics
    title = f"{first}: " if others else ""
    against = [] if baseline is None else [f"against {baseline}"]
    head = ["", "runs", f"{title}mean ± sd", "IQM [95 % interval]", *against, "seed: final value"]
    rows = [[*head, *others]]
    for name, records in groups.items():
        other = None if baseline is None else finals(groups[baseline], first)
        own = finals(records, first)
        row = [name, _number_of(own, records), *_detailed(own, other)]
        for metric in others:
            group = finals(records, metric)
            row.append(group.each if metric in each else group.middle)
        rows.append(row)
    return rows


def over_worlds(arms: Mapping[str, Mapping[str, Sequence[Record]]], metric: str) -> Rows:
    """A head, then a row for each arm, of a metric whose best value is 1 in every world.

    arms: of each arm the runs of each world. The intervals draw runs within their world.
    """
    rows = [["over all worlds", "runs", "IQM [95 % interval]", "optimality gap [95 % interval]"]]
    for name, worlds in arms.items():
        strata = [finals(records, metric).values for records in worlds.values()]
        row = [_interval(strata, statistic) for statistic in (interquartile_mean, optimality_gap)]
        rows.append([name, str(sum(map(len, strata))), *row])
    return rows


def _interval(strata: Strata, statistic: Statistic) -> str:
    """A statistic, and its 95 % interval if there are three runs or more."""
    every = np.concatenate(strata)
    middle = number(statistic(every).item())
    low, high = (end.item() for end in bootstrap_interval(strata, statistic))
    return middle if len(every) < FEWEST else f"{middle} [{number(low)}, {number(high)}]"


def _number_of(group: Finals, records: Sequence[Record]) -> str:
    logged, every = len(group.values), len(records)
    return str(every) if logged == every else f"{logged} of {every}"


def _detailed(group: Finals, other: Finals | None) -> list[str]:
    if not len(group.values):
        return [""] * (3 if other is None else 4)
    compared = []
    if other is not None:
        same = group.seeds == other.seeds and np.array_equal(group.values, other.values)
        usable = len(other.values) and not same
        compared = [compare(difference(group.values, other.values)) if usable else ""]
    return [group.mean, group.iqm, *compared, group.each]


def compare(found: Difference) -> str:
    """Difference of means, its 95 % interval, and the probability of improvement."""
    middle, low, high = (f"{'+' if x > 0 else ''}{number(x)}" for x in found[:3])
    interval = "" if math.isnan(found.low) else f" [{low}, {high}]"
    return f"{middle}{interval}, P {found.better:.2f}"


def aligned(rows: Rows, indent: str = "  ") -> str:
    """Columns for the terminal."""
    width = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = (
        "  ".join(f"{cell:{size}}" for cell, size in zip(row, width, strict=True)) for row in rows
    )
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def markdown(rows: Rows) -> str:
    """A table of Markdown."""
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
