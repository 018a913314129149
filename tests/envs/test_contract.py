"""Tests of every environment of the registry, including any new one."""

import numpy as np
import pytest
import torch

from eoi.envs import REGISTRY
from eoi.envs.base import VecEnv
from helpers import keys

N = 4


def make(name: str, n: int = N):
    return REGISTRY[name](REGISTRY[name].Config(), n, "cpu")


def some_action(avail: torch.Tensor, seed: int) -> torch.Tensor:
    """A random available action per agent, the same for a copy whatever stands beside it."""
    scores = torch.rand(avail.shape[1:], generator=torch.Generator().manual_seed(seed))
    return torch.where(avail, scores, -1.0).argmax(-1)


def play(env, episode_keys):
    moment, moments, seed = env.reset(episode_keys), [], 0
    moments.append(moment)
    while not moment.done.all():
        moment = env.step(some_action(moment.avail, seed))
        moments.append(moment)
        seed += 1
    return moments


@pytest.fixture(params=sorted(REGISTRY))
def name(request):
    return request.param


def test_it_is_a_vec_env(name):
    assert isinstance(make(name), VecEnv)


def test_shapes_types_and_ranges(name):
    env = make(name)
    spec, moments = env.spec, play(env, keys(N))
    for moment in moments:
        assert (
            moment.obs.shape == (N, spec.n_agents, spec.obs_size)
            and moment.obs.dtype == spec.obs_dtype
        )
        assert moment.state.shape == (N, spec.state_size) and moment.state.dtype == torch.float32
        assert (
            moment.avail.shape == (N, spec.n_agents, spec.n_actions) and moment.avail.any(-1).all()
        )
        assert moment.reward.shape == (N,) and not (moment.terminated & moment.truncated).any()
        assert torch.isfinite(moment.obs.float()).all() and torch.isfinite(moment.state).all()
    assert len(moments) - 1 <= spec.episode_limit
    assert all(moments[-1].info[metric].shape[0] == N for metric in spec.metrics)
    if spec.fixed_length:
        assert len(moments) - 1 == spec.episode_limit and not any(
            m.done.any() for m in moments[:-1]
        )


def same(a, b, copy_a: int, copy_b: int) -> bool:
    fields = ("obs", "state", "avail", "reward", "terminated", "truncated")
    return all(torch.equal(getattr(a, f)[copy_a], getattr(b, f)[copy_b]) for f in fields)


def test_an_episode_is_a_function_of_its_key_and_its_actions(name):
    first, second, alone = (
        play(make(name), keys(N)),
        play(make(name), keys(N)),
        play(make(name, 1), keys(N)[2:3]),
    )
    assert all(same(a, b, k, k) for a, b in zip(first, second, strict=True) for k in range(N))
    assert all(same(a, b, 2, 0) for a, b in zip(first, alone, strict=False))
    other = play(make(name), keys(N, seed=1))
    assert any(not torch.equal(a.state, b.state) for a, b in zip(first, other, strict=False))


def test_copies_differ(name):
    moments = play(make(name, 8), keys(8))
    assert (
        len(
            {
                tuple(value for moment in moments for value in moment.state[k].tolist())
                for k in range(8)
            }
        )
        > 1
    )


def test_a_reset_forgets_the_last_episode(name):
    env, fresh = make(name), play(make(name), keys(N))
    play(env, keys(N, seed=5))
    again = play(env, keys(N))
    assert all(same(a, b, k, k) for a, b in zip(fresh, again, strict=True) for k in range(N))
    said, said_again = fresh[-1].info, again[-1].info
    assert said.keys() == said_again.keys() and all(
        torch.equal(value, said_again[key]) for key, value in said.items()
    )


def test_finished_copies_are_frozen(name):
    env = make(name)
    last = play(env, keys(N))[-1]
    again = env.step(some_action(last.avail, 0))
    assert torch.equal(again.obs, last.obs) and torch.equal(again.state, last.state)
    assert again.done.all() and again.reward.abs().sum() == 0


def test_pictures(name):
    env = make(name)
    env.reset(keys(N))
    image = env.render(1)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.std() > 0
    assert len(env.text(1).split("\n")) > 3
    env.close()
