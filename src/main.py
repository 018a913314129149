"""Trains or evaluates one run. The only file that knows Sacred.

    python src/main.py --config=ALG --env-config=ENV [print_config] [with key=value ...] [Sacred's options]

Sacred's options are its own, e.g. `-m HOST:PORT:DB` for MongoDB, `-c COMMENT`, `-u` for a run that leaves no record.
"""

import dataclasses
import logging
import os
import pathlib
import random
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Sacred imports it

from sacred import SETTINGS, Experiment
from sacred.observers import FileStorageObserver
from sacred.utils import SacredError

from config import loader
from run import Settings, Training, build, configure, evaluate
from utils.errors import UserError
from utils.logging import RunLog

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETTINGS.CAPTURE_MODE = "sys"  # pyright: ignore[reportAttributeAccessIssue]
log = logging.getLogger("eoi")


@dataclass(frozen=True)
class Command:
    """A command line taken apart: PyMARL's two flags and the `with` list as a configuration; the rest is Sacred's."""

    config: dict[str, Any]
    settings: Settings
    rest: list[str]


def parse_command(argv: Sequence[str]) -> Command:
    """Raises UserError."""
    names = {"--config": "qmix", "--env-config": "pac_men"}
    rest: list[str] = []
    pairs: list[str] = []
    updating = False
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in names:
            names[flag] = value if equals else next(words, "")
        elif word == "with":
            updating = True
        elif updating and equals and not word.startswith("-"):
            pairs.append(word)
        elif updating and not word.startswith("-") and not (rest and rest[-1].startswith("-")):
            raise UserError(f"with {word}: expected key=value")
        else:
            rest.append(word)
    given = loader.parse_updates(pairs)
    config = loader.load(names["--config"], names["--env-config"], given)
    if config["seed"] is None:
        config["seed"] = random.SystemRandom().randrange(2**31)
    settings = configure(config, given)
    config["env_args"] = dataclasses.asdict(settings.env)  # the record holds every value in effect
    return Command(config, settings, rest)


class Ended(SacredError):
    """A failure that one line explains."""

    def __init__(self, message: str, status: int):
        super().__init__(message, print_traceback=False, filter_traceback="never")
        self.status = status


def experiment(command: Command) -> tuple[Experiment, list[int]]:
    """The Sacred experiment, and a list that receives the exit status of a run that failed."""
    settings, failed = command.settings, []
    ex = Experiment(settings.run.name, base_dir=str(ROOT))
    ex.logger = log  # pyright: ignore[reportAttributeAccessIssue]
    ex.add_config(command.config)
    folder = ROOT / settings.run.local_results_path / "sacred"
    _refuse_unwritable(folder)
    observer = FileStorageObserver(folder)
    ex.observers.append(observer)

    @ex.main
    def run(_run: Any) -> float:
        try:
            title = f"{settings.run.env} {settings.run.name} seed {settings.run.seed}"
            run_log = RunLog(lambda name, value, t: _run.log_scalar(name, value, t), title, settings.run.t_max)
            parts = build(settings)
            if settings.run.evaluate:
                return evaluate(parts, settings, run_log)
            where = pathlib.Path(observer.dir) if observer.dir else None
            return Training(parts, settings, run_log, where).train().best
        except UserError as error:
            failed.append(2)
            raise Ended(str(error), 2) from None
        except OSError as error:
            failed.append(1)
            raise Ended(f"{error.filename or 'input or output'}: {error.strerror or error}; what was written before stays", 1) from None

    return ex, failed


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
    failed: list[int] = []
    try:
        command = parse_command(argv)
        ex, failed = experiment(command)
        ex.run_commandline([sys.argv[0], *command.rest])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the run's folder holds all that was logged and saved", file=sys.stderr)
        return 130
    except SystemExit as end:
        return failed[0] if failed else int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
