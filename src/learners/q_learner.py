"""Value learners over transitions: QMIX (Rashid et al. 2018), VDN (Sunehag et al. 2018), IQL; they differ in the mixer alone.

Axes: B batch, N copies, A agents, O observation, U actions, M joint values (1, or A where nothing is mixed).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eoi.components.action_selection import Draws, epsilon_greedy, masked_argmax
from eoi.components.replay_buffer import Batch
from eoi.components.schedules import linear
from eoi.config.schema import setting
from eoi.controllers.controller import Controller
from eoi.learners.feeds import Replayed
from eoi.learners.learner import (
    Extra,
    Group,
    Losses,
    Pair,
    Rearrange,
    Scalar,
    Shaping,
    Slot,
    Stats,
    Values,
    cosine,
    frozen_copy,
    norm,
    scalar,
    weighted,
)
from eoi.modules.mixers import MixerConfig, make_mixer


@dataclass(frozen=True, kw_only=True)
class QConfig:
    gamma: float = setting(0, 1, varies=True)
    lr: float = setting(0, varies=True)
    double_q: bool
    target_update_tau: float = setting(0, 1)
    target_update_interval: int = setting(0)  # episodes; 0: soft
    grad_norm_clip: float = setting(0)
    epsilon_start: float = setting(0, 1, varies=True)
    epsilon_finish: float = setting(0, 1, varies=True)
    epsilon_anneal_time: int = setting(0, varies=True)  # environment steps


Explore = Callable[[Int[Tensor, "N A"], Tensor, Tensor, Draws], Int[Tensor, "N A"]]


class QLearner(nn.Module):
    """Q_tot(o, a, s) = mixer(Q_i(o_i, a_i), s), regressed on r + gamma Q_tot' of the best next actions."""

    Config, NetworkConfig, Feed = QConfig, MixerConfig, Replayed
    make_network = staticmethod(make_mixer)
    accepts: frozenset[Slot] = frozenset({"values", "shaping", "explore", "rearrange"})
    phases = 1
    gamma: Tensor
    epsilon_start: Tensor
    epsilon_finish: Tensor
    epsilon_anneal_time: Tensor

    def __init__(
        self,
        cfg: QConfig,
        controller: Controller,
        mixer: nn.Module,
        extras: Sequence[nn.Module] = (),  # each an Extra
        shaping: Shaping | None = None,  # rewards of the single agents, added to the team's
        explore: Explore | None = None,  # replaces greedy actions while training
        rearrange: Rearrange | None = None,
    ):
        super().__init__()
        self.cfg, self.shaping, self.explore, self.rearrange = cfg, shaping, explore, rearrange
        self.controller, self.mixer = controller, mixer
        self.target_controller, self.target_mixer = frozen_copy(controller), frozen_copy(mixer)
        self.extras = nn.ModuleList(extras)
        self.draws = rearrange is not None  # does its loss want random draws?
        self.projected = frozenset(name for extra in self._extras() for name in extra.projected)
        for name in ("gamma", "epsilon_start", "epsilon_finish", "epsilon_anneal_time"):
            scalar(self, name, getattr(cfg, name))

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
        """Actions, and the values they were chosen by; `greedy` for tests, else epsilon-greedy at environment step t."""
        q = self.controller(obs)
        best = masked_argmax(q, avail)
        if greedy:
            return best, q
        if self.explore is not None:
            best = self.explore(best, obs, avail, draws)
        return epsilon_greedy(best, avail, self.epsilon(t), draws.flip, draws.choice), q

    def policy(
        self, obs: Float[Tensor, "*b A O"], avail: Bool[Tensor, "*b A U"]
    ) -> Float[Tensor, "*b A U"]:
        """The greedy policy as a distribution: all on the best action. Softmax of values would depend on their scale."""
        return nn.functional.one_hot(
            masked_argmax(self.controller(obs), avail), avail.shape[-1]
        ).float()

    def epsilon(self, t: Scalar) -> Scalar:
        return linear(self.epsilon_start, self.epsilon_finish, self.epsilon_anneal_time, t)

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        batch, more_stats = self.rearrange(batch, t) if self.rearrange else (batch, {})
        values = self._values(batch)
        td, stats = self._td(batch, values, t)
        stats |= more_stats
        terms = {"td": td}
        for extra in self._extras():
            more = extra.losses(batch, values, t)
            terms |= more.terms
            stats |= more.stats
        return Losses(terms, stats)

    def _values(self, batch: Batch) -> Values:
        with torch.no_grad():
            next_q = self.target_controller(batch.next_obs)
        return Values(self.controller(batch.obs), next_q)

    def _td(self, batch: Batch, values: Values, t: Scalar) -> tuple[Scalar, Stats]:
        """The squared temporal difference, batch mean, summed over the joint values."""
        taken = weighted(
            values.q.gather(-1, batch.actions[..., None]).squeeze(-1), batch.weight
        )  # [B, A]
        joint = self.mixer(taken, batch.state)  # [B, M]
        target = self._target(batch, values.next_q, t)
        error = joint - target
        stats = {
            "loss": error.square().mean(0).sum(),
            "td_error_abs": error.abs().mean(),
            "q_taken_mean": joint.mean(),
            "target_mean": target.mean(),
            "epsilon": self.epsilon(t),
        }
        return error.square().mean(0).sum(), {name: value.detach() for name, value in stats.items()}

    @torch.no_grad()
    def _target(
        self, batch: Batch, next_q: Float[Tensor, "B A U"], t: Scalar
    ) -> Float[Tensor, "B M"]:
        chooser = self.controller(batch.next_obs) if self.cfg.double_q else next_q
        best = masked_argmax(chooser, batch.next_avail)
        next_joint = self.target_mixer(
            next_q.gather(-1, best[..., None]).squeeze(-1), batch.next_state
        )
        reward = batch.earned
        if self.shaping is not None:
            individual = self.shaping(batch, t)
            reward = reward + (
                individual
                if next_joint.shape == individual.shape
                else individual.sum(-1, keepdim=True)
            )
        return reward + self.gamma * (1 - batch.terminated[:, None]) * next_joint

    def groups(self) -> Sequence[Group]:
        own = Group([self.controller, self.mixer], self.cfg.lr, self.cfg.grad_norm_clip)
        return [own, *(group for extra in self._extras() for group in extra.groups())]

    def targets(self) -> Sequence[Pair]:
        tau, interval = self.cfg.target_update_tau, self.cfg.target_update_interval
        own = [
            Pair(self.target_controller, self.controller, tau, interval),
            Pair(self.target_mixer, self.mixer, tau, interval),
        ]
        return [*own, *(pair for extra in self._extras() for pair in extra.targets())]

    def shared(self) -> Sequence[nn.Parameter]:
        return list(self.controller.parameters())

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """What costs too much for every update: gradient norms, and how each extra term pulls the agents against the TD loss."""
        terms, _ = self(batch, t)
        own = [*self.shared(), *self.mixer.parameters()]
        td = torch.autograd.grad(terms.pop("td"), own, retain_graph=True)
        stats = {"grad_norm": norm(td)}
        td = td[: len(self.shared())]
        stats["td_agent_grad_norm"] = norm(td)
        for name, term in terms.items():
            gradient = torch.autograd.grad(
                term, self.shared(), retain_graph=True, allow_unused=True
            )
            reached = [g for g in gradient if g is not None]
            if reached:
                stats |= {
                    f"{name}_grad_norm": norm(reached),
                    f"{name}_td_cosine": cosine(reached, td),
                }
        batch, _ = self.rearrange(batch, t) if self.rearrange else (batch, {})
        values = self._values(batch)
        for extra in self._extras():
            stats |= extra.diagnose(batch, values)
        return stats
