"""Verdicts: a paper's claim about two groups of runs, judged by the runs.

A claim compares one score of a metric, in interquartile means over runs. Its verdict is

    holds         the interval of the difference lies where the claim says
    contradicted  it lies on the other side
    level         above, below: the interval has zero in it, so no difference is shown
    undecided     level, not above: the interval reaches beyond the margin on both of its sides,
                  or a group has fewer than `FEWEST` runs, one more against a number
    not measured  a group has no run

Two scores of the same runs are compared run by run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eoi.records.labels import plain
from eoi.records.record import Record
from eoi.records.statistics import (
    Comparison,
    Score,
    comparison,
    interquartile_mean,
    score,
)
from eoi.records.summary import Finals, Rows, number

# Runs of a group of two; of three against three, no order is rarer than one in ten by chance.
FEWEST = 4
# Runs of a group against a number: with four, an interval covers the truth in 88 % of the cases.
FEWEST_ALONE = 5

Relation = Literal["above", "below", "level", "not_above"]
Outcome = Literal["holds", "level", "contradicted", "undecided", "not measured"]
_GAP = "difference of interquartile means"
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
        name = plain(self.metric)
        return name if self.score == "final" else f"{name} ({self.score})"


@dataclass(frozen=True)
class Claim:
    """The first side is above, below, level with, or not above the second."""

    says: str  # the paper's statement
    first: Side
    relation: Relation
    second: Side | float
    margin: float = 0.0  # largest difference that counts as level
    paper: bool = True  # False: a comparison beside the paper's

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
    paired: bool  # whether the sides are two scores of the same runs
    found: Comparison | None  # None: a side has no run
    unscored: tuple[str, ...] = ()  # for each arm with such runs, their number in words

    @property
    def sentence(self) -> str:
        """The numbers in words."""
        without = "".join(f", without {each}" for each in self.unscored)
        if self.found is None:
            return f"no run of {' or '.join(self.missing)} has it{without}"
        ours, theirs = (number(middle) for middle in self.middles)
        found, fixed = self.found, not isinstance(self.claim.second, Side)
        which = "interquartile mean of the differences" if self.paired else _GAP
        gap = f"{which} {signed(found.difference)}"
        if np.isfinite(found.low):
            gap += f" [{signed(found.low)}, {signed(found.high)}]"
        better, low, high = found.better, found.better_low, found.better_high
        of = "P(improvement)"
        if self.claim.relation == "below":
            better, low, high, of = 1 - better, 1 - high, 1 - low, "P(lower)"
        chances = f"{of} {better:.2f}"
        if np.isfinite(low):
            chances += f" [{low:.2f}, {high:.2f}]"
        alone = fixed or self.paired
        counts = f"{self.runs[0]}" if alone else f"{self.runs[0]} and {self.runs[1]}"
        seeds = "seed" if counts == "1" else "seeds"
        return f"{ours} against {theirs}, {gap}, {chances}, {counts} {seeds}{without}"

    @property
    def missing(self) -> list[str]:
        """Arms without runs."""
        sides = [self.claim.first, self.claim.second]
        counts = zip(sides, self.runs, strict=True)
        return list(dict.fromkeys(s.runs for s, n in counts if isinstance(s, Side) and not n))


def judge(claim: Claim, arms: Mapping[str, Sequence[Record]]) -> Verdict:
    """The verdict on a claim. Runs that lack the metric, or whose score is nan, do not count."""
    first, second = claim.first, claim.second
    fixed = not isinstance(second, Side)
    paired = not fixed and (first.arm, first.less) == (second.arm, second.less)
    if fixed:
        ours = scores(arms, first)
        theirs = np.full(max(len(ours), 1), float(second))
    elif paired:
        ours, theirs = _both(arms, first, second)
    else:
        ours, theirs = scores(arms, first), scores(arms, second)
    middles = [float(interquartile_mean(x)) if len(x) else np.nan for x in (ours, theirs)]
    found = None
    if len(ours) and len(theirs):
        pair = (ours - theirs, np.zeros(len(ours))) if paired else (ours, theirs)
        found = comparison([pair[0]], [pair[1]])
    few = min(len(ours), len(theirs)) < (FEWEST_ALONE if fixed or paired else FEWEST)
    return Verdict(
        claim,
        _outcome(claim, found, few),
        (len(ours), 0 if fixed else len(theirs)),
        (middles[0], middles[1]),
        paired,
        found,
        tuple(_unscored(arms, [first] if fixed else [first, second])),
    )


def _unscored(arms: Mapping[str, Sequence[Record]], sides: Sequence[Side | float]) -> Iterator[str]:
    """For each arm, the number of its runs whose score is nan or infinite, in words."""
    for side in dict.fromkeys(each for each in sides if isinstance(each, Side)):
        for arm in filter(None, (side.arm, side.less)):
            logged = [r for r in arms.get(arm, ()) if side.metric in r.metrics]
            missing = len(logged) - len(_scored(logged, side))
            if missing:
                runs = "run" if missing == 1 else "runs"
                yield f"{missing} {runs} of {arm} whose {side} is not finite"


def _both(
    arms: Mapping[str, Sequence[Record]], first: Side, second: Side
) -> tuple[np.ndarray, np.ndarray]:
    """Both scores [R] of the runs that have both."""
    ours, theirs = dict(_scores(arms, first)), dict(_scores(arms, second))
    seeds = [seed for seed in ours if seed in theirs]
    return np.array([ours[seed] for seed in seeds]), np.array([theirs[seed] for seed in seeds])


def scores(arms: Mapping[str, Sequence[Record]], side: Side) -> np.ndarray:
    """Scores [R] of the runs that have one; of a difference, those of the seeds in both arms."""
    return np.array([value for _, value in _scores(arms, side)], float)


def scores_beside(claims: Sequence[Claim], arms: Mapping[str, Sequence[Record]]) -> Rows:
    """A head, then a row for each side of a claim whose score is not a final value.

    Tables of final values do not have these scores.
    """
    sides = [side for claim in claims for side in (claim.first, claim.second)]
    rows = [["scores of the claims", "runs", "IQM [95 % interval]", "seed: score"]]
    for side in dict.fromkeys(s for s in sides if isinstance(s, Side)):
        found = sorted(_scores(arms, side), key=lambda scored: scored[0] or 0)
        if found and (side.score != "final" or side.less):
            seeds, values = zip(*found, strict=True)
            own = Finals(list(seeds), np.array(values))
            rows.append([f"{side.runs}: {side}", str(len(found)), own.iqm, own.each])
    return rows


def _scores(arms: Mapping[str, Sequence[Record]], side: Side) -> list[tuple[int | None, float]]:
    """Seed and score of each run that has one."""
    ours = _scored(arms.get(side.arm, ()), side)
    if not side.less:
        return ours
    theirs = dict(_scored(arms.get(side.less, ()), side))
    return [(seed, value - theirs[seed]) for seed, value in ours if seed in theirs]


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
