"""EOI's networks (EOI, sections 3.1 and 3.3): who is this, and what is it worth to be recognised."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modules.layers import AgentMLP, mlp


class Classifier(nn.Module):
    """P_phi(I|O): logits over the agents from one bare observation; one network for all, no agent id in its input."""

    def __init__(self, obs_size: int, hidden: Sequence[int], n_agents: int):
        super().__init__()
        self.net = mlp([obs_size, *hidden, n_agents])

    def forward(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A n"]:
        return self.net(obs)


class IntrinsicValue(nn.Module):
    """Q_i^p(o_i, Q_i^a(o_i)) (eq. 6): the discounted individuality to come, given the action values that will be followed."""

    def __init__(self, n_agents: int, obs_size: int, n_actions: int, hidden: Sequence[int]):
        super().__init__()
        self.net = AgentMLP(n_agents, [obs_size + n_actions, *hidden, 1])

    def forward(self, obs: Float[Tensor, "*b A O"], q: Float[Tensor, "*b A U"], frozen: bool = False) -> Float[Tensor, "*b A"]:
        return self.net(torch.cat([obs, q], -1), frozen).squeeze(-1)
