"""From the agents' values to the team's. A mixer maps [*b, A] to [*b, M].

M = 1, or M = A where nothing is mixed. A mixer that is monotone in every agent's value keeps the
joint argmax equal to the agents' own (Rashid et al. 2018, eq. 5).

Axes: A agents, S state, M joint values, E embedding; *b is any batch.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.utils.shapes import Float

REGISTRY: "dict[str, type[Mixer]]" = {}


@dataclass(frozen=True, kw_only=True)
class MixerConfig:
    mixer: str = setting(among=REGISTRY, own=True)
    mixing_embed_dim: int = setting(1)  # E
    mixing_activation: Literal["elu", "relu"]
    mixing_bias: Literal["mlp", "linear"]
    hypernet_layers: Literal[1, 2]
    hypernet_embed: int = setting(1)


class Mixer(nn.Module):
    """The agents' values and the state to joint values."""

    def __init__(self, spec: EnvSpec, cfg: MixerConfig):
        super().__init__()

    def forward(
        self, q: Float[Tensor, "*b A"], state: Float[Tensor, "*b S"]
    ) -> Float[Tensor, "*b M"]:
        raise NotImplementedError


class NoMixer(Mixer):
    """Independent learners: every agent has its own temporal difference."""

    def forward(
        self, q: Float[Tensor, "*b A"], state: Float[Tensor, "*b S"]
    ) -> Float[Tensor, "*b A"]:
        return q


class VDNMixer(Mixer):
    """The sum (Sunehag et al. 2018, eq. 3)."""

    def forward(
        self, q: Float[Tensor, "*b A"], state: Float[Tensor, "*b S"]
    ) -> Float[Tensor, "*b 1"]:
        return q.sum(-1, keepdim=True)


class QMixer(Mixer):
    """sigma(q |W1(s)| + b1(s)) |w2(s)| + v(s) (Rashid et al. 2018, eq. 6).

    All hypernetworks start from one product over s.
    """

    def __init__(self, spec: EnvSpec, cfg: MixerConfig):
        super().__init__(spec, cfg)
        agents, embed = spec.n_agents, cfg.mixing_embed_dim
        deep = cfg.hypernet_layers == 2
        value = embed if cfg.mixing_bias == "mlp" else 1
        self.shape = (agents, embed)
        first = [cfg.hypernet_embed, cfg.hypernet_embed] if deep else [agents * embed, embed]
        self.sizes = (*first, embed, value)
        self.first = nn.Linear(spec.state_size, sum(self.sizes))
        self.w1 = _second(cfg.hypernet_embed, agents * embed) if deep else nn.Identity()
        self.w2 = _second(cfg.hypernet_embed, embed) if deep else nn.Identity()
        self.v = _second(embed, 1) if cfg.mixing_bias == "mlp" else nn.Identity()
        self.sigma = nn.ELU() if cfg.mixing_activation == "elu" else nn.ReLU()

    def forward(
        self, q: Float[Tensor, "*b A"], state: Float[Tensor, "*b S"]
    ) -> Float[Tensor, "*b 1"]:
        w1, w2, b1, v = self.first(state).split(self.sizes, -1)
        w1 = self.w1(w1).abs().unflatten(-1, self.shape)  # [*b, A, E]; abs keeps dQ_tot/dq_i >= 0
        hidden = self.sigma((q[..., None] * w1).sum(-2) + b1)  # [*b, E]
        return (hidden * self.w2(w2).abs()).sum(-1, keepdim=True) + self.v(v)


def _second(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(n_in, n_out))


REGISTRY |= {"qmix": QMixer, "vdn": VDNMixer, "none": NoMixer}


def make_mixer(spec: EnvSpec, cfg: MixerConfig) -> Mixer:
    """The mixer that the settings name."""
    return REGISTRY[cfg.mixer](spec, cfg)
