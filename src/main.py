"""Trains, continues or evaluates a run, or a fleet of runs.

    python src/main.py --config=ALG --env-config=ENV [print_config] [with key=value ...] [more]
    python src/main.py --resume RUN [with t_max=N] [more]

ALG and ENV are names below, or YAML files of your own. The default of ALG is qmix, and that of ENV
is pac_men; without any word this text is printed. `print_config` prints the settings and ends.

RUN is a Sacred id (3 is results/sacred/3), a run's folder, or `latest`. A run is recorded in its
folder, and with these options elsewhere too:
    --mongo URL[:DB]      in MongoDB, when it can be reached (or set EOI_MONGO);
                          src/sync.py pushes the rest later
    --tensorboard         for TensorBoard, in the run's folder
    --wandb PROJECT       in Weights & Biases
Further options are Sacred's own, e.g. `-c COMMENT`, `-u` for a run that leaves no record.
"""

from eoi.utils.start import launch

import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Sacred imports it

# Only this file and records/ use Sacred.
from sacred import SETTINGS, Experiment
from sacred.config.utils import normalize_or_die
from sacred.observers import RunObserver
from sacred.run import Run as SacredRun
from sacred.stdout_capturing import CapturedStdout
from sacred.utils import SacredError

from eoi import envs
from eoi.build import (
    make_worlds,
    refuse_checkpoint,
    refuse_large_networks,
    refuse_world,
)
from eoi.config import loader
from eoi.config.schema import nearest
from eoi.envs.workers import WorkerError
from eoi.fleet import given_fleet, refuse_unstackable, varied
from eoi.records import boards, mongo, reader
from eoi.records.closing import SHOWN, Finished, closing, named
from eoi.records.folder import Folder, Follower, capped
from eoi.records.record import labelled
from eoi.run import Run, Trainer
from eoi.saved import elsewhere, located, recorded
from eoi.settings import Settings, configure
from eoi.utils import checkpoints, places
from eoi.utils.errors import Failure, UserError
from eoi.utils.files import Unwritable, probe
from eoi.utils.locks import is_locked
from eoi.utils.logging import RunLog
from eoi.utils.places import ROOT
from eoi.utils.script import BEHIND_WITH, refuse_before_with

SETTINGS.CAPTURE_MODE = "sys"  # pyright: ignore[reportAttributeAccessIssue]
log = logging.getLogger("eoi")


@dataclass(frozen=True)
class Command:
    """A parsed command line: this project's flags and settings; `rest` is for Sacred."""

    config: dict[str, Any]
    settings: Settings
    rest: list[str]
    resumed: pathlib.Path | None = None
    further: list[Follower] = field(default_factory=list)  # observers beside the folder
    others: "list[Command]" = field(default_factory=list)  # the other runs of a fleet
    compiled: bool = False


_VALUED = {"--mongo": "HOST:PORT:DATABASE", "--config": "ALG", "--env-config": "ENV"}
_FLAGS = ("--config", "--env-config", "--resume", "--mongo", "--wandb")


def _own_flags(argv: Sequence[str], flags: dict[str, str]) -> Iterator[str]:
    """Moves flags and their values into `flags`; yields the other words."""
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in _FLAGS:
            if flag in flags:
                raise UserError(f"{flag}: given twice; give it once")
            flags[flag] = value if equals else next(words, "")
            if flags[flag] in ("", "with") and flag in _VALUED:
                raise UserError(f"{flag}: expected {flag}={_VALUED[flag]}")
        elif word == "--tensorboard":
            flags[word] = ""
        else:
            yield word


def _taken_apart(argv: Sequence[str], flags: dict[str, str]) -> tuple[list[str], list[str]]:
    """Words for Sacred, and the pairs after `with`; this project's flags go into `flags`.

    Raises UserError.
    """
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
            raise UserError(
                f"with {word}: expected key=value; a command, such as print_config,"
                " stands before `with`"
            )
        else:
            rest.append(word)
    refuse_before_with(rest)
    return rest, pairs


def parse_command(argv: Sequence[str]) -> Command:
    """The command line as one run or a fleet. Raises UserError."""
    flags: dict[str, str] = {}
    rest, pairs = _taken_apart(argv, flags)
    given = loader.parse_updates(pairs)
    if "--resume" in flags:
        if not flags["--resume"]:
            raise UserError("--resume: expected --resume RUN; RUN is an id, a folder or `latest`")
        return _resumed(flags, given, rest, _further(flags))
    fleet = given_fleet(given)
    given = {key: value for key, value in given.items() if key != "fleet"}
    seed = random.SystemRandom().randrange(2**31)  # one: the arms of a fleet differ in nothing else
    commands = [
        _fresh(flags, given, updates, label, rest, seed) for updates, label in varied(fleet, given)
    ]
    first, *others = commands
    refuse_world(first.settings)
    refuse_large_networks(first.settings, len(commands))
    if others:
        refuse_unstackable(fleet, [command.settings for command in commands])
        if "--wandb" in flags:
            raise UserError(
                "--wandb: records one run, not a fleet; "
                "--tensorboard and --mongo record all of its runs"
            )
    starts = {command.settings.run.checkpoint_path: command.settings for command in commands}
    for path, settings in starts.items():
        if path:
            refuse_checkpoint(settings)
    return dataclasses.replace(first, others=others, compiled=fleet.compile)


def _further(flags: dict[str, str]) -> list[Follower]:
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
    seed: int,
) -> Command:
    """A new run; `updates`: settings that set it apart in a fleet; `seed`: where none is set."""
    given = loader.merged(given, updates)
    algorithm, env = flags.get("--config", "qmix"), flags.get("--env-config", "pac_men")
    config = loader.load(algorithm, env, given, envs.setting_names())
    if config["seed"] is None:
        config["seed"] = seed
    # The arm's name is for messages alone.
    settings = configure(config | {"label": config["label"] or label}, given)
    if found := located(settings):
        config |= found
        settings = configure(config | {"label": config["label"] or label}, given)
    config["env_args"] = dataclasses.asdict(settings.env)
    return Command(config, settings, rest, None, _further(flags))


def _resumed(
    flags: dict[str, str], given: dict[str, Any], rest: list[str], further: list[Follower]
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
    folder = reader.only_run(flags["--resume"])
    recorded_t_max = reader.read_config(folder).get("t_max", 0)
    settings = recorded(folder, **given)
    if settings.run.t_max < recorded_t_max:
        raise UserError(
            f"with t_max={settings.run.t_max}: the run was to last {recorded_t_max} steps; "
            "it can be made longer, not shorter"
        )
    if settings.run.evaluate:
        raise UserError(f"{folder}: an evaluation, there is nothing to continue")
    _refuse_finished(folder, settings)
    config = reader.read_config(folder) | {"env_args": dataclasses.asdict(settings.env)} | given
    return Command(config, settings, rest, folder, further)


def _refuse_finished(folder: pathlib.Path, settings: Settings) -> None:
    """Raises UserError for a run that is complete, on disk too, or that cannot be made longer."""
    paths = checkpoints.Checkpoints(folder / "checkpoints").paths()
    done = max(map(checkpoints.step, paths), default=0)
    if reader.read_run(folder).get("status") != "COMPLETED":
        return
    if not paths:
        raise UserError(
            f"{folder}: finished, without a checkpoint to go on from (save_interval=0);"
            " start a longer run, with t_max="
        )
    if done >= settings.run.t_max:
        train = places.command("train", settings.modules)
        longer = f"{train} --resume {named(folder)} with t_max={2 * done}"
        raise UserError(f"{folder}: finished at step {done:,}; `{longer}` trains it for longer")


class Ended(SacredError):
    """A failure with a message of one line, and the exit status."""

    def __init__(self, message: str, status: int):
        super().__init__(message, print_traceback=False, filter_traceback="never")
        self.status = status


Ended.__module__, Ended.__qualname__ = "builtins", "error"  # Sacred prints `error: MESSAGE`


class Record:
    """Sacred's record of one run: its folder, its further observers, and its checkpoint."""

    def __init__(self, command: Command, together: int):
        """`together`: runs of the fleet."""
        self.command = command
        self.start = _newest_checkpoint(command.resumed)
        results = ROOT / command.settings.run.local_results_path / "sacred"
        base = command.resumed.parent if command.resumed else results
        _refuse_unwritable(base)
        series = self.start[1]["log"]["series"] if self.start else None
        self.folder = Folder(base, command.resumed, series, command.further, together)
        self.sacred: SacredRun | None = None
        self._beat_at = float("-inf")

    @property
    def observers(self) -> list[RunObserver]:
        return [self.folder, *self.command.further]

    def log(self) -> RunLog:
        """The run's log, which writes to this record."""
        sacred, settings = self.sacred, self.command.settings
        assert sacred is not None, "the record has not begun"
        run_log = RunLog(sacred.log_scalar, settings.title, settings.run.t_max)
        return run_log

    def begin(self, first: SacredRun) -> None:
        """Begins the record of a further run of a fleet, whose first run Sacred itself began."""
        self.sacred = SacredRun(
            config=normalize_or_die(self.command.config),  # as Sacred does for the first run
            config_modifications=first.config_modifications,
            main_function=first.main_function,
            observers=sorted(self.observers, key=lambda observer: -observer.priority),
            root_logger=first.root_logger,
            run_logger=_QUIET,
            experiment_info=first.experiment_info,
            host_info=first.host_info,
            pre_run_hooks=[],
            post_run_hooks=[],
        )
        self.sacred.meta_info = dict(first.meta_info)
        # The first run's record holds the output of the whole fleet.
        with open(os.devnull) as closed:
            self.sacred._output_file = CapturedStdout(closed)
        if first.unobserved:
            self.sacred.observers = []
        self.sacred._emit_started()

    def beat(self, last: bool = False) -> None:
        """Hands new metrics to the observers, as Sacred's heartbeat does every ten seconds."""
        now = time.monotonic()
        if self.sacred is not None and (last or now - self._beat_at >= 10):
            self._beat_at = now
            self.sacred._emit_heartbeat()

    def end(self, failure: BaseException | None, result: float | None) -> None:
        """Ends the record of a further run of a fleet."""
        if self.sacred is None or self.sacred.status != "RUNNING":
            return
        self.sacred.result = None if failure else result
        self.beat(last=True)
        if failure is None:
            self.sacred._stop_time()
            self.sacred._emit_completed(result)
        elif isinstance(failure, KeyboardInterrupt):
            self.sacred._emit_interrupted("INTERRUPTED")
        else:
            self.sacred._emit_failed(type(failure), failure, failure.__traceback__)
        self.sacred._wait_for_observers()


_QUIET = logging.getLogger("eoi.quiet")  # a fleet prints a line for each run in place of Sacred's
_QUIET.setLevel(logging.ERROR)


def _newest_checkpoint(
    folder: pathlib.Path | None,
) -> tuple[pathlib.Path, dict[str, Any]] | None:
    """The newest checkpoint of the run to continue. Raises UserError."""
    if folder is None:
        return None
    if is_locked(folder):
        Folder(folder.parent, folder)  # raises the error that names the other process
    return checkpoints.Checkpoints(folder / "checkpoints").newest()


class Program:
    """The work of one call: a run, or a fleet."""

    def __init__(self, command: Command):
        self.command = command
        self.status = 0  # the exit status of a run that failed
        self.finished: list[Finished] = []  # runs that trained to their end
        commands = [command, *command.others]
        if len(commands) > 1:
            _raise_file_limit(len(commands))
        self.records = [Record(each, len(commands)) for each in commands]
        self.ex = self._experiment()

    def _experiment(self) -> Experiment:
        command, first = self.command, self.records[0]
        run = command.settings.run
        name = labelled(run.name, vars(command.settings.env))
        ex = Experiment(name, base_dir=str(ROOT))
        ex.logger = log  # pyright: ignore[reportAttributeAccessIssue] # typed as None by Sacred
        # The closing lines say more than Sacred's line.
        log.getChild(name).addFilter(lambda line: not line.getMessage().startswith("Result: "))
        ex.captured_out_filter = capped  # pyright: ignore[reportAttributeAccessIssue] # as above
        ex.add_config(command.config)
        ex.observers.extend(first.observers)

        @ex.main
        def train(_run: SacredRun) -> float | None:
            try:
                return self.run(_run)
            except UserError as error:
                raise self._ended(str(error), 2) from None
            except Failure as error:
                raise self._ended(str(error), 1) from None
            except OSError as error:
                reason = f"{error.filename or 'input or output'}: {error.strerror or error}"
                raise self._ended(f"{reason}; earlier files stay", 1) from None
            except RuntimeError as error:
                if isinstance(error, WorkerError) or "allocate" not in str(error):
                    raise
                raise self._ended(f"out of memory; {_SMALLER}", 1) from None

        return ex

    def _ended(self, message: str, status: int) -> Ended:
        self.status = status
        return Ended(message, status)

    def run(self, sacred: SacredRun) -> float | None:
        """The whole work, inside of the first run's record.

        Returns its best test return of trained networks; None without such a test.
        """
        self.records[0].sacred = sacred
        trainer: Trainer | None = None
        try:
            for record in self.records[1:]:
                record.begin(sacred)
            trainer = self._trainer()
            if self.command.settings.run.evaluate:
                return played(trainer)
            trainer.train()
        except BaseException as error:
            self._end_others(trainer, error)
            raise
        self.finished = [self._finished(trainer, place) for place in range(len(self.records))]
        self._end_others(trainer, None)
        if trainer.failures[0]:
            raise trainer.failures[0]
        if any(trainer.failures):
            self.status = 1
        return _known(trainer.at.best)

    def _end_others(self, trainer: Trainer | None, ended: BaseException | None) -> None:
        """Ends the records of all runs but the first, which Sacred ends."""
        for place, record in enumerate(self.records[1:], 1):
            failure, best = ended, None
            if trainer is not None:
                best = _known(trainer.runs[place].at.best)
                failure = trainer.failures[place] or ended
            record.end(failure, best)

    def _finished(self, trainer: Trainer, place: int) -> Finished:
        """The end of the run at `place`."""
        run, failure = trainer.runs[place], trainer.failures[place]
        tests = run.log.series.get("test_return_mean", {"steps": [0], "values": [math.nan]})
        return Finished(
            folder=run.folder,
            seed=run.cfg.seed,
            label=run.cfg.label,
            t=run.at.t,
            best=run.at.best,
            best_step=run.at.best_t,
            last=tests["values"][-1],
            last_step=tests["steps"][-1],
            saved=run.cfg.save_model,
            resumable=run.checkpoints is not None,
            modules=run.settings.modules,
            untrained=run.untrained,
            failure=str(failure or ""),
        )

    def _trainer(self) -> Trainer:
        settings, total = self.command.settings, len(self.records)
        worlds = make_worlds(settings, total)
        runs = [
            Run(
                record.command.settings,
                worlds,
                record.log(),
                record.folder.folder,
                runs=0 if place else total,
                resumed=record.start is not None,
            )
            for place, record in enumerate(self.records)
        ]
        title = f"{settings.world} {settings.run.name} {total} runs, each"
        beats = [record.beat for record in self.records[1:]]
        trainer = Trainer(runs, worlds, title, self.command.compiled, beats)
        for record in self.records[:SHOWN] if total > 1 else ():
            run, folder = record.command.settings.run, record.folder.folder
            log.info("run %s: seed %d %s", folder and folder.name, run.seed, run.label)
        if total > SHOWN:
            log.info("... and %d more runs", total - SHOWN)
        first = self.records[0]
        if first.folder.folder and not settings.run.evaluate:
            log.info("%s", disk_notice(runs[0], total, first.folder.folder))
        if first.start:
            runs[0].resume(*first.start)
            message = "continuing at %d of %d steps from %s"
            log.info(message, runs[0].at.t, settings.run.t_max, first.start[0])
            first.start = None  # frees its memory
        return trainer

    def interrupted(self) -> str:
        """Message after an interrupt: the record that is left, and the command to continue."""
        folder, run = self.records[0].folder.folder, self.command.settings.run
        if folder is None or run.evaluate:
            return "interrupted"
        if not run.save_interval:
            return (
                f"interrupted; {folder} keeps the metrics, "
                "but no checkpoint to continue from (save_interval=0)"
            )
        others = ", and so on for the other runs of the fleet" if self.command.others else ""
        does = "continues the run where it was"
        if not checkpoints.Checkpoints(folder / "checkpoints").paths():
            does = "begins the run again, because it has no checkpoint yet"
        train = places.command("train", self.command.settings.modules)
        return f"interrupted: `{train} --resume {named(folder)}` {does}{others}"

    def _refuse_unknown(self) -> None:
        """Raises UserError for words that neither this project nor Sacred knows."""
        options = self.ex.all_cli_options
        flags = {*_FLAGS, "--tensorboard", *(flag for o in options for flag in o.get_flags())}
        commands = [name for name, _ in self.ex.gather_commands()]
        for before, word in pairwise(["", *self.command.rest]):
            if word.startswith("--"):
                self._refuse_unknown_option(word, flags)
            elif before.startswith("-"):
                continue  # a value of Sacred's options may be any word
            elif word.startswith("-") and word[:2] not in flags:
                raise UserError(f"{word[:2]}: there is no such option; --help shows them")
            if word.startswith("-"):
                continue
            if word not in commands and self.command.resumed is not None:
                raise UserError(f"--resume {word}: one run at a time; call again for each")
            if word not in commands:
                raise UserError(f"{word}: there is no such command.{nearest(word, commands)}")

    def _refuse_unknown_option(self, word: str, flags: Collection[str]) -> None:
        """Raises UserError for a --word that is none of the flags."""
        name, _, value = word.partition("=")
        key = name.lstrip("-").replace("-", "_")
        if name in flags:
            return
        if key in self.command.config:
            raise UserError(f"{name}: {BEHIND_WITH}{key}={value}")
        raise UserError(f"{name}: there is no such option.{nearest(name, flags)}")

    def __call__(self) -> int:
        """Does it; the exit status. Raises OSError when the record on disk is not complete."""
        self._refuse_unknown()
        try:
            self.ex.run_commandline([sys.argv[0], *self.command.rest])
        finally:
            for record in self.records:
                record.folder.close()
            if self.finished:
                with contextlib.suppress(OSError):  # a closed stdout is no failure of the run
                    print(closing(self.finished), flush=True)
        trouble = next((record.folder.trouble for record in self.records), None)
        if trouble:
            raise trouble
        return self.status


def played(trainer: Trainer) -> float:
    """test_nepisode greedy episodes with the saved networks; their mean return."""
    (run,) = trainer.runs
    if others := elsewhere(run.settings):
        message = "warning: not the world that these networks trained in: %s"
        log.warning(message, ", ".join(others))
    save_replay = getattr(trainer.tests.env, "save_replay", None)
    if run.cfg.save_replay and save_replay is None:
        raise UserError(
            "save_replay: only StarCraft II itself has replays; "
            "src/watch.py makes films of any saved run"
        )
    run.folder = None  # an evaluation saves no networks
    trainer.test()
    if run.cfg.save_replay and save_replay:
        print("replays:", *save_replay())
    for name, value in run.log.latest.items():
        print(f"{name} {value:.4g}")
    return run.log.latest["test_return_mean"]


def disk_notice(run: Run, total: int, folder: pathlib.Path) -> str:
    """Disk space that `total` such runs will take, and a warning where it does not fit."""
    networks, checkpoint = run.disk()
    kept = 2 * networks if run.cfg.save_model else 0  # best and last
    end = total * (kept + checkpoint)
    most = end + total * checkpoints.KEEP * checkpoint  # while one more is written
    runs = f" for {total} runs" if total > 1 else ""
    notice = f"disk: about {end / 1e6:.0f} MB at the end{runs}, {most / 1e6:.0f} MB while training"
    free = shutil.disk_usage(folder).free
    if most > free:
        notice += f"; warning: {free / 1e6:.0f} MB are free; save_interval=0 keeps no checkpoints"
    return notice


# Settings by which a run needs less memory
_SMALLER = "lower hidden_dim, batch_size, batch_size_run, test_nepisode or buffer_size"


def _known(best: float) -> float | None:
    """A result for the record; None in place of -inf, which JSON does not have."""
    return None if math.isinf(best) else best


def _raise_file_limit(runs: int) -> None:
    """Every run holds a lock file open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = runs + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _refuse_unwritable(folder: pathlib.Path) -> None:
    try:
        probe(folder)
    except Unwritable as error:
        reason = f"cannot write in {error.filename}: {error.strerror}"
        raise UserError(f"local_results_path: {reason}; choose another folder") from None


def _terminated(*_: object) -> None:
    """Treats SIGTERM as Ctrl-C, also where a shell has Ctrl-C ignored, as after `&`."""
    if not callable(signal.getsignal(signal.SIGINT)):
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def usage() -> str:
    return (
        f"{__doc__}\nALG: {', '.join(loader.names('algs'))}\nENV: {', '.join(loader.names('envs'))}"
    )


def main(argv: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.raiseExceptions = False  # a closed stdout does not end the run
    signal.signal(signal.SIGTERM, _terminated)
    if "-h" in argv or "--help" in argv:
        print(usage())
        return 0
    if not argv:
        print(usage(), file=sys.stderr)
        return 2
    program = None
    try:
        program = Program(parse_command(argv))
        return program()
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
        print(program.interrupted() if program else "interrupted", file=sys.stderr)
        return 130
    except SystemExit as end:
        if isinstance(end.code, str):  # Sacred's, of words that it cannot read
            print(f"error: {end.code.splitlines()[0]}", file=sys.stderr)
            return 2
        return (program.status if program else 0) or int(end.code or 0)


if __name__ == "__main__":
    launch(main)
