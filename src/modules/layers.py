"""Layers that hold one set of weights per agent, or one for all.

Sharing is the size of one axis inside a layer; nothing above depends on it.

Axes: A agents, G sets of weights (A, or 1 when shared), I inputs, J outputs, B and R any number of
rows; *b is any batch.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from eoi.utils.shapes import Float


class AgentLinear(nn.Module):
    """One linear layer per agent as one batched product, batch last: [A, I, B] -> [A, J, B].

    The smaller of batch and outputs makes the rows of the product: on a CPU, a layer of few outputs
    (action values) is four times cheaper with the batch last than with the batch first.
    """

    def __init__(self, n_agents: int, n_in: int, n_out: int, shared: bool = False):
        super().__init__()
        bound = 1 / math.sqrt(n_in)  # PyTorch's default for nn.Linear
        groups = 1 if shared else n_agents
        self.weight = nn.Parameter(
            torch.empty(groups, n_out, n_in).uniform_(-bound, bound)
        )  # [G, J, I]
        self.bias = nn.Parameter(torch.empty(groups, n_out, 1).uniform_(-bound, bound))  # [G, J, 1]

    def forward(self, x: Float[Tensor, "A I B"], frozen: bool = False) -> Float[Tensor, "A J B"]:
        """`frozen`: gradients reach `x`, but not the weights."""
        weight, bias = (
            (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        )
        weight = weight.expand(x.shape[0], -1, -1)
        if x.shape[-1] < weight.shape[1]:  # as in acting
            return torch.baddbmm(bias.mT, x.mT, weight.mT).mT
        return torch.baddbmm(bias, weight, x)


def grouped(x: Float[Tensor, "*b A I"], groups: int) -> Float[Tensor, "G I R"]:
    """One set of weights a group, batch last: R = B, or B * A where weights are shared."""
    return x.reshape(-1, groups, x.shape[-1]).permute(1, 2, 0)


def apart(x: Float[Tensor, "G J R"], n_agents: int) -> Float[Tensor, "B A J"]:
    """Inverse of `grouped`, with one batch axis."""
    return x.permute(2, 0, 1).reshape(-1, n_agents, x.shape[1])


@torch.no_grad()
def start_alike(net: nn.Module) -> None:
    """Gives all agents the first one's weights."""
    for p in net.parameters():
        p.copy_(p[:1].clone().expand_as(p))


class AgentMLP(nn.Module):
    """MLP(I -> hidden -> ... -> J) per agent, ReLU between the layers: [*b, A, I] -> [*b, A, J]."""

    def __init__(
        self, n_agents: int, sizes: Sequence[int], shared: bool = False, same_init: bool = False
    ):
        super().__init__()
        layers = [AgentLinear(n_agents, n_in, n_out, shared) for n_in, n_out in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        if same_init:
            start_alike(self)

    def forward(self, x: Float[Tensor, "*b A I"], frozen: bool = False) -> Float[Tensor, "*b A J"]:
        h = x.reshape(-1, *x.shape[-2:]).permute(1, 2, 0)  # [A, I, B]; a view, for one batch axis
        for k, layer in enumerate(self.layers):
            h = layer(h.relu_() if k else h, frozen)
        return h.permute(2, 0, 1).reshape(*x.shape[:-1], -1)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """One ordinary MLP with ReLU between the layers and a linear output."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
