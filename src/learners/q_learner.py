"""Value learners: QMIX (Rashid et al. 2018), VDN (Sunehag et al. 2018), IQL (Tan 1993).

They differ in the mixer alone. Agents without memory learn from transitions, agents with memory
from whole episodes.

Axes: N copies, A agents, O observation, U actions, S state, M joint values (1, or A where nothing
is mixed); *b is B transitions or B T episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from eoi.components.action_selection import (
    Carry,
    Choice,
    Keys,
    epsilon_greedy,
    masked_argmax,
)
from eoi.components.action_values import sizes
from eoi.components.batch import Batch, mean_of, of_actions, weighted
from eoi.components.episodes import Kept
from eoi.components.replay import Replay
from eoi.components.schedules import linear
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.envs.base import EnvSpec
from eoi.learners.base import (
    Experience,
    Extra,
    Given,
    Group,
    Learner,
    Losses,
    Pair,
    Scalar,
    Stats,
    Values,
    frozen_copy,
    gradient,
    norm,
    scalar,
    term_gradients,
)
from eoi.learners.experience import OffPolicy, OffPolicyConfig
from eoi.modules.mixers import MixerConfig, make_mixer
from eoi.utils.seeding import named
from eoi.utils.shapes import Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class QConfig(OffPolicyConfig, MixerConfig):
    lr: float = setting(0, varies=True)
    double_q: bool
    target_update_tau: float = setting(0, 1)
    target_update_interval: int = setting(0)  # episodes; 0: soft
    grad_norm_clip: float = setting(0)
    epsilon_start: float = setting(0, 1, varies=True)
    epsilon_finish: float = setting(0, 1, varies=True)
    epsilon_anneal_time: int = setting(0, varies=True)  # environment steps


QCfg = TypeVar("QCfg", bound=QConfig)


class QLearner(Learner[Values, QCfg]):
    """Q_tot(o, a, s) = mixer(Q_i(o_i, a_i), s), regressed on r + gamma max Q_tot'."""

    Config = QConfig
    serves = frozenset({"observe", "rewards", "rearrange", "choose", "losses", "diagnose"})
    lends = Values
    holds: ClassVar = {"q": lambda spec: Kept((spec.n_agents, spec.n_actions))}
    memory = True
    noise = True
    epsilon_start: Tensor
    epsilon_finish: Tensor
    epsilon_anneal_time: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        cfg: QCfg,
        controller: Controller,
        extras: Sequence[Extra[Values]] = (),
    ):
        super().__init__(spec, cfg, controller, extras)
        self.mixer = make_mixer(spec, cfg)
        self.target_controller = frozen_copy(controller)
        self.target_mixer = frozen_copy(self.mixer)
        for name in ("epsilon_start", "epsilon_finish", "epsilon_anneal_time"):
            scalar(self, name, getattr(cfg, name))

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Scalar,
        greedy: bool,
    ) -> Choice:
        """Epsilon-greedy actions at environment step `t`; greedy ones for tests."""
        q, carry = self.controller.step(obs, carry, named(keys.step, "agents"))
        actions = masked_argmax(q, avail)
        if not greedy:
            for extra in self.with_hook("choose"):
                actions = extra.choose(actions, obs, avail, keys, t)
            flip, choice = keys.draws.unbind(-1)  # [N, A] each
            actions = epsilon_greedy(actions, avail, self.epsilon(t), flip, choice)
        return Choice(actions, self.controller.took(carry, actions), {"q": q})

    def policy(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """The greedy policy, all on one action. A softmax would depend on the values' scale."""
        best = masked_argmax(self.controller(obs, last_actions), avail)
        return nn.functional.one_hot(best, avail.shape[-1]).float()

    def epsilon(self, t: Scalar) -> Scalar:
        """Share of random actions at environment step `t`."""
        return linear(self.epsilon_start, self.epsilon_finish, self.epsilon_anneal_time, t)

    def experience(self, replay: Replay) -> Experience:
        return OffPolicy(self.cfg, replay, self.wants, self.controller.remembers)

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        batch, more = self.rearranged(batch, t)
        view, chooser = self._values(batch)
        losses = self._td(batch, view, chooser, t)
        losses = Losses(losses.terms, losses.stats | more)
        return self.with_extras(losses, batch, view, t)

    def _values(self, batch: Batch) -> tuple[Values, Float[Tensor, "*b A U"]]:
        return values(batch, self.controller, self.target_controller, self.cfg.double_q)

    def _td(
        self, batch: Batch, view: Values, chooser: Float[Tensor, "*b A U"], t: Scalar
    ) -> Losses:
        """Squared temporal difference: mean over the batch, sum over the joint values."""
        # Mix the values of the actions that were taken.
        taken = weighted(of_actions(view.q, batch.actions), batch.weight)  # [*b, A]
        joint = self.mixer(taken, batch.state)  # [*b, M]
        # Compare them with the reward and the value of the best next actions.
        target = self._target(batch, view.next_q, chooser, t)
        error = joint - target
        loss = batch.mean(error.square()).sum()
        stats = {
            "loss": loss,
            "td_error_abs": mean_of(batch, error.abs()),
            "q_taken_mean": mean_of(batch, joint),
            "target_mean": mean_of(batch, target),
            "epsilon": self.epsilon(t),
        }
        return Losses({"td": loss}, {name: value.detach() for name, value in stats.items()})

    @torch.no_grad()
    def _target(
        self,
        batch: Batch,
        next_q: Float[Tensor, "*b A U"],
        chooser: Float[Tensor, "*b A U"],
        t: Scalar,
    ) -> Float[Tensor, "*b M"]:
        """r + gamma (1 - d) Q_tot'(s', argmax of `chooser`)."""
        best = masked_argmax(chooser, batch.next_avail)
        next_joint = self.target_mixer(of_actions(next_q, best), batch.next_state)
        reward = self.reward(batch, self.streams(batch, t), next_joint.shape[-1])
        return reward + self.gamma * (1 - batch.terminated[..., None]) * next_joint

    def own_groups(self) -> Sequence[Group]:
        return [Group([self.controller, self.mixer], self.cfg.lr, self.cfg.grad_norm_clip)]

    def own_targets(self) -> Sequence[Pair]:
        tau, interval = self.cfg.target_update_tau, self.cfg.target_update_interval
        networks = [(self.target_controller, self.controller), (self.target_mixer, self.mixer)]
        return [Pair(target, online, tau, interval) for target, online in networks]

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """Gradient norms, cosines of the terms with the TD term, and sizes of the values."""
        terms = self(batch, t).terms
        own = [*self.shared(), *self.mixer.parameters()]
        stats = term_gradients(terms, self.shared(), "td")
        whole = norm(gradient(terms["td"], own))
        stats = {"grad_norm": whole, "td_agent_grad_norm": stats.pop("td_grad_norm")} | stats
        batch, _ = self.rearranged(batch, t)
        view, _ = self._values(batch)
        stats |= sizes(view.q.detach(), batch) | {"mixing_weight": self.mixing_weight(batch, view)}
        return stats | self.reward_means(batch, t) | self.diagnosed(batch, view)

    def mixing_weight(self, batch: Batch, view: Values) -> Scalar:
        """Mean |dQ_tot/dQ_i| at the actions taken; exactly 1 for VDN and without a mixer."""
        taken = of_actions(view.q.detach(), batch.actions).requires_grad_()  # [*b, A]
        (weight,) = torch.autograd.grad(self.mixer(taken, batch.state).sum(), taken)
        return mean_of(batch, weight.abs())


def values(
    batch: Batch, online: Controller, target: Controller, double_q: bool
) -> tuple[Values, Float[Tensor, "*b A U"]]:
    """Q^a now and next, and the next values that choose the next action."""

    def given(obs: Float[Tensor, "*b A O"]) -> Given:
        """Further tensors of the network at observations, as if they came first."""
        none = torch.full(obs.shape[:-1], -1, device=obs.device)
        return online.explain(obs, none)[1]

    with torch.no_grad():
        next_q = target.following(batch, "target")
    if not double_q:
        q, beside = online.explained(batch)
        return Values(q, next_q, beside, given), next_q
    q, chooser, beside = online.both(batch)
    return Values(q, next_q, beside, given), chooser
