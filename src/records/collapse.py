"""A sign of failed training in a run's logged series: no return is left, and values grow."""

from collections.abc import Sequence
from typing import NamedTuple

from eoi.utils.series import Entries, Metrics

TESTS = 5  # last tests whose mean return counts
SHARE = 0.1  # of the highest return: at most this is left
GROWTH = 10.0  # values are at least this many times those at the highest return
_VALUES = ("q_abs_mean", "q_taken_mean", "value_mean")  # the first that was logged is read


class Collapse(NamedTuple):
    """Numbers of a collapse."""

    left: float  # mean return of the last tests
    peak: float  # highest return of a test or of training
    peak_step: int
    values: str  # metric
    before: float  # its absolute value at the peak
    now: float


def collapse(metrics: Metrics) -> Collapse | None:
    """The collapse that the series show, or None.

    Returns below zero have no level that means nothing, so they show none.
    """
    name = next((each for each in _VALUES if each in metrics), None)
    tests, training = metrics.get("test_return_mean"), metrics.get("return_mean")
    if name is None or tests is None or training is None or len(tests["values"]) <= TESTS:
        return None
    peak, step = max(_peak(tests), _peak(training))
    left = sum(tests["values"][-TESTS:]) / TESTS
    sizes = [abs(value) for value in metrics[name]["values"]]
    if peak <= 0 or left > SHARE * peak or len(sizes) < TESTS:
        return None
    before, now = sizes[_last_until(metrics[name]["steps"], step)], sizes[-1]
    if now < max(GROWTH * before, peak) or now <= sizes[-TESTS]:
        return None
    return Collapse(left, peak, step, name, before, now)


def _peak(entries: Entries) -> tuple[float, int]:
    """Highest value and its first step."""
    value = max(entries["values"])
    return value, entries["steps"][entries["values"].index(value)]


def _last_until(steps: list[int], step: int) -> int:
    """Index of the last entry until `step`, or the first entry."""
    return max(sum(each <= step for each in steps) - 1, 0)


def described(found: Collapse, remedies: Sequence[str] = ()) -> str:
    """The collapse and advice. `remedies`: advice of the run's own parts."""
    advice = (
        "; ".join(remedies) or "a smaller lr or a grad_norm_clip may help (docs/reliability.md)"
    )
    return (
        f"the return has collapsed ({found.left:.3g} over the last {TESTS} tests, {found.peak:.3g} "
        f"at step {found.peak_step:,}) while {found.values} grew from {found.before:.3g} to "
        f"{found.now:.3g}: values diverge; {advice}"
    )
