"""EOI's networks (EOI, sections 3.1 and 3.3): the classifier and the intrinsic value function.

Axes: A agents (also the n classes of the classifier), O observation, U actions, H hidden, D any
number of rows; *b is any batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eoi.modules.layers import AgentLinear, AgentMLP, mlp
from eoi.utils.shapes import Float


class Classifier(nn.Module):
    """P_phi(I|O): logits over the agents from one observation.

    One network for all agents; no agent id in its input.
    """

    def __init__(self, obs_size: int, hidden: Sequence[int], n_agents: int):
        super().__init__()
        self.net = mlp([obs_size, *hidden, n_agents])

    def forward(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A n"]:
        return self.net(obs)


class IntrinsicValue(nn.Module):
    """Q_i^p(o_i, Q_i^a(o_i)) (eq. 6): the discounted individuality to come.

    An MLP over [o, q] for each agent. `encode` computes the part of its first layer that depends on
    the observation, once for any number of q.
    """

    def __init__(self, n_agents: int, obs_size: int, n_actions: int, hidden: Sequence[int]):
        super().__init__()
        self.obs_size = obs_size
        self.first = AgentLinear(n_agents, obs_size + n_actions, hidden[0])
        self.rest = AgentMLP(n_agents, [*hidden, 1])

    def encode(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "A H D"]:
        """First layer's share of the observation, batch last: D = *b."""
        weight = self.first.weight[..., : self.obs_size]
        rows = obs.reshape(-1, *obs.shape[-2:]).permute(1, 2, 0)
        return torch.baddbmm(self.first.bias, weight, rows)

    def forward(
        self,
        encoded: Float[Tensor, "A H D"],
        q: Float[Tensor, "*b A U"],
        frozen: bool = False,
    ) -> Float[Tensor, "*b A"]:
        """`frozen`: gradients reach `q`, but neither the weights nor `encoded`."""
        weight = self.first.weight[..., self.obs_size :]
        encoded, weight = (encoded.detach(), weight.detach()) if frozen else (encoded, weight)
        rows = q.reshape(-1, *q.shape[-2:]).permute(1, 2, 0)
        h = torch.baddbmm(encoded, weight, rows).relu_()
        return self.rest(h.permute(2, 0, 1), frozen).view(*q.shape[:-1])
