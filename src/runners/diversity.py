"""Diversity of the agents, measured on the episodes of a test.

Axes: N copies, T time, A agents, U actions, O observation, E episodes.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from eoi.components.diversity import (
    map_distances,
    neural_diversity,
    occupancy,
    overlap,
    policy_distances,
    probe_accuracy,
)
from eoi.components.episodes import Episodes
from eoi.utils.shapes import Bool, Float, Int

SHARED = 256  # observations on which the agents' policies are compared
PROBED = 1024  # observations that the probe is fitted to, and as many to test it


@runtime_checkable
class Policy(Protocol):
    """Distribution over actions of each agent (see `Learner.policy`)."""

    def __call__(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]: ...


@torch.no_grad()
def diversity(
    policy: Policy, episodes: Episodes, n_cells: int, remembers: bool
) -> dict[str, Tensor]:
    """System neural diversity, probe accuracy, and overlap of position maps.

    `snd`: mean total variation between the agents' policies on observations of all of them. Value
    learners act greedily, so theirs is how often two agents would act differently.
    `probe_accuracy`: how often a fresh classifier tells whose observation it is, on other episodes
    than it is fitted to. `position_overlap`: in worlds with cells.
    """
    if episodes.actions.shape[2] < 2:
        return {}
    found = {"snd": neural_diversity(shared_policies(policy, episodes, remembers))}
    valid = episodes.valid()
    if len(valid) > 1:
        even = (torch.arange(len(valid), device=valid.device) % 2 == 0)[:, None]
        count = PROBED // episodes.actions.shape[2]
        seen, held_out = (
            episodes.obs[:, :-1][spread(valid & half, count)].float() for half in (even, ~even)
        )
        found["probe_accuracy"] = probe_accuracy(seen, held_out)
    if episodes.cells is not None:
        found["position_overlap"] = overlap(
            occupancy(episodes.cells[:, :-1].flatten(0, 1), n_cells)
        )
    return found


@torch.no_grad()
def distances(
    policy: Policy, episodes: Episodes, n_cells: int, remembers: bool
) -> dict[str, Float[Tensor, "A A"]]:
    """How far each two agents are apart, from 0 to 1: their policies and their positions.

    The means over pairs are `snd`, and 1 - `position_overlap`.
    """
    if episodes.actions.shape[2] < 2:
        return {}
    found = {"policies": policy_distances(shared_policies(policy, episodes, remembers))}
    if episodes.cells is not None:
        found["positions"] = map_distances(occupancy(episodes.cells[:, :-1].flatten(0, 1), n_cells))
    return found


def shared_policies(policy: Policy, episodes: Episodes, remembers: bool) -> Float[Tensor, "B A U"]:
    """Policies of all agents on the same observations, which are of all of them."""
    return (_on_histories if remembers else _on_observations)(policy, episodes)


def _on_observations(policy: Policy, episodes: Episodes) -> Float[Tensor, "B A U"]:
    """Policies of all agents on single observations of each of them."""
    n_agents = episodes.actions.shape[2]
    shared = spread(episodes.valid(), max(1, SHARED // n_agents))
    obs, avail = episodes.obs[:, :-1][shared].float(), episodes.avail[:, :-1][shared]
    seen, allowed = (
        x.flatten(0, 1)[:, None].expand(-1, n_agents, -1) for x in (obs, avail)
    )  # [B, A, O], the same row for every agent
    none = torch.full(seen.shape[:-1], -1, device=seen.device)  # as if nothing came before
    return policy(seen, allowed, none)


def _on_histories(policy: Policy, episodes: Episodes) -> Float[Tensor, "B A U"]:
    """Policies of all agents along whole episodes of each of them."""
    n_agents = episodes.actions.shape[2]
    length = max(1, int(episodes.length.float().mean()))
    count = max(1, SHARED // (n_agents * length))
    batch = episodes.at(slice(0, count)).batch()
    assert batch.valid is not None and batch.last_actions is not None

    def everyones(x: Tensor) -> Tensor:
        """[E, T, A, ...] to [E * A, T, A, ...]: agent i's rows, given to every agent."""
        rows = x.transpose(1, 2).flatten(0, 1)[:, :, None]
        return rows.expand(*rows.shape[:2], n_agents, *rows.shape[3:])

    policies = policy(everyones(batch.obs), everyones(batch.avail), everyones(batch.last_actions))
    valid = batch.valid.bool()[:, None].expand(-1, n_agents, -1).flatten(0, 1)
    return policies[valid]


def spread(valid: Bool[Tensor, "N T"], count: int) -> tuple[Tensor, Tensor]:
    """Places of at most `count` valid steps, evenly spread: measuring draws nothing."""
    rows, steps = valid.nonzero(as_tuple=True)
    places = torch.linspace(0, len(rows) - 1, min(count, len(rows)), device=valid.device)
    return rows[places.long()], steps[places.long()]
