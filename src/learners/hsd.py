"""HSD, skills and the choice among them learned together (Yang, Borovikov and Zha 2020).

The high level is QMIX over segments of `hold` steps, whose actions are skills. The low level is
Q-learning of each agent, whose input is the skill held and whose reward is the task's and the
probability with which the decoder identifies that skill.

Axes: N copies, A agents, O observation, U actions, K skills, S state; B episodes, T time,
Z segments, L steps of a segment, D steps that the decoder sees.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from eoi.components.action_selection import Carry, Choice, Keys, epsilon_greedy, masked_argmax
from eoi.components.batch import Batch, mean_of, of_actions
from eoi.components.episodes import Episodes
from eoi.components.replay import Replay
from eoi.components.schedules import linear
from eoi.components.segments import at_ends, cut, inside, segments
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
    Scalar,
    Stats,
    Values,
    gradient,
    norm,
    scalar,
)
from eoi.learners.experience import OffPolicy, of_phase
from eoi.learners.q_learner import QConfig, QLearner, values
from eoi.modules.decoder import Decoder
from eoi.utils.errors import UserError
from eoi.utils.seeding import named, uniform
from eoi.utils.shapes import Bool, Float, Int

LEVELS, DECODER = 0, 1  # phases of the loss


@dataclass(frozen=True, kw_only=True)
class HSDConfig(QConfig, SkillsConfig):
    decoder_lr: float = setting(0, varies=True)
    decoder_batch: int = setting(1)  # segments of one step of the decoder, of all agents
    decoder_skip: int = setting(1)  # n: the decoder sees every n-th observation
    decoder_difference: bool  # it sees their differences
    skills_start: int = setting(0)  # skills in use at first; 0: all
    skills_threshold: float = setting(0, 1, varies=True)  # mean p at which more come into use
    task_weight_start: float = setting(0, 1, varies=True)
    task_weight_finish: float = setting(0, 1, varies=True)
    task_weight_episodes: int = setting(0, varies=True)  # of the longest length

    @property
    def seen(self) -> int:
        """Steps of a whole segment that the decoder sees."""
        return -(-self.hold // self.decoder_skip) - self.decoder_difference


class HSD(QLearner[HSDConfig]):
    """Two levels of Q-learning, and a decoder of trajectories that rewards the lower one."""

    Config = HSDConfig
    serves = frozenset({"observe"})
    holds: ClassVar = {}
    memory = False
    noise = False
    phases = 2
    controller: Hierarchy
    target_controller: Hierarchy
    in_use: Tensor
    task_weight_start: Tensor
    task_weight_finish: Tensor
    task_weight_duration: Tensor
    skills_threshold: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        cfg: HSDConfig,
        controller: Hierarchy,
        extras: Sequence[Extra[Values]] = (),
    ):
        super().__init__(spec, cfg, controller, extras)
        self.limit, n_skills = spec.episode_limit, cfg.n_skills
        self.decoder = Decoder(spec.obs_size, controller.hidden[0], n_skills)
        in_use = min(cfg.skills_start or n_skills, n_skills)
        self.register_buffer("in_use", torch.tensor(float(in_use)))
        for name in ("task_weight_start", "task_weight_finish", "skills_threshold"):
            scalar(self, name, getattr(cfg, name))
        scalar(self, "task_weight_duration", cfg.task_weight_episodes * spec.episode_limit)

    @classmethod
    def make_controller(
        cls, spec: EnvSpec, cfg: ControllerConfig, agent: object, own: HSDConfig
    ) -> Hierarchy:
        return Hierarchy(spec, cfg, own.n_skills)

    @classmethod
    def refuse_world(cls, cfg: HSDConfig, spec: Callable[[], EnvSpec]) -> None:
        if cfg.seen < 1:
            raise UserError(
                f"decoder_difference: segments of hold={cfg.hold} steps, every "
                f"decoder_skip={cfg.decoder_skip}, have no differences; raise hold"
            )
        if cfg.skills_start > cfg.n_skills:
            raise UserError(f"skills_start={cfg.skills_start}: there are n_skills={cfg.n_skills}")
        refuse_hold(cfg, spec())

    # Acting

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Scalar,
        greedy: bool,
    ) -> Choice:
        """Epsilon-greedy skills where the last one was held to its end, and actions by them."""
        low, epsilon = self.controller.low, self.epsilon(t)
        q, _ = self.controller.step(obs, carry)
        allowed = self.usable().expand_as(q)
        chosen = masked_argmax(q, allowed)
        if not greedy:
            flip, draw = uniform(named(keys.step, "skill"), obs.shape[1], 2).unbind(-1)
            chosen = epsilon_greedy(chosen, allowed, epsilon, flip, draw)
        skill, held = self.controller.held(carry, chosen, self.cfg.hold)
        q, memory = low.step(self.controller.with_skill(obs, skill), carry)
        actions = masked_argmax(q, avail)
        if not greedy:
            flip, draw = keys.draws.unbind(-1)
            actions = epsilon_greedy(actions, avail, epsilon, flip, draw)
        return Choice(actions, low.took(memory, actions) | held, {"skill": skill})

    def usable(self) -> Bool[Tensor, " K"]:
        """Skills in use."""
        return torch.arange(self.cfg.n_skills, device=self.in_use.device) < self.in_use

    def policy(
        self,
        obs: Float[Tensor, "*b A O"],
        avail: Bool[Tensor, "*b A U"],
        last_actions: Int[Tensor, "*b A"] | None = None,
    ) -> Float[Tensor, "*b A U"]:
        """The greedy action by the skill that is best at this observation, all on one action."""
        q = self.controller(obs)
        skill = masked_argmax(q, self.usable().expand_as(q))
        best = masked_argmax(
            self.controller.low(self.controller.with_skill(obs, skill), last_actions), avail
        )
        return nn.functional.one_hot(best, avail.shape[-1]).float()

    # Learning

    def experience(self, replay: Replay) -> Experience:
        return Fresh(OffPolicy(self.cfg, replay, self.wants, whole=True), self.fresh())

    def fresh(self) -> int:
        """Episodes that hold the segments of one step of the decoder, if none ends early."""
        each = -(-self.limit // self.cfg.hold) * self.controller.n_agents
        return -(-self.cfg.decoder_batch // each)

    @torch.no_grad()
    def observe(self, episodes: Episodes) -> None:
        """Brings more skills into use where the decoder identifies those of new episodes."""
        if not self.cfg.skills_start:
            return
        batch = episodes.batch()
        right = self.mean_segment(batch, self.own(self.decode(batch), batch).exp())
        more = grown(self.in_use, self.cfg.n_skills)
        self.in_use.copy_(torch.where(right >= self.skills_threshold, more, self.in_use))

    def forward(self, batch: Batch, t: Scalar, phase: int = 0) -> Losses:
        return self._levels(batch, t) if phase == LEVELS else self._decoder(batch)

    def _levels(self, batch: Batch, t: Scalar) -> Losses:
        parts = segments(batch, self.cfg.hold, self.gamma, self.usable())
        view, chooser = self._values(parts)
        high = self._td(parts, view, chooser, t)
        low = self._low(batch, t)
        return Losses(high.terms | low.terms, high.stats | low.stats)

    def _low(self, batch: Batch, t: Scalar) -> Losses:
        """Squared temporal difference of each agent at the skill that it held."""
        reward, stats = self.low_reward(batch, t)
        add, skill = self.controller.with_skill, batch.kept["skill"]
        batch = replace(batch, obs=add(batch.obs, skill), next_obs=add(batch.next_obs, skill))
        view, chooser = values(
            batch, self.controller.low, self.target_controller.low, self.cfg.double_q
        )
        taken = of_actions(view.q, batch.actions)  # [B, T, A]
        with torch.no_grad():
            following = of_actions(view.next_q, masked_argmax(chooser, batch.next_avail))
            target = reward + self.gamma * (1 - batch.terminated[..., None]) * following
        loss = batch.mean((taken - target).square()).sum()
        stats |= {"low_loss": loss.detach(), "low_target_mean": mean_of(batch, target)}
        return Losses({"low_td": loss}, stats)

    @torch.no_grad()
    def low_reward(self, batch: Batch, t: Scalar) -> tuple[Float[Tensor, "B T A"], Stats]:
        """w r + (1 - w) p(z_i | tau_i), the latter at the last step of the segment of z_i."""
        log_p, weight = self.decode(batch), self.task_weight(t)
        p = self.own(log_p, batch).exp()  # [B, Z, A]
        right = (log_p.argmax(-1) == self.skills(batch)).float()
        stats = {
            "skill_probability": self.mean_segment(batch, p),
            "skill_accuracy": self.mean_segment(batch, right),
            "skills_in_use": self.in_use,
            "task_weight": weight,
        }
        return weight * batch.earned + (1 - weight) * at_ends(p, batch, self.cfg.hold), stats

    def task_weight(self, t: Scalar) -> Scalar:
        """Weight of the task's reward at environment step t."""
        start, finish = self.task_weight_start, self.task_weight_finish
        return linear(start, finish, self.task_weight_duration, t)

    def _decoder(self, batch: Batch) -> Losses:
        """Cross-entropy of the skill that made each trajectory."""
        loss = -self.mean_segment(batch, self.own(self.decode(batch), batch))
        return Losses({"decoder": loss}, {"decoder_loss": loss.detach()})

    def decode(self, batch: Batch) -> Float[Tensor, "B Z A K"]:
        """log p(z | tau) of every segment and agent.

        tau: the observations after each of the segment's actions.
        """
        hold = self.cfg.hold
        track, valid = seen_by_decoder(cut(batch.next_obs, hold), inside(batch, hold), self.cfg)
        n_agents = track.shape[3]
        rows = track.transpose(2, 3).flatten(0, 2)  # [B Z A, D, O]
        there = valid[:, :, None].expand(-1, -1, n_agents, -1)
        logits = self.decoder(rows, there.flatten(0, 2))
        return logits.log_softmax(-1).view(*there.shape[:3], -1)

    def skills(self, batch: Batch) -> Int[Tensor, "B Z A"]:
        """The skill held in each segment."""
        return batch.kept["skill"][:, :: self.cfg.hold]

    def own(self, log_p: Float[Tensor, "B Z A K"], batch: Batch) -> Float[Tensor, "B Z A"]:
        """log p of the skill that was held."""
        return of_actions(log_p, self.skills(batch))

    def mean_segment(self, batch: Batch, x: Float[Tensor, "B Z A"]) -> Scalar:
        """Mean over all segments and agents."""
        there = inside(batch, self.cfg.hold).amax(-1)  # [B, Z]
        return (x.mean(-1) * there).sum() / there.sum()

    def own_groups(self) -> Sequence[Group]:
        return [*super().own_groups(), Group([self.decoder], self.cfg.decoder_lr)]

    def own_targets(self) -> Sequence[Pair]:
        return [pair._replace(phase=LEVELS) for pair in super().own_targets()]

    def diagnose(self, batch: Batch, t: Scalar) -> Stats:
        """Gradient norms of both levels."""
        if batch.phases is not None and LEVELS not in batch.phases:
            return {}
        terms, low = self(batch, t).terms, [*self.controller.low.parameters()]
        below = {id(p) for p in low}
        high = [p for p in self.controller.parameters() if id(p) not in below]
        high += self.mixer.parameters()
        return {
            "grad_norm": norm(gradient(terms["td"], high)),
            "low_grad_norm": norm(gradient(terms["low_td"], low)),
        }


def grown(in_use: Scalar, n_skills: int) -> Scalar:
    """The next number of skills in use: half as many again and one, at most all."""
    return (1.5 * in_use + 1).floor().clamp(max=n_skills)


def seen_by_decoder(
    track: Float[Tensor, "B Z L A O"], valid: Float[Tensor, "B Z L"], cfg: HSDConfig
) -> tuple[Float[Tensor, "B Z D A O"], Float[Tensor, "B Z D"]]:
    """Every `decoder_skip`-th observation of each segment, or the differences of these."""
    track, valid = track[:, :, :: cfg.decoder_skip], valid[:, :, :: cfg.decoder_skip]
    if not cfg.decoder_difference:
        return track, valid
    return track[:, :, 1:] - track[:, :, :-1], valid[:, :, 1:]


class Fresh:
    """Whole episodes from the replay for both levels, and each new episode once for the decoder."""

    def __init__(self, source: OffPolicy, fresh: int):
        """`fresh`: episodes of one step of the decoder."""
        self.source, self.fresh = source, fresh

    def insert(self, episodes: Episodes) -> None:
        self.source.insert(episodes)

    def batches(self, key: Int[Tensor, ""], now: Scalar, at: Progress) -> Iterator[Batch]:
        """The decoder's steps that are due, then the updates of both levels."""
        replay = self.source.replay
        due, last = at.due(self.fresh), at.episodes // self.fresh
        for number in range(last - due + 1, last + 1):
            after = at.episodes - number * self.fresh
            episodes = replay.read_episodes(replay.newest(self.fresh, after), self.source.wants)
            yield replace(episodes, phases=(DECODER,))
        at = at._replace(updates=at.updates - (last - due))
        yield from of_phase(LEVELS, self.source.batches(key, now, at))
