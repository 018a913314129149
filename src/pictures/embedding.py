"""Kernel PCA of the agents' observations, coloured by p(i | o_i) (paper, figure 5).

Axes: K observations of each agent, A agents, O observation.
"""

import contextlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eoi.envs.grid import AGENT_COLOURS
from eoi.pictures.learning import legend_above
from eoi.pictures.positions import shade
from eoi.runners.diversity import spread
from eoi.runners.rollout import Rollout
from eoi.saved import load, recogniser
from eoi.utils.errors import UserError
from eoi.utils.places import PIP
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Float

POINTS = 150  # observations of each agent


class Points(NamedTuple):
    """Observations of one run's agents in two dimensions."""

    title: str
    places: Float[np.ndarray, "K A 2"]
    recognised: Float[np.ndarray, "K A"] | None  # p(i | o_i); None without a classifier


def embeddings(
    folders: Sequence[pathlib.Path], names: Sequence[str], episodes: int, seed: int, model: str
) -> Figure:
    """A panel for each run: an observation is a point in its agent's colour.

    The darker the point, the higher is p(i | o_i). Raises UserError.
    """
    every = [
        measure(folder, name, episodes, seed, model)
        for folder, name in zip(folders, names, strict=True)
    ]
    figure = Figure(figsize=(max(3.0 * len(every), 3.6), 3.2), layout="constrained")
    for axes, points in zip(figure.subplots(1, len(every), squeeze=False)[0], every, strict=True):
        _draw(axes, points)
    agents = max(points.places.shape[1] for points in every)
    dots = [
        Line2D([], [], marker="o", linestyle="", color=tuple(_colour(i))) for i in range(agents)
    ]
    legend_above(figure, dots, [f"agent {i}" for i in range(agents)], 0.6)
    figure.supxlabel("kernel PCA;  darker: higher $p(i\\,|\\,o_i)$", fontsize=7, color="0.45")
    return figure


def measure(
    folder: pathlib.Path, name: str, episodes: int, seed: int, model: str = "best"
) -> Points:
    """Plays greedy episodes of a saved run. Raises UserError."""
    env, learner, settings = load(folder, episodes, model)
    with contextlib.closing(env), torch.no_grad():
        keys = fold(root_key(seed, "watch"), torch.arange(env.n_envs))
        now = torch.tensor(float(settings.run.t_max))
        played = Rollout(env, torch.device("cpu")).run(learner, keys, now, greedy=True)
        obs = played.obs[:, :-1][spread(played.valid(), POINTS)].float()  # [K, A, O]
        recognise = recogniser(learner)
        p = recognise(obs).numpy() if recognise else None
    title = f"{name}, seed {settings.run.seed}"
    return Points(title, in_two_dimensions(obs.numpy()), p)


def in_two_dimensions(obs: Float[np.ndarray, "K A O"]) -> Float[np.ndarray, "K A 2"]:
    """Kernel PCA of all agents' observations together, each component standardised."""
    try:
        from sklearn.decomposition import KernelPCA
    except ImportError:
        raise UserError(
            f"kernel PCA: scikit-learn is not installed; `{PIP} scikit-learn`"
        ) from None
    flat = obs.reshape(-1, obs.shape[-1])
    flat = (flat - flat.mean(0)) / (flat.std(0) + 1e-6)
    found = KernelPCA(2, kernel="rbf", random_state=0).fit_transform(flat)
    return np.asarray(found).reshape(*obs.shape[:2], 2)


def _colour(i: int) -> np.ndarray:
    return AGENT_COLOURS[i % len(AGENT_COLOURS)] / 255


def _draw(axes: Axes, points: Points) -> None:
    for i in range(points.places.shape[1]):
        p = (
            np.full(len(points.places), 0.5)
            if points.recognised is None
            else points.recognised[:, i]
        )
        colours = shade(_colour(i), 0.15 + 0.7 * p)
        axes.scatter(*points.places[:, i].T, s=9, c=colours, linewidths=0)
    axes.set_title(points.title)
    axes.set_xticks([])
    axes.set_yticks([])
