"""Choice among available actions. Random numbers come in as uniform draws: a choice is a function.

Axes: N copies, A agents, U actions; *b is any batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from eoi.utils.shapes import Bool, Float, Int

Carry = dict[str, Tensor]  # [N, A, ...]; an agent's memory from one step to the next


class Keys(NamedTuple):
    """Randomness of one step of acting (see utils/seeding.py)."""

    draws: Float[Tensor, "N A 2"]  # uniform on [0, 1), for the learner's own choice of actions
    step: Int[Tensor, " N"]  # another one at every step
    episode: Int[Tensor, " N"]  # the same at every step of an episode


class Choice(NamedTuple):
    """Result of acting."""

    actions: Int[Tensor, "N A"]
    carry: Carry  # for the next step
    keep: dict[str, Tensor]  # [N, ...]; tensors that the replay can store


def masked_argmax(values: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Int[Tensor, "*b"]:
    """Best available action."""
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
    """A random available action with probability epsilon, agent by agent, else `greedy`."""
    return torch.where(flip < epsilon, random_available(avail, draw), greedy)


def sample(p: Float[Tensor, "*b U"], draw: Float[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """An action drawn from `p`: the first with a cumulated probability above `draw`.

    An action of probability 0 is never drawn.
    """
    order = p.cumsum(-1)
    return (order > draw[..., None] * order[..., -1:]).int().argmax(-1)
