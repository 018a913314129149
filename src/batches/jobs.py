"""The runs of a batch and the state of each.

A run is recognised by its recorded settings, so a batch keeps no file of its own.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from eoi import envs
from eoi.config import loader
from eoi.records import reader
from eoi.records.groups import IGNORED, identity
from eoi.records.record import Config, labelled
from eoi.saved import located
from eoi.settings import configure
from eoi.utils.errors import UserError
from eoi.utils.locks import is_locked
from eoi.utils.places import PACKAGE, ROOT


@dataclass
class Job:
    """One run to be made."""

    algorithm: str
    env: str
    seed: int
    varied: list[str]  # key=value
    given: list[str]  # key=value, the same for all
    config: Config = field(repr=False)
    state: str = "new"  # new, cut, failed, finished, running elsewhere
    folder: pathlib.Path | None = None
    remark: str = ""  # the last line of a run that failed

    @property
    def title(self) -> str:
        return f"{self.group} seed {self.seed}"

    @property
    def group(self) -> str:
        world = labelled(self.config["world"], self.config["env_args"])
        return " ".join([world, pathlib.Path(self.algorithm).stem, *self.varied])

    @property
    def t_max(self) -> int:
        return int(self.config["t_max"])

    @property
    def identity(self) -> str:
        return identity(self.config)

    def command(self, mongo: str = "") -> list[str]:
        if self.state in ("cut", "failed") and self.folder is not None:
            return [*_program(mongo), "--resume", str(self.folder)]
        return self.fresh(f"seed={self.seed}", mongo)

    def fresh(self, seeds: str, mongo: str = "") -> list[str]:
        """The command that begins this run, or its like with other seeds."""
        return [
            *_program(mongo),
            f"--config={self.algorithm}",
            f"--env-config={self.env}",
            "with",
            *self.given,
            *self.varied,
            seeds,
            "threads=1",
        ]


def _program(mongo: str) -> list[str]:
    return [sys.executable, str(PACKAGE / "main.py"), *(["--mongo", mongo] if mongo else [])]


def plan(algorithm: str, env: str, seed: int, varied: list[str], given: list[str]) -> Job:
    """One cell of the grid, checked. Raises UserError as the start of the run would."""
    updates = loader.parse_updates([*given, *varied, f"seed={seed}"])
    config = loader.load(algorithm, env, updates, envs.setting_names())
    settings = configure(config, updates)
    runs = located(settings)
    config |= {"env_args": asdict(settings.env), **runs}
    # `latest` is another run once the first of the batch has begun.
    varied, given = ([_located(word, runs) for word in words] for words in (varied, given))
    return Job(algorithm, env, seed, varied, given, config)


def _located(word: str, runs: Mapping[str, str]) -> str:
    """`key=value`, with the folder where the value names a run."""
    key, _, value = word.partition("=")
    return f"{key}={runs.get(key, value)}"


def refuse_axis(option: str, key: str) -> None:
    """Raises UserError for a setting whose values would not set two runs of a batch apart."""
    if key == "seed":
        raise UserError(f"{option} seed: the seeds of a batch are those of --seeds")
    if key in IGNORED:
        raise UserError(
            f"{option} {key}: runs that differ in it alone are the same run;"
            f" give it once, with {key}=VALUE"
        )


def complete(jobs: Iterable[Job]) -> None:
    """Gives each job the settings that other jobs' modules have declared since, at their defaults.

    Without them, the settings of equal runs would differ.
    """
    defaults = loader.defaults()
    for job in jobs:
        job.config = loader.merged(defaults, job.config)


def find(jobs: Sequence[Job]) -> None:
    """Completes the jobs, and sets each one's state and folder from the runs on disk.

    Of several runs with the job's settings one that has finished counts, else one that runs, else
    one that was cut.
    """
    complete(jobs)
    wanted: dict[str, list[Job]] = {}
    for job in jobs:
        wanted.setdefault(job.identity, []).append(job)
    defaults = loader.defaults()
    for job in jobs:
        job.state, job.folder = "new", None
    for base in {ROOT / str(job.config["local_results_path"]) / "sacred" for job in jobs}:
        with contextlib.suppress(UserError):  # no run there yet
            for folder in reader.locate([base]):
                _take(folder, wanted, defaults)


UNDER_WAY = ("finished", "running elsewhere")  # states of runs that are not to be started
_RANK = {"new": 0, "failed": 1, "cut": 2, "running elsewhere": 3, "finished": 4}


def _take(folder: pathlib.Path, wanted: Mapping[str, list[Job]], defaults: Config) -> None:
    """A setting newer than the run has its default."""
    try:
        found = wanted.get(identity(loader.merged(defaults, reader.read_config(folder))), [])
        state = _state(folder) if found else ""
    except (UserError, OSError):  # a damaged record belongs to no batch
        return
    for job in found:
        if _RANK[state] > _RANK[job.state]:
            job.state, job.folder = state, folder


def _state(folder: pathlib.Path) -> str:
    status = reader.read_run(folder).get("status")
    if status == "COMPLETED":
        return "finished"
    if is_locked(folder):
        return "running elsewhere"
    return "failed" if status == "FAILED" else "cut"
