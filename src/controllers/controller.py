"""The agents' networks behind one call: observations in, one output per action out.

Axes: B any batch, A agents, O observation, U actions.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.modules.layers import AgentMLP


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    hidden_dim: int = setting(1)  # units of both hidden layers
    share_params: bool
    obs_agent_id: bool
    same_init: bool

    @property
    def hidden(self) -> tuple[int, int]:
        return (self.hidden_dim, self.hidden_dim)


class Controller(nn.Module):
    """Q_i^a(o_i), or the logits of pi_i(.|o_i): an MLP per agent."""

    ids: Tensor | None

    def __init__(self, spec: EnvSpec, cfg: ControllerConfig):
        super().__init__()
        self.n_agents, self.n_actions = spec.n_agents, spec.n_actions
        inputs = spec.obs_size + (spec.n_agents if cfg.obs_agent_id else 0)
        self.agents = AgentMLP(
            spec.n_agents, [inputs, *cfg.hidden, spec.n_actions], cfg.share_params, cfg.same_init
        )
        self.register_buffer(
            "ids", torch.eye(spec.n_agents) if cfg.obs_agent_id else None, persistent=False
        )

    def forward(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A U"]:
        if self.ids is not None:
            obs = torch.cat([obs, self.ids.expand(*obs.shape[:-1], -1)], -1)
        return self.agents(obs)
