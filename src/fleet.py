"""Many runs in lockstep: which runs a fleet is made of, and their common loop. Each keeps its own counters, log, replay and files.

Axes: R runs, N copies of one run.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eoi import envs
from eoi.assembly import rollouts
from eoi.components.episodes import Episodes
from eoi.config import loader
from eoi.config.schema import nearest, parse, setting, varying
from eoi.learners.kl import KLConfig
from eoi.learners.lfo import LFOConfig
from eoi.learners.stack import Stack, StackDescent, map_tensors, member, stacked
from eoi.run import Counters, Course, Training
from eoi.runners.watching import Watched
from eoi.settings import RunConfig, Settings
from eoi.utils.errors import Failure, UserError
from eoi.utils.logging import RunLog

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    seeds: tuple[int, ...] = setting(0, 2**31 - 1)
    vary: dict  # setting: its values
    compile: bool


def varied(cfg: FleetConfig, given: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """For each run of the product of seeds and values: what sets it apart, nested as the loader wants it, and the label of its arm.

    One run without anything of its own where no fleet is asked for. Raises UserError.
    """
    for key, values in cfg.vary.items():
        if not isinstance(values, list) or not values:
            raise UserError(
                f"fleet.vary: {key} wants a list of values, e.g. fleet.vary={{'{key}': [0, 0.05]}}"
            )
        _refuse_twice(values, f"fleet.vary: {key}")
    _refuse_twice(cfg.seeds, "fleet.seeds")
    for key in (*cfg.vary, *(["seed"] if cfg.seeds else [])):
        if _holds(given, key):
            raise UserError(f"with {key}: the runs of this fleet have values of their own")
    for values in itertools.product(*cfg.vary.values()):
        arm = [f"{key}={value}" for key, value in zip(cfg.vary, values, strict=True)]
        for seed in [f"seed={seed}" for seed in cfg.seeds] or [""]:
            yield loader.parse_updates(filter(None, [*arm, seed])), " ".join(arm)


def _refuse_twice(values: Sequence[Any], what: str) -> None:
    if len(set(map(repr, values))) < len(values):
        raise UserError(f"{what} names a value twice")


def _holds(given: Mapping[str, Any], key: str) -> bool:
    section, _, rest = key.partition(".")
    return section in given and (not rest or _holds(given[section], rest))


def given_fleet(given: Mapping[str, Any]) -> FleetConfig:
    """Raises UserError."""
    return parse(
        FleetConfig, loader.merged(loader.defaults()["fleet"], given.get("fleet", {})), "fleet."
    )


def refuse_unstackable(cfg: FleetConfig, members: Sequence[Settings]) -> None:
    """Raises UserError with the reason why these runs cannot be one program."""
    first = members[0]
    readers: dict[str, Sequence[type]] = {
        "": (RunConfig, type(first.learner), type(first.network), type(first.feed)),
        "env_args.": (type(first.env),),
        "eoi.": (type(first.eoi),),
        "lfo.": (LFOConfig,),
        "kl.": (KLConfig,),
    }
    known = {
        prefix + name
        for prefix, kinds in readers.items()
        for kind in kinds
        for name in varying(kind)
    }
    for key in cfg.vary:
        if key not in known:
            raise UserError(
                f"fleet.vary: runs that differ in {key} are not one program; start a fleet for each value.{nearest(key, known)}"
            )
    for key, parts in (
        ("lfo.omega", {s.lfo.omega > 0 for s in members}),
        ("kl.weight", {s.kl.weight > 0 for s in members}),
    ):
        if len(parts) > 1:
            raise UserError(
                f"fleet.vary: with {key}=0 that part is not in the program; give 0 a fleet, or a run, of its own"
            )
    if first.run.evaluate:
        raise UserError(
            "evaluate: a fleet trains; evaluate its runs one by one with src/evaluate.py"
        )
    with contextlib.closing(envs.REGISTRY[first.run.env](first.env, 1, "cpu")) as env:
        if not env.spec.fixed_length:
            world = first.run.env
            raise UserError(
                f"fleet: the episodes of {world} differ in length, so its runs' updates would fall apart; use src/batch.py"
            )


class _Share:
    """One run's part in the common descent, in place of a Descent of its own."""

    def __init__(self, whole: StackDescent, run: int):
        self._whole, self._run = whole, run

    def broken(self) -> tuple[list[str], int]:
        return self._whole.finite.broken(self._run)

    def state(self) -> dict[str, Any]:
        return self._whole.state_of(self._run)


class Fleet(Course):
    """R trainings whose acting, learning and tests are stacked. A run that fails is left out of what is reported; the rest go on."""

    def __init__(self, members: Sequence[Training], title: str, compiled: bool = False):
        self.members, self.run = list(members), members[0].run
        self.failures: list[Failure | None] = [None] * len(members)
        first = members[0].parts
        self.stack = Stack([m.parts.learner for m in members], compiled)
        self.descent = StackDescent(self.stack)
        for run, m in enumerate(members):
            m.parts.descent = _Share(self.descent, run)  # pyright: ignore[reportAttributeAccessIssue] # what a Training asks of it
        self.play_rollout, self.test_rollout = rollouts(
            members[0].settings, first.device, len(members)
        )
        for rollout in (self.play_rollout, self.test_rollout):
            self._give_worlds_their_settings(rollout.env)
        self.log = RunLog(lambda *_: None, title, self.run.t_max)
        self.saved_at = members[0].saved_at

    def _give_worlds_their_settings(self, env: Any) -> None:
        """A setting that varies is an attribute of the world with one entry a copy."""
        for name in varying(type(self.members[0].settings.env)):
            values = torch.tensor([getattr(m.settings.env, name) for m in self.members])
            getattr(env, name).copy_(values.repeat_interleave(env.n_envs // len(self.members)))

    @property
    def at(self) -> Counters:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All runs stand at the same step."""
        return self.members[0].at

    def play(self) -> None:
        keys = torch.cat([m.train_keys() for m in self.members])
        episodes = self.play_rollout.run(self.stack.act, keys, self.members[0].now())
        for run, m in enumerate(self.members):
            m.lived(self._of(episodes, run))

    def learn(self) -> None:
        now, at, stats = self.members[0].now(), self.at, None
        feeds = [
            m.parts.feed.batches(m.keys["replay"], now, at.t, at.updates) for m in self.members
        ]
        for batches in zip(*feeds, strict=True):
            stats = self.descent.update(stacked(batches), now, at.episodes)
            for m, batch in zip(self.members, batches, strict=True):
                m.batch = batch
                m.at.updates += 1
        if stats is not None:
            for run, m in enumerate(self.members):
                m.stats = member(stats, run)

    def test(self) -> None:
        watched = Watched(self.stack.act, self.test_rollout.env)
        keys = torch.cat([m.test_keys(self.at.tests) for m in self.members])
        episodes = self.test_rollout.run(watched, keys, self.members[0].now(), greedy=True)

        def tested(run: int, m: Training) -> None:
            of_run = self._of(episodes, run)
            m.tested([of_run.outcome()], of_run, watched.overlap(self._copies(episodes, run)))

        self._each(tested)

    def report(self) -> None:
        self._each(lambda _, m: m.report())

    def checkpoint(self) -> None:
        self._each(lambda _, m: m.checkpoint())
        self.saved_at = max(m.saved_at for m in self.members)

    def finish(self) -> None:
        self._each(lambda _, m: m.finish())

    def progress(self, last: bool = False) -> None:
        logs = [m.log for _, m in self._sound()]
        for name in logs[0].latest if logs else ():
            self.log.latest[name] = sum(found.latest.get(name, 0.0) for found in logs) / len(logs)
        self.log.progress(self.at.t, self.at.episodes, self.at.updates, last)

    def _sound(self) -> list[tuple[int, Training]]:
        return [(run, m) for run, m in enumerate(self.members) if self.failures[run] is None]

    def _each(self, step: Callable[[int, Training], None]) -> None:
        """Does it for every run that is sound. Raises the failure of the last one that was."""
        for run, m in self._sound():
            try:
                step(run, m)
            except Failure as failure:
                self.failures[run] = failure
                log.warning(
                    "warning: seed %d %s: %s; the other runs go on",
                    m.run.seed,
                    m.run.label,
                    failure,
                )
                if not self._sound():
                    raise

    def _copies(self, episodes: Episodes, run: int) -> slice:
        n = len(episodes.length) // len(self.members)
        return slice(run * n, (run + 1) * n)

    def _of(self, episodes: Episodes, run: int) -> Episodes:
        copies = self._copies(episodes, run)
        return map_tensors(lambda x: x[copies], episodes)
