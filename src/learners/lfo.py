"""LFO, learning from other agents' experience (EOI, appendix A.1).

Agents learn from each other's observations and actions, weighted by how much these are like their
own.

Axes: A agents (also the n classes of the classifier); *b is B transitions or B T episodes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from eoi.components.batch import Batch, mean_of
from eoi.components.schedules import linear
from eoi.config.schema import setting
from eoi.learners.base import Context, Extra, Scalar, Stats, scalar
from eoi.learners.eoi import Individuality
from eoi.utils.errors import UserError
from eoi.utils.seeding import named, uniform
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class LFOConfig:
    omega: float = setting(0, 1, varies=True)  # share of a batch that is swapped; 0: off
    importance_weight: bool
    schedule: Literal["constant", "decay", "adaptive"]
    anneal_time: int = setting(0, varies=True)  # environment steps
    derangement: bool


def permutation(draw: Float[Tensor, "B A"]) -> Int[Tensor, "B A"]:
    """Uniform over all permutations; on average one agent keeps its own place."""
    return draw.argsort(-1)


def cycle(draw: Float[Tensor, "B A"]) -> Int[Tensor, "B A"]:
    """A random cycle through all agents: no agent keeps its place."""
    order = draw.argsort(-1)
    return torch.zeros_like(order).scatter(-1, order, order.roll(-1, -1))


class LFO(Extra[object]):
    """Gives agent i the triple (o, a, o') of agent sigma(i) in a share omega of the batch.

    Its weight is p(i | o_sigma(i)). The team's reward and the state stay. An agent's own reward
    goes with the actions that earned it. The importance ratio is n p(i | o); the paper leaves out
    the constant n, and so does this.
    """

    Config = LFOConfig
    requires = "eoi.classifier"
    switch = "omega"
    omega: Tensor
    anneal_time: Tensor

    def __init__(self, cfg: LFOConfig, context: Context):
        """Raises UserError where the form of EOI has no classifier."""
        super().__init__()
        classifier = context.others["eoi"]
        if not isinstance(classifier, Individuality):
            raise UserError(
                f"lfo.omega: {type(classifier).__name__} in section eoi has no classifier; "
                "extend Individuality (learners/eoi.py), or set lfo.omega=0"
            )
        self.cfg, self.posterior = cfg, classifier.posterior
        scalar(self, "omega", cfg.omega)
        scalar(self, "anneal_time", cfg.anneal_time)

    @torch.no_grad()
    def rearrange(self, batch: Batch, t: Scalar) -> tuple[Batch, Stats]:
        assert batch.key is not None
        p = self.posterior(batch.obs)  # [*b, A, n]
        count, n_agents = len(p), p.shape[-1]
        # The mean weight of another agent's experience.
        own = mean_of(batch, p.diagonal(dim1=-2, dim2=-1))
        others = (1 - own) / max(n_agents - 1, 1)
        omega = self.share(t, n_agents * others)
        # Draw which transitions, or episodes, are swapped, and how: agent i gets source[i]'s.
        swapped = uniform(named(batch.key, "lfo share"), count)[:, None] < omega  # [B, 1]
        order = uniform(named(batch.key, "lfo order"), count, n_agents)
        shuffled = (cycle if self.cfg.derangement else permutation)(order)
        source = torch.where(swapped, shuffled, torch.arange(n_agents, device=p.device))  # [B, A]
        lead = p.shape[:-2]
        along = source.view(count, *(1 for _ in lead[1:]), n_agents).expand(*lead, n_agents)
        weight = torch.ones_like(p[..., 0])
        if self.cfg.importance_weight:
            likeness = p.gather(-2, along[..., None, :]).squeeze(-2)  # p(i | o_source[i])
            apart = swapped.view(count, *(1 for _ in lead))
            weight = torch.where(apart, likeness, weight)

        def handed(x: Tensor) -> Tensor:
            index = along.view(*along.shape, *(1 for _ in x.shape[along.dim() :]))
            return x.gather(len(lead), index.expand_as(x))

        rearranged = replace(
            batch,
            obs=handed(batch.obs),
            avail=handed(batch.avail),
            actions=handed(batch.actions),
            next_obs=handed(batch.next_obs),
            next_avail=handed(batch.next_avail),
            rewards=None if batch.rewards is None else handed(batch.rewards),
            last_actions=None if batch.last_actions is None else handed(batch.last_actions),
            earlier=None if batch.earlier is None else handed(batch.earlier),
            last_obs=None if batch.last_obs is None else handed(batch.last_obs),
            kept={name: handed(x) for name, x in batch.kept.items()},
            weight=weight,
            unswapped=batch,
        )
        return rearranged, {"lfo_weight_mean": others, "lfo_omega": omega}

    def share(self, t: Scalar, likeness: Scalar) -> Scalar:
        """omega now: constant, falling to 0 over `anneal_time`, or in proportion to `likeness`.

        `likeness` is 1 where the classifier cannot tell the agents apart, 0 where it always can.
        """
        if self.cfg.schedule == "decay":
            return linear(self.omega, torch.zeros_like(self.omega), self.anneal_time, t)
        adaptive = self.cfg.schedule == "adaptive"
        return self.omega * likeness.clamp(max=1) if adaptive else self.omega
