"""ROMA, multi-agent RL with emergent roles (Wang et al. 2020): losses that shape the agents' roles.

The agents' networks (agent=role_mlp, role_gru) draw a role at each step, which generates their last
layer. Two terms are added to the learner's loss: a role should be predictable from the agent's
history, and two agents are to have either alike or dissimilar roles.

Axes: A agents, L numbers of a role, H hidden, P = A A ordered pairs of agents; *b is B transitions
or B T episodes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from eoi.components.action_selection import Choice
from eoi.components.batch import Batch, mean_of
from eoi.config.schema import setting
from eoi.learners.base import Context, Extra, Group, Losses, Scalar, Values, scalar
from eoi.modules.layers import grouped
from eoi.modules.roles import Gaussian, RolesConfig, SmallNet
from eoi.utils.shapes import Float

CEILING = 2000.0  # of the identifiability loss before its softplus
SHIFT = 13.9  # added to log-densities, and their floor (authors' code)


@dataclass(frozen=True, kw_only=True)
class RomaConfig:
    entropy_weight: float = setting(0, varies=True)
    kl_weight: float = setting(0, varies=True)
    dissimilarity_weight: float = setting(0, varies=True)
    soft_constraint: float = setting(0, varies=True)
    lr: float = setting(0, varies=True)


def entropy(var: Float[Tensor, "*b L"]) -> Float[Tensor, "*b"]:
    """H[N(., var)]."""
    return 0.5 * (2 * math.pi * math.e * var).log().sum(-1)


def divergence(
    mean: Float[Tensor, "*b L"],
    var: Float[Tensor, "*b L"],
    other_mean: Float[Tensor, "*b L"],
    other_var: Float[Tensor, "*b L"],
) -> Float[Tensor, "*b"]:
    """KL(N(mean, var) || N(other_mean, other_var))."""
    ratio = var / other_var
    distance = (mean - other_mean).square() / other_var
    return 0.5 * (ratio - 1 - ratio.log() + distance).sum(-1)


def closeness(
    role: Float[Tensor, "*b A L"], mean: Float[Tensor, "*b A L"], var: Float[Tensor, "*b A L"]
) -> Float[Tensor, "*b A A"]:
    """m_ij: mean over l of max(log N(role_j; mean_i, var_i)_l + 13.9, -13.9)."""
    other, mean, var = role[..., None, :, :], mean[..., :, None, :], var[..., :, None, :]
    density = -0.5 * ((2 * math.pi * var).log() + (other - mean).square() / var)
    return (density + SHIFT).clamp(min=-SHIFT).mean(-1)


def scaled(x: Float[Tensor, "*b A A"]) -> Float[Tensor, "*b P"]:
    """Entries of each matrix on a scale from its lowest, 0, to its highest, 1."""
    x = x.flatten(-2)
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    return (x - low) / (high - low + 1e-6)


def specialisation(
    close: Float[Tensor, "*b A A"], apart: Float[Tensor, "*b A A"], constraint: Scalar
) -> Float[Tensor, "*b"]:
    """Mean over pairs of d - c min(m + d, 1), both scaled: few dissimilar pairs, others alike."""
    close, apart = scaled(close), scaled(apart)
    return (apart - constraint * (close + apart).clamp(max=1)).mean(-1)


class Roma(Extra[Values]):
    """Identifiability and specialisation of roles."""

    Config = RomaConfig
    view = Values
    reads = frozenset({"input", "hidden", "role", "role_mean", "role_var"})
    entropy_weight: Tensor
    kl_weight: Tensor
    dissimilarity_weight: Tensor
    soft_constraint: Tensor

    def __init__(self, cfg: RomaConfig, context: Context):
        super().__init__()
        agents = context.agents
        assert agents is not None
        sizes, own = agents.sizes, agents.sizes.own
        assert isinstance(own, RolesConfig)
        # Agents without memory: their history is the observation before.
        self.lr, self.last_obs = cfg.lr, not agents.remembers
        self.history = Gaussian(1, sizes.hidden[-1] + sizes.inputs, own)
        self.dissimilar = SmallNet(1, 2 * own.role_dim, 1, own)
        for name in ("entropy_weight", "kl_weight", "dissimilarity_weight", "soft_constraint"):
            scalar(self, name, getattr(cfg, name))

    @classmethod
    def active(cls, cfg: object) -> bool:
        assert isinstance(cfg, RomaConfig)
        return max(cfg.entropy_weight, cfg.kl_weight, cfg.dissimilarity_weight) > 0

    def losses(self, batch: Batch, view: Values, t: Scalar) -> Losses:
        given = view.given
        role, mean, var = given["role"], given["role_mean"], given["role_var"]
        if batch.valid is not None:
            var = var + (1 - batch.valid)[..., None, None]  # padding has a density too
        # Identifiability: the role's uncertainty, and its distance to what the history predicts.
        guess_mean, guess_var = self.guess(given["input"], self._before(batch, view))
        spread = mean_of(batch, entropy(var))
        distance = mean_of(batch, divergence(mean, var, guess_mean, guess_var))
        uncertainty = self.entropy_weight * spread + self.kl_weight * distance
        # Specialisation.
        close, apart = closeness(role, mean, var), self.dissimilarity(role)
        special = mean_of(batch, specialisation(close, apart, self.soft_constraint))
        terms = {
            "identifiability": softplus(uncertainty.clamp(max=CEILING)),
            "specialisation": self.dissimilarity_weight * special,
        }
        stats = {
            "role_entropy": spread,
            "role_kl": distance,
            "role_specialisation": special,
            "role_dissimilarity": mean_of(batch, apart),
        }
        return Losses(terms, {name: value.detach() for name, value in stats.items()})

    def guess(
        self, x: Float[Tensor, "*b A I"], before: Float[Tensor, "*b A H"]
    ) -> tuple[Float[Tensor, "*b A L"], Float[Tensor, "*b A L"]]:
        """q(role | history): mean and variance."""
        rows = torch.cat([before, x], -1).flatten(0, -3)
        mean, var = self.history(rows)
        return mean.unflatten(0, x.shape[:-2]), var.unflatten(0, x.shape[:-2])

    def dissimilarity(self, role: Float[Tensor, "*b A L"]) -> Float[Tensor, "*b A A"]:
        """d_ij = |d(role_i, role_j)|."""
        mine, theirs = role[..., :, None, :], role[..., None, :, :]
        mine, theirs = torch.broadcast_tensors(mine, theirs)
        pairs = torch.cat([mine, theirs], -1)  # [*b, A, A, 2L]
        return self.dissimilar(grouped(pairs.flatten(0, -3), 1)).abs().reshape(pairs.shape[:-1])

    @torch.no_grad()
    def _before(self, batch: Batch, view: Values) -> Float[Tensor, "*b A H"]:
        """The agents' hidden units one step before, without gradient; 0 at the first step.

        Of agents without memory: their hidden units at the observation before.
        """
        hidden = view.given["hidden"]
        if not self.last_obs:
            return torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], 1)
        assert view.of is not None and batch.last_obs is not None and batch.has_earlier is not None
        return view.of(batch.last_obs)["hidden"] * batch.has_earlier[..., None, None]

    def groups(self) -> Sequence[Group]:
        return [Group([self.history, self.dissimilar], self.lr)]

    def marks(self, choice: Choice) -> dict[str, Tensor]:
        """The mean of each agent's role."""
        return {"role": choice.carry["role"]}
