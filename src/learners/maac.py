"""MAAC (Iqbal and Sha 2019): an actor and a critic for every agent; critics attend to the others.

Differences to the authors' code, where that differs from their equations: the entropy term is
discounted with the value it belongs to and vanishes at the end of a task; rewards are not
standardised; there is no batch normalisation. The division of the shared attention's gradient by
the number of agents is left out, since Adam undoes it.

Axes: B batch, A agents, U actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eoi.components.action_selection import sample
from eoi.components.batch import Batch, of_actions, weighted
from eoi.components.replay import Replay
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.envs.base import EnvSpec
from eoi.learners.base import (
    Extra,
    Losses,
    Pair,
    Policies,
    Scalar,
    Stats,
    frozen_copy,
    gradient,
    norm,
    scalar,
    term_gradients,
)
from eoi.learners.experience import OffPolicy, OffPolicyConfig
from eoi.learners.policy_learner import PolicyConfig, PolicyLearner, log_softmax
from eoi.modules.critics import AttentionConfig, AttentionCritic
from eoi.utils.seeding import named, uniform
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class MAACConfig(OffPolicyConfig, PolicyConfig, AttentionConfig):
    target_update_tau: float = setting(0, 1)
    target_update_interval: int = setting(0)  # episodes; 0: soft
    reward_scale: float = setting(1e-6, varies=True)  # 1 / temperature
    logit_decay: float = setting(0, varies=True)


class MAAC(PolicyLearner[Policies, MAACConfig]):
    """First the critics on the soft temporal difference (eq. 7), then the actors (eq. 9)."""

    Config = MAACConfig
    serves = frozenset({"observe", "rewards", "rearrange", "losses", "diagnose"})
    lends = Policies
    phases = 2
    critic: AttentionCritic
    reward_scale: Tensor
    logit_decay: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        cfg: MAACConfig,
        controller: Controller,
        extras: Sequence[Extra[Policies]] = (),
    ):
        super().__init__(spec, cfg, controller, extras)
        self.target_controller = frozen_copy(controller)
        self.target_critic = frozen_copy(self.critic)
        for name in ("reward_scale", "logit_decay"):
            scalar(self, name, getattr(cfg, name))

    def make_critic(self, spec: EnvSpec, cfg: MAACConfig) -> AttentionCritic:
        return AttentionCritic(spec, cfg, self.controller.hidden)

    def experience(self, replay: Replay) -> OffPolicy:
        return OffPolicy(self.cfg, replay, self.wants, whole=False)

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        batch, more = self.rearranged(batch, t)
        if phase == 0:
            return self._critics(batch, t)
        losses, log_p = self._actors(batch)
        losses = Losses(losses.terms, losses.stats | more)
        return self.with_extras(losses, batch, Policies(log_p, self.log_policy), t)

    def _critics(self, batch: Batch, t: Scalar) -> Losses:
        """Squared temporal difference, batch mean, summed over agents; decay of the logits."""
        q, logits = self.critic(batch.obs, self._one_hot(batch.actions))
        taken = weighted(of_actions(q, batch.actions), batch.weight)  # [B, A]
        target = self.target(batch, t)
        error = taken - target
        loss = error.square().mean(0).sum()
        stats = {
            "loss": loss,
            "td_error_abs": error.abs().mean(),
            "q_taken_mean": taken.mean(),
            "target_mean": target.mean(),
        }
        terms = {"td": loss, "attention": self.logit_decay * logits}
        return Losses(terms, {name: value.detach() for name, value in stats.items()})

    @torch.no_grad()
    def target(self, batch: Batch, t: Scalar) -> Float[Tensor, "B A"]:
        """r_i + gamma (1 - d) (Q_i'(o', a')[a_i'] - log pi_i'(a_i' | o_i') / reward_scale).

        The next actions a' are drawn from the target policies.
        """
        log_p = log_softmax(self.target_controller.following(batch), batch.next_avail)
        _, draw = self.draws(batch)
        actions = sample(log_p.exp(), draw)
        q, _ = self.target_critic(batch.next_obs, self._one_hot(actions))
        soft = of_actions(q, actions) - of_actions(log_p, actions) / self.reward_scale
        reward = self.reward(batch, self.streams(batch, t), soft.shape[-1])
        return reward + self.gamma * (1 - batch.terminated[:, None]) * soft

    def _actors(self, batch: Batch) -> tuple[Losses, Float[Tensor, "B A U"]]:
        """log pi_i(a_i) sg(log pi_i(a_i) / reward_scale - (Q_i[a_i] - sum_a pi_i(a) Q_i(a))).

        All actions are drawn afresh.
        """
        logits = self.controller.now(batch)
        log_p = log_softmax(logits, batch.avail)
        draw, _ = self.draws(batch)
        with torch.no_grad():
            p = log_p.exp()
            actions = sample(p, draw)
            q, _ = self.critic(batch.obs, self._one_hot(actions))
            # The baseline: the agent's mean value under its policy, the others' actions given.
            advantage = of_actions(q, actions) - (p * q).sum(-1)
            signal = of_actions(log_p, actions) / self.reward_scale - advantage
        chosen = weighted(of_actions(log_p, actions), batch.weight)
        loss = (chosen * signal).mean(0).sum()
        decay = self.logit_decay * logits.square().mean((0, 2)).sum()
        stats = {
            "actor_loss": loss.detach(),
            "entropy": -(p * log_p.detach()).sum(-1).mean(),
            "advantage_abs": advantage.abs().mean(),
        }
        return Losses({"actor": loss, "logits": decay}, stats), log_p

    def draws(self, batch: Batch) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A"]]:
        """Uniform draws for the current policies' actions, and for the target policies'."""
        assert batch.key is not None
        count, n_agents = batch.actions.shape
        now, following = uniform(named(batch.key, "actions"), count, n_agents, 2).unbind(-1)
        return now, following

    def _one_hot(self, actions: Int[Tensor, "B A"]) -> Float[Tensor, "B A U"]:
        return nn.functional.one_hot(actions, self.controller.n_actions).float()

    def own_targets(self) -> Sequence[Pair]:
        tau, interval = self.cfg.target_update_tau, self.cfg.target_update_interval
        networks = [(self.target_controller, self.controller), (self.target_critic, self.critic)]
        return [Pair(target, online, tau, interval) for target, online in networks]

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """Gradient norms of both phases, and of the extras' terms beside the actors'."""
        td = self(batch, t, 0).terms["td"]
        stats = {"grad_norm": norm(gradient(td, [*self.critic.parameters()]))}
        stats |= term_gradients(self(batch, t, 1).terms, self.shared(), "actor")
        batch, _ = self.rearranged(batch, t)
        log_p = log_softmax(self.controller.now(batch), batch.avail)
        view = Policies(log_p, self.log_policy)
        return stats | self.reward_means(batch, t) | self.diagnosed(batch, view)
