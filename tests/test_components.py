"""Schedules, and the choice among available actions."""

import pytest
import torch

from eoi.components.action_selection import epsilon_greedy, masked_argmax, random_available
from eoi.components.schedules import linear, trapezoid
from eoi.utils.seeding import named, uniform
from helpers import keys


def number(x: float) -> torch.Tensor:
    return torch.tensor(float(x))


@pytest.mark.parametrize(("t", "value"), [(0, 1.0), (22500, 0.55), (45000, 0.1), (90000, 0.1)])
def test_linear(t, value):
    assert linear(number(1), number(0.1), number(45000), number(t)).item() == pytest.approx(value)


def test_a_linear_schedule_without_duration_has_finished_at_once():
    assert linear(number(1), number(0.1), number(0), number(0)).item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("warmup", "anneal", "t", "value"),
    [
        (0, 0, 0, 1),
        (0, 0, 999, 1),
        (100, 0, 25, 0.25),
        (100, 0, 500, 1),
        (100, 200, 100, 1),
        (100, 200, 200, 0.5),
        (100, 200, 999, 0),
        (0, 10, 5, 0.5),
    ],
)
def test_trapezoid(warmup, anneal, t, value):
    found = trapezoid(number(warmup), number(anneal), number(0), number(t)).item()
    assert found == pytest.approx(value)


@pytest.mark.parametrize(
    ("t", "value"), [(0, 0), (50, 0.5), (100, 1), (200, 0.6), (300, 0.2), (999, 0.2)]
)
def test_a_trapezoid_falls_to_its_floor(t, value):
    found = trapezoid(number(100), number(200), number(0.2), number(t)).item()
    assert found == pytest.approx(value)


def test_unavailable_actions_are_never_chosen():
    torch.manual_seed(0)
    avail = torch.rand(500, 3, 6) < 0.4
    avail[..., 2] |= ~avail.any(-1)
    values, draw = torch.randn(500, 3, 6), torch.rand(500, 3)
    for chosen in (masked_argmax(values, avail), random_available(avail, draw)):
        assert avail.gather(-1, chosen[..., None]).all()


def test_random_available_is_uniform_over_available_actions():
    avail = torch.tensor([True, False, True, True]).expand(30000, 1, 4)
    chosen = random_available(
        avail, torch.rand(30000, 1, generator=torch.Generator().manual_seed(0))
    )
    assert chosen.flatten().bincount(minlength=4).div(30000).tolist() == pytest.approx(
        [1 / 3, 0, 1 / 3, 1 / 3], abs=0.01
    )
    edge = random_available(avail[:1], torch.full((1, 1), 1 - 2.0**-24))
    assert edge.item() == 3


def test_epsilon_is_each_agents_own_coin():
    avail, greedy = (
        torch.ones(20000, 2, 5, dtype=torch.bool),
        torch.zeros(20000, 2, dtype=torch.long),
    )
    flip, choice = uniform(keys(20000), 2, 2).unbind(-1)
    moved = epsilon_greedy(greedy, avail, number(0.5), flip, choice) > 0
    assert moved.float().mean().item() == pytest.approx(0.5 * 0.8, abs=0.01)
    assert moved.all(1).float().mean().item() == pytest.approx(0.16, abs=0.01)


@pytest.mark.parametrize(("epsilon", "equal"), [(0.0, True), (1.0, False)])
def test_epsilon_at_its_ends(epsilon, equal):
    flip, choice = uniform(keys(200), 2, 2).unbind(-1)
    greedy, avail = torch.zeros(200, 2, dtype=torch.long), torch.ones(200, 2, 5, dtype=torch.bool)
    chosen = epsilon_greedy(greedy, avail, number(epsilon), flip, choice)
    assert torch.equal(chosen, greedy) is equal


def test_draws_of_a_copy_depend_on_its_key_alone():
    many, one = uniform(keys(5), 4, 3), uniform(keys(5)[2:3], 4, 3)
    assert torch.equal(many[2:3], one)
    assert not torch.equal(uniform(named(keys(5), "step")), uniform(named(keys(5), "episode")))
