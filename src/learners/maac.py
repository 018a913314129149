"""MAAC (Iqbal and Sha 2019): an actor and a critic for every agent, whose critics attend to what the others see and do.

It differs from the authors' code where that differs from their equations: the entropy term is discounted with the value it belongs to
and vanishes at the end of a task, rewards are not standardised, there is no batch normalisation. Their division of the shared
attention's gradient by the number of agents is left out: Adam undoes it.

Axes: B batch, A agents, O observation, U actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from eoi.components.action_selection import sample
from eoi.components.replay_buffer import Batch
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.learners.feeds import Replayed
from eoi.learners.learner import (
    Losses,
    Pair,
    Policies,
    Rearrange,
    Scalar,
    Shaping,
    Slot,
    Stats,
    frozen_copy,
    norm,
    scalar,
    weighted,
)
from eoi.learners.policy import PolicyConfig, PolicyLearner, log_policy, of
from eoi.modules.critics import AttentionConfig, AttentionCritic


@dataclass(frozen=True, kw_only=True)
class MAACConfig(PolicyConfig):
    target_update_tau: float = setting(0, 1)
    target_update_interval: int = setting(0)  # episodes; 0: soft
    reward_scale: float = setting(1e-6, varies=True)  # 1 / temperature
    logit_decay: float = setting(0, varies=True)


class MAAC(PolicyLearner):
    """First the critics on the soft temporal difference (eq. 7), then the actors by the critics just moved (eq. 9)."""

    Config, NetworkConfig, Feed = MAACConfig, AttentionConfig, Replayed
    make_network = AttentionCritic
    accepts: frozenset[Slot] = frozenset({"policies", "shaping", "rearrange"})
    phases = 2
    draws = True
    cfg: MAACConfig
    gamma: Tensor
    reward_scale: Tensor
    logit_decay: Tensor

    def __init__(
        self,
        cfg: MAACConfig,
        controller: Controller,
        critic: AttentionCritic,
        extras: Sequence[nn.Module] = (),  # each an Extra
        shaping: Shaping | None = None,
        rearrange: Rearrange | None = None,
    ):
        super().__init__(cfg, controller, critic, extras, shaping)
        self.rearrange = rearrange
        self.target_controller, self.target_critic = frozen_copy(controller), frozen_copy(critic)
        for name in ("gamma", "reward_scale", "logit_decay"):
            scalar(self, name, getattr(cfg, name))

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        batch, stats = self.rearrange(batch, t) if self.rearrange else (batch, {})
        if phase == 0:
            return self._critics(batch, t)
        losses, log_p = self._actors(batch)
        return self._with_extras(Losses(losses.terms, losses.stats | stats), batch, log_p, t)

    def _critics(self, batch: Batch, t: Scalar) -> Losses:
        """Squared temporal difference, batch mean, summed over agents; and the decay of the attention's logits."""
        q, logits = self.critic(batch.obs, self._one_hot(batch.actions))
        taken = weighted(of(q, batch.actions), batch.weight)  # [B, A]
        target = self._target(batch, t)
        error = taken - target
        loss = error.square().mean(0).sum()
        stats = {
            "loss": loss,
            "td_error_abs": error.abs().mean(),
            "q_taken_mean": taken.mean(),
            "target_mean": target.mean(),
        }
        return Losses(
            {"td": loss, "attention": self.logit_decay * logits},
            {name: value.detach() for name, value in stats.items()},
        )

    @torch.no_grad()
    def _target(self, batch: Batch, t: Scalar) -> Float[Tensor, "B A"]:
        """r_i + gamma (1 - d) (Q_i'(o', a')[a_i'] - log pi_i'(a_i' | o_i') / reward_scale), a' drawn from the target policies."""
        assert batch.draws is not None
        log_p = log_policy(self.target_controller(batch.next_obs), batch.next_avail)
        actions = sample(log_p.exp(), batch.draws.next_action)
        q, _ = self.target_critic(batch.next_obs, self._one_hot(actions))
        soft = of(q, actions) - of(log_p, actions) / self.reward_scale
        reward = batch.earned
        if self.shaping is not None:
            reward = reward + self.shaping(batch, t)
        return reward + self.gamma * (1 - batch.terminated[:, None]) * soft

    def _actors(self, batch: Batch) -> tuple[Losses, Float[Tensor, "B A U"]]:
        """log pi_i(a_i) sg(log pi_i(a_i) / reward_scale - (Q_i[a_i] - sum_a pi_i(a) Q_i(a))), all actions drawn afresh."""
        assert batch.draws is not None
        logits = self.controller(batch.obs)
        log_p = log_policy(logits, batch.avail)
        with torch.no_grad():
            p = log_p.exp()
            actions = sample(p, batch.draws.action)
            q, _ = self.critic(batch.obs, self._one_hot(actions))
            advantage = of(q, actions) - (p * q).sum(
                -1
            )  # against what the agent would do on average, the others' actions given
            signal = of(log_p, actions) / self.reward_scale - advantage
        chosen = weighted(of(log_p, actions), batch.weight)
        loss = (chosen * signal).mean(0).sum()
        decay = self.logit_decay * logits.square().mean((0, 2)).sum()
        stats = {
            "actor_loss": loss.detach(),
            "entropy": -(p * log_p.detach()).sum(-1).mean(),
            "advantage_abs": advantage.abs().mean(),
        }
        return Losses({"actor": loss, "logits": decay}, stats), log_p

    def _one_hot(self, actions: Int[Tensor, "B A"]) -> Float[Tensor, "B A U"]:
        return nn.functional.one_hot(actions, self.controller.n_actions).float()

    def targets(self) -> Sequence[Pair]:
        tau, interval = self.cfg.target_update_tau, self.cfg.target_update_interval
        pairs = [
            Pair(self.target_controller, self.controller, tau, interval),
            Pair(self.target_critic, self.critic, tau, interval),
        ]
        return [*pairs, *(pair for extra in self._extras() for pair in extra.targets())]

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        stats = {
            "grad_norm": norm(
                torch.autograd.grad(self(batch, t, 0).terms["td"], [*self.critic.parameters()])
            )
        }
        stats |= self._gradients(self(batch, t, 1).terms, "actor")
        batch, _ = self.rearrange(batch, t) if self.rearrange else (batch, {})
        for extra in self._extras():
            stats |= extra.diagnose(
                batch, Policies(self.log_policy(batch.obs, batch.avail), self.log_policy)
            )
        return stats
