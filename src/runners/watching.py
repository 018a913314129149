"""Measures how different the agents are, from the episodes of a test. Axes: N copies, T time, A agents, U actions, O observation."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi.components.action_selection import Draws
from eoi.components.diversity import neural_diversity, occupancy, overlap, probe_accuracy
from eoi.components.episodes import Episodes
from eoi.envs.base import VecEnv
from eoi.runners.rollout import Policy

SHARED, PROBED = (
    256,
    1024,
)  # observations judged by all agents; observations the probe is fitted to, and as many to test it


@runtime_checkable
class Agents(Protocol):
    """The distribution each agent acts by."""

    def __call__(
        self, obs: Float[Tensor, "*b A O"], avail: Bool[Tensor, "*b A U"]
    ) -> Float[Tensor, "*b A U"]: ...


class Watched:
    """A policy, and where the agents stood whenever it was asked; not in worlds without cells."""

    def __init__(self, policy: Policy, env: VecEnv):
        self.policy, self.env, self.positions = policy, env, []

    def __call__(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        draws: Draws,
        t: Tensor,
        greedy: bool,
    ) -> tuple[Int[Tensor, "N A"], Float[Tensor, "N A U"]]:
        if self.env.spec.n_cells:
            self.positions.append(self.env.position.clone())  # pyright: ignore[reportAttributeAccessIssue] # worlds with cells have it
        return self.policy(obs, avail, draws, t, greedy)

    def overlap(self, copies: slice = slice(None)) -> dict[str, Tensor]:
        """Nothing where positions are no cells."""
        if not self.positions:
            return {}
        return {
            "position_overlap": overlap(
                occupancy(torch.cat([p[copies] for p in self.positions]), self.env.spec.n_cells)
            )
        }


@torch.no_grad()
def diversity(agents: Agents, episodes: Episodes) -> dict[str, Tensor]:
    """`snd`: the agents' policies on observations of all of them; `probe_accuracy`: are they told apart by what they see?

    Value learners act by a greedy policy, so `snd` is how often two of them would choose differently; for the others it is a distance
    of the distributions they draw from. The probe is tested on other episodes than it is fitted to.
    """
    limit, n_agents = episodes.actions.shape[1:]
    if n_agents < 2:
        return {}
    lived = torch.arange(limit, device=episodes.obs.device) < episodes.length[:, None]  # [N, T]
    obs, avail = episodes.obs[:, :-1], episodes.avail[:, :-1]
    shared = _spread(lived, SHARED // n_agents)
    everyone = (-1, n_agents, -1)
    policies = agents(
        obs[shared].float().flatten(0, 1)[:, None].expand(*everyone),
        avail[shared].flatten(0, 1)[:, None].expand(*everyone),
    )
    found = {"snd": neural_diversity(policies)}
    if len(lived) > 1:
        even = (torch.arange(len(lived), device=lived.device) % 2 == 0)[:, None]
        seen, held_out = (
            obs[_spread(lived & half, PROBED // n_agents)].float() for half in (even, ~even)
        )
        found["probe_accuracy"] = probe_accuracy(seen, held_out)
    return found


def _spread(lived: Bool[Tensor, "N T"], count: int) -> tuple[Tensor, Tensor]:
    """The places of at most `count` of the moments lived, evenly spread: no randomness is spent on measuring."""
    rows, steps = lived.nonzero(as_tuple=True)
    chosen = torch.linspace(0, len(rows) - 1, min(count, len(rows)), device=lived.device).long()
    return rows[chosen], steps[chosen]
