"""Shared by the tests: tiny settings, batches made of arithmetic, and runs without records."""

import contextlib
import pathlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from eoi.build import make_worlds
from eoi.components.action_selection import Keys
from eoi.components.batch import Batch
from eoi.config import loader
from eoi.envs import configured
from eoi.envs.base import EnvSpec
from eoi.learners import Learner
from eoi.learners.base import Context, Extra
from eoi.modules import agents
from eoi.run import Run, Trainer
from eoi.settings import Settings, configure
from eoi.utils.errors import UserError
from eoi.utils.logging import RunLog
from eoi.utils.seeding import fold, root_key, uniform

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
    "edti": {"buckets": 2**14},
}


# Settings of a learner with which a short run comes to all that it does.
SHORT: dict[str, dict[str, Any]] = {
    "hc": {"skill_episodes": 2, "rollout_episodes": 2},
    "hsd": {"batch_size": 2, "decoder_batch": 24},
}


def tiny(algorithm: str, env: str = "pac_men", **updates: Any) -> Settings:
    """A tiny checked configuration."""
    config = loader.load(algorithm, env, loader.merged(TINY, updates))
    remembers = agents.REGISTRY[config["agent"]].remembers
    short = {"batch_size": 2} if remembers else SHORT.get(config["learner"], {})  # episodes
    return configure(config | {key: x for key, x in short.items() if key not in updates})


def worlds() -> list[str]:
    """Environments' files that can be played here, which is without StarCraft II.

    Those with a map of their own are left out: their code is that of the generated map.
    """
    found = []
    for name in loader.names("envs"):
        config = loader.load("qmix", name, {})
        with contextlib.suppress(UserError):
            world = configured(config["env"], config["env_args"])
            if not getattr(world, "layout", ""):
                found.append(name)
    return found


Metric = tuple[str, float, int]  # name, value, step


def make_trainer(
    *every: Settings, folder: pathlib.Path | None = None, logged: list[Metric] | None = None
) -> Trainer:
    """A trainer of runs without Sacred; all but the folder of a fleet's runs as in a real one."""
    made = make_worlds(every[0], len(every))
    seen = [] if logged is None else logged
    runs = [
        Run(
            settings,
            made,
            RunLog(lambda *metric: seen.append(metric), "test", settings.run.t_max),
            folder if len(every) == 1 or folder is None else folder / str(place),
            runs=0 if place else len(every),
        )
        for place, settings in enumerate(every)
    ]
    return Trainer(runs, made, "fleet")


def make_run(settings: Settings, folder: pathlib.Path | None = None) -> Run:
    """The run of a trainer of one."""
    return make_trainer(settings, folder=folder).runs[0]


def make_learner_of(algorithm: str, env: str = "pac_men", **updates: Any) -> Learner:
    return make_run(tiny(algorithm, env, **updates)).learner


def trained(settings: Settings, folder: pathlib.Path | None = None) -> tuple[Trainer, list[Metric]]:
    """A whole run, and everything that it logged."""
    logged: list[Metric] = []
    trainer = make_trainer(settings, folder=folder, logged=logged)
    trainer.train()
    return trainer, logged


def keys(n: int, name: str = "test", seed: int = 0) -> torch.Tensor:
    return fold(root_key(seed, name), torch.arange(n))


def step_keys(n: int, n_agents: int) -> Keys:
    """Randomness of one step of N copies."""
    step = keys(n, "step")
    return Keys(uniform(step, n_agents, 2), step, keys(n, "episode"))


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


CONTROLLER = {
    "agent": "mlp",
    "hidden_dim": 8,
    "share_params": False,
    "obs_agent_id": False,
    "obs_last_action": False,
    "same_init": False,
}


def context(spec: EnvSpec = SPEC, hidden: int = 8, gamma: float = 0.98, **others: Extra) -> Context:
    """Facts for an extra; `others` are extras made before, by their section."""
    return Context(spec, (hidden, hidden), gamma, others)


class Bonus(Extra[object]):
    """Adds given rewards [B, A] to the agents'."""

    def __init__(self, rewards: torch.Tensor):
        super().__init__()
        self.given = rewards

    def rewards(self, batch: Batch, t: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"bonus": self.given}


def random_batch(spec: EnvSpec = SPEC, count: int = 5, seed: int = 0, **fields: Any) -> Batch:
    """Transitions with all optional fields."""
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
        "earlier": normal(agents, spec.obs_size),
        "last_obs": normal(agents, spec.obs_size),
        "has_earlier": (torch.rand(count, generator=g) < 0.7).float(),
        "kept": {"q": normal(agents, actions)},
        "key": root_key(seed, "batch"),
    }
    return Batch(**{**values, **fields})


def masked(batch: Batch) -> Batch:
    """About half of the actions are available, the taken one among them."""
    generator = torch.Generator().manual_seed(4)
    now, then = torch.rand(2, *batch.avail.shape, generator=generator) < 0.5
    then[..., 1] = True
    return replace(batch, avail=now.scatter(-1, batch.actions[..., None], True), next_avail=then)
