"""EOI's networks (EOI, sections 3.1 and 3.3): who is this, and what is it worth to be recognised."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eoi.modules.layers import AgentLinear, AgentMLP, mlp


class Classifier(nn.Module):
    """P_phi(I|O): logits over the agents from one bare observation; one network for all, no agent id in its input."""

    def __init__(self, obs_size: int, hidden: Sequence[int], n_agents: int):
        super().__init__()
        self.net = mlp([obs_size, *hidden, n_agents])

    def forward(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A n"]:
        return self.net(obs)


class IntrinsicValue(nn.Module):
    """Q_i^p(o_i, Q_i^a(o_i)) (eq. 6): the discounted individuality to come, given the action values that will be followed.

    An MLP over [o, q] per agent. What its first layer makes of the observation is computed once, by `encode`, for any number of q.
    """

    def __init__(self, n_agents: int, obs_size: int, n_actions: int, hidden: Sequence[int]):
        super().__init__()
        self.obs_size = obs_size
        self.first = AgentLinear(n_agents, obs_size + n_actions, hidden[0])
        self.rest = AgentMLP(n_agents, [*hidden, 1])

    def encode(self, obs: Float[Tensor, "B A O"]) -> Float[Tensor, "A H B"]:
        return torch.baddbmm(
            self.first.bias, self.first.weight[..., : self.obs_size], obs.permute(1, 2, 0)
        )

    def forward(
        self, encoded: Float[Tensor, "A H B"], q: Float[Tensor, "B A U"], frozen: bool = False
    ) -> Float[Tensor, "B A"]:
        """`frozen` lets gradients through to `q` but not to the weights, nor to what was encoded."""
        weight = self.first.weight[..., self.obs_size :]
        encoded, weight = (encoded.detach(), weight.detach()) if frozen else (encoded, weight)
        h = torch.baddbmm(encoded, weight, q.permute(1, 2, 0)).relu_()
        return self.rest(h.permute(2, 0, 1), frozen).squeeze(-1)
