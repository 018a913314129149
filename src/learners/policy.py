"""What actor-critic learners share: agents that draw from softmax(logits), and the terms that others add to their loss.

Axes: B batch, N copies, A agents, O observation, U actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eoi.components.action_selection import Draws, masked_argmax, sample
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.learners.learner import (
    Extra,
    Group,
    Losses,
    Policies,
    Scalar,
    Shaping,
    Stats,
    cosine,
    norm,
)


def log_policy(logits: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Float[Tensor, "*b U"]:
    """log pi(. | o); finite for what is not available, whose probability is 0."""
    return logits.masked_fill(~avail, -1e9).log_softmax(-1)


def of(x: Float[Tensor, "*b U"], actions: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The entry of the action."""
    return x.gather(-1, actions[..., None]).squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    gamma: float = setting(0, 1, varies=True)
    actor_lr: float = setting(0, varies=True)
    critic_lr: float = setting(0, varies=True)
    actor_clip: float = setting(0)  # of each agent's gradient norm; 0: none
    critic_clip: float = setting(0)  # times the number of agents; 0: none


class PolicyLearner(nn.Module):
    """Stochastic agents, most probable action in tests."""

    projected: frozenset[str] = frozenset()

    def __init__(
        self,
        cfg: PolicyConfig,
        controller: Controller,
        critic: nn.Module,
        extras: Sequence[nn.Module],
        shaping: Shaping | None,
    ):
        super().__init__()
        self.cfg, self.controller, self.critic, self.shaping = cfg, controller, critic, shaping
        self.extras = nn.ModuleList(extras)

    def _extras(self) -> list[Extra]:
        return cast(list[Extra], list(self.extras))

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        draws: Draws,
        t: Scalar,
        greedy: bool,
    ) -> tuple[Int[Tensor, "N A"], Float[Tensor, "N A U"]]:
        """Actions, and the logits they were drawn by; the most probable ones for tests."""
        logits = self.controller(obs)
        if greedy:
            return masked_argmax(logits, avail), logits
        return sample(log_policy(logits, avail).exp(), draws.choice), logits

    def policy(
        self, obs: Float[Tensor, "*b A O"], avail: Bool[Tensor, "*b A U"]
    ) -> Float[Tensor, "*b A U"]:
        """What training acts by."""
        return self.log_policy(obs, avail).exp()

    def log_policy(
        self, obs: Float[Tensor, "*b A O"], avail: Bool[Tensor, "*b A U"]
    ) -> Float[Tensor, "*b A U"]:
        return log_policy(self.controller(obs), avail)

    def _with_extras(
        self, losses: Losses, batch: Any, log_p: Float[Tensor, "B A U"], t: Scalar
    ) -> Losses:
        """`losses` and the extra terms' on `batch`."""
        terms, stats = losses
        for extra in self._extras():
            more = extra.losses(batch, Policies(log_p, self.log_policy), t)
            terms, stats = terms | more.terms, stats | more.stats
        return Losses(terms, stats)

    def groups(self) -> Sequence[Group]:
        own = [
            Group([self.controller], self.cfg.actor_lr, self.cfg.actor_clip, axes=1),
            Group(
                [self.critic], self.cfg.critic_lr, self.cfg.critic_clip * self.controller.n_agents
            ),
        ]
        return [*own, *(group for extra in self._extras() for group in extra.groups())]

    def shared(self) -> Sequence[nn.Parameter]:
        return list(self.controller.parameters())

    def _gradients(self, terms: dict[str, Scalar], main: str) -> Stats:
        """Norms of what each term does to the agents, and its cosine with the term `main`."""
        gradients = {}
        for name, term in terms.items():
            found = (
                torch.autograd.grad(term, self.shared(), retain_graph=True, allow_unused=True)
                if term.requires_grad
                else [None]
            )
            if found[0] is not None:
                gradients[name] = [g for g in found if g is not None]
        stats = {f"{name}_grad_norm": norm(g) for name, g in gradients.items()}
        return stats | {
            f"{name}_{main}_cosine": cosine(g, gradients[main])
            for name, g in gradients.items()
            if name != main
        }
