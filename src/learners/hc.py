"""HC, a policy that coordinates diversified skills (Lee, Yang and Lim 2020).

First each agent learns skills without the task's reward: those that a discriminator identifies
by the observations they lead to (DIAYN: Eysenbach et al. 2019), by a discrete soft actor-critic
(Christodoulou 2019). Then the skills are frozen, and one policy of the whole team chooses among
them by PPO; a chosen skill is held for `hold` steps.

Axes: N copies, A agents, O observation, U actions, K skills, S state, I inputs of the skills; *b is
B transitions or B T episodes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry, Choice, Keys, masked_argmax, sample
from eoi.components.batch import Batch, of_actions
from eoi.components.episodes import Episodes, Kept
from eoi.components.replay import Replay
from eoi.components.segments import segments
from eoi.config.schema import setting
from eoi.controllers.controller import ControllerConfig
from eoi.controllers.hierarchy import Hierarchy, SkillsConfig, refuse_hold
from eoi.envs.base import EnvSpec
from eoi.learners.base import (
    Experience,
    Extra,
    Group,
    Losses,
    Pair,
    Progress,
    Reuse,
    Scalar,
    Stats,
    frozen_copy,
    gradient,
    norm,
    scalar,
)
from eoi.learners.experience import OffPolicy, OffPolicyConfig, OnPolicy, of_phase
from eoi.learners.policy_learner import log_softmax
from eoi.learners.ppo import PPO, PPOConfig
from eoi.modules.agents import CentralAgent
from eoi.modules.critics import TeamValue, TwinValues
from eoi.modules.layers import AgentMLP
from eoi.utils.errors import UserError
from eoi.utils.seeding import integers, named, uniform
from eoi.utils.shapes import Bool, Float, Int

CHOICE, SKILLS = 0, 1  # phases of the loss
FLOOR = -20.0  # of log q(z | o'), as in the authors' code


@dataclass(frozen=True, kw_only=True)
class HCConfig(PPOConfig, OffPolicyConfig, SkillsConfig):
    lr: float = setting(0, varies=True)  # of the skills, their critics and their discriminator
    target_update_tau: float = setting(0, 1)
    skill_entropy: float = setting(0, varies=True)  # temperature of the skills' policies
    skill_episodes: int = setting(0)  # of the longest length, before the team chooses skills
    skills_from: str  # a run whose skills are taken instead
    rollout_episodes: int = setting(1)  # between updates of the choice, at least
    batch_size_run: int = setting(1)  # episodes played at once

    @property
    def rollout(self) -> int:
        """Episodes of a rollout: whole rounds, or an update would learn some of them again."""
        return -(-self.rollout_episodes // self.batch_size_run) * self.batch_size_run

    def reuses(self) -> Sequence[Reuse]:
        if not self.skills_from:
            return []
        networks = ("controller.low.", "twins.", "target_twins.", "discriminator.")
        agents = ("agent", "hidden_dim", "share_params", "obs_agent_id", "obs_last_action")
        alike = ("learner", "n_skills", *agents)
        return [Reuse("skills_from", self.skills_from, networks, alike)]


class HC(PPO[HCConfig]):
    """Skills by DIAYN, then PPO on segments in which the skills are held."""

    Config = HCConfig
    serves = frozenset({"observe"})
    memory = False
    phases = 2
    controller: Hierarchy
    skill_entropy: Tensor
    learned: Tensor
    lived: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        cfg: HCConfig,
        controller: Hierarchy,
        extras: Sequence[Extra[object]] = (),
    ):
        super().__init__(spec, cfg, controller, extras)
        sizes = [spec.obs_size + cfg.n_skills, *controller.hidden, spec.n_actions]
        self.twins = TwinValues(spec.n_agents, sizes)
        self.target_twins = frozen_copy(self.twins)
        self.discriminator = AgentMLP(
            spec.n_agents, [spec.obs_size, *controller.hidden, cfg.n_skills]
        )
        self.limit = spec.episode_limit
        # Environment steps so far, and those after which the team chooses skills.
        self.register_buffer("lived", torch.zeros((), dtype=torch.int64))
        self.first_stage = 0 if cfg.skills_from else cfg.skill_episodes * spec.episode_limit
        scalar(self, "learned", self.first_stage)
        scalar(self, "skill_entropy", cfg.skill_entropy)

    @classmethod
    def make_controller(
        cls, spec: EnvSpec, cfg: ControllerConfig, agent: object, own: HCConfig
    ) -> Hierarchy:
        return Hierarchy(spec, cfg, own.n_skills, CentralAgent)

    def make_critic(self, spec: EnvSpec, cfg: HCConfig) -> TeamValue:
        return TeamValue(spec, cfg, self.controller.hidden)

    @classmethod
    def refuse_world(cls, cfg: HCConfig, spec: Callable[[], EnvSpec]) -> None:
        refuse_hold(cfg, spec())

    # Acting

    def choosing(self) -> Bool[Tensor, ""]:
        """True once the team chooses skills; before that, an episode has random ones."""
        return self.lived >= self.learned

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Scalar,
        greedy: bool,
    ) -> Choice:
        """Skills that are chosen, or drawn for an episode, and actions by them.

        Chosen skills take their most probable actions, drawn ones draw them but in tests.
        """
        controller, choosing, n_agents = self.controller, self.choosing(), obs.shape[1]
        logits, _ = controller.step(obs, carry)
        chosen = logits.argmax(-1)
        if not greedy:
            chosen = sample(logits.softmax(-1), uniform(named(keys.step, "skill"), n_agents))
        drawn = integers(named(keys.episode, "skill"), controller.n_skills, n_agents)
        hold = torch.where(choosing, self.cfg.hold, self.limit)
        skill, held = controller.held(carry, torch.where(choosing, chosen, drawn), hold)
        logits, memory = controller.low.step(controller.with_skill(obs, skill), carry)
        actions = masked_argmax(logits, avail)
        if not greedy:
            p = log_softmax(logits, avail).exp()
            actions = torch.where(choosing, actions, sample(p, keys.draws[..., 0]))
        keep = {"skill": skill, "chosen": choosing.expand(len(obs))}
        return Choice(actions, controller.low.took(memory, actions) | held, keep)

    def policy(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """Distribution over actions, summed over the skills that the agent may hold."""
        choosing, total = self.choosing(), torch.zeros_like(avail, dtype=obs.dtype)
        chosen = self.controller(obs).softmax(-1)  # [*b, A, K]
        share = torch.where(choosing, chosen, 1 / self.cfg.n_skills)
        for number, weight in enumerate(share.unbind(-1)):
            skill = torch.full(obs.shape[:-1], number, device=obs.device)
            logits = self.controller.low(self.controller.with_skill(obs, skill), last_actions)
            best = nn.functional.one_hot(masked_argmax(logits, avail), avail.shape[-1])
            p = torch.where(choosing, best.float(), log_softmax(logits, avail).exp())
            total = total + weight[..., None] * p
        return total

    # Learning

    @property
    def replays(self) -> bool:
        return True

    def keeps(self, spec: EnvSpec) -> dict[str, Kept]:
        return super().keeps(spec) | {"chosen": Kept((), torch.bool)}

    def observe(self, episodes: Episodes) -> None:
        self.lived += episodes.length.sum()

    def experience(self, replay: Replay) -> Experience:
        cfg, wants, padded = self.cfg, self.wants, not replay.fixed_length
        if cfg.rollout * (self.limit + 1) > replay.rows:
            raise UserError(
                f"rollout_episodes={cfg.rollout_episodes}: that many episodes do not fit the "
                "replay; lower it, or raise buffer_size"
            )
        rollouts = OnPolicy(cfg, None, wants, whole=False, study=self.study, padded=padded)
        skills = OffPolicy(cfg, replay, wants, whole=False)
        return Stages(skills, rollouts, cfg.rollout, self.ahead)

    def ahead(self, t: int) -> int:
        """Steps of the first stage that were ahead when the run began, `t` steps ago.

        A run that starts from another run's networks goes on from their stage.
        """
        return self.first_stage - (int(self.lived) - t)

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        return super().forward(batch, t) if phase == CHOICE else self._skills(batch)

    @torch.no_grad()
    def study(self, rollout: Batch, t: Scalar) -> Batch:
        """The segments of a rollout [N, T], with the fields of all their updates.

        Episodes with drawn skills are left out.
        """
        every = torch.ones(self.cfg.n_skills, dtype=torch.bool, device=rollout.reward.device)
        parts = segments(rollout, self.cfg.hold, self.gamma, every)
        assert parts.valid is not None
        valid = parts.valid * rollout.kept["chosen"][:, :1]
        return super().study(replace(parts, rewards=None, valid=valid), t)

    def chosen(
        self, log_p: Float[Tensor, "*b A K"], actions: Int[Tensor, "*b A"]
    ) -> Float[Tensor, "*b 1"]:
        """Log-probability of the whole team's choice, which is one action of one policy."""
        return of_actions(log_p, actions).sum(-1, keepdim=True)

    def _skills(self, batch: Batch) -> Losses:
        """Critics, policies and discriminators of the skills, each with a gradient of its own."""
        skill = batch.kept["skill"]
        seen = self.controller.with_skill(batch.obs, skill)
        q = self.twins(seen)  # [2, B, A, U]
        logits = self.controller.low(seen, batch.last_actions)
        log_p = log_softmax(logits, batch.avail)
        guess = of_actions(self.discriminator(batch.next_obs).log_softmax(-1), skill)  # [B, A]
        reward = diversity_reward(guess.detach(), -math.log(self.cfg.n_skills))
        target = self._target(batch, reward)
        error = torch.stack([of_actions(each, batch.actions) for each in q]) - target
        critic = error.square().mean(1).sum()
        actor = policy_loss(log_p, q.amin(0).detach(), self.skill_entropy).mean(0).sum()
        terms = {"skill_critic": critic, "skill": actor, "discriminator": -guess.mean(0).sum()}
        stats = {
            "loss": critic.detach(),
            "td_error_abs": error.detach().abs().mean(),
            "target_mean": target.mean(),
            "skill_loss": actor.detach(),
            "skill_reward": reward.mean(),
            "skill_probability": guess.detach().exp().mean(),
            "entropy": -(log_p.exp() * log_p).sum(-1).mean().detach(),
        }
        return Losses(terms, stats)

    @torch.no_grad()
    def _target(self, batch: Batch, reward: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """r + gamma (1 - d) V(o', z)."""
        seen = self.controller.with_skill(batch.next_obs, batch.kept["skill"])
        log_p = log_softmax(self.controller.low(seen, batch.actions), batch.next_avail)
        following = soft_value(log_p, self.target_twins(seen).amin(0), self.skill_entropy)
        return reward + self.gamma * (1 - batch.terminated[:, None]) * following

    def own_groups(self) -> Sequence[Group]:
        cfg, skills = self.cfg, [self.controller.low, self.twins, self.discriminator]
        return [
            Group([self.controller.agents], cfg.actor_lr, cfg.actor_clip),
            Group([self.critic], cfg.critic_lr, cfg.critic_clip),
            Group(skills, cfg.lr),
        ]

    def own_targets(self) -> Sequence[Pair]:
        return [Pair(self.target_twins, self.twins, self.cfg.target_update_tau, phase=SKILLS)]

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """Gradient norms of the stage's terms."""
        if batch.phases is None or CHOICE in batch.phases:
            return super().diagnose(batch, t)
        terms = self(batch, t, SKILLS).terms
        critic = gradient(terms["skill_critic"], [*self.twins.parameters()])
        low = gradient(terms["skill"], [*self.controller.low.parameters()])
        return {"grad_norm": norm(critic), "skill_grad_norm": norm(low)}


def diversity_reward(
    log_q: Float[Tensor, "*b"], log_prior: float | Float[Tensor, "*b"]
) -> Float[Tensor, "*b"]:
    """log q(z | o') - log p(z) (Eysenbach et al. 2019, eq. 3); ln K at most with K skills."""
    return log_q.clamp(min=FLOOR) - log_prior


def soft_value(
    log_p: Float[Tensor, "*b U"], q: Float[Tensor, "*b U"], entropy: Scalar
) -> Float[Tensor, "*b"]:
    """sum_a pi(a) (Q(a) - alpha log pi(a)) (Christodoulou 2019, eq. 10)."""
    return (log_p.exp() * (q - entropy * log_p)).sum(-1)


def policy_loss(
    log_p: Float[Tensor, "*b U"], q: Float[Tensor, "*b U"], entropy: Scalar
) -> Float[Tensor, "*b"]:
    """sum_a pi(a) (alpha log pi(a) - Q(a)) (Christodoulou 2019, eq. 12)."""
    return -soft_value(log_p, q, entropy)


class Stages:
    """Transitions for the skills; later, for each rollout, its episodes for the choice.

    The whole of both stages is in the replay, so a run goes on where it stopped.
    """

    def __init__(
        self, skills: OffPolicy, choice: OnPolicy, episodes: int, ahead: Callable[[int], int]
    ):
        """`episodes`: of a rollout; `ahead`: as `HC.ahead`, asked once, after the first rollout."""
        self.skills, self.choice, self.episodes, self.ahead = skills, choice, episodes, ahead
        self.left: int | None = None  # steps of the first stage; None: not asked yet

    def insert(self, episodes: Episodes) -> None:
        self.skills.insert(episodes)

    def batches(self, key: Int[Tensor, ""], now: Scalar, at: Progress) -> Iterator[Batch]:
        """Updates of the stage in which the last rollout was played."""
        if self.left is None:
            self.left = self.ahead(at.t)
        if at.t - at.new < self.left:
            yield from of_phase(SKILLS, self.skills.batches(key, now, at))
            return
        replay = self.skills.replay
        # Where episodes are shorter, the first rollout reaches into the first stage, whose episodes
        # `HC.study` leaves out.
        due = at.due(self.episodes, since=max(self.left, 0) // replay.limit)
        if due:
            newest = replay.newest(due * self.episodes)
            rollout = replay.read_episodes(newest, self.skills.wants)
            yield from of_phase(CHOICE, self.choice.passes(rollout, key, now, at))
