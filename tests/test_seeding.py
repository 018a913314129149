"""Random numbers against a plain implementation of SplitMix64, and properties of the streams."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from eoi.utils.seeding import fold, integers, normal, root_key, uniform

# The machine may be busy: no limit on the time of an example
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

INT64 = some.integers(-(2**63), 2**63 - 1)
INDICES = some.lists(some.integers(0, 2**40), min_size=1, max_size=5)


def reference(state: int, count: int) -> list[int]:
    """SplitMix64 in Python's integers."""
    mask, out = 2**64 - 1, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    return out


def test_reference_gives_the_published_sequence():
    assert reference(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniform_is_the_top_of_splitmix64():
    drawn = uniform(torch.tensor(1234567), 5)
    assert drawn.tolist() == [(x >> 40) / 2**24 for x in reference(1234567, 5)]


def test_integers_scale_the_upper_half():
    assert integers(torch.tensor(1234567), 1000, 4).tolist() == [
        ((x >> 32) * 1000) >> 32 for x in reference(1234567, 4)
    ]


def test_normal_numbers_are_box_and_mullers():
    key, n = torch.tensor(1234567), 6
    first, second = uniform(key, 2, n).tolist()
    for x, u, v in zip(normal(key, n).tolist(), first, second, strict=True):
        expected = math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)
        assert x == pytest.approx(expected, abs=1e-5)
    many = normal(root_key(0, "normal"), 100_000).double()
    moments = [many.pow(k).mean().item() for k in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.05)
    keys = fold(root_key(0, "normal"), torch.arange(3))
    assert torch.equal(normal(keys, 4, 2)[1], normal(keys[1], 4, 2))


def test_streams_differ_by_seed_name_and_index_and_repeat_by_key():
    keys = [root_key(seed, name) for seed in (0, 1) for name in ("train", "test")]
    keys += list(fold(keys[0], torch.arange(50)))
    draws = torch.stack([uniform(key, 8) for key in keys])
    assert len({tuple(row) for row in draws.tolist()}) == len(keys)
    assert torch.equal(uniform(root_key(1, "test"), 8), draws[3])


def test_a_copy_draws_the_same_whatever_stands_beside_it():
    alone, among = (
        fold(root_key(0, "x"), torch.tensor([4])),
        fold(root_key(0, "x"), torch.arange(9)),
    )
    assert torch.equal(uniform(alone, 3, 2)[0], uniform(among, 3, 2)[4])


def test_draws_are_uniform_and_unrelated():
    draws = uniform(fold(root_key(7, "x"), torch.arange(2000)), 50)
    assert abs(draws.mean().item() - 0.5) < 0.005
    assert abs(draws.var().item() - 1 / 12) < 0.002
    assert torch.corrcoef(draws.T)[~torch.eye(50, dtype=torch.bool)].abs().max() < 0.1
    assert torch.corrcoef(draws[:200])[~torch.eye(200, dtype=torch.bool)].abs().max() < 0.7
    assert integers(root_key(7, "y"), 10, 5000).bincount(minlength=10).min() > 400


@given(key=INT64, count=some.integers(1, 20))
def test_draws_equal_the_reference_for_every_key(key, count):
    bits = reference(key % 2**64, count)
    drawn = uniform(torch.tensor(key), count)
    assert drawn.tolist() == [(x >> 40) / 2**24 for x in bits]
    assert ((drawn >= 0) & (drawn < 1)).all()


@given(key=INT64, high=some.integers(1, 2**31 - 1), count=some.integers(1, 20))
def test_integers_equal_the_reference_and_stay_below_their_bound(key, high, count):
    drawn = integers(torch.tensor(key), high, count)
    assert drawn.tolist() == [((x >> 32) * high) >> 32 for x in reference(key % 2**64, count)]
    assert ((drawn >= 0) & (drawn < high)).all()


@given(keys=some.lists(INT64, min_size=1, max_size=5), indices=INDICES)
def test_folding_broadcasts(keys, indices):
    """A table of child keys has in each cell the key of its row folded with its column's index."""
    table = fold(torch.tensor(keys)[:, None], torch.tensor(indices))
    assert table.tolist() == [[fold(torch.tensor(k), i).item() for i in indices] for k in keys]


@given(key=INT64, indices=some.lists(some.integers(0, 2**40), min_size=2, max_size=20, unique=True))
def test_children_of_one_key_all_differ(key, indices):
    """The mixing step is a bijection, so different indices give different keys."""
    children = fold(torch.tensor(key), torch.tensor(indices))
    assert len(set(children.tolist())) == len(indices)


@given(keys=some.lists(INT64, min_size=1, max_size=4), shape=some.lists(some.integers(1, 3)))
def test_a_draw_depends_on_its_key_and_position_alone(keys, shape):
    shape = shape[:3]
    draws = uniform(torch.tensor(keys), *shape)
    assert draws.shape == (len(keys), *shape)
    for key, row in zip(keys, draws, strict=True):
        assert torch.equal(uniform(torch.tensor(key), *shape), row)


@given(key=INT64, highs=some.lists(some.integers(1, 2**31 - 1), min_size=1, max_size=5))
def test_each_key_may_have_a_bound_of_its_own(key, highs):
    keys = fold(torch.tensor(key), torch.arange(len(highs)))
    drawn = integers(keys, torch.tensor(highs), 3)
    assert drawn.tolist() == [
        integers(k, high, 3).tolist() for k, high in zip(keys, highs, strict=True)
    ]


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_root_key_is_a_fold_of_the_seed(name):
    assert root_key(3, name).shape == () and root_key(3, name) != root_key(4, name)
