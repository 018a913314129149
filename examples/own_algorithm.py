"""Intrinsic rewards, an exploration rule, a loss term, a form of EOI, a mixer and an agent network.

See docs/own-algorithm.md. PYTHONPATH=examples makes this file known to a run:

PYTHONPATH=examples bash run.sh python src/main.py --config=iql --env-config=pac_men \
    with 'plugins=[own_algorithm]' apart.weight=0.1
"""

from dataclasses import dataclass

import torch
from torch import nn

from eoi.config.schema import setting
from eoi.learners.base import Extra, Group, Losses, Values, scalar
from eoi.learners.eoi import IntrinsicPolicy, IntrinsicPolicyConfig
from eoi.learners.extras import register
from eoi.modules import agents, mixers
from eoi.modules.layers import AgentMLP
from eoi.utils.seeding import named, uniform


# An intrinsic reward: more for an agent whose observation is far from the others'.
@dataclass(frozen=True, kw_only=True)
class ApartConfig:
    weight: float = setting(0, default=0.0, varies=True)


class Apart(Extra[object]):
    Config, switch = ApartConfig, "weight"

    def __init__(self, cfg, context):
        super().__init__()
        scalar(self, "weight", cfg.weight)

    def rewards(self, batch, t):
        apart = batch.obs.unsqueeze(-2) - batch.obs.unsqueeze(-3)  # [*b, A, A, O]
        return {"apart": self.weight * apart.norm(dim=-1).mean(-1)}


register("apart", Apart)


# An intrinsic reward with a memory: more for observations that were seen less often.
@dataclass(frozen=True, kw_only=True)
class NoveltyConfig:
    weight: float = setting(0, default=0.0, varies=True)


class Novelty(Extra[object]):
    Config, switch = NoveltyConfig, "weight"

    def __init__(self, cfg, context):
        super().__init__()
        scalar(self, "weight", cfg.weight)
        self.register_buffer("hashing", torch.randn(context.spec.obs_size, 12))
        self.register_buffer("counts", torch.zeros(2**12))

    def places(self, obs):  # [*b, A, O] -> [*b, A]
        bits = (obs @ self.hashing > 0).long()
        return (bits * 2 ** torch.arange(12, device=obs.device)).sum(-1)

    def observe(self, episodes):
        seen = self.places(episodes.obs[:, 1:].float())[episodes.valid()].flatten()
        self.counts += torch.bincount(seen, minlength=2**12)

    def rewards(self, batch, t):
        return {"novelty": self.weight / (1 + self.counts[self.places(batch.next_obs)]).sqrt()}


register("novelty", Novelty)


# An intrinsic reward with a network: more where a random network is hard to predict (RND).
@dataclass(frozen=True, kw_only=True)
class RNDConfig:
    weight: float = setting(0, default=0.0, varies=True)
    lr: float = setting(0, default=1e-4, varies=True)


class RND(Extra[object]):
    Config, switch = RNDConfig, "weight"

    def __init__(self, cfg, context):
        super().__init__()
        scalar(self, "weight", cfg.weight)
        self.lr = cfg.lr
        widths = [context.spec.obs_size, *context.hidden, 16]
        self.random = AgentMLP(context.spec.n_agents, widths).requires_grad_(False)
        self.learned = AgentMLP(context.spec.n_agents, widths)

    def error(self, obs):  # [*b, A, O] -> [*b, A]
        return (self.learned(obs) - self.random(obs)).square().mean(-1)

    def rewards(self, batch, t):
        return {"rnd": self.weight * self.error(batch.next_obs).detach()}

    def losses(self, batch, view, t):
        error = batch.mean(self.error(batch.next_obs)).mean()
        return Losses({"rnd": error}, {"rnd_error": error.detach()})

    def groups(self):
        return [Group([self.learned], self.lr)]


register("rnd", RND)


# An exploration rule: one agent in ten repeats the first available action for a whole episode.
@dataclass(frozen=True, kw_only=True)
class StubbornConfig:
    share: float = setting(0, 1, default=0.0, varies=True)


class Stubborn(Extra[object]):
    Config, switch = StubbornConfig, "share"

    def __init__(self, cfg, context):
        super().__init__()
        scalar(self, "share", cfg.share)

    def choose(self, best, obs, avail, keys, t):
        stubborn = uniform(named(keys.episode, "stubborn"), best.shape[1]) < self.share
        return torch.where(stubborn, avail.int().argmax(-1), best)


register("stubborn", Stubborn)


# A loss term: small action values.
@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    weight: float = setting(0, default=0.0, varies=True)


class SmallValues(Extra[Values]):
    Config, view, switch = SmallConfig, Values, "weight"

    def __init__(self, cfg, context):
        super().__init__()
        scalar(self, "weight", cfg.weight)

    def losses(self, batch, view, t):
        size = batch.mean(view.q.square().sum(-1)).sum()
        return Losses({"small": self.weight * size}, {"q_square": size.detach()})


register("small", SmallValues)


# A form of EOI: p to a power, which pays an agent less until it is recognised with certainty.
@dataclass(frozen=True, kw_only=True)
class CertainConfig(IntrinsicPolicyConfig):
    power: float = setting(0, default=2.0, varies=True)


class CertainPolicy(IntrinsicPolicy):
    Config = CertainConfig

    def __init__(self, cfg, context):
        super().__init__(cfg, context)
        scalar(self, "power", cfg.power)

    def intrinsic(self, p):  # [*b, A]
        return super().intrinsic(p**self.power)


register("eoi.certain", CertainPolicy)


# A mixer: a weighted sum with one positive weight for each agent.
class WeightedSum(mixers.Mixer):
    def __init__(self, spec, cfg):
        super().__init__(spec, cfg)
        self.weight = nn.Parameter(torch.zeros(spec.n_agents))

    def forward(self, q, state):
        return (q * nn.functional.softplus(self.weight)).sum(-1, keepdim=True)


mixers.REGISTRY["weighted"] = WeightedSum


# An agent network: one hidden layer.
class Shallow(agents.Agent):
    def __init__(self, sizes):
        super().__init__(sizes)
        widths = [sizes.inputs, sizes.hidden[0], sizes.outputs]
        self.net = AgentMLP(sizes.n_agents, widths, sizes.shared)

    def step(self, x, carry):
        return self.net(x), carry

    def unroll(self, x, length=None):
        return self.net(x)


agents.REGISTRY["shallow"] = Shallow
