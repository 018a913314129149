"""LFO, learning from other agents' experience (EOI, appendix A.1): agents relearn what others lived, weighted by how much it is like
their own. Axes: B batch, A agents.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eoi.components.replay_buffer import Batch
from eoi.components.schedules import linear
from eoi.config.schema import setting
from eoi.learners.learner import Scalar, Slot, Stats, scalar

Posterior = Callable[[Float[Tensor, "B A O"]], Float[Tensor, "B A n"]]


@dataclass(frozen=True, kw_only=True)
class LFOConfig:
    omega: float = setting(0, 1, varies=True)  # share of a batch whose experience changes hands
    importance_weight: bool
    schedule: Literal["constant", "decay", "adaptive"]
    anneal_time: int = setting(0, varies=True)  # environment steps
    derangement: bool


def permutation(draw: Float[Tensor, "B A"]) -> Int[Tensor, "B A"]:
    """Uniform over all permutations; on average one agent keeps its own."""
    return draw.argsort(-1)


def cycle(draw: Float[Tensor, "B A"]) -> Int[Tensor, "B A"]:
    """A random round through all agents: nobody keeps its own, and everybody else is equally likely to hand over to it."""
    order = draw.argsort(-1)
    return torch.zeros_like(order).scatter(-1, order, order.roll(-1, -1))


class LFO(nn.Module):
    """Hands agent i the triple (o, a, o') of agent sigma(i) in a share omega of the batch, with weight p(i | o_sigma(i)).

    The team's reward and the state stay; a reward of one's own goes with what earned it. The paper's n p(i | o) is p(i | o) here as
    there: a constant factor.
    """

    needs: frozenset[Slot] = frozenset({"rearrange"})
    omega: Tensor
    anneal_time: Tensor

    def __init__(self, cfg: LFOConfig, posterior: Posterior):
        super().__init__()
        self.cfg, self.posterior = cfg, posterior
        scalar(self, "omega", cfg.omega)
        scalar(self, "anneal_time", cfg.anneal_time)

    @torch.no_grad()
    def forward(self, batch: Batch, t: Scalar) -> tuple[Batch, Stats]:
        assert batch.draws is not None
        p = self.posterior(batch.obs)  # [B, A, A]
        n_agents = p.shape[-1]
        others = (1 - p.diagonal(dim1=-2, dim2=-1).mean()) / max(
            n_agents - 1, 1
        )  # the weight of somebody else's experience
        omega = self.share(t, n_agents * others)
        swapped = batch.draws.swap[:, None] < omega  # [B, 1]
        shuffled = (cycle if self.cfg.derangement else permutation)(batch.draws.order)
        source = torch.where(
            swapped, shuffled, torch.arange(n_agents, device=p.device)
        )  # [B, A]: agent i gets source[i]'s
        weight = torch.ones_like(batch.draws.order)
        if self.cfg.importance_weight:
            weight = torch.where(
                swapped, p.gather(1, source[:, None]).squeeze(1), weight
            )  # p(i | o_source[i])

        def handed(x: Tensor) -> Tensor:
            return x.gather(1, source.view(*source.shape, *(1 for _ in x.shape[2:])).expand_as(x))

        fields = {
            name: handed(getattr(batch, name))
            for name in ("obs", "avail", "actions", "next_obs", "next_avail")
        }
        fields |= {
            name: None if getattr(batch, name) is None else handed(getattr(batch, name))
            for name in ("rewards", "q")
        }
        stats = {"lfo_weight_mean": others, "lfo_omega": omega}
        return replace(batch, **fields, weight=weight, lived=batch), stats

    def share(self, t: Scalar, likeness: Scalar) -> Scalar:
        """omega now: constant, falling to 0 over `anneal_time`, or in proportion to how alike the agents' experiences are.

        `likeness` is 1 where the classifier cannot tell the agents apart, 0 where it always can.
        """
        if self.cfg.schedule == "decay":
            return linear(self.omega, torch.zeros_like(self.omega), self.anneal_time, t)
        return self.omega * likeness.clamp(max=1) if self.cfg.schedule == "adaptive" else self.omega
