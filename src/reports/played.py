"""Saved runs played for a report: which agents are alike, where they go, and one episode to watch.

Axes: A agents, H rows from the top, W columns.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from eoi.pictures.film import agent_colour, shoot
from eoi.pictures.page import page
from eoi.pictures.positions import measure
from eoi.records.reader import is_run
from eoi.records.record import Record
from eoi.records.statistics import final_value
from eoi.reports.worlds import World
from eoi.runners.diversity import distances
from eoi.runners.rollout import Rollout
from eoi.saved import load, title, which_networks
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Float

_EPISODES = 32  # for distances and maps
_SEED = 0  # of the episodes
_FPS = 4
_MODEL = "best"


class Chosen(NamedTuple):
    """A run to be played, with the number of its world and the name of its arm."""

    world: int
    arm: str
    record: Record


@dataclass(frozen=True)
class Played:
    """Greedy episodes of one saved run, with its best networks."""

    run: Chosen
    networks: str  # which ones, in words
    colours: list[str]  # of the agents
    distances: dict[str, Float[np.ndarray, "A A"]]
    shares: Float[np.ndarray, "A H W"] | None  # of time; None in a world without positions
    player: str  # a page of one episode

    @property
    def key(self) -> str:
        return f"{self.run.world}-{self.run.record.run}"

    @property
    def title(self) -> str:
        record = self.run.record
        return f"{self.run.arm}: run {record.run}, seed {record.seed}, {self.networks}"


def play(run: Chosen) -> Played:
    """Raises UserError where the run has no networks, or its world cannot be played here."""
    folder = run.record.folder
    apart, colours = _distances(run.record)
    env, learner, settings = load(folder, 1, _MODEL)
    with contextlib.closing(env):
        located = hasattr(env, "position") or hasattr(env, "xy")
        films = shoot(env, learner, _SEED, settings.run.t_max)
    return Played(
        run,
        which_networks(folder, _MODEL),
        colours,
        apart,
        measure(folder, _EPISODES, _SEED, _MODEL).share if located else None,
        page(films, title(settings), _FPS),
    )


def _distances(record: Record) -> tuple[dict[str, Float[np.ndarray, "A A"]], list[str]]:
    """Distances between the agents, and the agents' colours."""
    env, learner, settings = load(record.folder, _EPISODES, _MODEL)
    with contextlib.closing(env):
        keys = fold(root_key(_SEED, "watch"), torch.arange(env.n_envs))
        rollout = Rollout(env, torch.device("cpu"), with_cells=True)
        t = torch.tensor(float(settings.run.t_max))
        episodes = rollout.run(learner, keys, t, greedy=True)
        remembers = learner.controller.remembers
        found = distances(learner.policy, episodes, env.spec.n_cells, remembers)
        colours = [agent_colour(i) for i in range(env.spec.n_agents)]
    return (
        {name: each.numpy() for name, each in found.items()},
        ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours],
    )


def named_runs(worlds: Sequence[World], names: Sequence[str]) -> list[Chosen]:
    """The runs of these names, as the table of runs has them. Raises UserError."""
    every = {each.record.run: each for each in _every(worlds)}
    for name in names:
        if name not in every:
            raise UserError(f"--play {name}: there is no such run; name a folder, as 3")
        if not has_networks(every[name].record):
            raise UserError(f"--play {name}: has no networks (models/{_MODEL}.pt)")
    return [every[name] for name in names]


def _every(worlds: Sequence[World]) -> list[Chosen]:
    return [
        Chosen(world.number, arm, record)
        for world in worlds
        for arm, records in world.groups.items()
        for record in records
    ]


def median_runs(worlds: Sequence[World], most: int) -> list[Chosen]:
    """For each arm the saved run in the middle by its final value; at most so many runs."""
    found = []
    for world in worlds:
        for arm, records in world.main.groups.items():
            saved = [record for record in records if has_networks(record)]
            saved.sort(key=lambda r: final_value(r.metrics[world.main.metric].values))
            found += [Chosen(world.number, arm, run) for run in saved[len(saved) // 2 :][:1]]
    return found[:most]


def has_networks(record: Record) -> bool:
    return is_run(record.folder) and (record.folder / "models" / f"{_MODEL}.pt").is_file()
