"""Distributions of the agents' actions before any training (paper, figure 7).

Axes: A agents, U actions.
"""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eoi.build import make_env, make_learner
from eoi.envs.grid import AGENT_COLOURS
from eoi.pictures.film import action_name
from eoi.pictures.learning import legend_above
from eoi.records.record import Record
from eoi.runners.diversity import shared_policies
from eoi.runners.rollout import Rollout
from eoi.saved import again
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Float


class Choices(NamedTuple):
    """How often each agent of an untrained team would choose each action."""

    title: str
    actions: list[str]
    share: Float[np.ndarray, "A U"]  # of the observations


def initial_choices(runs: Mapping[str, Record], episodes: int) -> Figure:
    """A panel for each run, under its name: bars for each action, one for each agent.

    The runs need no saved networks. Raises UserError.
    """
    every = [measure(record, name, episodes) for name, record in runs.items()]
    figure = Figure(figsize=(3.4 * len(every) + 0.5, 2.6), layout="constrained")
    axes = figure.subplots(1, len(every), squeeze=False, sharey=True)[0]
    for one, choices in zip(axes, every, strict=True):
        _draw(one, choices)
    axes[0].set_ylabel("Share of the observations")
    bars, labels = axes[0].get_legend_handles_labels()
    legend_above(figure, bars, labels, 0.7)
    return figure


def measure(record: Record, name: str, episodes: int) -> Choices:
    """Rebuilds the run's networks as they were before training, and lets them explore.

    All agents choose on the same observations, which are of all of them.
    """
    settings = again(record.config, record.folder, use_cuda=False, evaluate=False)
    env = make_env(settings, episodes)
    with contextlib.closing(env), torch.no_grad():
        learner = make_learner(settings, env.spec)
        keys = fold(root_key(settings.run.seed, "train"), torch.arange(env.n_envs))
        played = Rollout(env, torch.device("cpu")).run(learner, keys, torch.tensor(0.0))
        policies = shared_policies(learner.policy, played, learner.controller.remembers)
        names = [action_name(env, u) for u in range(env.spec.n_actions)]
    return Choices(f"{name}, seed {settings.run.seed}", names, policies.mean(0).numpy())


def _draw(axes: Axes, choices: Choices) -> None:
    agents, actions = choices.share.shape
    width = 0.8 / agents
    for i, share in enumerate(choices.share):
        at = np.arange(actions) + (i - (agents - 1) / 2) * width
        colour = AGENT_COLOURS[i % len(AGENT_COLOURS)] / 255
        axes.bar(at, share, width, color=colour, label=f"agent {i}")
    turned = 0 if actions <= 6 else 60
    axes.set_xticks(range(actions), choices.actions, rotation=turned)
    axes.set_ylim(0, 1)
    axes.set_title(choices.title)
