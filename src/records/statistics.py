"""The meaning of each number: final values, intervals, and comparisons of two groups of runs.

Axes: K entries of a run, R runs, G points of a grid.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from eoi.utils.shapes import Float

FINAL = "mean of the last 10 % of a run's entries"
_TENTH = 10
LEVEL = 0.95
DRAWS = 5000  # of the bootstrap


class Interval(NamedTuple):
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


class Difference(NamedTuple):
    """How the runs of one group differ from those of another."""

    mean: float  # of the first group less that of the second
    low: float  # end of the 95 % interval of that difference, by Welch's t
    high: float
    better: float  # probability that a run of the first group exceeds one of the second


def final_value(values: Float[np.ndarray, " K"]) -> float:
    """Final value of a run: mean of the last 10 % of its entries, their number rounded up.

    Of 101 tests these are the last 11.
    """
    count = -(-len(values) // _TENTH)
    return float(values[-count:].mean())


def deviation(values: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "..."]:
    """Sample standard deviation over runs; 0 for a single run."""
    return np.asarray(values.std(0, ddof=1)) if len(values) > 1 else np.zeros(values.shape[1:])


def mean_interval(values: Float[np.ndarray, "R ..."]) -> Interval:
    """95 % confidence interval of the mean over runs, by Student's t; nan for a single run."""
    n, mean = len(values), np.asarray(values.mean(0))
    if n < 2:
        return Interval(np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * deviation(values) / n**0.5
    return Interval(np.asarray(mean - half), np.asarray(mean + half))


def interquartile_mean(values: Float[np.ndarray, "*B R"]) -> Float[np.ndarray, "*B"]:
    """Mean without the lowest and the highest quarter of the runs, each quarter rounded down."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def bootstrap_interval(
    strata: Sequence[Float[np.ndarray, " _"]],
    statistic: Callable[[np.ndarray], np.ndarray] = interquartile_mean,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """95 % percentile interval of a statistic, by a stratified bootstrap with its own seed.

    strata: final values of the runs of each world; runs are drawn within their world. The
    statistic is taken over its argument's last axis. nan where each world has a single run.
    """
    if max(len(values) for values in strata) < 2:
        return Interval(np.array(np.nan), np.array(np.nan))
    generator = np.random.default_rng(seed)
    drawn = [
        values[generator.integers(len(values), size=(draws, len(values)))] for values in strata
    ]
    outcomes = statistic(np.concatenate(drawn, axis=1))
    low, high = np.percentile(outcomes, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(np.asarray(low), np.asarray(high))


def probability_of_improvement(
    first: Float[np.ndarray, " R"], second: Float[np.ndarray, " S"]
) -> float:
    """Share of pairs in which the first group's run is higher; ties count one half."""
    gap = first[:, None] - second
    return float((gap > 0).mean() + (gap == 0).mean() / 2)


def optimality_gap(scores: Float[np.ndarray, " R"], target: float = 1.0) -> float:
    """Mean distance below the target; scores above it count as the target."""
    return float((target - np.minimum(scores, target)).mean())


def difference(first: Float[np.ndarray, " R"], second: Float[np.ndarray, " S"]) -> Difference:
    """Difference of means with its 95 % interval; nan at both ends where a group has one run."""
    low = high = np.nan
    if min(len(first), len(second)) > 1:
        spread = deviation(first) + deviation(second)
        if spread > 0:
            interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(LEVEL)
            low, high = interval.low, interval.high
        else:  # equal values in both groups: the t statistic is 0 / 0
            low = high = first.mean() - second.mean()
    return Difference(
        float(first.mean() - second.mean()),
        float(low),
        float(high),
        probability_of_improvement(first, second),
    )
