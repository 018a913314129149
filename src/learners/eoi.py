"""EOI, the emergence of individuality (EOI = Jiang and Lu, ICLR 2021 submission): terms for the loss of any learner.

A classifier learns p(i | o) from the replay; being recognised is an intrinsic reward. The three forms differ in how that reward
reaches the agents: `ShapedReward` adds it to theirs (eq. 1), `Pull` adds a gradient through an intrinsic value function (eq. 6-7, the
paper's form on QMIX), `Explore` lets an intrinsic Q-function act in some training episodes (the authors' later code).

Axes: B batch, N copies, A agents (also the classes of the classifier), O observation, U actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from eoi.components.action_selection import Draws, masked_argmax
from eoi.components.replay_buffer import Batch
from eoi.components.schedules import trapezoid
from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.learners.learner import (
    Group,
    Losses,
    Pair,
    Scalar,
    Slot,
    Stats,
    Values,
    frozen_copy,
    scalar,
    weighted,
)
from eoi.modules.individuality import Classifier, IntrinsicValue
from eoi.modules.layers import AgentMLP


@dataclass(frozen=True, kw_only=True)
class EOIConfig:
    """What every form reads."""

    form: Literal["pull", "explore", "reward", "classifier", "none"]
    beta1: float = setting(0, varies=True)  # weight of the positive distance
    beta2: float = setting(0, varies=True)  # weight of the mutual information
    delta_t: int = setting(1, varies=True)  # steps back a positive may lie
    classifier_lr: float = setting(0, varies=True)
    centred: bool  # p - 1/n instead of p


@dataclass(frozen=True, kw_only=True)
class WeightedConfig(EOIConfig):
    """Forms in which alpha weighs individuality against the team reward."""

    alpha: float = setting(0, varies=True)
    alpha_warmup: int = setting(0, varies=True)  # environment steps
    alpha_anneal: int = setting(0, varies=True)  # environment steps


@dataclass(frozen=True, kw_only=True)
class PullConfig(WeightedConfig):
    value_lr: float = setting(0, varies=True)
    value_tau: float = setting(0, 1)
    q_source: Literal["recomputed", "stored"]  # which Q^a(o) trains the intrinsic value
    q_input: Literal["raw", "normalised"]
    project: bool  # take from the pull what opposes the TD gradient


@dataclass(frozen=True, kw_only=True)
class ExploreConfig(EOIConfig):
    value_lr: float = setting(0, varies=True)
    value_tau: float = setting(0, 1)
    reward_scale: float = setting(0, varies=True)
    gamma: float = setting(0, 1, varies=True)  # of the intrinsic Q
    episode_ratio: float = setting(0, 1, varies=True)
    explore_ratio: float = setting(0, 1, varies=True)


def normalised(
    q: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"], eps: float = 1e-8
) -> Float[Tensor, "*b U"]:
    """Zero mean and unit deviation over the available actions, 0 elsewhere: a value function of it cannot reward magnitude."""
    n = avail.sum(-1, keepdim=True).clamp(min=1)
    centred = (q - q.masked_fill(~avail, 0).sum(-1, keepdim=True) / n).masked_fill(~avail, 0)
    return centred * (centred.square().sum(-1, keepdim=True) / n + eps).rsqrt()


class Individuality(nn.Module):
    """The classifier with its regularisers (eq. 5): the part all forms share."""

    Config: type[EOIConfig] = EOIConfig
    needs: frozenset[Slot] = frozenset()  # of a learner
    projected: frozenset[str] = frozenset()
    beta1: Tensor
    beta2: Tensor

    def __init__(self, spec: EnvSpec, cfg: EOIConfig, hidden: Sequence[int]):
        super().__init__()
        self.centred, self.classifier_lr = cfg.centred, cfg.classifier_lr
        self.classifier = Classifier(spec.obs_size, hidden, spec.n_agents)
        scalar(self, "beta1", cfg.beta1)
        scalar(self, "beta2", cfg.beta2)

    def recognised(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A"]:
        """p(i | o_i): the probability the classifier gives each agent's own name."""
        return self.posterior(obs).diagonal(dim1=-2, dim2=-1)

    def posterior(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A n"]:
        """p(k | o_j) for every agent's observation j and every name k."""
        return self.classifier(obs).softmax(-1)

    def individuality(self, p: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """The intrinsic reward before its weight."""
        return p - 1 / p.shape[-1] if self.centred else p

    def losses(self, batch: Batch, values: Any, t: Scalar) -> Losses:
        losses, _ = self._classify(batch)
        return losses

    def _classify(self, batch: Batch) -> tuple[Losses, Float[Tensor, "B A"]]:
        """The classifier's loss (eq. 5), and p(i | o_i) without gradient. CE(p, q) = -sum_k q_k log p_k throughout.

        Names are learnt from whose experience it was, whoever learns from it now.
        """
        now, batch = batch, batch if batch.lived is None else batch.lived
        log_p = self.classifier(batch.obs).log_softmax(-1)  # [B, A, A]
        p = log_p.exp()
        with torch.no_grad():
            positive = self.classifier(batch.positive).softmax(
                -1
            )  # a constant target: the anchor moves to its positive
        own = log_p.diagonal(dim1=-2, dim2=-1)  # [B, A]
        likelihood = -own.mean()
        distance = (-(positive * log_p).sum(-1) * batch.has_positive[:, None]).mean()
        information = (
            -(p * log_p).sum(-1).mean()
        )  # H(I|O); its gradient goes through both of its places
        loss = likelihood + self.beta1 * distance + self.beta2 * information
        right = (log_p.argmax(-1) == torch.arange(log_p.shape[-1], device=log_p.device)).float()
        stats = {
            "classifier_loss": loss,
            "classifier_ce": likelihood,
            "classifier_pd": distance,
            "classifier_mi": information,
            "classifier_accuracy": right.mean(),
            "individuality_mean": own.exp().mean(),
        }
        with torch.no_grad():
            recognised = own.exp() if now is batch else self.recognised(now.obs)
        return Losses(
            {"classifier": loss}, {name: value.detach() for name, value in stats.items()}
        ), recognised.detach()

    def groups(self) -> Sequence[Group]:
        return [Group([self.classifier], self.classifier_lr)]

    def targets(self) -> Sequence[Pair]:
        return []

    def diagnose(self, batch: Batch, values: Any) -> Stats:
        return {}


class ShapedReward(Individuality):
    """r + alpha p(i | o_i) for every agent (eq. 1)."""

    Config = WeightedConfig
    needs: frozenset[Slot] = frozenset({"shaping"})
    alpha: Tensor
    alpha_warmup: Tensor
    alpha_anneal: Tensor

    def __init__(self, spec: EnvSpec, cfg: WeightedConfig, hidden: Sequence[int]):
        super().__init__(spec, cfg, hidden)
        for name in ("alpha", "alpha_warmup", "alpha_anneal"):
            scalar(self, name, getattr(cfg, name))

    def weight(self, t: Scalar) -> Scalar:
        """alpha at environment step t."""
        return self.alpha * trapezoid(self.alpha_warmup, self.alpha_anneal, t)

    @torch.no_grad()
    def reward(self, batch: Batch, t: Scalar) -> Float[Tensor, "B A"]:
        """alpha p(i | o_i) with the classifier as it is now: a stored one would be outdated (EOI, section 3.3).

        MAAC moves the classifier in the actors' phase, so its critics' reward is by the phi of one update before.
        """
        return self.weight(t) * self.individuality(self.recognised(batch.obs))


class Pull(ShapedReward):
    """An intrinsic value function Q_i^p(o_i, Q_i^a(o_i)) and the gradient it adds to the agents (eq. 6-7)."""

    Config = PullConfig
    needs: frozenset[Slot] = frozenset({"values"})
    gamma: Tensor

    def __init__(self, spec: EnvSpec, cfg: PullConfig, hidden: Sequence[int], gamma: float):
        super().__init__(spec, cfg, hidden)
        self.cfg = cfg
        scalar(self, "gamma", gamma)
        self.projected = frozenset({"pull"} if cfg.project else ())
        self.value = IntrinsicValue(spec.n_agents, spec.obs_size, spec.n_actions, hidden)
        self.target_value = frozen_copy(self.value)

    def prepare(
        self, q: Float[Tensor, "B A U"], avail: Bool[Tensor, "B A U"]
    ) -> Float[Tensor, "B A U"]:
        """Action values as the intrinsic value function sees them; what cannot be done counts 0."""
        return (
            normalised(q, avail) if self.cfg.q_input == "normalised" else q.masked_fill(~avail, 0)
        )

    def losses(self, batch: Batch, values: Values, t: Scalar) -> Losses:
        (terms, stats), p = self._classify(batch)
        lived = batch.q if self.cfg.q_source == "stored" else values.q.detach()
        assert lived is not None, "eoi.q_source=stored wants a replay that keeps q"
        encoded = self.value.encode(batch.obs)
        value = weighted(
            self.value(encoded, self.prepare(lived, batch.avail)), batch.weight
        )  # [B, A]
        with torch.no_grad():
            following = self.target_value(
                self.target_value.encode(batch.next_obs),
                self.prepare(values.next_q, batch.next_avail),
            )
            target = (
                self.individuality(p) + self.gamma * (1 - batch.terminated[:, None]) * following
            )
        error = (value - target).square().mean(0).sum()
        reached = weighted(
            self.value(encoded, self.prepare(values.q, batch.avail), frozen=True), batch.weight
        )
        pull = -self.weight(t) * reached.mean(0).sum()
        q = values.q.detach()
        stats |= {
            "intrinsic_value_loss": error.detach(),
            "intrinsic_value_mean": value.detach().mean(),
            "q_abs_mean": q.abs().mean(),
            "q_spread": (q.amax(-1) - q.amin(-1)).mean(),
            "alpha": self.weight(t),
        }
        return Losses(terms | {"intrinsic_value": error, "pull": pull}, stats)

    def groups(self) -> Sequence[Group]:
        return [*super().groups(), Group([self.value], self.cfg.value_lr)]

    def targets(self) -> Sequence[Pair]:
        return [Pair(self.target_value, self.value, self.cfg.value_tau)]

    def diagnose(self, batch: Batch, values: Values) -> Stats:
        """The slope |dQ^p/dq|: how much the pull could gain by moving an agent's values, right or not."""
        q = values.q.detach().requires_grad_()
        reached = self.value(
            self.value.encode(batch.obs), self.prepare(q, batch.avail), frozen=True
        )
        (slope,) = torch.autograd.grad(reached.sum(), q)
        return {"intrinsic_slope": slope.norm(dim=-1).mean()}


class Explore(Individuality):
    """An intrinsic Q-function, a DQN on reward_scale * p, that acts in a drawn share of the training episodes."""

    Config = ExploreConfig
    needs: frozenset[Slot] = frozenset({"explore"})
    gamma: Tensor
    reward_scale: Tensor
    episode_ratio: Tensor
    explore_ratio: Tensor

    def __init__(self, spec: EnvSpec, cfg: ExploreConfig, hidden: Sequence[int]):
        super().__init__(spec, cfg, hidden)
        self.cfg = cfg
        self.value = AgentMLP(spec.n_agents, [spec.obs_size, *hidden, spec.n_actions])
        self.target_value = frozen_copy(self.value)
        for name in ("gamma", "reward_scale", "episode_ratio", "explore_ratio"):
            scalar(self, name, getattr(cfg, name))

    def explore(
        self,
        greedy: Int[Tensor, "N A"],
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        draws: Draws,
    ) -> Int[Tensor, "N A"]:
        """In an exploring episode each agent follows its intrinsic Q at a step with probability `explore_ratio`."""
        follow = (draws.episode[:, None] < self.episode_ratio) & (draws.follow < self.explore_ratio)
        return torch.where(follow, masked_argmax(self.value(obs), avail), greedy)

    def losses(self, batch: Batch, values: Values, t: Scalar) -> Losses:
        (terms, stats), p = self._classify(batch)
        value = weighted(
            self.value(batch.obs).gather(-1, batch.actions[..., None]).squeeze(-1), batch.weight
        )  # [B, A]
        with torch.no_grad():
            best = (
                self.target_value(batch.next_obs)
                .masked_fill(~batch.next_avail, -torch.inf)
                .amax(-1)
            )
            reward = self.reward_scale * self.individuality(p)
            target = reward + self.gamma * (1 - batch.terminated[:, None]) * best
        error = (value - target).square().mean(0).sum()
        stats |= {
            "intrinsic_value_loss": error.detach(),
            "intrinsic_value_mean": value.detach().mean(),
        }
        return Losses(terms | {"intrinsic_value": error}, stats)

    def groups(self) -> Sequence[Group]:
        return [*super().groups(), Group([self.value], self.cfg.value_lr)]

    def targets(self) -> Sequence[Pair]:
        return [Pair(self.target_value, self.value, self.cfg.value_tau)]


FORMS = {"classifier": Individuality, "reward": ShapedReward, "pull": Pull, "explore": Explore}
