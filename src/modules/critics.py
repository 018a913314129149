"""Critics: MAAC's with attention (Iqbal and Sha 2019, section 3.2), state values, twin values.

Axes: B batch, A agents, O observation, U actions, S state, M attention heads, H hidden, D = H / M,
I inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.modules.layers import AgentLinear, AgentMLP, mlp
from eoi.utils.shapes import Float


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    attend_heads: int = setting(1)  # M, a divisor of hidden_dim


class AttentionCritic(nn.Module):
    """Q_i(o, (., a_-i)): values of agent i's actions, given the others' observations and actions.

    Every agent has its own encoders and its own head; the attention over the others is shared
    (eq. 5 and 6). Agent i's values never depend on its own action, so they serve as a
    counterfactual baseline too.
    """

    itself: Tensor

    def __init__(self, spec: EnvSpec, cfg: AttentionConfig, hidden: Sequence[int]):
        super().__init__()
        agents, size, self.heads = spec.n_agents, hidden[0], cfg.attend_heads
        self.see = AgentLinear(agents, spec.obs_size, size)
        self.see_and_do = AgentLinear(agents, spec.obs_size + spec.n_actions, size)
        self.selector = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size)
        self.first = AgentLinear(agents, 2 * size, size)
        self.last = AgentLinear(agents, size, spec.n_actions)
        self.register_buffer(
            "itself", torch.eye(agents, dtype=torch.bool)[:, :, None], persistent=False
        )

    def forward(
        self, obs: Float[Tensor, "B A O"], actions: Float[Tensor, "B A U"]
    ) -> tuple[Float[Tensor, "B A U"], Float[Tensor, ""]]:
        """Values, and the size of the attention's logits.

        The size is the mean square over batch and others, summed over agents and heads.
        """
        obs, actions = obs.permute(1, 2, 0), actions.permute(1, 2, 0)  # batch last, see AgentLinear
        seen = leaky_relu(self.see(obs))  # [A, H, B]
        others = leaky_relu(self.see_and_do(torch.cat([obs, actions], 1)))  # [A, H, B]
        logits = self._logits(seen, others)  # [A, A, M, B]
        weights = self.weights(logits)
        value = leaky_relu(self._shared(self.value, others)).unflatten(
            1, (self.heads, -1)
        )  # [A, M, D, B]
        attended = (weights[..., None, :] * value).sum(1).flatten(1, 2)  # [A, H, B]
        q = self.last(leaky_relu(self.first(torch.cat([seen, attended], 1))))
        n_agents = len(logits)
        size = logits.masked_fill(self.itself[..., None], 0).square().sum() / (
            max(n_agents - 1, 1) * logits.shape[-1]
        )
        return q.permute(2, 0, 1), size

    def weights(self, logits: Float[Tensor, "A A M B"]) -> Float[Tensor, "A A M B"]:
        """Softmax over the others, axis 1; an agent does not attend to itself.

        0 for an agent without others.
        """
        if len(logits) == 1:
            return torch.zeros_like(logits)
        scale = (self.key.weight.shape[0] // self.heads) ** -0.5
        return (logits * scale).masked_fill(self.itself[..., None], -torch.inf).softmax(1)

    def _logits(
        self, seen: Float[Tensor, "A H B"], others: Float[Tensor, "A H B"]
    ) -> Float[Tensor, "A A M B"]:
        """Product of agent i's selector (axis 0) and agent j's key (axis 1), unscaled."""
        select, key = (
            self._shared(layer, x).unflatten(1, (self.heads, -1))
            for layer, x in ((self.selector, seen), (self.key, others))
        )
        return (select[:, None] * key[None]).sum(3)

    @staticmethod
    def _shared(layer: nn.Linear, x: Float[Tensor, "A H B"]) -> Float[Tensor, "A J B"]:
        """One layer for all agents, batch last."""
        out = layer.weight.expand(x.shape[0], -1, -1) @ x
        return out if layer.bias is None else out + layer.bias[:, None]


@dataclass(frozen=True, kw_only=True)
class ValueConfig:
    critic_input: Literal["obs", "state", "both"]


class StateValue(nn.Module):
    """V_i, a network for each agent.

    Its input is the agent's observation (independent PPO), the state, or both (MAPPO, Yu et al.
    2022, section 5.2).
    """

    def __init__(self, spec: EnvSpec, cfg: ValueConfig, hidden: Sequence[int]):
        super().__init__()
        self.sees = cfg.critic_input
        size = {
            "obs": spec.obs_size,
            "state": spec.state_size,
            "both": spec.obs_size + spec.state_size,
        }[cfg.critic_input]
        self.net = AgentMLP(spec.n_agents, [size, *hidden, 1])

    def forward(
        self, obs: Float[Tensor, "*b A O"], state: Float[Tensor, "*b S"]
    ) -> Float[Tensor, "*b A"]:
        if self.sees == "obs":
            return self.net(obs).squeeze(-1)
        everyones = state.unsqueeze(-2).expand(*obs.shape[:-1], -1)  # [*b, A, S]
        return self.net(
            everyones if self.sees == "state" else torch.cat([everyones, obs], -1)
        ).squeeze(-1)


class TeamValue(nn.Module):
    """V, one value of the team: of the observations of all agents, of the state, or of both."""

    def __init__(self, spec: EnvSpec, cfg: ValueConfig, hidden: Sequence[int]):
        super().__init__()
        self.sees = cfg.critic_input
        every = spec.n_agents * spec.obs_size
        size = {"obs": every, "state": spec.state_size, "both": every + spec.state_size}
        self.net = mlp([size[cfg.critic_input], *hidden, 1])

    def forward(
        self, obs: Float[Tensor, "*b A O"], state: Float[Tensor, "*b S"]
    ) -> Float[Tensor, "*b 1"]:
        parts = {"obs": [obs.flatten(-2)], "state": [state], "both": [state, obs.flatten(-2)]}
        return self.net(torch.cat(parts[self.sees], -1))


class TwinValues(nn.Module):
    """Two independent values of each action of each agent, as one product."""

    def __init__(self, n_agents: int, sizes: Sequence[int]):
        super().__init__()
        self.n_agents, self.net = n_agents, AgentMLP(2 * n_agents, sizes)

    def forward(self, x: Float[Tensor, "*b A I"]) -> Float[Tensor, "2 *b A U"]:
        both = self.net(torch.cat([x, x], -2))
        return torch.stack(both.split(self.n_agents, -2))
