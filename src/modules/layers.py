"""Layers that hold one set of weights per agent, or one for all: sharing is the size of one axis, and nothing above knows.

Axes: A agents, G sets of weights (A, or 1 when shared), I inputs, J outputs, B any number of rows.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class AgentLinear(nn.Module):
    """One linear layer per agent as one batched product. Agent-major in and out: [A, B, I] -> [A, B, J]."""

    def __init__(self, n_agents: int, n_in: int, n_out: int, shared: bool = False):
        super().__init__()
        bound = 1 / math.sqrt(n_in)  # PyTorch's default for nn.Linear
        groups = 1 if shared else n_agents
        self.weight = nn.Parameter(torch.empty(groups, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "A B I"], frozen: bool = False) -> Float[Tensor, "A B J"]:
        """`frozen` lets gradients through to `x` but not to the weights."""
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        if len(weight) == 1:
            return torch.baddbmm(bias, x.reshape(1, -1, x.shape[-1]), weight).view(*x.shape[:-1], -1)
        return torch.baddbmm(bias, x, weight)


class AgentMLP(nn.Module):
    """MLP(I -> hidden -> ... -> J) per agent, ReLU between the layers: [*b, A, I] -> [*b, A, J]."""

    def __init__(self, n_agents: int, sizes: Sequence[int], shared: bool = False, same_init: bool = False):
        super().__init__()
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers = nn.ModuleList(AgentLinear(n_agents, n_in, n_out, shared) for n_in, n_out in pairs)
        if same_init:
            with torch.no_grad():
                for p in self.parameters():
                    p.copy_(p[:1].clone().expand_as(p))

    def forward(self, x: Float[Tensor, "*b A I"], frozen: bool = False) -> Float[Tensor, "*b A J"]:
        h = x.movedim(-2, 0).reshape(x.shape[-2], -1, x.shape[-1])  # [A, B, I]; a view, for one batch axis
        for k, layer in enumerate(self.layers):
            h = layer(h.relu() if k else h, frozen)
        return h.view(x.shape[-2], *x.shape[:-2], -1).movedim(0, -2)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """One ordinary MLP with ReLU between the layers and a linear output."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
