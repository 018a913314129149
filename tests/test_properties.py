"""Properties of the replay, schedules and the loader, for random inputs."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from eoi.components.replay import Replay, ReplayConfig, Wants
from eoi.components.schedules import linear, trapezoid
from eoi.config import loader
from helpers import SPEC, keys
from test_replay import CPU, Q, numbered

# A busy machine may take its time.
PATIENT = settings(deadline=None, max_examples=60, database=None, derandomize=True)

# --- the replay against a plain list


class Plain:
    """A list of (number, length) of whole episodes, which drops its oldest ones for room."""

    def __init__(self, rows: int):
        self.rows, self.episodes = rows, []

    def insert(self, lengths: list[int], first: int) -> None:
        new = [(first + k, length) for k, length in enumerate(lengths)]
        while self.used() + sum(length + 1 for _, length in new) > self.rows:
            self.episodes.pop(0)
        self.episodes += new

    def used(self) -> int:
        return sum(length + 1 for _, length in self.episodes)

    def marks(self) -> list[list[int]]:
        return [[100 * n + t for t in range(length)] for n, length in self.episodes]


def marks(replay: Replay) -> list[list[int]]:
    """Marks of all episodes held, oldest first."""
    if not replay.episodes:
        return []
    (drawn,) = replay.draw_episodes(keys(1), replay.episodes, 0)
    batch = replay.read_episodes(drawn, Wants())
    rows = zip(batch.reward.long().tolist(), drawn.length.tolist(), strict=True)
    return sorted(row[:length] for row, length in rows)


@PATIENT
@given(
    size=some.integers(1, 40),
    fixed=some.booleans(),
    groups=some.lists(some.lists(some.integers(1, 7), min_size=1, max_size=3), max_size=12),
)
def test_the_replay_is_a_list_of_whole_episodes(size, fixed, groups):
    spec = replace(SPEC, fixed_length=fixed)
    replay = Replay(spec, ReplayConfig(buffer_size=size), CPU, Q, runs=0)
    assert replay.rows >= size + 1
    plain, first = Plain(replay.rows), 0
    for group in groups:
        lengths = [7] * len(group) if fixed else group
        episodes = numbered(spec, lengths, first)
        if sum(lengths) + len(lengths) > replay.rows:
            with pytest.raises(ValueError, match="do not fit"):
                replay.insert(episodes)
        else:
            replay.insert(episodes)
            plain.insert(lengths, first)
        first += len(group)
        expected = plain.marks()
        assert replay.episodes == len(expected) and replay.size == sum(map(len, expected))
        assert marks(replay) == expected
        if expected:
            (rows,) = replay.draw(keys(1, seed=first), 50, 4)
            batch = replay.read(rows, Wants(last_actions=True, window=4))
            assert {int(mark) for mark in batch.reward} <= {m for row in expected for m in row}
            assert torch.equal(batch.next_obs[:, 0, 0], batch.reward + 1)
    again = Replay(spec, ReplayConfig(buffer_size=size), CPU, Q, runs=0)
    again.load_state(replay.state())
    assert marks(again) == marks(replay) and again.size == replay.size


def test_the_oldest_episode_stays_while_there_is_room_for_it():
    """23 rows hold episodes of 7, 7 and 6 steps exactly; a single row more needs the oldest."""
    for last, held in ((6, 3), (7, 2)):
        replay = Replay(SPEC, ReplayConfig(buffer_size=20), CPU, Q)
        assert replay.rows == 23
        for first, length in enumerate((7, 7, last)):
            replay.insert(numbered(SPEC, [length], first))
        assert replay.episodes == held


# --- schedules

STEPS = some.integers(0, 10**7)
SHARE = some.floats(0, 1, width=32)


def number(x: float) -> torch.Tensor:
    return torch.tensor(float(x), dtype=torch.float64)


@PATIENT
@given(start=SHARE, finish=SHARE, duration=STEPS, times=some.lists(STEPS, min_size=2, max_size=8))
def test_a_linear_schedule_goes_from_start_to_finish(start, finish, duration, times):
    def at(t: float) -> float:
        return linear(number(start), number(finish), number(duration), number(t)).item()

    values = [at(t) for t in sorted(times)]
    low, high = sorted((start, finish))
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    rises = finish >= start
    assert all((b >= a - 1e-9) if rises else (b <= a + 1e-9) for a, b in itertools.pairwise(values))
    assert at(0) == pytest.approx(start if duration else finish)
    assert at(duration) == pytest.approx(finish)
    assert at(duration / 2) == pytest.approx((start + finish) / 2) or duration < 2


@PATIENT
@given(warmup=STEPS, anneal=STEPS, times=some.lists(STEPS, min_size=2, max_size=8))
def test_a_trapezoid_rises_and_falls(warmup, anneal, times):
    def at(t: float) -> float:
        return trapezoid(number(warmup), number(anneal), number(0), number(t)).item()

    values = [(t, at(t)) for t in sorted(times)]
    assert all(0 <= value <= 1 for _, value in values)
    for (before, a), (after, b) in itertools.pairwise(values):
        if after <= warmup:
            assert b >= a - 1e-9
        if before >= warmup:
            assert b <= a + 1e-9
    assert at(warmup) == pytest.approx(1)
    assert at(0) == (0 if warmup else 1)
    assert at(warmup + anneal) == pytest.approx(0 if anneal else 1)


# --- the loader

NAMES = some.from_regex(r"[a-z][a-z_]{0,6}", fullmatch=True).filter(lambda name: name != "vary")
LEAVES = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(),
    some.floats(allow_nan=False, allow_infinity=False),
    some.text(max_size=6),
    some.lists(some.integers(), max_size=3),
)
TREES = some.recursive(
    some.dictionaries(NAMES, LEAVES, max_size=4),
    lambda inner: some.dictionaries(NAMES, some.one_of(LEAVES, inner), max_size=4),
    max_leaves=12,
)


def flat(tree: dict, prefix: str = "") -> dict:
    """Leaves by their full names; an empty dictionary is none."""
    found = {}
    for name, value in tree.items():
        full = f"{prefix}{name}"
        found |= flat(value, f"{full}.") if isinstance(value, dict) else {full: value}
    return found


def without_empty(tree: dict) -> dict:
    """The tree less its branches that have no leaf."""
    inner = {k: without_empty(x) if isinstance(x, dict) else x for k, x in tree.items()}
    return {name: x for name, x in inner.items() if x != {}}


@PATIENT
@given(TREES)
def test_typed_settings_come_back_as_they_were(tree):
    """As Python literals: sections by dots, strings in quotes."""
    pairs = [f"{name}={value!r}" for name, value in flat(tree).items()]
    found = loader.parse_updates(pairs)
    assert found == without_empty(tree)
    assert {k: type(v) for k, v in flat(found).items()} == {
        k: type(v) for k, v in flat(tree).items()
    }


@PATIENT
@given(some.floats(1e-9, 1e9))
def test_numbers_are_read_in_every_notation(x):
    for text in (repr(x), f"{x:e}", f"{x:.3g}"):
        (value,) = loader.parse_updates([f"lr={text}"]).values()
        assert isinstance(value, int | float) and math.isclose(value, float(text))


@PATIENT
@given(TREES, TREES)
def test_merged_lays_one_tree_over_the_other(under, over):
    before = copy.deepcopy((under, over))
    found = loader.merged(under, over)
    assert (under, over) == before
    leaves, lower = flat(over), flat(under)
    assert leaves.items() <= flat(found).items()
    assert flat(found).keys() <= leaves.keys() | lower.keys()
    for name, value in lower.items():
        hidden = any(
            name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.")
            for other in leaves
        )
        if not hidden and name in flat(found):
            assert flat(found)[name] == value
    assert loader.merged(found, over) == found  # once is enough
    assert loader.merged(under, {}) == under and loader.merged({}, over) == over


@PATIENT
@given(TREES)
def test_merged_shares_nothing_with_its_arguments(tree):
    found = loader.merged({}, tree)
    assert found == tree

    def spoil(content: dict) -> None:
        for value in content.values():
            if isinstance(value, dict):
                spoil(value)
            elif isinstance(value, list):
                value.append("spoilt")
        content["new"] = 1

    before = copy.deepcopy(tree)
    spoil(found)
    assert tree == before


def test_values_of_a_fleet_are_replaced_not_merged():
    under, over = {"fleet": {"vary": {"lr": [1]}}}, {"fleet": {"vary": {"gamma": [0.9]}}}
    assert loader.merged(under, over) == over
