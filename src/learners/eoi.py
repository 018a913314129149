"""EOI, the emergence of individuality (EOI: Jiang and Lu, ICLR 2021 submission).

A classifier learns p(i | o) from the replay; being recognised is an intrinsic reward. The forms
differ in how that reward reaches the agents:

- `ShapedReward` adds it to theirs (eq. 1).
- `IntrinsicPolicy` and `Pull` are two readings of eq. 6-7: a gradient on the agents' values from an
  intrinsic value function. `Invariant` is a pull that cannot see an agent's offset and scale.
- `Explore` lets an intrinsic Q-function act in some training episodes (the authors' later code).

Axes: N copies, A agents (also the n classes of the classifier), O observation, U actions; *b is
B transitions or B T episodes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal

import torch
from torch import Tensor

from eoi.components.action_selection import Keys, masked_argmax
from eoi.components.action_values import centred, count, mean_over, spread, variance
from eoi.components.batch import Batch, mean_of, of_actions, weighted
from eoi.components.episodes import Episodes
from eoi.components.schedules import trapezoid
from eoi.config.schema import setting
from eoi.learners.base import (
    Context,
    Extra,
    Group,
    Losses,
    Pair,
    Scalar,
    Stats,
    Values,
    View,
    frozen_copy,
    scalar,
)
from eoi.modules.individuality import Classifier, IntrinsicValue
from eoi.modules.layers import AgentMLP
from eoi.utils.seeding import integers, named, uniform
from eoi.utils.shapes import Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Settings of every form."""

    form: str
    beta1: float = setting(0, varies=True)  # weight of the positive distance
    beta2: float = setting(0, varies=True)  # weight of the mutual information
    delta_t: int = setting(1, varies=True)  # steps back a positive may lie
    log_odds_step: float = setting(0)  # largest change of log-odds in one step; 0: any
    classifier_lr: float = setting(0, varies=True)
    # Reward: p, p - 1/n, log p + log n, log(p / (1 - p)) + log(n - 1).
    intrinsic: Literal["p", "centred", "log", "log_odds"]


@dataclass(frozen=True, kw_only=True)
class WeightedConfig(ClassifierConfig):
    """Settings of the forms in which alpha weighs individuality against the team reward."""

    alpha: float = setting(0, varies=True)
    alpha_warmup: int = setting(0, varies=True)  # environment steps
    alpha_anneal: int = setting(0, varies=True)  # environment steps
    alpha_floor: float = setting(0, 1, varies=True)  # share of alpha that remains afterwards


@dataclass(frozen=True, kw_only=True)
class GradientConfig(WeightedConfig):
    """Settings of the forms that add a gradient to the agents' own."""

    strength: Literal["weight", "share"]  # alpha: weight of the term, or share of the TD gradient
    project: bool  # remove from the term's gradient what opposes the TD gradient
    # Largest change of an action value since it acted, in deviations; 0: any.
    trust_region: float = setting(0, varies=True)
    constraint_lr: float = setting(0, varies=True)  # of the multiplier, an episode; 0: none
    constraint_slack: float = setting(0, 1, varies=True)  # share of the best return to give up
    value_lr: float = setting(0, varies=True)
    value_tau: float = setting(0, 1)


@dataclass(frozen=True, kw_only=True)
class PullConfig(GradientConfig):
    q_source: Literal["recomputed", "stored"]  # which Q^a(o) trains the intrinsic value
    q_input: Literal["raw", "normalised"]


@dataclass(frozen=True, kw_only=True)
class InvariantConfig(GradientConfig):
    q_source: Literal["recomputed", "stored"]


@dataclass(frozen=True, kw_only=True)
class IntrinsicQConfig(ClassifierConfig):
    """Settings of the forms with an intrinsic Q-function, which may act in training episodes."""

    value_lr: float = setting(0, varies=True)
    value_tau: float = setting(0, 1)
    gamma: float = setting(0, 1, varies=True)  # of the intrinsic Q
    reward_scale: float = setting(0, varies=True)
    chooser: Literal["agents", "own"]  # next action in its target: of Q^a, or its own best
    explorers: Literal["all", "one"]  # agents that explore in an exploring episode
    explore_turn: int = setting(0, varies=True)  # environment steps
    episode_ratio: float = setting(0, 1, varies=True)
    explore_ratio: float = setting(0, 1, varies=True)
    explore_hold: int = setting(0, varies=True)  # environment steps
    explore_anneal: int = setting(0, varies=True)  # environment steps
    explore_floor: float = setting(0, 1, varies=True)  # share of episode_ratio that remains


@dataclass(frozen=True, kw_only=True)
class IntrinsicPolicyConfig(GradientConfig, IntrinsicQConfig):
    temperature: float = setting(1e-6, varies=True)  # of both softmaxes


def normalised(q: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Float[Tensor, "*b U"]:
    """Zero mean and unit deviation over the available actions of each observation."""
    q = centred(q, avail)
    return q * (q.square().sum(-1, keepdim=True) / count(avail) + 1e-8).rsqrt()


def invariant(
    q: Float[Tensor, "*b A U"], avail: Bool[Tensor, "*b A U"], batch: Batch
) -> Float[Tensor, "*b A U"]:
    """Centred over actions, divided by the agent's deviation over the batch.

    It does not change with an agent's offset at an observation, nor with its scale: the two
    directions that a monotone mixer leaves free.
    """
    q = centred(q, avail)
    return q * (variance(q, avail, batch) + 1e-8).rsqrt()[..., None]


def cross_entropy(
    q: Float[Tensor, "*b U"],
    target: Float[Tensor, "*b U"],
    avail: Bool[Tensor, "*b U"],
    temperature: Scalar,
) -> Float[Tensor, "*b"]:
    """CE(softmax(q / T), softmax(target / T)) over the available actions; `target` is constant."""
    lowest = torch.finfo(q.dtype).min
    log_p = (q / temperature).masked_fill(~avail, lowest).log_softmax(-1)
    p = (target.detach() / temperature).masked_fill(~avail, lowest).softmax(-1)
    return -(p * log_p.masked_fill(~avail, 0)).sum(-1)


def own_log_odds(logits: Float[Tensor, "*b A n"]) -> Float[Tensor, "*b A"]:
    """log p(i | o_i) - log(1 - p(i | o_i)) of each agent i."""
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others = logits.masked_fill(own, torch.finfo(logits.dtype).min).logsumexp(-1)
    return logits.diagonal(dim1=-2, dim2=-1) - others


class Individuality(Extra[View], Generic[View]):
    """The classifier with its regularisers (eq. 5), which all forms share."""

    Config = ClassifierConfig
    beta1: Tensor
    beta2: Tensor

    def __init__(self, cfg: ClassifierConfig, context: Context):
        super().__init__()
        spec = context.spec
        self.reward, self.classifier_lr = cfg.intrinsic, cfg.classifier_lr
        self.log_odds_step = cfg.log_odds_step
        self.window = cfg.delta_t
        self.classifier = Classifier(spec.obs_size, context.hidden, spec.n_agents)
        scalar(self, "beta1", cfg.beta1)
        scalar(self, "beta2", cfg.beta2)

    def recognised(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A"]:
        """p(i | o_i): the probability that the classifier gives each agent's own name."""
        return self.posterior(obs).diagonal(dim1=-2, dim2=-1)

    def posterior(self, obs: Float[Tensor, "*b A O"]) -> Float[Tensor, "*b A n"]:
        """p(k | o_j) for the observation of every agent j and every name k."""
        return self.classifier(obs).softmax(-1)

    def intrinsic(self, p: Float[Tensor, "*b A"]) -> Float[Tensor, "*b A"]:
        """The intrinsic reward before its weight; 0 at chance where it is not p itself."""
        n = p.shape[-1]
        if self.reward == "log_odds":
            return p.clamp(1e-6, 1 - 1e-6).logit() + math.log(max(n - 1, 1))
        if self.reward == "log":
            return (n * p.clamp(min=1e-6)).log()
        return p - 1 / n if self.reward == "centred" else p

    def losses(self, batch: Batch, view: View, t: Scalar) -> Losses:
        losses, _ = self.classify(batch)
        return losses

    def classify(self, batch: Batch) -> tuple[Losses, Float[Tensor, "*b A"]]:
        """The classifier's loss (eq. 5), and p(i | o_i) without gradient.

        CE(p, q) = -sum_k q_k log p_k throughout. The classifier trains on unswapped observations.
        """
        now, batch = batch, batch if batch.unswapped is None else batch.unswapped
        assert batch.earlier is not None and batch.has_earlier is not None
        log_p = self.classifier(batch.obs).log_softmax(-1)  # [*b, A, n]
        p = log_p.exp()
        with torch.no_grad():
            # A constant target: the anchor moves to its positive.
            positive = self.classifier(batch.earlier).softmax(-1)
        own = log_p.diagonal(dim1=-2, dim2=-1)  # [*b, A]
        likelihood = -mean_of(batch, own)
        distance = -(positive * log_p).sum(-1) * batch.has_earlier[..., None]
        distance = mean_of(batch, distance)
        # H(I|O), with the gradient through both of its places.
        information = -mean_of(batch, (p * log_p).sum(-1))
        loss = likelihood + self.beta1 * distance + self.beta2 * information
        if self.log_odds_step:
            loss = loss + self.roughness(batch, log_p)
        names = torch.arange(log_p.shape[-1], device=log_p.device)
        right = (log_p.argmax(-1) == names).float()
        stats = {
            "classifier_loss": loss,
            "classifier_ce": likelihood,
            "classifier_pd": distance,
            "classifier_mi": information,
            "classifier_accuracy": mean_of(batch, right),
            "individuality_mean": mean_of(batch, own.exp()),
        }
        with torch.no_grad():
            recognised = own.exp() if now is batch else self.recognised(now.obs)
        stats = {name: value.detach() for name, value in stats.items()}
        return Losses({"classifier": loss}, stats), recognised.detach()

    def roughness(self, batch: Batch, log_p: Float[Tensor, "*b A n"]) -> Scalar:
        """Mean square of the change of an agent's log-odds in one step beyond `log_odds_step`.

        Without it p(i|o) is near 1 as soon as agents part, and an agent has no reason to go on.
        With it the log-odds grow with the steps from where agents meet, as distances do in skills
        of a Lipschitz map (Park et al. 2022).
        """
        before, after = own_log_odds(log_p), own_log_odds(self.classifier(batch.next_obs))
        return mean_of(batch, ((after - before).abs() - self.log_odds_step).relu().square())

    def groups(self) -> Sequence[Group]:
        return [Group([self.classifier], self.classifier_lr)]


class ShapedReward(Individuality[object]):
    """r + alpha p(i | o_i) for every agent (eq. 1)."""

    Config = WeightedConfig

    def __init__(self, cfg: WeightedConfig, context: Context):
        super().__init__(cfg, context)
        self.weight, self.remedy = Weight(cfg), advice(cfg)

    @torch.no_grad()
    def rewards(self, batch: Batch, t: Scalar) -> dict[str, Float[Tensor, "*b A"]]:
        """alpha p(i | o_i) by the current classifier (EOI, section 3.3).

        MAAC moves the classifier in the actors' phase, so its critics see the classifier of one
        update before.
        """
        return {"individuality": self.weight(t) * self.intrinsic(self.recognised(batch.obs))}


def advice(cfg: WeightedConfig) -> str:
    """Advice where values have diverged."""
    if cfg.alpha <= 0:
        return ""
    return f"eoi.alpha={cfg.alpha:g} may be too large here; lower it (docs/algorithms/eoi.md)"


class Weight(torch.nn.Module):
    """alpha with its schedule."""

    alpha: Tensor
    warmup: Tensor
    anneal: Tensor
    floor: Tensor

    def __init__(self, cfg: WeightedConfig):
        super().__init__()
        scalar(self, "alpha", cfg.alpha)
        scalar(self, "warmup", cfg.alpha_warmup)
        scalar(self, "anneal", cfg.alpha_anneal)
        scalar(self, "floor", cfg.alpha_floor)

    def forward(self, t: Scalar) -> Scalar:
        """alpha at environment step t."""
        return self.alpha * trapezoid(self.warmup, self.anneal, self.floor, t)


class Constraint(torch.nn.Module):
    """A multiplier lambda >= 0 that holds the training return near its best so far.

    With J the mean return of about the last 200 training episodes and J* the highest J so far,
    lambda climbs the violation of J >= J* - slack |J*| (dual ascent):

        lambda <- max(0, lambda + lr (J* - slack |J*| - J) / |J*|)

    once an episode. The weight of individuality is alpha / (1 + lambda), as in the Lagrangian
    (1 + lambda) J + alpha R_int. It is meant for returns whose best is well away from 0. Chen et
    al. (2022) ask for the return of a policy that learns without intrinsic reward, where this asks
    for the best return so far.
    """

    HORIZON = 200  # episodes
    multiplier: Tensor
    seen: Tensor
    recent: Tensor
    best: Tensor
    lr: Tensor
    slack: Tensor

    def __init__(self, cfg: GradientConfig):
        super().__init__()
        scalar(self, "lr", cfg.constraint_lr)
        scalar(self, "slack", cfg.constraint_slack)
        for name in ("multiplier", "seen", "recent", "best"):
            self.register_buffer(name, torch.zeros(()))

    def see(self, returns: Float[Tensor, " N"]) -> None:
        """Takes in the returns of N training episodes."""
        n = len(returns)
        self.seen += n
        self.recent += n / self.seen.clamp(max=self.HORIZON) * (returns.mean() - self.recent)
        young = self.seen <= self.HORIZON
        self.best.copy_(torch.where(young, self.recent, torch.maximum(self.best, self.recent)))
        size = self.best.abs()
        short = (self.best - self.slack * size - self.recent) / size.clamp(min=1e-6)
        self.multiplier.copy_((self.multiplier + n * self.lr * short).clamp(min=0))

    def forward(self, weight: Scalar) -> Scalar:
        return weight / (1 + self.multiplier)


PULL = "pull"  # the term that adds a gradient to the agents' own


class Strength(torch.nn.Module):
    """Strength of the term `PULL` in the loss of a value learner's agents.

    A weight, or a share of the norm of the TD gradient, agent by agent.
    """

    trust_region: Tensor

    def __init__(self, cfg: GradientConfig):
        super().__init__()
        self.weight = Weight(cfg)
        self.constraint = Constraint(cfg) if cfg.constraint_lr else None
        # Runs with and without a trust region are of different structure: they do not stack.
        self.keeps = frozenset({"q"} if cfg.trust_region else ())
        if self.keeps:
            scalar(self, "trust_region", cfg.trust_region)
        self.projected = frozenset({PULL} if cfg.project else ())
        self.scaled = frozenset({PULL} if cfg.strength == "share" else ())

    def forward(self, term: Scalar, batch: Batch, view: Values, t: Scalar) -> Losses:
        """The term with its strength, and statistics of the values of available actions."""
        weight, q = self.weight(t), view.q.detach()
        if self.constraint is not None:
            weight = self.constraint(weight)
        stats = {
            "q_abs_mean": mean_of(batch, mean_over(q.abs(), batch.avail)),
            "q_spread": mean_of(batch, spread(q, batch.avail)),
            "alpha": weight,
        }
        if self.scaled:
            return Losses({PULL: term}, stats, {PULL: weight})
        return Losses({PULL: weight * term}, stats)

    def trusted(self, view: Values, batch: Batch) -> Float[Tensor, "*b A U"]:
        """Q^a for the term: beyond the trust region around the Q^a that acted, without gradient.

        The region is in deviations of the agent's stored values over the batch.
        """
        if not self.keeps:
            return view.q
        acted = batch.kept["q"]
        deviation = (variance(centred(acted, batch.avail), batch.avail, batch) + 1e-8).sqrt()
        reach = self.trust_region * deviation[..., None]  # [A, 1]
        return acted + (view.q - acted).clamp(-reach, reach)

    def observe(self, episodes: Episodes) -> None:
        """Sees the training returns."""
        if self.constraint is not None:
            self.constraint.see(episodes.outcome().returns)


class Pull(Individuality[Values]):
    """An intrinsic value function Q_i^p(o_i, Q_i^a(o_i)), and its gradient on Q^a (eq. 6-7).

    The value-vector reading of eq. 6-7: Q^p is a state value whose input is the whole vector Q^a.
    """

    Config = PullConfig
    view = Values
    gamma: Tensor

    def __init__(self, cfg: PullConfig | InvariantConfig, context: Context):
        super().__init__(cfg, context)
        spec = context.spec
        self.cfg, self.strength, self.remedy = cfg, Strength(cfg), advice(cfg)
        self.projected, self.scaled = self.strength.projected, self.strength.scaled
        self.q_source = cfg.q_source
        self.q_input = cfg.q_input if isinstance(cfg, PullConfig) else "invariant"
        if self.q_input == "raw" and cfg.strength == "weight" and cfg.alpha > 0:
            self.notice = (
                "eoi.form=pull: the gradient rewards large Q-values, which diverge on most worlds; "
                "docs/algorithms/eoi.md shows why, and eoi.form=policy does not do so"
            )
        scalar(self, "gamma", context.gamma)
        self.value = IntrinsicValue(spec.n_agents, spec.obs_size, spec.n_actions, context.hidden)
        self.target_value = frozen_copy(self.value)
        self.keeps = self.strength.keeps | ({"q"} if cfg.q_source == "stored" else frozenset())

    def observe(self, episodes: Episodes) -> None:
        self.strength.observe(episodes)

    def prepare(
        self, q: Float[Tensor, "*b A U"], avail: Bool[Tensor, "*b A U"], batch: Batch
    ) -> Float[Tensor, "*b A U"]:
        """Action values as the intrinsic value function sees them; unavailable actions get 0."""
        if self.q_input == "invariant":
            return invariant(q, avail, batch)
        return normalised(q, avail) if self.q_input == "normalised" else q.masked_fill(~avail, 0)

    def losses(self, batch: Batch, view: Values, t: Scalar) -> Losses:
        (terms, stats, _), p = self.classify(batch)
        # The intrinsic value function, regressed on p and its own next value (eq. 6).
        lived = batch.kept["q"] if self.q_source == "stored" else view.q.detach()
        encoded = self.value.encode(batch.obs)
        value = self.value(encoded, self.prepare(lived, batch.avail, batch))
        value = weighted(value, batch.weight)
        with torch.no_grad():
            target = self.intrinsic(p) + self.gamma * self._following(batch, view)
        error = batch.mean((value - target).square()).sum()
        # Its value of the current Q^a, which the agents climb (eq. 7).
        q = self.prepare(self.strength.trusted(view, batch), batch.avail, batch)
        reached = self.value(encoded, q, frozen=True)
        reached = weighted(reached, batch.weight)
        pull = self.strength(-batch.mean(reached).sum(), batch, view, t)
        stats |= {
            "intrinsic_value_loss": error.detach(),
            "intrinsic_value_mean": mean_of(batch, value.detach()),
        }
        terms = terms | {"intrinsic_value": error} | pull.terms
        return Losses(terms, stats | pull.stats, pull.shares)

    def _following(self, batch: Batch, view: Values) -> Float[Tensor, "*b A"]:
        """Target value of the next observation; 0 past the end of a task."""
        q = self.prepare(view.next_q, batch.next_avail, batch)
        following = self.target_value(self.target_value.encode(batch.next_obs), q)
        return (1 - batch.terminated[..., None]) * following

    def groups(self) -> Sequence[Group]:
        return [*super().groups(), Group([self.value], self.cfg.value_lr)]

    def targets(self) -> Sequence[Pair]:
        return [Pair(self.target_value, self.value, self.cfg.value_tau)]

    def diagnose(self, batch: Batch, view: Values) -> Stats:
        """The slope |dQ^p/dq|: gain of the pull for each unit that it moves an agent's values."""
        q = view.q.detach().requires_grad_()
        encoded = self.value.encode(batch.obs)
        reached = self.value(encoded, self.prepare(q, batch.avail, batch), frozen=True)
        (slope,) = torch.autograd.grad(reached.sum(), q)
        return {"intrinsic_slope": mean_of(batch, slope.norm(dim=-1))}


class Invariant(Pull):
    """The pull on values without offset and scale, which cannot make Q-values diverge."""

    Config = InvariantConfig


class IntrinsicQ(Individuality[Values]):
    """An intrinsic Q-function Q_i^p(o): a DQN on the intrinsic reward.

    It may act in a share of the training episodes. In such an episode all agents follow it, or one
    agent while the others stay greedy.
    """

    view = Values
    gamma: Tensor
    reward_scale: Tensor
    episode_ratio: Tensor
    explore_ratio: Tensor
    explore_turn: Tensor
    explore_hold: Tensor
    explore_anneal: Tensor
    explore_floor: Tensor

    def __init__(self, cfg: IntrinsicQConfig, context: Context):
        super().__init__(cfg, context)
        spec = context.spec
        self.cfg = cfg
        self.value = AgentMLP(spec.n_agents, [spec.obs_size, *context.hidden, spec.n_actions])
        self.target_value = frozen_copy(self.value)
        for name in (
            "gamma",
            "reward_scale",
            "episode_ratio",
            "explore_ratio",
            "explore_turn",
            "explore_hold",
            "explore_anneal",
            "explore_floor",
        ):
            scalar(self, name, getattr(cfg, name))

    def share(self, t: Scalar) -> Scalar:
        """Share of exploring episodes at environment step t."""
        after = (t - self.explore_hold).clamp(min=0)
        never = torch.zeros_like(self.explore_anneal)
        return self.episode_ratio * trapezoid(never, self.explore_anneal, self.explore_floor, after)

    def turn(self, t: Scalar, n_agents: int) -> Int[Tensor, ""]:
        """The agent whose turn it is to explore; each turn lasts `explore_turn` steps."""
        return (t / self.explore_turn.clamp(min=1)).floor().long() % n_agents

    def choose(
        self,
        best: Int[Tensor, "N A"],
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        keys: Keys,
        t: Scalar,
    ) -> Int[Tensor, "N A"]:
        """In an exploring episode, its explorers follow the intrinsic Q with `explore_ratio`."""
        n_agents = best.shape[1]
        follow = uniform(named(keys.step, "explore"), n_agents) < self.explore_ratio  # [N, A]
        explores = uniform(named(keys.episode, "explore"))[:, None] < self.share(t)
        if self.cfg.explorers == "one":
            drawn = integers(named(keys.episode, "explorer"), n_agents)
            explorer = torch.where(self.explore_turn > 0, self.turn(t, n_agents), drawn)[:, None]
            explores = explores & (explorer == torch.arange(n_agents, device=best.device))
        return torch.where(explores & follow, masked_argmax(self.value(obs), avail), best)

    def losses(self, batch: Batch, view: Values, t: Scalar) -> Losses:
        losses, _ = self.regress(batch, view)
        return losses

    def regress(self, batch: Batch, view: Values) -> tuple[Losses, Float[Tensor, "*b A U"]]:
        """Loss of the classifier and the intrinsic Q, and the intrinsic Q of all actions."""
        (terms, stats, _), p = self.classify(batch)
        every = self.value(batch.obs)
        value = weighted(of_actions(every, batch.actions), batch.weight)  # [*b, A]
        with torch.no_grad():
            next_value = self.target_value(batch.next_obs)
            chooser = next_value if self.cfg.chooser == "own" else view.next_q
            following = of_actions(next_value, masked_argmax(chooser, batch.next_avail))
            reward = self.reward_scale * self.intrinsic(p)
            target = reward + self.gamma * (1 - batch.terminated[..., None]) * following
        error = batch.mean((value - target).square()).sum()
        stats |= {
            "intrinsic_value_loss": error.detach(),
            "intrinsic_value_mean": mean_of(batch, value.detach()),
        }
        return Losses(terms | {"intrinsic_value": error}, stats), every

    def groups(self) -> Sequence[Group]:
        return [*super().groups(), Group([self.value], self.cfg.value_lr)]

    def targets(self) -> Sequence[Pair]:
        return [Pair(self.target_value, self.value, self.cfg.value_tau)]


class Explore(IntrinsicQ):
    """The authors' later form: the intrinsic Q-function acts, and adds no gradient."""

    Config = IntrinsicQConfig


class IntrinsicPolicy(IntrinsicQ):
    """The agents' softmax approaches the one of the intrinsic Q-function.

    The second reading of eq. 6-7. With chooser = agents, Q^a only selects the action in Q^p's
    target, so Q^p evaluates p under the greedy policy of Q^a. With chooser = own, as in the
    recommended settings (eoi_qmix), Q^p is a DQN on p. The gradient on Q^a is bounded, and blind to
    its offset.
    """

    Config = IntrinsicPolicyConfig
    temperature: Tensor

    def __init__(self, cfg: IntrinsicPolicyConfig, context: Context):
        super().__init__(cfg, context)
        self.strength, self.remedy = Strength(cfg), advice(cfg)
        self.projected, self.scaled = self.strength.projected, self.strength.scaled
        self.keeps = self.strength.keeps
        scalar(self, "temperature", cfg.temperature)

    def observe(self, episodes: Episodes) -> None:
        self.strength.observe(episodes)

    def losses(self, batch: Batch, view: Values, t: Scalar) -> Losses:
        (terms, stats, _), every = self.regress(batch, view)
        q = self.strength.trusted(view, batch)
        distance = cross_entropy(q, every, batch.avail, self.temperature)
        distance = batch.mean(weighted(distance, batch.weight)).sum()
        pull = self.strength(distance, batch, view, t)
        stats |= {"pull_distance": distance.detach()} | pull.stats
        return Losses(terms | pull.terms, stats, pull.shares)
