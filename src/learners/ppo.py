"""Proximal policy optimisation (Schulman et al. 2017), one policy and one value per agent.

IPPO (de Witt et al. 2020), or with values of the state MAPPO (Yu et al. 2022).

Axes: A agents, U actions, N copies, T time (T1 = T + 1), M ratios; *b is B transitions or B T
episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from eoi.components.batch import Batch, mean_of, of_actions
from eoi.components.replay import Replay
from eoi.components.returns import gae, standardised
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.envs.base import EnvSpec
from eoi.learners.base import (
    Experience,
    Extra,
    Losses,
    Minibatch,
    Scalar,
    Stats,
    gradient,
    norm,
    refuse_twice,
    scalar,
    term_gradients,
)
from eoi.learners.experience import OnPolicy, OnPolicyConfig
from eoi.learners.policy_learner import PolicyConfig, PolicyLearner, log_softmax
from eoi.modules.critics import StateValue, TeamValue, ValueConfig
from eoi.utils.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyConfig, PolicyConfig, ValueConfig):
    gae_lambda: float = setting(0, 1, varies=True)
    eps_clip: float = setting(0, varies=True)
    entropy_coef: float = setting(0, varies=True)


PPOCfg = TypeVar("PPOCfg", bound=PPOConfig)


class PPO(PolicyLearner[Minibatch, PPOCfg]):
    """The clipped objective on standardised advantages, an entropy bonus, and value regression.

    Loss terms of extras learn from transitions of the replay, or from the rollout, which their view
    holds; the policies are not part of that view.
    """

    Config = PPOConfig
    serves = frozenset({"observe", "rewards", "study", "losses", "diagnose"})
    lends = Minibatch
    memory = True
    critic: StateValue | TeamValue
    gae_lambda: Tensor
    eps_clip: Tensor
    entropy_coef: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        cfg: PPOCfg,
        controller: Controller,
        extras: Sequence[Extra[Minibatch]] = (),
    ):
        super().__init__(spec, cfg, controller, extras)
        self._streams: tuple[str, ...] = ()  # fields of `Batch.kept` that are rewards
        for name in ("gae_lambda", "eps_clip", "entropy_coef"):
            scalar(self, name, getattr(cfg, name))

    def make_critic(self, spec: EnvSpec, cfg: PPOCfg) -> StateValue | TeamValue:
        return StateValue(spec, cfg, self.controller.hidden)

    @property
    def replays(self) -> bool:
        return any(extra.view is not Minibatch for extra in self._extras())

    def experience(self, replay: Replay) -> Experience:
        memory = replay if self.replays else None
        whole, padded = self.controller.remembers, not replay.fixed_length
        return OnPolicy(self.cfg, memory, self.wants, whole, self.study, padded)

    @torch.no_grad()
    def study(self, rollout: Batch, t: Scalar) -> Batch:
        """A rollout [N, T] with the fields of all its updates: log pi, advantages and returns.

        Intrinsic rewards use the current classifier.
        """
        assert rollout.valid is not None
        valid = rollout.valid.bool()
        obs = torch.cat([rollout.obs, rollout.next_obs[:, -1:]], 1)  # [N, T1, A, O]
        state = torch.cat([rollout.state, rollout.next_state[:, -1:]], 1)
        value = self.critic(obs, state)  # [N, T1, A]
        streams = self.streams(rollout, t)
        rewards = {f"{name}_reward": stream for name, stream in streams.items()}
        self._streams = tuple(rewards)
        rollout = replace(rollout, kept=rollout.kept | rewards)
        reward = self.reward(rollout, streams, value.shape[-1]).expand_as(value[:, 1:])
        advantage = gae(reward, value, rollout.terminated, valid, self.gamma, self.gae_lambda)
        log_p = log_softmax(self.controller.now(rollout), rollout.avail)
        found = {
            "log_p": self.chosen(log_p, rollout.actions),
            "advantage": torch.zeros_like(advantage),
            "returns": advantage + value[:, :-1],
        }
        found["advantage"][valid] = standardised(advantage[valid])
        for extra in self.with_hook("study"):
            more = extra.study(rollout, t)
            refuse_twice(extra, "study", rollout.kept | found, more)
            found |= more
        return replace(rollout, kept=rollout.kept | found)

    def chosen(
        self, log_p: Float[Tensor, "*b A U"], actions: Int[Tensor, "*b A"]
    ) -> Float[Tensor, "*b M"]:
        """Log-probability of each choice that has a ratio of its own: M = A."""
        return of_actions(log_p, actions)

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        kept = batch.kept
        log_p = log_softmax(self.controller.now(batch), batch.avail)  # [*b, A, U]
        # The clipped objective (Schulman et al. 2017, eq. 7).
        change = self.chosen(log_p, batch.actions) - kept["log_p"]
        ratio = change.exp()
        clipped = ratio.clamp(1 - self.eps_clip, 1 + self.eps_clip)
        gain = torch.minimum(ratio * kept["advantage"], clipped * kept["advantage"])
        entropy = -(log_p.exp() * log_p).sum(-1)  # [*b, A]
        value = self.critic(batch.obs, batch.state)
        error = value - kept["returns"]
        terms = {
            "policy": -batch.mean(gain).sum(),
            "entropy": -self.entropy_coef * batch.mean(entropy).sum(),
            "value": batch.mean(error.square()).sum(),
        }
        stats = {
            "loss": terms["value"],
            "policy_loss": terms["policy"],
            "td_error_abs": mean_of(batch, error.abs()),
            "value_mean": mean_of(batch, value),
            "target_mean": mean_of(batch, kept["returns"]),
            "entropy": mean_of(batch, entropy),
            "ratio_clipped": mean_of(batch, ((ratio - 1).abs() > self.eps_clip).float()),
            # An estimate of KL(old || new) (Schulman 2020).
            "policy_change": mean_of(batch, ratio - 1 - change),
        }
        losses = Losses(terms, {name: found.detach() for name, found in stats.items()})
        return self.with_extras(losses, _memory(batch), Minibatch(batch), t)

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """Gradient norms of all terms."""
        terms = self(batch, t).terms
        value = gradient(terms["value"], [*self.critic.parameters()])
        stats = {"grad_norm": norm(value)} | term_gradients(terms, self.shared(), "policy")
        stats |= {f"{name}_mean": mean_of(batch, batch.kept[name]) for name in self._streams}
        return stats | self.diagnosed(_memory(batch), Minibatch(batch))


def _memory(batch: Batch) -> Batch:
    """Transitions for the extras: of the replay, where one of them learns from it."""
    return batch if batch.memory is None else batch.memory
