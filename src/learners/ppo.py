"""Proximal policy optimisation (Schulman et al. 2017), one policy and one value per agent: IPPO (de Witt et al. 2020), or with values
of the state MAPPO (Yu et al. 2022). Axes: B batch, N copies, T time (T1 = T + 1), A agents, U actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eoi.components.episodes import Episodes
from eoi.components.replay_buffer import transitions
from eoi.components.returns import gae, standardised
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.learners.feeds import Lesson, Rolled
from eoi.learners.learner import Losses, Pair, Scalar, Shaping, Slot, Stats, norm, scalar
from eoi.learners.policy import PolicyConfig, PolicyLearner, of
from eoi.modules.critics import StateValue, ValueConfig


@dataclass(frozen=True, kw_only=True)
class PPOConfig(PolicyConfig):
    gae_lambda: float = setting(0, 1, varies=True)
    eps_clip: float = setting(0, varies=True)
    entropy_coef: float = setting(0, varies=True)


class PPO(PolicyLearner):
    """The clipped objective on standardised advantages, an entropy bonus, and values regressed on the returns."""

    Config, NetworkConfig, Feed = PPOConfig, ValueConfig, Rolled
    make_network = StateValue
    accepts: frozenset[Slot] = frozenset(
        {"shaping"}
    )  # not policies: extra terms read the memory, log_p is of the lesson
    phases = 1
    draws = False
    gamma: Tensor
    gae_lambda: Tensor
    eps_clip: Tensor
    entropy_coef: Tensor

    def __init__(
        self,
        cfg: PPOConfig,
        controller: Controller,
        critic: StateValue,
        extras: Sequence[nn.Module] = (),  # each an Extra
        shaping: Shaping | None = None,
    ):
        super().__init__(cfg, controller, critic, extras, shaping)
        for name in ("gamma", "gae_lambda", "eps_clip", "entropy_coef"):
            scalar(self, name, getattr(cfg, name))

    @torch.no_grad()
    def study(self, episodes: Episodes, t: Scalar) -> Lesson:
        """Advantages and returns of a whole rollout, fixed for all epochs; rewards are shaped as they are judged now."""
        obs, state, avail = episodes.obs.float(), episodes.state, episodes.avail
        value = self.critic(obs, state)  # [N, T1, A]
        reward = (
            episodes.reward[..., None] if episodes.rewards is None else episodes.rewards
        ).expand_as(value[:, 1:])
        if self.shaping is not None:
            reward = reward + self.shaping(transitions(episodes), t).view_as(reward)
        valid = (
            torch.arange(reward.shape[1], device=obs.device) < episodes.length[:, None]
        )  # [N, T]
        advantage = gae(reward, value, episodes.terminated, valid, self.gamma, self.gae_lambda)
        return Lesson(
            obs=obs[:, :-1][valid],
            state=state[:, :-1][valid],
            avail=avail[:, :-1][valid],
            actions=episodes.actions[valid],
            log_p=of(self.log_policy(obs[:, :-1], avail[:, :-1]), episodes.actions)[valid],
            advantage=standardised(advantage[valid]),
            returns=(advantage + value[:, :-1])[valid],
        )

    def forward(self, lesson: Lesson, t: Scalar, phase: int = 0) -> Losses:
        log_p = self.log_policy(lesson.obs, lesson.avail)  # [B, A, U]
        change = of(log_p, lesson.actions) - lesson.log_p
        ratio = change.exp()
        gain = torch.minimum(
            ratio * lesson.advantage,
            ratio.clamp(1 - self.eps_clip, 1 + self.eps_clip) * lesson.advantage,
        )
        entropy = -(log_p.exp() * log_p).sum(-1)  # [B, A]
        value = self.critic(lesson.obs, lesson.state)
        error = value - lesson.returns
        terms = {
            "policy": -gain.mean(0).sum(),
            "entropy": -self.entropy_coef * entropy.mean(0).sum(),
            "value": error.square().mean(0).sum(),
        }
        stats = {
            "loss": terms["value"],
            "policy_loss": terms["policy"],
            "td_error_abs": error.abs().mean(),
            "value_mean": value.mean(),
            "target_mean": lesson.returns.mean(),
            "entropy": entropy.mean(),
            "ratio_clipped": ((ratio - 1).abs() > self.eps_clip).float().mean(),
            "policy_change": (
                ratio - 1 - change
            ).mean(),  # estimates KL(old || new) (Schulman 2020)
        }
        losses = Losses(terms, {name: found.detach() for name, found in stats.items()})
        return (
            losses if lesson.memory is None else self._with_extras(losses, lesson.memory, log_p, t)
        )

    def targets(self) -> Sequence[Pair]:
        return [pair for extra in self._extras() for pair in extra.targets()]

    def diagnose(self, batch: Lesson, t: Scalar) -> Stats:
        terms, _ = self(batch, t)
        stats = {
            "grad_norm": norm(
                torch.autograd.grad(terms["value"], [*self.critic.parameters()], retain_graph=True)
            )
        }
        return stats | self._gradients(terms, "policy")
