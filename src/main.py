"""Trains, continues or evaluates one run. Sacred is known here and in observers/, and nowhere else.

    python src/main.py --config=ALG --env-config=ENV [print_config] [with key=value ...] [more]
    python src/main.py --resume RUN [with t_max=N] [more]

RUN is a Sacred id (3 is results/sacred/3), a run's folder, or `latest`. Beside its folder a run is recorded by
    --mongo URL[:DB]      also to MongoDB, when it can be reached (or set EOI_MONGO); src/sync.py pushes the rest later
    --tensorboard         also for TensorBoard, in the run's folder
    --wandb PROJECT       also to Weights & Biases
Further options are Sacred's own, e.g. `-c COMMENT`, `-u` for a run that leaves no record.
"""

import dataclasses
import logging
import os
import pathlib
import random
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Sacred imports it

from sacred import SETTINGS, Experiment
from sacred.observers import RunObserver
from sacred.utils import SacredError

from config import loader
from observers import boards, mongo
from observers.folder import Folder, capped
from run import Settings, Training, build, configure, evaluate
from trained import recorded
from utils import checkpoints, history, records
from utils.errors import Failure, UserError
from utils.locks import is_locked
from utils.logging import RunLog

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTINGS.CAPTURE_MODE = "sys"  # pyright: ignore[reportAttributeAccessIssue]
log = logging.getLogger("eoi")


@dataclass(frozen=True)
class Command:
    """A command line taken apart: PyMARL's two flags, this project's own and the `with` list; the rest is Sacred's."""

    config: dict[str, Any]
    settings: Settings
    rest: list[str]
    resumed: pathlib.Path | None = None
    further: list[RunObserver] = field(default_factory=list)  # observers beside the folder


_FLAGS = ("--config", "--env-config", "--resume", "--mongo", "--wandb")


def _own_flags(argv: Sequence[str], flags: dict[str, str]) -> Iterator[str]:
    """Takes them, with their values, into `flags`; the other words pass."""
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in _FLAGS:
            flags[flag] = value if equals else next(words, "")
        elif word == "--tensorboard":
            flags[word] = ""
        else:
            yield word


def parse_command(argv: Sequence[str]) -> Command:
    """Raises UserError."""
    flags: dict[str, str] = {}
    rest: list[str] = []
    pairs: list[str] = []
    updating = False
    for word in _own_flags(argv, flags):
        _, equals, _ = word.partition("=")
        if word == "with":
            updating = True
        elif updating and equals and not word.startswith("-"):
            pairs.append(word)
        elif updating and not word.startswith("-") and not (rest and rest[-1].startswith("-")):
            raise UserError(f"with {word}: expected key=value")
        else:
            rest.append(word)
    given = loader.parse_updates(pairs)
    further = [*mongo.observers(flags.get("--mongo")), *boards.observers("--tensorboard" in flags, flags.get("--wandb"))]
    if "--resume" in flags:
        return _resumed(flags, given, rest, further)
    config = loader.load(flags.get("--config", "qmix"), flags.get("--env-config", "pac_men"), given)
    if config["seed"] is None:
        config["seed"] = random.SystemRandom().randrange(2**31)
    settings = configure(config, given)
    config["env_args"] = dataclasses.asdict(settings.env)  # the record holds every value in effect
    return Command(config, settings, rest, None, further)


def _resumed(flags: dict[str, str], given: dict[str, Any], rest: list[str], further: list[RunObserver]) -> Command:
    for flag in ("--config", "--env-config"):
        if flag in flags:
            raise UserError(f"{flag}: has no effect with --resume, which continues a run with its own settings")
    for key in given:
        if key != "t_max":
            raise UserError(f"with {key}: a resumed run keeps its settings; only t_max may be raised")
    folder = records.only_run(flags["--resume"])
    recorded_t_max = records.read_config(folder).get("t_max", 0)
    settings = recorded(folder, **given)
    if settings.run.t_max < recorded_t_max:
        raise UserError(f"with t_max={settings.run.t_max}: the run was to last {recorded_t_max} steps; it can be longer, not shorter")
    if settings.run.evaluate:
        raise UserError(f"{folder}: an evaluation, there is nothing to continue")
    config = records.read_config(folder) | {"env_args": dataclasses.asdict(settings.env)} | given
    return Command(config, settings, rest, folder, further)


class Ended(SacredError):
    """A failure that one line explains."""

    def __init__(self, message: str, status: int):
        super().__init__(message, print_traceback=False, filter_traceback="never")
        self.status = status


class Job:
    """One run under Sacred."""

    def __init__(self, command: Command):
        self.command, self.failed = command, 0  # the exit status of a run that failed
        self.start = self._checkpoint()
        base = command.resumed.parent if command.resumed else ROOT / command.settings.run.local_results_path / "sacred"
        _refuse_unwritable(base)
        self.folder = Folder(base, command.resumed, self._series(), command.further)
        self.ex = self._experiment()

    def _checkpoint(self) -> tuple[pathlib.Path, dict[str, Any]] | None:
        """The newest one of the run to continue. Raises UserError."""
        folder = self.command.resumed
        if folder is None:
            return None
        if is_locked(folder):
            Folder(folder.parent, folder)  # says who
        start = checkpoints.Checkpoints(folder / "checkpoints").newest()
        return start

    def _series(self) -> history.Series | None:
        return self.start[1]["log"]["series"] if self.start else None

    def _experiment(self) -> Experiment:
        settings = self.command.settings
        ex = Experiment(records.labelled(settings.run.name, vars(settings.env)), base_dir=str(ROOT))
        ex.logger = log  # pyright: ignore[reportAttributeAccessIssue]
        ex.captured_out_filter = capped  # pyright: ignore[reportAttributeAccessIssue]
        ex.add_config(self.command.config)
        ex.observers.append(self.folder)
        ex.observers.extend(self.command.further)

        @ex.main
        def run(_run: Any) -> float:
            try:
                return self.run(_run)
            except UserError as error:
                raise self._ended(str(error), 2) from None
            except Failure as error:
                raise self._ended(str(error), 1) from None
            except OSError as error:
                reason = f"{error.filename or 'input or output'}: {error.strerror or error}"
                raise self._ended(f"{reason}; what was written before stays", 1) from None

        return ex

    def _ended(self, message: str, status: int) -> Ended:
        self.failed = status
        return Ended(message, status)

    def run(self, _run: Any) -> float:
        settings = self.command.settings
        run_log = RunLog(lambda name, value, t: _run.log_scalar(name, value, t), settings.title, settings.run.t_max)
        parts = build(settings)
        if settings.run.evaluate:
            return evaluate(parts, settings, run_log)
        training = Training(parts, settings, run_log, self.folder.folder)
        if self.start:
            training.resume(*self.start)
            log.info("continuing at %d of %d steps from %s", training.at.t, settings.run.t_max, self.start[0])
            self.start = None  # its memory
        return training.train().best

    def __call__(self) -> int:
        try:
            self.ex.run_commandline([sys.argv[0], *self.command.rest])
        finally:
            self.folder.close()
        if self.folder.trouble:
            raise self.folder.trouble
        return 0


def _refuse_unwritable(folder: pathlib.Path) -> None:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"local_results_path: cannot write in {existing}; choose another folder")


def usage() -> str:
    return f"{__doc__}\nALG: {', '.join(loader.names('algs'))}\nENV: {', '.join(loader.names('envs'))}"


def main(argv: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if "-h" in argv or "--help" in argv:
        print(usage())
        return 0
    job = None
    try:
        job = Job(parse_command(argv))
        return job()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: `python src/main.py --resume RUN` continues the run where it was", file=sys.stderr)
        return 130
    except SystemExit as end:
        return (job.failed if job else 0) or int(end.code or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
