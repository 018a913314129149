"""Sources of a learner's batches: a replay, or the episodes just played.

Axes: B batch, N copies, T time, A agents.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eoi.components.batch import Batch
from eoi.components.episodes import Episodes
from eoi.components.replay import Replay, Wants
from eoi.config.schema import setting
from eoi.learners.base import LearnerConfig, Progress, Scalar
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, uniform
from eoi.utils.shapes import Int
from eoi.utils.trees import map_tensors


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(LearnerConfig):
    batch_size: int = setting(1)  # transitions; episodes, where agents remember
    update_interval: int = setting(1)  # environment steps an update
    update_interval_episodes: int = setting(0)  # episodes an update; 0: by steps
    learning_starts: int = setting(0)  # environment steps


class OffPolicy:
    """Transitions, or whole episodes, from the replay."""

    def __init__(self, cfg: OffPolicyConfig, replay: Replay, wants: Wants, whole: bool):
        """Raises UserError if the replay may be too small for a batch of whole episodes."""
        longest = replay.limit + 1  # rows of an episode
        if whole and replay.rows // longest < cfg.batch_size:
            raise UserError(
                f"batch_size={cfg.batch_size} episodes: the replay holds"
                f" {replay.rows // longest} of {replay.limit} steps; raise buffer_size"
            )
        self.cfg, self.replay, self.wants, self.whole = cfg, replay, wants, whole

    def insert(self, episodes: Episodes) -> None:
        self.replay.insert(episodes)

    def batches(self, key: Int[Tensor, ""], now: Scalar, at: Progress) -> Iterator[Batch]:
        """A batch for each update that is due."""
        due = self.due(at)
        if due <= 0:
            return
        keys = fold(key, at.updates + torch.arange(due, device=key.device))
        count, window = self.cfg.batch_size, self.wants.window
        if self.whole:
            sequences = self.replay.draw_episodes(keys, count, window)
            for drawn, own in zip(sequences, keys, strict=True):
                yield self.replay.read_episodes(drawn, self.wants, own)
        else:
            drawn = self.replay.draw(keys, count, window)
            yield from self.replay.read_each(drawn, self.wants, keys)

    def due(self, at: Progress) -> int:
        """Updates since the last call, after `at.t` environment steps."""
        cfg, enough = self.cfg, not self.whole or self.replay.episodes >= self.cfg.batch_size
        if at.t < cfg.learning_starts or not enough:
            return 0
        if cfg.update_interval_episodes:
            if not self.whole:
                return at.episodes // cfg.update_interval_episodes - at.updates
            # The first update comes with the first full batch, as in PyMARL.
            return (at.episodes - cfg.batch_size) // cfg.update_interval_episodes + 1 - at.updates
        return at.t // cfg.update_interval - at.updates

    def lacks(self, t: int, episodes: int) -> str:
        """Reason why no update comes within so many steps and episodes, or ''."""
        cfg, first = self.cfg, max(self.cfg.update_interval_episodes, 1)
        if t < cfg.learning_starts:
            return f"learning_starts={cfg.learning_starts} is more than its {t} steps"
        if self.whole and episodes < cfg.batch_size:
            return f"batch_size={cfg.batch_size} is more than its {episodes} episodes"
        if not self.whole and episodes < first:
            return f"update_interval_episodes={first} is more than its {episodes} episodes"
        if not cfg.update_interval_episodes and t < cfg.update_interval:
            return f"update_interval={cfg.update_interval} is more than its {t} steps"
        return ""


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(LearnerConfig):
    batch_size: int = setting(1)  # transitions; episodes, where agents remember
    epochs: int = setting(1)  # passes over the episodes just played


class OnPolicy:
    """The episodes just played, shuffled and cut into minibatches, `epochs` times.

    `study` adds to a rollout the fields that its updates share. The replay serves extras, which may
    learn from more than the last rollout: a batch from it goes with each minibatch.
    """

    def __init__(
        self,
        cfg: OnPolicyConfig,
        replay: Replay | None,
        wants: Wants,
        whole: bool,
        study: Callable[[Batch, Scalar], Batch],
        padded: bool,
    ):
        """`padded`: episodes may differ in length."""
        self.cfg, self.replay, self.wants, self.whole = cfg, replay, wants, whole
        self._study, self.padded = study, padded
        self._rollout: Batch | None = None

    def insert(self, episodes: Episodes) -> None:
        self._rollout = episodes.batch()
        if self.replay is not None:
            self.replay.insert(episodes)

    def batches(self, key: Int[Tensor, ""], now: Scalar, at: Progress) -> Iterator[Batch]:
        """`epochs` passes over the last rollout."""
        assert self._rollout is not None, "a rollout comes first"
        return self.passes(self._rollout, key, now, at)

    def passes(
        self, rollout: Batch, key: Int[Tensor, ""], now: Scalar, at: Progress
    ) -> Iterator[Batch]:
        """`epochs` passes over a rollout [N, T]."""
        rollout = self._study(rollout, now)
        if not self.wants.last_actions:
            rollout = replace(rollout, last_actions=None)
        if not self.whole:
            rollout = transitions(rollout)
        elif not self.padded:
            rollout = replace(rollout, valid=None)
        count = len(rollout.obs)
        parts, key = max(1, count // self.cfg.batch_size), fold(key, at.updates)
        epochs = torch.arange(self.cfg.epochs, device=key.device)
        orders = uniform(fold(key, epochs), count).argsort(1)  # [epochs, rows]
        chosen = [rows for order in orders for rows in order.tensor_split(parts)]
        more = torch.arange(len(chosen), device=key.device)
        keys = fold(fold(key, self.cfg.epochs), more)
        for rows, memory, own in zip(chosen, self._memories(keys), keys, strict=True):
            yield minibatch(rollout, rows, memory, own)

    def _memories(self, keys: Int[Tensor, " K"]) -> Iterator[Batch | None]:
        """Transitions from the replay for each minibatch."""
        if self.replay is None:
            yield from [None] * len(keys)
            return
        drawn = self.replay.draw(keys, self.cfg.batch_size, self.wants.window)
        yield from self.replay.read_each(drawn, self.wants, keys)


def of_phase(phase: int, batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches, each for one phase of the loss."""
    return (replace(batch, phases=(phase,)) for batch in batches)


# Updates by a rollout read no next step, and copying one would cost a tenth of an update.
_NEXT = {"next_obs": "obs", "next_state": "state", "next_avail": "avail"}


def minibatch(
    rollout: Batch, rows: Int[Tensor, " B"], memory: Batch | None, key: Int[Tensor, ""]
) -> Batch:
    """Rows of a rollout that `study` has completed.

    Its next observations, states and masks are those of the current step.
    """
    left_out = {*_NEXT, "memory", "key"}
    fields = {name: x for name, x in vars(rollout).items() if name not in left_out}
    fields = map_tensors(lambda x: x[rows], fields)
    following = {name: fields[now] for name, now in _NEXT.items()}
    return Batch(**fields, **following, memory=memory, key=key)


def transitions(batch: Batch) -> Batch:
    """The valid transitions of episodes [N, T], in order."""
    assert batch.valid is not None
    valid = batch.valid.bool()
    return replace(map_tensors(lambda x: x[valid], batch), valid=None)
