"""How different agents are, against numbers worked out by hand."""

import dataclasses
import math

import pytest
import torch

from eoi.components.diversity import (
    map_distances,
    neural_diversity,
    occupancy,
    overlap,
    policy_distances,
    probe_accuracy,
)
from eoi.components.episodes import Episodes
from eoi.runners.diversity import distances, diversity
from helpers import SPEC


def test_neural_diversity_by_hand():
    """Total variation of (1, 0), (.5, .5) and (0, 1): .5, 1 and .5, on average 2/3."""
    policies = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]])
    assert neural_diversity(policies).item() == pytest.approx(2 / 3)
    alike = torch.tensor([[[0.3, 0.7], [0.3, 0.7], [0.3, 0.7]]])
    assert neural_diversity(torch.cat([policies, alike])).item() == pytest.approx(1 / 3)


def test_distances_of_each_two_agents():
    """The same three policies; the means over pairs are the diversity and 1 - overlap."""
    policies = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]])
    half = [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
    assert policy_distances(policies).tolist() == half
    apart = map_distances(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert apart.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert overlap(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).item() == pytest.approx(
        1 - map_distances(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))[0, 1].item()
    )


def test_greedy_policies_differ_as_often_as_they_disagree():
    first, second = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 0])
    policies = torch.stack([torch.nn.functional.one_hot(x, 3).float() for x in (first, second)], 1)
    assert neural_diversity(policies).item() == 0.5


def test_occupancy_counts():
    cells = torch.tensor([[0, 2], [0, 1], [1, 2], [0, 2]])
    assert occupancy(cells, 3).tolist() == [[0.75, 0.25, 0.0], [0.0, 0.25, 0.75]]


def test_overlap_by_hand():
    """(1, 0) and (.5, .5): JSD = H(.75, .25) - H(.5, .5) / 2 = 0.311278 bits."""
    assert overlap(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).item() == pytest.approx(
        1 - 0.311278, abs=1e-5
    )
    assert overlap(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == pytest.approx(0, abs=1e-6)
    assert overlap(torch.tensor([[0.2, 0.8], [0.2, 0.8]])).item() == pytest.approx(1, abs=1e-6)
    three = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert overlap(three).item() == pytest.approx(1 / 3, abs=1e-6)


def test_the_probe_tells_different_agents_apart():
    torch.manual_seed(0)
    noise, centres = torch.randn(2, 300, 4, 10), 3 * torch.randn(4, 10)
    seen, held_out = noise + centres
    assert probe_accuracy(seen, held_out).item() > 0.95
    assert probe_accuracy(noise[0], noise[1]).item() == pytest.approx(0.25, abs=0.06)


def test_the_probe_is_not_bound_to_lines():
    """Two agents on the two diagonals of a square: no line parts them."""
    torch.manual_seed(0)
    side = torch.randint(0, 2, (400, 1)) * 2.0 - 1
    obs = torch.stack(
        [torch.cat([side, side], 1), torch.cat([side, -side], 1)], 1
    ) + 0.1 * torch.randn(400, 2, 2)
    assert probe_accuracy(obs[:200], obs[200:]).item() > 0.95


def test_the_probe_disturbs_no_randomness():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    probe_accuracy(torch.ones(4, 2, 3), torch.ones(4, 2, 3))
    assert torch.equal(torch.rand(1), expected)
    assert math.isfinite(probe_accuracy(torch.ones(4, 2, 3), torch.ones(4, 2, 3)).item())


# Measures of a test's episodes


def episodes(obs: torch.Tensor, length: list[int]) -> Episodes:
    """Episodes with these observations [N, T + 1, A, O] and nothing else."""
    n, moments, agents, size = obs.shape
    spec = dataclasses.replace(SPEC, n_agents=agents, obs_size=size, episode_limit=moments - 1)
    empty = Episodes.allocate(spec, n, torch.device("cpu"))
    return dataclasses.replace(
        empty, obs=obs, avail=torch.ones_like(empty.avail), length=torch.tensor(length)
    )


def test_agents_with_one_policy_do_not_differ():
    """Policies are compared on the same observations and masks, padding left out."""
    g = torch.Generator().manual_seed(0)
    played = episodes(torch.randn(4, 8, 3, 6, generator=g), [7, 2, 5, 7])
    played.avail[:] = torch.rand(played.avail.shape, generator=g) < 0.5
    played.avail[..., 0] = True
    for copy, length in enumerate(played.length.tolist()):
        played.obs[copy, length:] = math.nan
    taste = torch.randn(6, 4, generator=g)

    def alike(obs, avail, last_actions=None) -> torch.Tensor:
        return (obs @ taste).masked_fill(~avail, -torch.inf).softmax(-1)

    assert diversity(alike, played, 0, False)["snd"].item() == 0

    def own(obs, avail, last_actions=None) -> torch.Tensor:
        return torch.eye(4)[:3].expand(*obs.shape[:-1], 4)

    assert diversity(own, played, 0, False)["snd"].item() == 1
    assert (distances(own, played, 0, False)["policies"] == 1 - torch.eye(3)).all()


def test_policies_of_many_agents_are_compared_on_one_observation():
    played = episodes(torch.randn(1, 2, 300, 2), [1])

    def even(obs, avail, last_actions=None) -> torch.Tensor:
        return avail.float() / 4

    assert diversity(even, played, 0, False)["snd"].item() == 0


@pytest.mark.parametrize(("shift", "accuracy"), [(0, 1.0), (1, 0.0)])
def test_the_probe_is_fitted_to_some_episodes_and_tested_on_the_others(shift, accuracy):
    """An observation names its agent; in every other episode the names are moved by `shift`.

    Those episodes last longer: a probe fitted to all of them would know the moved names.
    """
    names = torch.eye(4).expand(6, 13, -1, -1).clone()
    names[1::2] = names[1::2].roll(shift, 2)
    played = episodes(names, [4, 12] * 3)
    found = diversity(lambda obs, avail, last=None: avail.float() / 4, played, 0, False)
    assert found["probe_accuracy"].item() == pytest.approx(accuracy, abs=0.02)


def test_measures_without_data_are_left_out():
    def even(obs, avail, last_actions=None) -> torch.Tensor:
        return avail.float() / 4

    alone = episodes(torch.zeros(4, 3, 1, 2), [2] * 4)
    assert diversity(even, alone, 0, False) == distances(even, alone, 0, False) == {}
    one = episodes(torch.zeros(1, 3, 2, 2), [2])
    assert diversity(even, one, 0, False).keys() == {"snd"}
