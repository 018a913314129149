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
from eoi.pictures.paper import typical
from eoi.pictures.positions import measure
from eoi.records.reader import is_run
from eoi.records.record import Record
from eoi.reports.replays import fitted
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

    key: str  # tells it from the others on the page
    run: Chosen
    networks: str  # which ones, in words
    colours: list[str]  # of the agents
    distances: dict[str, Float[np.ndarray, "A A"]]
    shares: Float[np.ndarray, "A H W"] | None  # of time; None in a world without positions
    player: str  # a page of one episode
    left_out: str  # of that page, in words; empty: nothing

    @property
    def title(self) -> str:
        record = self.run.record
        return f"{self.run.arm}: run {record.run}, seed {record.seed}, {self.networks}"


def play(run: Chosen, key: str, limit: int) -> Played:
    """Raises UserError where the run has no networks, or its world cannot be played here.

    limit: bytes of the replay's pictures.
    """
    folder = run.record.folder
    apart, colours = _distances(run.record)
    env, learner, settings = load(folder, 1, _MODEL)
    with contextlib.closing(env):
        located = hasattr(env, "position") or hasattr(env, "xy")
        films = shoot(env, learner, _SEED, settings.run.t_max)
    films, left_out = fitted(films, limit)
    return Played(
        key,
        run,
        which_networks(folder, _MODEL),
        colours,
        apart,
        measure(folder, _EPISODES, _SEED, _MODEL).share if located else None,
        page(films, title(settings), _FPS),
        left_out,
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
    """Runs by their folders' names, or by as much of the path as tells them. Raises UserError."""
    return [_named(_every(worlds), name) for name in names]


def _named(every: Sequence[Chosen], name: str) -> Chosen:
    found = [each for each in every if f"/{each.record.folder.resolve()}".endswith(f"/{name}")]
    if not found:
        raise UserError(f"--play {name}: none of these runs; name the folder of one of them")
    if len(found) > 1:
        raise UserError(
            f"--play {name}: {len(found)} runs, {found[0].record.folder} and"
            f" {found[1].record.folder}; write more of the path"
        )
    if not has_networks(found[0].record):
        raise UserError(f"--play {name}: has no networks (models/{_MODEL}.pt)")
    return found[0]


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
            if saved:
                found.append(Chosen(world.number, arm, typical(saved, world.main.metric)))
    return found[:most]


def has_networks(record: Record) -> bool:
    return is_run(record.folder) and (record.folder / "models" / f"{_MODEL}.pt").is_file()
