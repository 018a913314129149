"""Shared by all tests: tiny settings, and batches made of arithmetic."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from eoi.assembly import Parts, build
from eoi.components.replay_buffer import Batch
from eoi.config import loader
from eoi.envs import configured
from eoi.envs.base import EnvSpec
from eoi.settings import Settings, configure
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key

torch.set_num_threads(1)
os.environ["SC2PATH"] = (
    os.devnull
)  # the tests are the same where the game is installed: those that want one bring it


def worlds() -> list[str]:
    """The environments' files that can be played here, which is without StarCraft II."""
    found = []
    for name in loader.names("envs"):
        config = loader.load("qmix", name, {})
        with contextlib.suppress(UserError):
            configured(config["env"], config["env_args"])
            found.append(name)
    return found


TINY = {
    "seed": 3,
    "hidden_dim": 8,
    "batch_size": 16,
    "batch_size_run": 2,
    "buffer_size": 200,
    "learning_starts": 0,
    "t_max": 120,
    "test_nepisode": 2,
    "test_interval": 60,
    "log_interval": 60,
    "update_interval": 10,
}


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """settings(alg, env, **keys): a tiny checked configuration."""

    def make(algorithm: str, env: str = "pac_men", **updates: Any) -> Settings:
        return configure(loader.load(algorithm, env, loader.merged(TINY, updates)))

    return make


@pytest.fixture
def parts(settings: Callable[..., Settings]) -> Callable[..., Parts]:
    def make(algorithm: str, env: str = "pac_men", **updates: Any) -> Parts:
        return build(settings(algorithm, env, **updates))

    return make


def keys(n: int, name: str = "test", seed: int = 0) -> torch.Tensor:
    return fold(root_key(seed, name), torch.arange(n))


SPEC = EnvSpec(
    n_agents=3,
    n_actions=4,
    obs_size=6,
    state_size=5,
    episode_limit=7,
    fixed_length=False,
    obs_dtype=torch.float32,
    metrics=(),
)


def random_batch(spec: EnvSpec = SPEC, count: int = 5, seed: int = 0, **fields: Any) -> Batch:
    g = torch.Generator().manual_seed(seed)
    agents, actions = spec.n_agents, spec.n_actions

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=g)

    values: Mapping[str, Any] = {
        "obs": normal(agents, spec.obs_size),
        "state": normal(spec.state_size),
        "avail": torch.ones(count, agents, actions, dtype=torch.bool),
        "actions": torch.randint(0, actions, (count, agents), generator=g),
        "reward": normal(),
        "terminated": (torch.rand(count, generator=g) < 0.3).float(),
        "next_obs": normal(agents, spec.obs_size),
        "next_state": normal(spec.state_size),
        "next_avail": torch.ones(count, agents, actions, dtype=torch.bool),
        "positive": normal(agents, spec.obs_size),
        "has_positive": (torch.rand(count, generator=g) < 0.7).float(),
        "q": normal(agents, actions),
    }
    return Batch(**{**values, **fields})


def masked(batch: Batch) -> Batch:
    """About half of the actions are available, that which was taken among them; at the next moment others are."""
    now, then = torch.rand(2, *batch.avail.shape, generator=torch.Generator().manual_seed(4)) < 0.5
    then[..., 1] = True
    return replace(batch, avail=now.scatter(-1, batch.actions[..., None], True), next_avail=then)
