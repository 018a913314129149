"""The runs of a batch, and where each of them stands. A run is recognised by its recorded settings: nothing else is kept of a batch."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eoi.config import loader
from eoi.settings import configure
from eoi.utils import records
from eoi.utils.errors import UserError
from eoi.utils.locks import is_locked

ROOT = pathlib.Path(__file__).resolve().parents[2]
_ASIDE = frozenset(
    {"use_cuda", "threads", "local_results_path", "save_model", "save_interval", "save_replay"}
)  # another machine, but the same run


@dataclass
class Job:
    """One run to be made."""

    algorithm: str
    env: str
    seed: int
    varied: list[str]  # key=value
    given: list[str]  # key=value, the same for all
    config: dict[str, Any] = field(repr=False)
    state: str = "new"  # new, cut, failed, finished, running elsewhere
    folder: pathlib.Path | None = None
    remark: str = ""  # the last line of a run that failed

    @property
    def title(self) -> str:
        return f"{self.group} seed {self.seed}"

    @property
    def group(self) -> str:
        return " ".join(
            [records.labelled(self.env, self.config["env_args"]), self.algorithm, *self.varied]
        )

    @property
    def t_max(self) -> int:
        return int(self.config["t_max"])

    @property
    def identity(self) -> str:
        return _identity(self.config)

    def command(self, mongo: str = "") -> list[str]:
        program = [
            sys.executable,
            str(ROOT / "src" / "main.py"),
            *(["--mongo", mongo] if mongo else []),
        ]
        if self.state in ("cut", "failed") and self.folder is not None:
            return [*program, "--resume", str(self.folder)]
        settings = [*self.given, *self.varied, f"seed={self.seed}", "threads=1"]
        return [
            *program,
            f"--config={self.algorithm}",
            f"--env-config={self.env}",
            "with",
            *settings,
        ]


def plan(algorithm: str, env: str, seed: int, varied: list[str], given: list[str]) -> Job:
    """Raises UserError where the run's own start would."""
    updates = loader.parse_updates([*given, *varied, f"seed={seed}"])
    config = loader.load(algorithm, env, updates)
    config["env_args"] = asdict(configure(config, updates).env)
    return Job(algorithm, env, seed, varied, given, config)


def _identity(config: dict[str, Any]) -> str:
    """As Sacred's JSON would have it; numbers compare by value."""
    return json.dumps(
        _plain({key: value for key, value in config.items() if key not in _ASIDE}), sort_keys=True
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            _plain(value["py/tuple"])
            if set(value) == {"py/tuple"}
            else {key: _plain(inner) for key, inner in value.items()}
        )
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def find(jobs: Sequence[Job]) -> None:
    """Sets each job's state and folder from what is on disk. Of several runs with its settings the furthest one counts."""
    wanted = {job.identity: job for job in jobs}
    for job in jobs:
        job.state, job.folder = "new", None
    for base in {ROOT / str(job.config["local_results_path"]) / "sacred" for job in jobs}:
        with contextlib.suppress(UserError):  # no run there yet
            for folder in records.locate([base]):
                _take(folder, wanted)


_RANK = {"new": 0, "failed": 1, "cut": 2, "running elsewhere": 3, "finished": 4}


def _take(folder: pathlib.Path, wanted: dict[str, Job]) -> None:
    try:
        job = wanted.get(_identity(records.read_config(folder)))
        state = _state(folder) if job else ""
    except (UserError, OSError):  # a damaged record is no run of this batch
        return
    if job and _RANK[state] > _RANK[job.state]:
        job.state, job.folder = state, folder


def _state(folder: pathlib.Path) -> str:
    status = records.read_run(folder).get("status")
    if status == "COMPLETED":
        return "finished"
    if is_locked(folder):
        return "running elsewhere"
    return "failed" if status == "FAILED" else "cut"
