"""The training loop of a run."""

import logging
import pathlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eoi import snapshots
from eoi.assembly import Parts
from eoi.components.episodes import Episodes, Outcome
from eoi.learners.learner import Stats
from eoi.runners.rollout import Rollout
from eoi.runners.watching import Watched, diversity
from eoi.settings import RunConfig, Settings
from eoi.utils import checkpoints
from eoi.utils.errors import Failure, UserError
from eoi.utils.logging import RunLog
from eoi.utils.seeding import fold, root_key
from eoi.utils.stopping import Stop

log = logging.getLogger(__name__)


@dataclass
class Counters:
    """Where a run stands. With the seed, this is the state of all its randomness."""

    t: int = 0  # environment steps
    episodes: int = 0
    updates: int = 0
    tests: int = 0
    best: float = float("-inf")  # highest test return so far


class Course(ABC):
    """The loop of one run, or of many side by side: play, learn, report, test, save."""

    run: RunConfig
    at: Counters
    saved_at: float  # seconds, of the newest checkpoint

    def train(self) -> None:
        """Until t_max. Ctrl-C ends it after the iteration in hand, and what it has come to is saved."""
        with Stop() as stop:
            self._loop(stop)
        self.finish()
        if stop.asked and self.at.t < self.run.t_max:
            raise KeyboardInterrupt

    def _loop(self, stop: Stop) -> None:
        run = self.run
        if self.at.t == 0:
            self.test()
        self.progress()
        while self.at.t < run.t_max and not stop.asked:
            before = self.at.t
            self.play()
            self.learn()
            if self.at.t // run.log_interval > before // run.log_interval:
                self.report()
            if self.at.t // run.test_interval > before // run.test_interval:
                self.test()
            self.progress()
            if time.monotonic() - self.saved_at >= 60 * run.save_interval:
                _while_running(self.checkpoint)
        self.progress(last=True)

    @abstractmethod
    def play(self) -> None: ...
    @abstractmethod
    def learn(self) -> None: ...
    @abstractmethod
    def test(self) -> None: ...
    @abstractmethod
    def report(self) -> None: ...
    @abstractmethod
    def progress(self, last: bool = False) -> None: ...
    @abstractmethod
    def checkpoint(self) -> None: ...
    @abstractmethod
    def finish(self) -> None: ...


class Training(Course):
    """One run."""

    def __init__(self, parts: Parts, settings: Settings, log: RunLog, folder: pathlib.Path | None):
        self.parts, self.settings, self.run, self.log, self.folder = (
            parts,
            settings,
            settings.run,
            log,
            folder,
        )
        self.at = Counters()
        self.keys = {
            name: root_key(self.run.seed, name, parts.device)
            for name in ("train", "test", "replay")
        }
        self.since_report: list[Outcome] = []
        self.batch: Any = None  # the last one learnt from
        self.stats: Stats = {}
        self.checkpoints = (
            checkpoints.Checkpoints(folder / "checkpoints")
            if folder and self.run.save_interval
            else None
        )
        self.saved_t, self.saved_at = -1, time.monotonic()  # of the newest checkpoint

    def play(self) -> None:
        self.lived(self.parts.train.run(self.parts.learner.act, self.train_keys(), self.now()))

    def lived(self, episodes: Episodes) -> None:
        """Takes in the episodes just played."""
        self.parts.feed.insert(episodes)
        self.at.t += self.parts.train.steps(episodes)
        self.at.episodes += self.parts.train.env.n_envs
        self.since_report.append(episodes.outcome())

    def learn(self) -> None:
        """As many updates as are due, each on what the learner is fed with."""
        at, now = self.at, self.now()
        for batch in self.parts.feed.batches(self.keys["replay"], now, at.t, at.updates):
            self.batch, self.stats = batch, self.parts.descent.update(batch, now, at.episodes)
            at.updates += 1

    def test(self) -> None:
        """Greedy episodes with randomness of their own: in rounds where there are fewer copies."""
        rollout = self.parts.test
        watched, rounds = (
            Watched(self.parts.learner.act, rollout.env),
            max(1, self.run.test_nepisode // rollout.env.n_envs),
        )

        def played(k: int) -> Episodes:
            return rollout.run(
                watched, self.test_keys(self.at.tests * rounds + k), self.now(), greedy=True
            )

        outcomes = [played(k).outcome() for k in range(rounds - 1)]
        last = played(rounds - 1)
        self.tested([*outcomes, last.outcome()], last, watched.overlap())

    def tested(
        self, outcomes: Sequence[Outcome], last: Episodes, overlap: dict[str, Tensor]
    ) -> None:
        """Logs how a test went, the last round of which was `last`; keeps the networks if they are the best so far."""
        found = (
            summary(outcomes, self.parts.test.env.spec.metrics)
            | diversity(self.parts.learner.policy, last)
            | overlap
        )
        self.log.metrics(found, self.at.t, prefix="test_")
        self.at.tests += 1
        if self.log.latest["test_return_mean"] > self.at.best:
            self.refuse_broken()
            self.at.best = self.log.latest["test_return_mean"]
            _while_running(lambda: self.save("best"))

    def report(self) -> None:
        self.refuse_broken()
        self.log.metrics(summary(self.since_report, self.parts.train.env.spec.metrics), self.at.t)
        self.log.metrics({"episode": self.at.episodes, "updates": self.at.updates}, self.at.t)
        if self.parts.train.env.spec.scarce:
            self.log.metrics(
                {"dropped_episodes": self.parts.train.dropped + self.parts.test.dropped}, self.at.t
            )
        if self.batch is not None:
            self.log.metrics(
                self.stats | self.parts.learner.diagnose(self.batch, self.now()), self.at.t
            )
        self.since_report = []

    def progress(self, last: bool = False) -> None:
        self.log.progress(self.at.t, self.at.episodes, self.at.updates, last)

    def finish(self) -> None:
        self.refuse_broken()
        self.save("last")
        self.checkpoint()

    def save(self, name: str) -> None:
        if self.run.save_model and self.folder is not None:
            content = {"t": self.at.t, "learner": snapshots.networks(self.parts.learner)}
            checkpoints.save(self.folder / "models" / f"{name}.pt", content)

    def checkpoint(self) -> None:
        """All of the run's state, for `resume`. Raises OSError."""
        if self.checkpoints is None or self.saved_t == self.at.t:
            return
        self.refuse_broken()
        self.saved_at = time.monotonic()
        self.checkpoints.write(self.at.t, snapshots.take(self))
        self.saved_t = self.at.t

    def resume(self, path: pathlib.Path, content: dict[str, Any]) -> None:
        """Goes on from a checkpoint. Raises UserError."""
        try:
            snapshots.put(self, content)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: does not fit this program ({type(error).__name__}: {str(error).splitlines()[0]})"
            ) from None
        self.saved_t = self.at.t

    def refuse_broken(self) -> None:
        """Raises Failure when the loss, or a network, has ceased to be finite; what was saved before stays."""
        terms, ago = self.parts.descent.broken()
        state = self.parts.learner.state_dict().items()
        what = [f"loss term {term}" for term in terms] or [
            name for name, x in state if x.is_floating_point() and not x.isfinite().all()
        ]
        if what:
            first = f" since update {self.at.updates - ago + 1}" if terms else ""
            saved = (
                f"the state of t = {self.saved_t} is in checkpoints/"
                if self.saved_t >= 0
                else "there is no checkpoint before it"
            )
            raise Failure(
                f"{', '.join(what[:4])}: nan or infinite{first}; {saved}; a smaller lr or grad_norm_clip may help"
            )

    def now(self) -> Tensor:
        return torch.tensor(float(self.at.t), device=self.parts.device)

    def train_keys(self) -> Tensor:
        return self.episode_keys("train", self.at.episodes, self.parts.train)

    def test_keys(self, number: int) -> Tensor:
        """`number` counts all rounds of all tests."""
        return self.episode_keys("test", number * self.parts.test.env.n_envs, self.parts.test)

    def episode_keys(self, stream: str, first: int, rollout: Rollout) -> Tensor:
        return fold(
            self.keys[stream], first + torch.arange(rollout.env.n_envs, device=self.parts.device)
        )


def _while_running(write: Callable[[], None]) -> None:
    """A full disk does not end a run that can still go on: what was written before stays, and the next write may succeed."""
    try:
        write()
    except OSError as error:
        log.warning(
            "warning: %s: %s; the run goes on", error.filename or "saving", error.strerror or error
        )


def evaluate(parts: Parts, settings: Settings, log: RunLog) -> float:
    """test_nepisode greedy episodes with the saved networks; their mean return."""
    save_replay = getattr(parts.test.env, "save_replay", None)
    if settings.run.save_replay and save_replay is None:
        raise UserError(
            "save_replay: only StarCraft II itself has replays; src/watch.py makes films of any saved run"
        )
    training = Training(parts, settings, log, None)
    training.test()
    if settings.run.save_replay and save_replay:
        print("replays:", *save_replay())
    for name, value in log.latest.items():
        print(f"{name} {value:.4g}")
    return log.latest["test_return_mean"]


def summary(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> dict[str, Tensor]:
    """PyMARL's return_mean, return_std, ep_length_mean, and the mean of the world's own metrics."""
    returns, lengths = (
        torch.cat([getattr(o, name) for o in outcomes]) for name in ("returns", "length")
    )
    means = {
        f"{name}_mean": torch.cat([o.info[name] for o in outcomes]).mean(0) for name in metrics
    }
    return {
        "return_mean": returns.mean(),
        "return_std": returns.std(correction=0),
        "ep_length_mean": lengths.float().mean(),
    } | means
