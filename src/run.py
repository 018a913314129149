"""The state of a run, and the loop that trains one run or many side by side.

Axes: R runs, N copies of one run.
"""

import functools
import logging
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eoi.build import Worlds, find_folder, make_learner, make_replay, restore
from eoi.components.batch import Batch, from_plain, plain
from eoi.components.episodes import Episodes, Outcome
from eoi.config.schema import varying
from eoi.envs.base import EnvSpec
from eoi.learners.base import Extra, Learner, Progress, Stats
from eoi.learners.descent import Descent
from eoi.learners.experience import OffPolicy
from eoi.learners.stack import Stack, StackDescent
from eoi.records.collapse import collapse, described
from eoi.runners.diversity import diversity
from eoi.runners.rollout import Rollout
from eoi.saved import reuse
from eoi.settings import Settings
from eoi.utils import checkpoints
from eoi.utils.errors import Failure, UserError
from eoi.utils.logging import RunLog
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Int
from eoi.utils.stopping import Stop
from eoi.utils.trees import map_tensors, member, stacked

log = logging.getLogger(__name__)


@dataclass
class Counters:
    """Progress of a run. With the seed, this is the state of all its randomness."""

    t: int = 0  # environment steps
    episodes: int = 0
    updates: int = 0
    tests: int = 0
    best: float = float("-inf")  # highest test return of trained (or loaded) networks
    best_t: int = 0  # its environment step
    dropped: int = 0  # episodes, tests too, lost to faults of the machine
    warned: bool = False  # of a collapse


def _most(t_max: int, spec: EnvSpec, copies: int) -> tuple[int, int]:
    """Steps and episodes that a run has at most: it ends with a whole rollout of the copies."""
    rollout = copies * spec.episode_limit
    if not spec.fixed_length:
        return t_max - 1 + rollout, t_max - 1 + rollout
    rollouts = -(-t_max // rollout)
    return rollouts * rollout, rollouts * copies


class Run:
    """One run: its networks, replay, counters, log and files."""

    def __init__(
        self,
        settings: Settings,
        worlds: Worlds,
        run_log: RunLog,
        folder: pathlib.Path | None = None,
        runs: int = 1,
        resumed: bool = False,
    ):
        """`runs`: runs of this size that must fit in memory together; 0 skips the check.

        `resumed`: a checkpoint will be loaded, so no other run's networks are.
        """
        self.settings, self.cfg, self.log, self.folder = settings, settings.run, run_log, folder
        self.spec, self.device = worlds.train.spec, worlds.device
        self.learner = make_learner(settings, self.spec).to(self.device)
        if runs:
            for notice in self.learner.notices():
                log.warning("warning: %s", notice)
        if self.cfg.checkpoint_path and not resumed:
            restore(self.learner, find_folder(self.cfg.checkpoint_path))
        self.replay = make_replay(settings, worlds, self.learner, runs)
        self.experience = self.learner.experience(self.replay)
        most = _most(self.cfg.t_max, self.spec, worlds.train.n_envs // max(runs, 1))
        if runs and not self.cfg.evaluate and (reason := self._lacks(*most)):
            log.warning("warning: no update will be made: %s; lower it, or raise t_max", reason)
        self.at = Counters()
        streams = ("train", "test", "replay", "absolute")
        self.keys = {name: root_key(self.cfg.seed, name, self.device) for name in streams}
        self.since_report: list[Outcome] = []
        self.new_steps = self.new_episodes = 0  # of the last rollout
        self.batch: Batch | None = None  # of the last update
        self.stats: Stats = {}  # of the updates since the last report, the newest of each
        self.checkpoints: checkpoints.Checkpoints | None = None
        if folder is not None and self.cfg.save_interval:
            self.checkpoints = checkpoints.Checkpoints(folder / "checkpoints")
        self.saved_t, self.saved_at = -1, time.monotonic()  # of the newest checkpoint

    def _lacks(self, t: int, episodes: int) -> str:
        """Reason why no update comes within so many steps and episodes, as far as it is known."""
        return self.experience.lacks(t, episodes) if isinstance(self.experience, OffPolicy) else ""

    @property
    def untrained(self) -> str:
        """A sentence for a run that has made no update, else ''."""
        if self.at.updates:
            return ""
        networks = "those of checkpoint_path" if self.cfg.checkpoint_path else "untrained"
        reason = self._lacks(self.at.t, self.at.episodes)
        return f"no update was made{reason and f', because {reason}'}; the networks are {networks}"

    @property
    def now(self) -> Tensor:
        """Environment steps so far, as schedules read them."""
        return torch.tensor(float(self.at.t), device=self.device)

    def episode_keys(self, stream: str, first: int, count: int) -> Int[Tensor, " N"]:
        """Keys of episodes, numbered from `first` in their stream."""
        return fold(self.keys[stream], first + torch.arange(count, device=self.device))

    def take(self, episodes: Episodes, played: int, steps: int) -> None:
        """Takes in new episodes: those left of `played` ones, `steps` environment steps."""
        for part in (self.learner, *self.learner.with_hook("observe")):
            self._observe(part, episodes)
        self.experience.insert(episodes)
        self.new_steps, self.new_episodes = steps, played
        self.at.t += steps
        self.at.episodes += played
        self.since_report.append(episodes.outcome())

    def _observe(self, part: Learner | Extra, episodes: Episodes) -> None:
        """Raises TypeError when `part` replaces a buffer: a fleet's members share memory."""
        before = dict(part.named_buffers())
        part.observe(episodes)
        for name, buffer in part.named_buffers():
            if buffer is not before.get(name):
                kind = type(part).__name__
                raise TypeError(f"{kind}.observe: write {name} in place, e.g. by {name}.copy_(...)")

    def batches(self) -> Iterator[Batch]:
        """Batches of the updates that are due."""
        counters, new = self.at, (self.new_steps, self.new_episodes)
        at = Progress(counters.t, counters.episodes, counters.updates, *new)
        return self.experience.batches(self.keys["replay"], self.now, at)

    def tested(self, outcomes: Sequence[Outcome], last: Episodes) -> None:
        """Logs a test, whose last episodes are `last`; saves the best trained networks so far."""
        learner, spec = self.learner, self.spec
        found = summary(outcomes, spec.metrics)
        found |= diversity(learner.policy, last, spec.n_cells, learner.controller.remembers)
        self.log.metrics(found, self.at.t, prefix="test_")
        self.at.tests += 1
        found, trained = self.log.latest["test_return_mean"], self.at.updates > 0
        if found > self.at.best and (trained or self.cfg.checkpoint_path):
            self.refuse_broken()
            if _while_running(lambda: self.save("best")):  # else a later test may be the best
                self.at.best, self.at.best_t = found, self.at.t
        self._warn_of_collapse()

    def _warn_of_collapse(self) -> None:
        """Prints a warning, once, when the return is gone and values grow."""
        found = None if self.at.warned else collapse(self.log.series)
        if found is not None:
            self.at.warned = True
            title = f"{self.settings.title} {self.cfg.label}".rstrip()
            log.warning("warning: %s: %s", title, described(found, self.learner.remedies()))

    def take_best(self) -> None:
        """Takes the networks of the best test. Raises Failure where they cannot be read."""
        if self.folder is None:
            return
        try:
            restore(self.learner, self.folder, "best")
        except UserError as error:
            raise Failure(str(error)) from None

    def report(self) -> None:
        """Logs the training since the last report."""
        self.refuse_broken()
        self.log.metrics(summary(self.since_report, self.spec.metrics), self.at.t)
        self.log.metrics({"episode": self.at.episodes, "updates": self.at.updates}, self.at.t)
        if self.spec.scarce:
            self.log.metrics({"dropped_episodes": self.at.dropped}, self.at.t)
        if self.batch is not None and self.stats:
            diagnosed = self.learner.diagnose(self.batch, self.now)
            self.log.metrics(self.stats | diagnosed, self.at.t)
        self.since_report, self.stats = [], {}

    def finish(self) -> None:
        """Saves the networks and a checkpoint."""
        self.refuse_broken()
        if self.at.best == float("-inf"):  # no trained networks were tested
            self.save("best")
        self.save("last")
        self.checkpoint()

    def save(self, name: str) -> None:
        """Writes the networks. Raises OSError."""
        if self.cfg.save_model and self.folder is not None:
            counters = {"t": self.at.t, "updates": self.at.updates}
            content = counters | {"learner": weights(self.learner)}
            checkpoints.save(self.folder / "models" / f"{name}.pt", content)

    def checkpoint(self) -> None:
        """Writes all of the run's state, for `resume`. Raises OSError."""
        if self.checkpoints is None or self.saved_t == self.at.t:
            return
        self.refuse_broken()
        self.saved_at = time.monotonic()
        finished = self.at.t >= self.cfg.t_max
        keep = checkpoints.KEEP_FINISHED if finished else checkpoints.KEEP
        self.checkpoints.write(self.at.t, self.state(), keep)
        self.saved_t = self.at.t

    def disk(self) -> tuple[int, int]:
        """Bytes of the networks at the end and, roughly, of one checkpoint of a full replay."""
        networks = _bytes(self.learner.state_dict().values())
        if self.checkpoints is None:
            return networks, 0
        moments = 2 * _bytes(x for x in self.learner.parameters() if x.requires_grad)  # Adam's
        replay = self.replay.bytes if self.learner.replays else 0
        return networks, networks + moments + replay // checkpoints.SHRINKS

    # Set by the trainer, which owns the optimiser of all its runs.
    descent: Descent
    place: int = 0

    def state(self) -> dict[str, Any]:
        """All of the run's state at the end of an iteration.

        Randomness is a function of the seed and the counters, and no episode is under way.
        """
        return {
            "counters": asdict(self.at),
            "learner": weights(self.learner),
            "descent": self.descent.state_of(self.place),
            "replay": self.replay.state(),
            "since_report": [vars(outcome) for outcome in self.since_report],
            "batch": plain(self.batch),
            "stats": self.stats,
            "log": self.log.state(),
        }

    def load_state(self, content: dict[str, Any]) -> None:
        """Raises KeyError or RuntimeError when `content` is of another program or configuration."""
        self.learner.load_state_dict(content["learner"])
        self.descent.load_state(content["descent"])
        self.replay.load_state(content["replay"])
        self.at = Counters(**content["counters"])
        here = functools.partial(map_tensors, lambda x: x.to(self.device))  # read on the CPU
        self.since_report = [here(Outcome(**outcome)) for outcome in content["since_report"]]
        self.batch = here(from_plain(content["batch"]))
        self.stats = here(content["stats"])
        self.log.load_state(content["log"])

    def resume(self, path: pathlib.Path, content: dict[str, Any]) -> None:
        """Continues from a checkpoint. Raises UserError."""
        try:
            self.load_state(content)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise UserError(f"{path}: does not fit this program ({reason})") from None
        self.saved_t = self.at.t

    def refuse_broken(self) -> None:
        """Raises Failure when a loss term, or a network, has ceased to be finite."""
        terms, ago = self.descent.broken(self.place)
        state = self.learner.state_dict().items()
        broken = [f"loss term {term}" for term in terms] or [
            name for name, x in state if x.is_floating_point() and not x.isfinite().all()
        ]
        if not broken:
            return
        first = f" since update {self.at.updates - ago + 1}" if terms else ""
        saved = "there is no checkpoint before it"
        if self.saved_t >= 0:
            saved = f"the state of t = {self.saved_t} is in checkpoints/"
        raise Failure(
            f"{', '.join(broken[:4])}: nan or infinite{first}; {saved}; "
            "a smaller lr or grad_norm_clip may help"
        )


class Trainer:
    """Plays, trains and tests runs side by side: one, or a fleet whose learners are stacked.

    A run that fails is left out of reports and tests; the others go on.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        worlds: Worlds,
        title: str = "",
        compiled: bool = False,
        beats: Sequence[Callable[[], None]] = (),
    ):
        """`title`: for the progress line of a fleet; `beats`: called after tests and reports."""
        self.beats = beats
        self.runs, self.cfg = list(runs), runs[0].cfg
        self.failures: list[Failure | None] = [None] * len(runs)
        first = runs[0]
        keeps = first.learner.keeps(worlds.train.spec)
        self.rollout = Rollout(worlds.train, worlds.device, keeps, first.settings.reads_cells)
        self.tests = Rollout(worlds.test, worlds.device, with_cells=True)
        if len(runs) == 1:
            self.team, self.descent = first.learner, Descent(first.learner, self.cfg.cuda_graphs)
        else:
            self.team = Stack([run.learner for run in runs], compiled)
            self.descent = StackDescent(self.team, self.cfg.cuda_graphs)
            self._set_world_settings(worlds)
        for place, each in enumerate(runs):
            each.descent, each.place = self.descent, place
        self.log = first.log if len(runs) == 1 else RunLog(lambda *_: None, title, self.cfg.t_max)

    def _set_world_settings(self, worlds: Worlds) -> None:
        """A setting that varies is an attribute of the world with one entry for each copy."""
        for name in varying(type(self.runs[0].settings.env)):
            values = torch.tensor([getattr(run.settings.env, name) for run in self.runs])
            for env in (worlds.train, worlds.test):
                copies = env.n_envs // len(self.runs)
                getattr(env, name).copy_(values.repeat_interleave(copies))

    @property
    def at(self) -> Counters:
        """Progress of the runs, which keep in step."""
        return self.runs[0].at

    def train(self) -> None:
        """Trains until t_max. Ctrl-C stops after the iteration in hand, and the state is saved.

        Raises KeyboardInterrupt after Ctrl-C, and Failure when no run is left.
        """
        with Stop() as stop:
            self._loop(stop)
        self._each(lambda run: run.finish())
        if stop.asked and self.at.t < self.cfg.t_max:
            raise KeyboardInterrupt
        if self.at.updates and all(run.at.best == float("-inf") for run in self._sound()):
            # After the checkpoint: a longer run, which continues from it, has no such test.
            self.test()
        if self.cfg.absolute_nepisode and self.runs[0].folder is not None:
            self.absolute()

    def _loop(self, stop: Stop) -> None:
        cfg = self.cfg
        if self.at.t == 0:
            for run in self.runs:
                reuse(run.learner, run.settings)
        if self.at.tests == 0:  # a run may have been stopped in its first test
            self.test()
        while self.at.t < cfg.t_max and not stop.asked:
            self.progress()
            before = self.at.t
            self.play()
            self.learn()
            if self.at.t // cfg.log_interval > before // cfg.log_interval:
                self.report()
            if self.at.t // cfg.test_interval > before // cfg.test_interval:
                self.test()
            saved_at = max(run.saved_at for run in self.runs)
            if time.monotonic() - saved_at >= 60 * cfg.save_interval:
                _while_running(self.checkpoint)
        self.progress(last=True)

    def checkpoint(self) -> None:
        """Writes the state of every run. Raises OSError."""
        self._each(lambda run: run.checkpoint())

    def play(self) -> None:
        """Plays training episodes, which the runs take in."""
        count = self.rollout.env.n_envs // len(self.runs)
        keys = [run.episode_keys("train", run.at.episodes, count) for run in self.runs]
        episodes = self._played(self.rollout, torch.cat(keys))
        for run, own in zip(self.runs, self._apart(episodes), strict=True):
            run.take(own, count, self.rollout.steps(own))

    def _played(self, rollout: Rollout, keys: Int[Tensor, " N"], greedy: bool = False) -> Episodes:
        """Episodes of all runs; those lost to faults are counted."""
        before = rollout.dropped
        episodes = rollout.run(self.team, keys, self.runs[0].now, greedy)
        for run in self.runs:
            run.at.dropped += rollout.dropped - before
        return episodes

    def learn(self) -> None:
        """As many updates as are due."""
        now, episodes = self.runs[0].now, self.at.episodes
        stats: Stats = {}
        for batches in zip(*(run.batches() for run in self.runs), strict=True):
            self.progress()  # thousands of updates may be due at once (learning_starts)
            batch = batches[0] if len(batches) == 1 else stacked(batches)
            stats |= self.descent.update(batch, now, episodes)
            for each, own in zip(self.runs, batches, strict=True):
                each.batch = own
                each.at.updates += 1
        for place, run in enumerate(self.runs):
            run.stats |= stats if len(self.runs) == 1 else member(stats, place)

    def test(self) -> None:
        """Greedy episodes with randomness of their own, in rounds where copies are few."""
        tests = [run.at.tests for run in self.runs]
        outcomes, last = self._greedy("test", self.cfg.test_nepisode, tests)
        self._each(lambda run: run.tested(outcomes[run.place], last[run.place]))
        self._beat()

    def absolute(self) -> None:
        """Logs the absolute metric (Gorsane et al. 2022): many episodes of the best networks."""
        self._each(lambda run: run.take_best())
        count, metrics = self.cfg.absolute_nepisode, self.runs[0].spec.metrics
        outcomes, _ = self._greedy("absolute", count, [0] * len(self.runs))
        for run in self._sound():
            found = summary(outcomes[run.place], metrics)
            run.log.metrics(found, run.at.t, prefix="absolute_")
        self._beat()

    def _greedy(
        self, stream: str, episodes: int, tests: Sequence[int]
    ) -> tuple[list[list[Outcome]], list[Episodes]]:
        """Outcomes of each run's greedy episodes, and the last of these episodes.

        `tests`: how many tests each run has had, so that episodes differ from test to test.
        """
        n_envs, runs = self.tests.env.n_envs, self.runs
        rounds = -(-len(runs) * episodes // n_envs)  # at least so many episodes
        count = n_envs // len(runs)
        outcomes: list[list[Outcome]] = [[] for _ in runs]
        last: list[Episodes] = []
        for k in range(rounds):
            keys = [
                run.episode_keys(stream, (test * rounds + k) * count, count)
                for run, test in zip(runs, tests, strict=True)
            ]
            played = self._played(self.tests, torch.cat(keys), greedy=True)
            last = self._apart(played)
            for found, own in zip(outcomes, last, strict=True):
                found.append(own.outcome())
        return outcomes, last

    def _beat(self) -> None:
        for beat in self.beats:
            beat()

    def report(self) -> None:
        """Logs the training since the last report."""
        self._each(lambda run: run.report())
        self._beat()

    def progress(self, last: bool = False) -> None:
        """The progress line: of the run, or of the mean of all runs that go on."""
        if not last and not self.log.is_due:
            return
        logs = [run.log for run in self._sound()]
        if len(self.runs) > 1:
            for name in logs[0].latest if logs else ():
                values = [found.latest.get(name, 0.0) for found in logs]
                self.log.latest[name] = sum(values) / len(values)
        self.log.progress(self.at.t, self.at.episodes, self.at.updates, last)

    def _apart(self, episodes: Episodes) -> list[Episodes]:
        """The episodes of each run."""
        if len(self.runs) == 1:
            return [episodes]
        count = len(episodes.length) // len(self.runs)
        return [episodes.at(slice(k * count, (k + 1) * count)) for k in range(len(self.runs))]

    def _sound(self) -> list[Run]:
        return [run for run in self.runs if self.failures[run.place] is None]

    def _each(self, step: Callable[[Run], None]) -> None:
        """`step` for every run that goes on. Raises the failure of the last one that did."""
        for run in self._sound():
            try:
                step(run)
            except Failure as failure:
                self.failures[run.place] = failure
                if not self._sound():
                    raise
                message = "warning: seed %d %s: %s; the other runs go on"
                log.warning(message, run.cfg.seed, run.cfg.label, failure)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, copied: a view into a stack would be saved with the stack."""
    return {name: x.clone() for name, x in module.state_dict().items()}


def _while_running(write: Callable[[], None]) -> bool:
    """Whether it was written. A full disk does not end a run: earlier files stay."""
    try:
        write()
    except OSError as error:
        place, reason = error.filename or "saving", error.strerror or error
        log.warning("warning: %s: %s; the run goes on", place, reason)
        return False
    return True


def summary(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> dict[str, Tensor]:
    """PyMARL's return_mean, return_std, ep_length_mean, and means of the world's own metrics."""
    returns = torch.cat([outcome.returns for outcome in outcomes])
    lengths = torch.cat([outcome.length for outcome in outcomes]).float()
    found = {
        "return_mean": returns.mean(),
        "return_std": returns.std(correction=0),
        "ep_length_mean": lengths.mean(),
    }
    return found | {
        f"{name}_mean": torch.cat([outcome.info[name] for outcome in outcomes]).mean(0)
        for name in metrics
    }
