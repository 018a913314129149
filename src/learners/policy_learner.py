"""Actor-critic learners' common part: agents that draw actions from softmax(logits).

Axes: N copies, A agents, O observation, U actions; *b is B transitions or B T episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from eoi.components.action_selection import Carry, Choice, Keys, masked_argmax, sample
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.envs.base import EnvSpec
from eoi.learners.base import Extra, Group, Learner, LearnerConfig, Scalar, View
from eoi.utils.shapes import Bool, Float, Int


def log_softmax(
    logits: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]
) -> Float[Tensor, "*b U"]:
    """log pi(. | o); finite for unavailable actions, whose probability is 0."""
    return logits.masked_fill(~avail, -1e9).log_softmax(-1)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(LearnerConfig):
    actor_lr: float = setting(0, varies=True)
    critic_lr: float = setting(0, varies=True)
    # Largest gradient norms; 0: no limit. Agent by agent, and of all critics times the number of
    # agents. HC has one policy and one value of the whole team, and these are theirs.
    actor_clip: float = setting(0)
    critic_clip: float = setting(0)


PolicyCfg = TypeVar("PolicyCfg", bound=PolicyConfig)


class PolicyLearner(Learner[View, PolicyCfg]):
    """Stochastic policies in training; the most probable action in tests."""

    def __init__(
        self,
        spec: EnvSpec,
        cfg: PolicyCfg,
        controller: Controller,
        extras: Sequence[Extra[View]] = (),
    ):
        super().__init__(spec, cfg, controller, extras)
        self.critic = self.make_critic(spec, cfg)

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Scalar,
        greedy: bool,
    ) -> Choice:
        """Actions drawn from the policies; the most probable ones for tests."""
        logits, carry = self.controller.step(obs, carry)
        if greedy:
            actions = masked_argmax(logits, avail)
        else:
            actions = sample(log_softmax(logits, avail).exp(), keys.draws[..., 0])
        return Choice(actions, self.controller.took(carry, actions), {})

    def policy(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """The distribution that training draws from."""
        return self.log_policy(obs, avail, last_actions).exp()

    def log_policy(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """log pi_i(. | o_i)."""
        return log_softmax(self.controller(obs, last_actions), avail)

    def make_critic(self, spec: EnvSpec, cfg: PolicyCfg) -> nn.Module:
        """The network that judges the policies."""
        raise NotImplementedError

    def own_groups(self) -> Sequence[Group]:
        cfg = self.cfg
        return [
            Group([self.controller], cfg.actor_lr, cfg.actor_clip, axes=1),
            Group([self.critic], cfg.critic_lr, cfg.critic_clip * self.controller.n_agents),
        ]
