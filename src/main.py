"""Trains, continues or evaluates one run. Sacred is known here and in observers/, and nowhere else.

    python src/main.py --config=ALG --env-config=ENV [print_config] [with key=value ...] [more]
    python src/main.py --resume RUN [with t_max=N] [more]

RUN is a Sacred id (3 is results/sacred/3), a run's folder, or `latest`. Beside its folder a run is recorded by
    --mongo URL[:DB]      also to MongoDB, when it can be reached (or set EOI_MONGO); src/sync.py pushes the rest later
    --tensorboard         also for TensorBoard, in the run's folder
    --wandb PROJECT       also to Weights & Biases
Further options are Sacred's own, e.g. `-c COMMENT`, `-u` for a run that leaves no record.
"""

import contextlib
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
from itertools import pairwise
from typing import Any

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Sacred imports it

from sacred import SETTINGS, Experiment
from sacred.observers import RunObserver
from sacred.utils import SacredError

from eoi.assembly import build, find_folder, saved_networks
from eoi.config import loader
from eoi.config.schema import nearest
from eoi.fleet import Fleet, given_fleet, refuse_unstackable, varied
from eoi.observers import boards, mongo
from eoi.observers.folder import Folder, capped
from eoi.run import Training, evaluate
from eoi.settings import Settings, configure
from eoi.trained import elsewhere, recorded
from eoi.utils import checkpoints, history, records
from eoi.utils.errors import Failure, UserError
from eoi.utils.locks import is_locked
from eoi.utils.logging import RunLog
from eoi.utils.places import ROOT

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
    others: "list[Command]" = field(default_factory=list)  # the other runs of a fleet
    compiled: bool = False


_BEHIND_WITH = "a setting; settings stand behind the word `with`: with "
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


def _taken_apart(argv: Sequence[str], flags: dict[str, str]) -> tuple[list[str], list[str]]:
    """This project's flags go into `flags`; Sacred's words, and the pairs behind `with`. Raises UserError."""
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
    return rest, pairs


def parse_command(argv: Sequence[str]) -> Command:
    """Raises UserError."""
    flags: dict[str, str] = {}
    rest, pairs = _taken_apart(argv, flags)
    given = loader.parse_updates(pairs)
    if "--resume" in flags:
        return _resumed(flags, given, rest, _further(flags))
    fleet = given_fleet(given)
    given = {key: value for key, value in given.items() if key != "fleet"}
    commands = [
        _fresh(flags, given, updates, label, rest) for updates, label in varied(fleet, given)
    ]
    first, *others = commands
    if others:
        refuse_unstackable(fleet, [command.settings for command in commands])
        if "--wandb" in flags:
            raise UserError(
                "--wandb: records one run, not a fleet; --tensorboard and --mongo record all of its runs"
            )
    for path in {command.settings.run.checkpoint_path for command in commands} - {""}:
        saved_networks(find_folder(path))
    return dataclasses.replace(first, others=others, compiled=fleet.compile)


def _further(flags: dict[str, str]) -> list[RunObserver]:
    return [
        *mongo.observers(flags.get("--mongo")),
        *boards.observers("--tensorboard" in flags, flags.get("--wandb")),
    ]


def _fresh(
    flags: dict[str, str],
    given: dict[str, Any],
    updates: dict[str, Any],
    label: str,
    rest: list[str],
) -> Command:
    """A new run; `updates` are what sets it apart in a fleet. The record holds every value in effect."""
    given = loader.merged(given, updates)
    config = loader.load(flags.get("--config", "qmix"), flags.get("--env-config", "pac_men"), given)
    if config["seed"] is None:
        config["seed"] = random.SystemRandom().randrange(2**31)
    settings = configure(
        config | {"label": config["label"] or label}, given
    )  # the arm's name is for messages alone
    config["env_args"] = dataclasses.asdict(settings.env)
    return Command(config, settings, rest, None, _further(flags))


def _resumed(
    flags: dict[str, str], given: dict[str, Any], rest: list[str], further: list[RunObserver]
) -> Command:
    for flag in ("--config", "--env-config"):
        if flag in flags:
            raise UserError(
                f"{flag}: has no effect with --resume, which continues a run with its own settings"
            )
    for key in given:
        if key != "t_max":
            raise UserError(
                f"with {key}: a resumed run keeps its settings; only t_max may be raised"
            )
    folder = records.only_run(flags["--resume"])
    recorded_t_max = records.read_config(folder).get("t_max", 0)
    settings = recorded(folder, **given)
    if settings.run.t_max < recorded_t_max:
        raise UserError(
            f"with t_max={settings.run.t_max}: the run was to last {recorded_t_max} steps; it can be longer, not shorter"
        )
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
        base = (
            command.resumed.parent
            if command.resumed
            else ROOT / command.settings.run.local_results_path / "sacred"
        )
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
        run_log = self._log(_run)
        parts = build(settings)
        if settings.run.evaluate:
            if others := elsewhere(settings):
                log.warning(
                    "warning: not the world that these networks learned in: %s", ", ".join(others)
                )
            return evaluate(parts, settings, run_log)
        training = Training(parts, settings, run_log, self.folder.folder)
        if self.start:
            training.resume(*self.start)
            log.info(
                "continuing at %d of %d steps from %s",
                training.at.t,
                settings.run.t_max,
                self.start[0],
            )
            self.start = None  # its memory
        training.train()
        return training.at.best

    def _log(self, _run: Any) -> RunLog:
        settings = self.command.settings
        return RunLog(
            lambda name, value, t: _run.log_scalar(name, value, t),
            settings.title,
            settings.run.t_max,
        )

    def interrupted(self) -> str:
        """What an interrupt leaves, and how to go on."""
        folder, run = self.folder.folder, self.command.settings.run
        if folder is None or run.evaluate:
            return "interrupted"
        if not run.save_interval:
            return f"interrupted; {folder} keeps what was logged, but no checkpoint to continue from (save_interval=0)"
        others = ", and so on for the other runs of the fleet" if self.command.others else ""
        return f"interrupted: `python src/main.py --resume {folder}` continues the run where it was{others}"

    def _refuse_unknown(self) -> None:
        """Words that neither this project nor Sacred knows. Raises UserError."""
        flags = {
            *_FLAGS,
            "--tensorboard",
            *(flag for option in self.ex.all_cli_options for flag in option.get_flags()),
        }
        commands = [name for name, _ in self.ex.gather_commands()]
        for before, word in pairwise(["", *self.command.rest]):
            name, equals, value = word.partition("=")
            key = name.lstrip("-").replace("-", "_")
            if word.startswith("--") and name not in flags:
                if key in self.command.config:
                    raise UserError(f"{name}: {_BEHIND_WITH}{key}={value}")
                raise UserError(f"{name}: there is no such option.{nearest(name, flags)}")
            if word.startswith("-") or before.startswith("-"):
                continue  # a value of Sacred's options may be any word
            if equals:
                raise UserError(f"{word}: {_BEHIND_WITH}{word}")
            if word not in commands:
                raise UserError(f"{word}: there is no such command.{nearest(word, commands)}")

    def __call__(self) -> int:
        self._refuse_unknown()
        try:
            self.ex.run_commandline([sys.argv[0], *self.command.rest])
        finally:
            self.folder.close()
        if self.folder.trouble:
            raise self.folder.trouble
        return 0


class Member(Job):
    """One run of a fleet. Its Sacred run begins, holds all that follow while the fleet trains inside the last, and ends."""

    def __init__(self, commands: Sequence[Command], before: "Sequence[Member]" = ()):
        super().__init__(commands[0])
        self.before, self.after = before, commands[1:]
        self.training: Training | None = None
        self.fleet: Fleet | None = None

    def run(self, _run: Any) -> float:
        members = [*self.before, self]
        settings = self.command.settings
        parts = build(settings, 0 if self.before else 1 + len(self.after))
        self.training = Training(parts, settings, self._log(_run), self.folder.folder)
        if self.after:
            following = Member(self.after, members)
            with contextlib.suppress(SystemExit):  # its own failure, which its own record tells
                following()
            self.fleet = following.fleet
        else:
            self.fleet = self._train(members)
        if self.fleet is None:
            raise Failure("another run of the fleet could not begin")
        failure = self.fleet.failures[len(self.before)]
        if failure:
            raise failure
        return self.training.at.best

    def _train(self, members: "Sequence[Member]") -> Fleet:
        trainings = [m.training for m in members if m.training]
        settings = self.command.settings
        fleet = Fleet(
            trainings,
            f"{settings.world} {settings.run.name} {len(members)} runs, each",
            members[0].command.compiled,
        )
        for m in members:
            log.info(
                "run %s: seed %d %s",
                m.folder.folder and m.folder.folder.name,
                m.command.settings.run.seed,
                m.command.settings.run.label,
            )
        with contextlib.suppress(Failure):  # of all of them
            fleet.train()
        return fleet


def _refuse_unwritable(folder: pathlib.Path) -> None:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"local_results_path: cannot write in {existing}; choose another folder")


def usage() -> str:
    return (
        f"{__doc__}\nALG: {', '.join(loader.names('algs'))}\nENV: {', '.join(loader.names('envs'))}"
    )


def main(argv: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.raiseExceptions = (
        False  # when nobody reads what is said, the run goes on without a word
    )
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if "-h" in argv or "--help" in argv:
        print(usage())
        return 0
    job = None
    try:
        command = parse_command(argv)
        job = Member([command, *command.others]) if command.others else Job(command)
        return job()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error.filename or 'input or output'}: {error.strerror or error}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(job.interrupted() if job else "interrupted", file=sys.stderr)
        return 130
    except SystemExit as end:
        if isinstance(end.code, str):  # Sacred's, of words that it cannot read
            print(f"error: {end.code.splitlines()[0]}", file=sys.stderr)
            return 2
        return (job.failed if job else 0) or int(end.code or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
