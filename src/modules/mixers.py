"""From the agents' values to the team's. A mixer maps [B, A] to [B, M]: M = 1, or M = A where nothing is mixed.

A mixer that is monotone in every agent's value keeps the joint argmax equal to the agents' own (Rashid et al. 2018, eq. 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec


@dataclass(frozen=True, kw_only=True)
class MixerConfig:
    mixer: Literal["qmix", "vdn", "none"]
    mixing_embed_dim: int = setting(1)  # E
    mixing_activation: Literal["elu", "relu"]
    mixing_bias: Literal["mlp", "linear"]
    hypernet_layers: Literal[1, 2]
    hypernet_embed: int = setting(1)


class NoMixer(nn.Module):
    """Independent learners: every agent has its own temporal difference."""

    def forward(self, q: Float[Tensor, "B A"], state: Float[Tensor, "B S"]) -> Float[Tensor, "B A"]:
        return q


class VDNMixer(nn.Module):
    """The sum (Sunehag et al. 2018, eq. 3)."""

    def forward(self, q: Float[Tensor, "B A"], state: Float[Tensor, "B S"]) -> Float[Tensor, "B 1"]:
        return q.sum(-1, keepdim=True)


class QMixer(nn.Module):
    """sigma(q |W1(s)| + b1(s)) |w2(s)| + v(s) (Rashid et al. 2018, eq. 6); all hypernetworks start from one product over s."""

    def __init__(self, spec: EnvSpec, cfg: MixerConfig):
        super().__init__()
        agents, embed = spec.n_agents, cfg.mixing_embed_dim
        deep = cfg.hypernet_layers == 2
        value = embed if cfg.mixing_bias == "mlp" else 1
        self.shape = (agents, embed)
        first = [cfg.hypernet_embed, cfg.hypernet_embed] if deep else [agents * embed, embed]
        self.sizes = (*first, embed, value)
        self.first = nn.Linear(spec.state_size, sum(self.sizes))
        self.w1 = (
            nn.Sequential(nn.ReLU(), nn.Linear(cfg.hypernet_embed, agents * embed))
            if deep
            else nn.Identity()
        )
        self.w2 = (
            nn.Sequential(nn.ReLU(), nn.Linear(cfg.hypernet_embed, embed))
            if deep
            else nn.Identity()
        )
        self.v = (
            nn.Sequential(nn.ReLU(), nn.Linear(embed, 1))
            if cfg.mixing_bias == "mlp"
            else nn.Identity()
        )
        self.sigma = nn.ELU() if cfg.mixing_activation == "elu" else nn.ReLU()

    def forward(self, q: Float[Tensor, "B A"], state: Float[Tensor, "B S"]) -> Float[Tensor, "B 1"]:
        w1, w2, b1, v = self.first(state).split(self.sizes, -1)
        w1 = self.w1(w1).abs().unflatten(-1, self.shape)  # [B, A, E]; abs keeps dQ_tot/dq_i >= 0
        hidden = self.sigma((q[..., None] * w1).sum(-2) + b1)  # [B, E]
        return (hidden * self.w2(w2).abs()).sum(-1, keepdim=True) + self.v(v)


def make_mixer(spec: EnvSpec, cfg: MixerConfig, hidden: Sequence[int] = ()) -> nn.Module:
    """`hidden`, the size of the agents' networks, concerns no mixer."""
    if cfg.mixer == "qmix":
        return QMixer(spec, cfg)
    return VDNMixer() if cfg.mixer == "vdn" else NoMixer()
