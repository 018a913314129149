"""The meaning of each number: scores of a run, intervals, and comparisons of two groups of runs.

The statistics over runs follow Agarwal et al. 2021, "Deep RL at the edge of the statistical
precipice". A group's scores are given as strata, an array of runs for each world: the bootstrap
draws runs within their world.

Axes: K entries of a run, R and S runs of two groups, G points of a grid.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

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


Strata = Sequence[Float[np.ndarray, " _"]]  # scores of the runs of each world
Statistic = Callable[[np.ndarray], np.ndarray]  # [..., R] -> [...], over the last axis


class Difference(NamedTuple):
    """How the runs of one group differ from those of another."""

    mean: float  # of the first group less that of the second
    low: float  # end of the 95 % interval of that difference, by Welch's t
    high: float
    better: float  # probability that a run of the first group exceeds one of the second


class Comparison(NamedTuple):
    """Difference of interquartile means, and probability of improvement, with 95 % intervals.

    The intervals are percentiles of a stratified bootstrap; nan where a group has a single run.
    """

    difference: float  # of the first group's interquartile mean less the second's
    low: float
    high: float
    better: float  # probability that a run of the first group exceeds one of the second
    better_low: float
    better_high: float


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
    """Mean without the lowest and the highest quarter of the runs, each quarter rounded down.

    nan where a run has nan.
    """
    return np.where(np.isnan(values).any(-1), np.nan, stats.trim_mean(values, 0.25, axis=-1))


def bootstrap_interval(
    strata: Strata,
    statistic: Statistic = interquartile_mean,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """95 % percentile interval of a statistic, by a stratified bootstrap with its own seed.

    strata: final values of the runs of each world; runs are drawn within their world. The
    statistic is taken over its argument's last axis, and may add axes at the end. nan where each
    world has a single run.
    """
    if _single(strata):
        return Interval(np.array(np.nan), np.array(np.nan))
    return _percentiles(statistic(_drawn(strata, np.random.default_rng(seed), draws)))


FEWEST = 3  # runs of which an interquartile mean is given an interval


def _single(strata: Strata) -> bool:
    return max(len(values) for values in strata) < 2


def _drawn(strata: Strata, generator: np.random.Generator, draws: int) -> np.ndarray:
    """Samples [draws, R] of the runs of all worlds."""
    drawn = [
        values[generator.integers(len(values), size=(draws, len(values)))] for values in strata
    ]
    return np.concatenate(drawn, axis=1)


def _percentiles(outcomes: np.ndarray) -> Interval:
    """Middle 95 % of outcomes [draws, ...]."""
    low, high = np.percentile(outcomes, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return Interval(np.asarray(low), np.asarray(high))


def probability_of_improvement(
    first: Float[np.ndarray, " R"], second: Float[np.ndarray, " S"]
) -> float:
    """Share of pairs in which the first group's run is higher; ties count one half."""
    return float(_better(first, second))


def optimality_gap(
    scores: Float[np.ndarray, "*B R"], target: float = 1.0
) -> Float[np.ndarray, "*B"]:
    """Mean distance below the target; scores above it count as the target."""
    return np.asarray((target - np.minimum(scores, target)).mean(-1))


def difference(first: Float[np.ndarray, " R"], second: Float[np.ndarray, " S"]) -> Difference:
    """Difference of means with its 95 % interval; nan at both ends where a group has one run."""
    low = high = np.nan
    if min(len(first), len(second)) > 1:
        spread = deviation(first) + deviation(second)
        if spread > 0:
            with warnings.catch_warnings():  # of equal values in one of the groups
                warnings.simplefilter("ignore", RuntimeWarning)
                test = stats.ttest_ind(first, second, equal_var=False)
            low, high = test.confidence_interval(LEVEL)
        else:  # equal values in both groups: the t statistic is 0 / 0
            low = high = first.mean() - second.mean()
    return Difference(
        float(first.mean() - second.mean()),
        float(low),
        float(high),
        probability_of_improvement(first, second),
    )


def comparison(first: Strata, second: Strata, seed: int = 0, draws: int = DRAWS) -> Comparison:
    """Two groups of runs in the same worlds, which stand in the same order."""
    generator = np.random.default_rng(seed)
    gap = float(_middle(first) - _middle(second))
    better = np.mean([_better(a, b) for a, b in zip(first, second, strict=True)]).item()
    if _single(first) or _single(second):
        return Comparison(gap, np.nan, np.nan, better, np.nan, np.nan)
    drawn = [
        (_drawn([a], generator, draws), _drawn([b], generator, draws))
        for a, b in zip(first, second, strict=True)
    ]
    ours, theirs = (np.concatenate(each, axis=1) for each in zip(*drawn, strict=True))
    low, high = _percentiles(interquartile_mean(ours) - interquartile_mean(theirs))
    chance = _percentiles(np.mean([_better(a, b) for a, b in drawn], axis=0))
    ends = (float(end) for end in (low, high, *chance))
    low, high, better_low, better_high = ends
    return Comparison(gap, low, high, better, better_low, better_high)


def _middle(strata: Strata) -> Float[np.ndarray, ""]:
    return interquartile_mean(np.concatenate(strata))


def _better(first: Float[np.ndarray, "*B R"], second: Float[np.ndarray, "*B S"]) -> np.ndarray:
    """Probability of improvement [*B], from the ranks of all runs (Mann and Whitney's U)."""
    n, m = first.shape[-1], second.shape[-1]
    ranks = stats.rankdata(np.concatenate([first, second], axis=-1), axis=-1)
    return np.asarray((ranks[..., :n].sum(-1) - n * (n + 1) / 2) / (n * m))


def performance_profile(
    scores: Float[np.ndarray, "*B R"], levels: Float[np.ndarray, " G"]
) -> Float[np.ndarray, "*B G"]:
    """Share of the runs whose score exceeds each level; nan where a run's score is nan."""
    unknown = np.where(np.isnan(scores), np.nan, 0)
    return np.stack([(unknown + (scores > level)).mean(-1) for level in levels], axis=-1)


def profile_interval(
    strata: Strata, levels: Float[np.ndarray, " G"], seed: int = 0, draws: int = 2000
) -> Interval:
    """Pointwise 95 % intervals [G] of a performance profile."""
    return bootstrap_interval(strata, lambda x: performance_profile(x, levels), seed, draws)


class Efficiency(NamedTuple):
    """Interquartile mean over runs at each point of training, and its 95 % interval."""

    middle: Float[np.ndarray, " G"]
    low: Float[np.ndarray, " G"]
    high: Float[np.ndarray, " G"]


def sample_efficiency(
    curves: Sequence[Float[np.ndarray, "_ G"]], seed: int = 0, draws: int = 2000
) -> Efficiency:
    """Interquartile mean of learning curves on a common grid.

    curves: those of the runs of each world. The same runs are drawn at all points of the grid.
    """
    middle = interquartile_mean(np.concatenate(curves).T)
    numbers = [np.arange(len(each), dtype=float) for each in curves]
    if _single(numbers):
        return Efficiency(middle, np.full_like(middle, np.nan), np.full_like(middle, np.nan))
    generator = np.random.default_rng(seed)
    drawn = [_drawn([each], generator, draws).astype(int) for each in numbers]
    outcomes = [
        interquartile_mean(
            np.concatenate(
                [world[:, g][rows] for world, rows in zip(curves, drawn, strict=True)], 1
            )
        )
        for g in range(len(middle))
    ]
    return Efficiency(middle, *_percentiles(np.stack(outcomes, axis=-1)))


Score = Literal["final", "initial", "first", "mean", "half", "swing"]
SCORES: dict[Score, str] = {
    "final": "mean of the last 10 % of the entries",
    "initial": "the first entry",
    "first": "mean of the first 10 % of the entries",
    "mean": "mean over all of training (area under the curve)",
    "half": "share of training after which half of the way to the final value is done",
    "swing": "standard deviation of the entries in the second half of training",
}


def score(kind: Score, steps: np.ndarray, values: Float[np.ndarray, " K"]) -> float:
    """One number for a metric of one run; `SCORES` has the meaning of each kind."""
    if kind == "final":
        return final_value(values)
    if kind == "initial":
        return float(values[0])
    if kind == "first":
        return final_value(values[::-1])
    if kind == "mean":
        return mean_over_training(steps, values)
    if kind == "half":
        return half_way(steps, values)
    return float(values[len(values) // 2 :].std())


def mean_over_training(steps: np.ndarray, values: Float[np.ndarray, " K"]) -> float:
    """Area under the curve, divided by the range of its steps."""
    if len(steps) < 2 or steps[-1] == steps[0]:
        return float(values.mean())
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def half_way(steps: np.ndarray, values: Float[np.ndarray, " K"]) -> float:
    """Share of the steps after which half of the way to the final value is done.

    The way begins at the first entry; entries are averaged over a tenth of their number. nan for a
    metric that ends about where it began: the way is less than a tenth of its range.
    """
    way = final_value(values) - values[0]
    curve = smoothed(values, (len(values) // _TENTH) | 1)
    if not np.isfinite(way) or abs(way) <= np.ptp(curve) / _TENTH:
        return np.nan
    done = (curve - values[0]) / way >= 0.5
    return float(steps[np.argmax(done) if done.any() else -1] / steps[-1])


def smoothed(y: Float[np.ndarray, " K"], width: int) -> Float[np.ndarray, " K"]:
    """Mean over the `width` entries around each entry; over fewer at both ends."""
    before, after = width // 2, (width + 1) // 2
    return np.array([y[max(0, i - before) : i + after].mean() for i in range(len(y))])
