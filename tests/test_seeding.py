import torch

from eoi.utils.seeding import fold, integers, root_key, uniform


def reference(state: int, count: int) -> list[int]:
    """SplitMix64 in Python's own integers."""
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
