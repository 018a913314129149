"""A baseline for individuality: policies pushed apart by their KL divergence (EOI, figure 14c). Axes: B batch, A agents, U actions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eoi.components.replay_buffer import Batch
from eoi.config.schema import setting
from eoi.learners.learner import Group, Losses, Pair, Policies, Scalar, Slot, Stats, scalar

FLOOR = -10.0  # of log-probabilities: KL is unbounded, and a pair cannot give more than 10


@dataclass(frozen=True, kw_only=True)
class KLConfig:
    weight: float = setting(0, varies=True)  # lambda; 0: off


class KLDivergence(nn.Module):
    """-weight * sum over j of KL(pi_i(. | o_i) || pi_j(. | o_i)), for every agent i; the gradient reaches pi_i alone."""

    needs: frozenset[Slot] = frozenset({"policies"})
    projected: frozenset[str] = frozenset()
    weight: Tensor

    def __init__(self, cfg: KLConfig):
        super().__init__()
        scalar(self, "weight", cfg.weight)

    def losses(self, batch: Batch, policies: Policies, t: Scalar) -> Losses:
        log_p, n_agents = policies.log_p[:, :, None], policies.log_p.shape[1]  # [B, A, 1, U]
        with torch.no_grad():  # [B, A, A, U]: what agent j would do on what agent i sees
            others = policies.of(
                *(x[:, :, None].expand(-1, -1, n_agents, -1) for x in (batch.obs, batch.avail))
            )
            itself = torch.eye(n_agents, dtype=torch.bool, device=others.device)
            raw = (log_p.exp() * (log_p - others)).sum(-1).masked_fill(itself, 0)
        bounded = (log_p.exp() * (log_p.clamp(min=FLOOR) - others.clamp(min=FLOOR))).sum(
            -1
        )  # [B, A, A]
        divergence = bounded.masked_fill(itself, 0).sum(-1).mean(0).sum()
        return Losses(
            {"kl": -self.weight * divergence},
            {"kl_mean": raw.sum() / (len(raw) * n_agents * max(n_agents - 1, 1))},
        )

    def groups(self) -> Sequence[Group]:
        return []

    def targets(self) -> Sequence[Pair]:
        return []

    def diagnose(self, batch: Batch, values: Policies) -> Stats:
        return {}
