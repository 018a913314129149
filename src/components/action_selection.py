"""Choosing among available actions. Randomness comes in as uniform draws, so that the choice is a function."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi.utils.seeding import fold, uniform


def masked_argmax(values: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Int[Tensor, "*b"]:
    return values.masked_fill(~avail, -torch.inf).argmax(-1)


def random_available(avail: Bool[Tensor, "*b U"], draw: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """The k-th available action, k uniform; `draw` is uniform on [0, 1)."""
    order = avail.cumsum(-1)
    wanted = (draw * order[..., -1]).long() + 1
    return (order >= wanted[..., None]).int().argmax(-1)


def epsilon_greedy(
    greedy: Int[Tensor, "*b"],
    avail: Bool[Tensor, "*b U"],
    epsilon: Float[Tensor, ""],
    flip: Float[Tensor, "*b"],
    draw: Float[Tensor, "*b"],
) -> Int[Tensor, "*b"]:
    """Each agent flips its own coin: with probability epsilon a random available action, else `greedy`."""
    return torch.where(flip < epsilon, random_available(avail, draw), greedy)


def sample(p: Float[Tensor, "*b U"], draw: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """An action from the distribution `p`: the first whose cumulated probability exceeds `draw`, so never one of probability 0."""
    order = p.cumsum(-1)
    return (order > draw[..., None] * order[..., -1:]).int().argmax(-1)


class Draws(NamedTuple):
    """Uniform draws on [0, 1) for one step of acting; each use has its own, so that a choice not made disturbs no other."""

    flip: Float[Tensor, "N A"]  # explore at random?
    choice: Float[Tensor, "N A"]  # which action then; which action of a stochastic policy
    follow: Float[Tensor, "N A"]  # follow something else than the policy at this step?
    episode: Float[Tensor, " N"]  # the same at every step of an episode

    @staticmethod
    def of_episodes(keys: Int[Tensor, " N"], steps: int, n_agents: int) -> "Draws":
        """All draws of whole episodes, with a time axis in front: [T, N, A] and [T, N]."""
        flip, choice, follow = uniform(fold(keys, 0), steps, n_agents, 3).permute(
            3, 1, 0, 2
        )  # [T, N, A] each
        return Draws(flip, choice, follow, uniform(fold(keys, 1)).expand(steps, -1))

    def at(self, step: int) -> "Draws":
        return Draws(*(x[step] for x in self))


class UpdateDraws(NamedTuple):
    """Uniform draws on [0, 1) for one update from the replay; each use has its own."""

    action: Float[Tensor, "B A"]  # what the current policies would do now
    next_action: Float[Tensor, "B A"]  # what the target policies would do next
    swap: Float[Tensor, " B"]  # is this transition relearnt by other agents?
    order: Float[Tensor, "B A"]  # by whom then

    @staticmethod
    def of_updates(keys: Int[Tensor, " K"], count: int, n_agents: int) -> "list[UpdateDraws]":
        """For K updates of `count` transitions; `keys` are those of the transitions' own draw."""
        action, following, order = uniform(fold(keys, 2), count, n_agents, 3).unbind(
            -1
        )  # [K, B, A] each
        return [
            UpdateDraws(*draws)
            for draws in zip(action, following, uniform(fold(keys, 3), count), order, strict=True)
        ]
