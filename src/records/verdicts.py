"""Verdicts: a paper's claim about two groups of runs, judged by the runs.

A claim compares one score of a metric, in interquartile means over runs. Its verdict is

    holds         the interval of the difference lies where the claim says
    contradicted  it lies on the other side
    level         above, below: the interval has zero in it
    undecided     level, not above: the interval reaches beyond the margin on both of its sides,
                  or a group has fewer than `FEWEST` runs
    not measured  a group has no run
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eoi.records.record import Record
from eoi.records.statistics import (
    Comparison,
    Score,
    comparison,
    interquartile_mean,
    score,
)
from eoi.records.summary import number

# Runs of a group; of three against three, no order is rarer than one in ten by chance.
FEWEST = 4

Relation = Literal["above", "below", "level", "not_above"]
Outcome = Literal["holds", "level", "contradicted", "undecided", "not measured"]
_WORDS: dict[Relation, str] = {
    "above": "above",
    "below": "below",
    "level": "level with",
    "not_above": "not above",
}


@dataclass(frozen=True)
class Side:
    """One side of a claim: a score of a metric of an arm's runs."""

    arm: str
    metric: str
    score: Score
    less: str = ""  # an arm; the score of its run with the same seed is subtracted

    @property
    def runs(self) -> str:
        """The runs that are scored."""
        return f"{self.arm} less {self.less}" if self.less else self.arm

    def __str__(self) -> str:
        return self.metric if self.score == "final" else f"{self.metric} ({self.score})"


@dataclass(frozen=True)
class Claim:
    """The first side is above, below, level with, or not above the second."""

    says: str  # the paper's statement
    first: Side
    relation: Relation
    second: Side | float
    margin: float = 0.0  # largest difference that counts as level

    @property
    def test(self) -> str:
        """The claim as a statement about one number of each run."""
        other, word = self.second, _WORDS[self.relation]
        within = f" (within {number(self.margin)})" if self.margin else ""
        if not isinstance(other, Side):
            return f"{self.first.runs} {word} {number(other)}{within} in {self.first}"
        if (other.metric, other.score) == (self.first.metric, self.first.score):
            return f"{self.first.runs} {word} {other.runs}{within} in {self.first}"
        theirs = "" if other.runs == self.first.runs else f" of {other.runs}"
        return f"{self.first.runs}: {self.first} {word} {other}{theirs}{within}"


@dataclass(frozen=True)
class Verdict:
    """A claim, the outcome, and the numbers behind it."""

    claim: Claim
    outcome: Outcome
    runs: tuple[int, int]  # of the two sides; the second is 0 where it is a number
    middles: tuple[float, float]  # interquartile means of the two sides; nan without runs
    found: Comparison | None  # None: a side has no run

    @property
    def sentence(self) -> str:
        """The numbers in words."""
        if self.found is None:
            return f"no run of {' or '.join(self.missing)} has it"
        ours, theirs = (number(middle) for middle in self.middles)
        found, fixed = self.found, not isinstance(self.claim.second, Side)
        gap = f"difference of interquartile means {signed(found.difference)}"
        if np.isfinite(found.low):
            gap += f" [{signed(found.low)}, {signed(found.high)}]"
        better = f"P(improvement) {found.better:.2f}"
        if np.isfinite(found.better_low):
            better += f" [{found.better_low:.2f}, {found.better_high:.2f}]"
        counts = f"{self.runs[0]}" if fixed else f"{self.runs[0]} and {self.runs[1]}"
        seeds = "seed" if counts == "1" else "seeds"
        return f"{ours} against {theirs}, {gap}, {better}, {counts} {seeds}"

    @property
    def missing(self) -> list[str]:
        """Arms without runs."""
        sides = [self.claim.first, self.claim.second]
        counts = zip(sides, self.runs, strict=True)
        return list(dict.fromkeys(s.runs for s, n in counts if isinstance(s, Side) and not n))


def judge(claim: Claim, arms: Mapping[str, Sequence[Record]]) -> Verdict:
    """The verdict on a claim. Runs that lack the metric, or whose score is nan, do not count."""
    ours = scores(arms, claim.first)
    if isinstance(claim.second, Side):
        theirs = scores(arms, claim.second)
        runs = len(ours), len(theirs)
    else:
        theirs, runs = np.full(max(len(ours), 1), float(claim.second)), (len(ours), 0)
    middles = tuple(float(interquartile_mean(x)) if len(x) else np.nan for x in (ours, theirs))
    found = comparison([ours], [theirs]) if len(ours) and len(theirs) else None
    few = min(len(ours), len(theirs)) < FEWEST
    return Verdict(claim, _outcome(claim, found, few), runs, (middles[0], middles[1]), found)


def scores(arms: Mapping[str, Sequence[Record]], side: Side) -> np.ndarray:
    """Scores [R] of the runs that have one; of a difference, those of the seeds in both arms."""
    ours = _scored(arms.get(side.arm, ()), side)
    if not side.less:
        return np.array([value for _, value in ours], float)
    theirs = dict(_scored(arms.get(side.less, ()), side))
    return np.array([value - theirs[seed] for seed, value in ours if seed in theirs], float)


def _scored(records: Sequence[Record], side: Side) -> list[tuple[int | None, float]]:
    """Seed and score of each run that has one."""
    found = [
        (record.seed, score(side.score, *record.metrics[side.metric]))
        for record in records
        if side.metric in record.metrics
    ]
    return [(seed, value) for seed, value in found if np.isfinite(value)]


def _outcome(claim: Claim, found: Comparison | None, few: bool) -> Outcome:
    if found is None:
        return "not measured"
    if few or not np.isfinite(found.low):
        return "undecided"
    low, high = (-found.high, -found.low) if claim.relation == "below" else (found.low, found.high)
    if claim.relation in ("above", "below"):
        return "holds" if low > 0 else "contradicted" if high < 0 else "level"
    floor = -np.inf if claim.relation == "not_above" else -claim.margin
    if low >= floor and high <= claim.margin:
        return "holds"
    return "contradicted" if low > claim.margin or high < floor else "undecided"


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{'+' if value > 0 else ''}{number(value)}"
