"""A baseline for individuality: policies pushed apart by their KL divergence (EOI, figure 14c).

Axes: B batch, A agents, U actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eoi.components.batch import Batch, weighted
from eoi.config.schema import setting
from eoi.learners.base import Context, Extra, Losses, Policies, Scalar, scalar

FLOOR = -10.0  # of log-probabilities: KL is unbounded, and a pair cannot give more than 10


@dataclass(frozen=True, kw_only=True)
class KLConfig:
    weight: float = setting(0, varies=True)  # lambda; 0: off


class KLDivergence(Extra[Policies]):
    """-weight * sum over j of KL(pi_i(. | o_i) || pi_j(. | o_i)).

    Its gradient reaches pi_i alone.
    """

    Config = KLConfig
    view = Policies
    switch = "weight"
    weight: Tensor

    def __init__(self, cfg: KLConfig, context: Context):
        super().__init__()
        scalar(self, "weight", cfg.weight)

    def losses(self, batch: Batch, view: Policies, t: Scalar) -> Losses:
        log_p, n_agents = view.log_p[:, :, None], view.log_p.shape[1]  # [B, A, 1, U]
        with torch.no_grad():
            # Policies of all agents j at the observation of each agent i: [B, A, A, U].
            obs, avail = (
                x[:, :, None].expand(-1, -1, n_agents, -1) for x in (batch.obs, batch.avail)
            )
            last = batch.last_actions
            last = None if last is None else last[:, :, None].expand(-1, -1, n_agents)
            others = view.of(obs, avail, last)
            itself = torch.eye(n_agents, dtype=torch.bool, device=others.device)
            raw = (log_p.exp() * (log_p - others)).sum(-1).masked_fill(itself, 0)
        bounded = log_p.clamp(min=FLOOR) - others.clamp(min=FLOOR)
        bounded = (log_p.exp() * bounded).sum(-1).masked_fill(itself, 0)  # [B, A, A]
        divergence = weighted(bounded.sum(-1), batch.weight).mean(0).sum()
        mean = raw.sum() / (len(raw) * n_agents * max(n_agents - 1, 1))
        return Losses({"kl": -self.weight * divergence}, {"kl_mean": mean})
