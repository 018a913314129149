"""A search of settings by Optuna: each trial is a batch of runs, and the study is a file.

A trial is one choice of the settings, trained with every seed. Its value is the mean over seeds of
the runs' final values. Trials are asked for in rounds, as many at once as the engine has room for.
A study that was stopped continues with the trials that it had begun: their runs are recognised by
their settings.
"""

import json
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eoi.batches.jobs import Job, find, plan, refuse_axis
from eoi.batches.report import METRIC, record
from eoi.config import loader
from eoi.records.groups import WITHIN
from eoi.records.record import Config
from eoi.records.statistics import FINAL, final_value
from eoi.records.summary import aligned
from eoi.settings import configure
from eoi.utils.errors import UserError
from eoi.utils.places import command, install

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Runner = Callable[[Sequence[Job]], bool]  # runs jobs; whether the user stopped them
_RANGE = re.compile(r"(?P<low>[^:,]+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?")
_ASKED = "asked"  # the study's attribute with the question that it answers


@dataclass(frozen=True)
class Dimension:
    """One searched setting: a range of numbers, or a few values."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[str, ...] = ()

    def text(self, value: object) -> str:
        """`key=value` as it is typed; numbers have four significant digits."""
        number = isinstance(value, float) and not self.integer
        return f"{self.key}={f'{value:.4g}' if number else value}"

    @property
    def ends(self) -> list[str]:
        """Values that show whether the whole dimension is permitted."""
        if self.choices:
            return [self.text(choice) for choice in self.choices]
        return [self.text(int(x) if self.integer else x) for x in (self.low, self.high)]

    def distribution(self) -> "BaseDistribution":
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        if self.integer:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)


def dimension(text: str, config: Config) -> Dimension:
    """The dimension that `KEY=LOW..HIGH[:log]` or `KEY=VALUE,VALUE` asks for. Raises UserError.

    config: settings of a run; an integer stays one.
    """
    key, equals, values = text.partition("=")
    if not key or not equals or not values:
        raise UserError(f"--search {text}: expected KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B")
    found = _RANGE.fullmatch(values)
    if found is None and ".." in values:
        raise UserError(f"--search {text}: expected numbers, as LOW..HIGH or LOW..HIGH:log")
    if found is None:
        choices = tuple(filter(None, values.split(",")))
        if len(choices) < 2:
            raise UserError(f"--search {text}: one value is no search; write LOW..HIGH, or A,B")
        refuse_twice(f"--search {key}", choices)
        return Dimension(key, choices=choices)
    low, high = (_number(text, found[end]) for end in ("low", "high"))
    if low >= high:
        raise UserError(f"--search {text}: the range goes down or is empty; write LOW..HIGH")
    if found["log"] and low <= 0:
        raise UserError(f"--search {text}: a range on a logarithmic scale begins above 0")
    integer = type(_setting(config, key)) is int
    result = Dimension(key, low, high, log=bool(found["log"]), integer=integer)
    ends = [end.partition("=")[2] for end in result.ends]
    if [float(end) for end in ends] != [low, high]:
        reason = "the setting is an integer" if integer else "a number has four digits"
        raise UserError(f"--search {text}: {reason}; write {'..'.join(ends)}")
    return result


def refuse_twice(option: str, values: Sequence[str]) -> None:
    """Raises UserError for a value that is there twice; 1 and 1.0 are the same run."""
    read = [loader.parse_updates([f"value={value}"]) for value in values]
    for value, content in zip(values, read, strict=True):
        if read.count(content) > 1:
            raise UserError(f"{option}: {twice(value)}")


def twice(value: object) -> str:
    return f"{value} is there twice, which would be the same run; name it once"


def _number(text: str, end: str) -> float:
    try:
        return float(end)
    except ValueError:
        raise UserError(f"--search {text}: {end} is no number") from None


def _setting(config: Config, key: str) -> object:
    """A setting by its dotted key; None if there is none."""
    found: object = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


@dataclass(frozen=True)
class Question:
    """What is searched, on which runs."""

    algorithm: str
    env: str
    seeds: tuple[int, ...]
    given: tuple[str, ...]  # key=value, the same for all
    space: tuple[Dimension, ...]

    def jobs(self, params: Mapping[str, object]) -> list[Job]:
        """The runs of a trial. Raises UserError."""
        varied = [each.text(params[each.key]) for each in self.space]
        given = list(self.given)
        return [plan(self.algorithm, self.env, seed, varied, given) for seed in self.seeds]

    def refuse_impossible(self) -> None:
        """Raises UserError for a setting or a value that the runs would refuse."""
        for each in self.space:
            for end in each.ends:
                plan(self.algorithm, self.env, self.seeds[0], [end], list(self.given))

    @property
    def name(self) -> str:
        """A file's name for its study."""
        keys = [each.key for each in self.space]
        files = [pathlib.Path(name).stem for name in (self.algorithm, self.env)]
        return "_".join([*files, *keys])

    @property
    def text(self) -> str:
        """The question in words; a study answers only one."""
        space = [str((each.key, *each.ends, each.log)) for each in self.space]
        return " ".join([self.algorithm, self.env, *map(str, self.seeds), *self.given, *space])


def question(
    algorithm: str, env: str, seeds: Sequence[int], texts: Sequence[str], given: Sequence[str]
) -> Question:
    """The question of a command line. texts: dimensions. Raises UserError."""
    config = plan(algorithm, env, seeds[0], [], list(given)).config
    space = tuple(dimension(text, config) for text in texts)
    keys = [each.key for each in space]
    for key in keys:
        refuse_axis("--search", key)
        if key in WITHIN | {"name"}:
            raise UserError(
                f"--search {key}: has no effect on what a run learns;"
                f" give it once, with {key}=VALUE"
            )
        if key == "t_max":
            raise UserError(
                "--search t_max: trials of unequal length cannot be compared;"
                " give it once, with t_max=N"
            )
        if keys.count(key) > 1 or any(pair.startswith(f"{key}=") for pair in given):
            raise UserError(f"--search {key}: the setting is given twice")
    found = Question(algorithm, env, tuple(seeds), tuple(given), space)
    found.refuse_impossible()
    return found


def _refuse_other_file(path: pathlib.Path) -> None:
    """Raises UserError for a file that is no study, to which Optuna would append."""
    if not path.exists():
        return
    try:
        with path.open() as file:
            first = file.readline()
        is_study = not first or "op_code" in json.loads(first)
    except (ValueError, TypeError):  # of other text, or other JSON
        is_study = False
    if not is_study:
        raise UserError(f"{path}: not a study; name another file with --study")


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    number: int
    settings: dict[str, str]  # as they were typed, by key
    value: float | None  # None: one of its runs failed


class Search:
    """A study on disk. Raises UserError if Optuna is missing or the file answers something else."""

    def __init__(self, asked: Question, path: pathlib.Path):
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError(f"--search: Optuna is not installed; `{install('search')}`") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.asked, self.path = asked, path
        _refuse_other_file(path)
        storage = JournalStorage(JournalFileBackend(str(path)))
        self.study: Study = optuna.create_study(
            storage=storage, study_name=path.stem, direction="maximize", load_if_exists=True
        )
        before = self.study.user_attrs.get(_ASKED)
        if before not in (None, asked.text):
            raise UserError(
                f"{path}: a study of other settings ({before}); name another file with --study"
            )
        self.study.set_user_attr(_ASKED, asked.text)
        # The sampler's own randomness is not in the file: a continued study draws new numbers.
        self.study.sampler = optuna.samplers.TPESampler(seed=len(self.study.trials))

    def _trials(self, *states: str) -> "list[FrozenTrial]":
        return [trial for trial in self.study.trials if trial.state.name in states]

    def finished(self) -> list[Trial]:
        """Trials with all their runs, in their order."""
        return [
            Trial(trial.number, self._typed(trial.params), trial.value)
            for trial in self._trials("COMPLETE", "FAIL")
        ]

    def _typed(self, params: Mapping[str, object]) -> dict[str, str]:
        texts = (each.text(params[each.key]) for each in self.asked.space)
        return dict(text.split("=", 1) for text in texts)

    def run(self, trials: int, at_once: int, runner: Runner, tell: Callable[[Trial], None]) -> bool:
        """Works until there are `trials`. Returns whether the user stopped it.

        at_once: trials of a round. tell: called with each finished trial.
        """
        while batch := self._round(trials, at_once):
            jobs = {trial.number: self.asked.jobs(trial.params) for trial in batch}
            every = [job for members in jobs.values() for job in members]
            find(every)
            going = [str(job.folder) for job in every if job.state == "running elsewhere"]
            if going:
                raise UserError(f"{going[0]}: runs of this search still go on; wait for their end")
            # Trials with equal settings share their runs.
            left = {job.identity: job for job in every if job.state != "finished"}
            stopped = runner(list(left.values()))
            find(every)
            for trial in batch:
                self._conclude(trial, jobs[trial.number], stopped, tell)
            if stopped:
                return True
        return False

    def _round(self, trials: int, at_once: int) -> "list[FrozenTrial]":
        """Trials that were begun, then new ones."""
        begun = self._trials("RUNNING")
        left = trials - len(self._trials("COMPLETE", "FAIL")) - len(begun)
        for _ in range(min(left, at_once - len(begun))):
            self.study.ask({each.key: each.distribution() for each in self.asked.space})
        return self._trials("RUNNING")

    def _conclude(
        self,
        trial: "FrozenTrial",
        jobs: Sequence[Job],
        stopped: bool,
        tell: Callable[[Trial], None],
    ) -> None:
        """Tells the study a trial's value, unless the user stopped its runs."""
        from optuna.trial import TrialState

        found = value(jobs)
        if found is None and stopped:
            return
        if found is None:
            self.study.tell(trial.number, state=TrialState.FAIL)
        else:
            self.study.tell(trial.number, found)
        tell(Trial(trial.number, self._typed(trial.params), found))


def value(jobs: Sequence[Job]) -> float | None:
    """Mean of the final values of a trial's runs; None unless all have finished."""
    if any(job.state != "finished" for job in jobs):
        return None
    records = [found for job in jobs if (found := record(job)) and METRIC in found.metrics]
    if len(records) < len(jobs):
        return None
    return float(np.mean([final_value(found.metrics[METRIC].values) for found in records]))


def table(study: Search, shown: int = 10) -> str:
    """The best trials, and the command of a run with the settings of the best."""
    known = [trial for trial in study.finished() if trial.value is not None]
    failed = len(study.finished()) - len(known)
    if not known:
        return f"no trial has finished, {failed} have failed"
    ranked = sorted(known, key=lambda trial: -(trial.value or 0.0))
    keys = [each.key for each in study.asked.space]
    rows = [["", "trial", *keys, METRIC]]
    for rank, trial in enumerate(ranked[:shown], 1):
        rows.append([str(rank), str(trial.number), *trial.settings.values(), f"{trial.value:.4g}"])
    asked, varied = study.asked, [f"{key}={value}" for key, value in ranked[0].settings.items()]
    words = [f"--config={asked.algorithm}", f"--env-config={asked.env}", "with"]
    best = shlex.join([*words, *asked.given, *varied])
    head = f"{len(known)} trials, {failed} failed; {METRIC}: {FINAL}, then the mean over seeds"
    job = plan(asked.algorithm, asked.env, asked.seeds[0], varied, list(asked.given))
    train = command("train", configure(job.config).modules)
    return f"{head}\n{aligned(rows, '')}\nThe best: {train} {best}"
