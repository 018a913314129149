"""Metrics for TensorBoard and Weights & Biases, if their packages are installed."""

import logging
import pathlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Protocol

from eoi.records import reader
from eoi.records.folder import Follower, Logged
from eoi.utils.errors import UserError
from eoi.utils.places import PIP

log = logging.getLogger(__name__)


class Writer(Protocol):
    def add_scalar(self, name: str, value: float, step: int, /) -> None: ...
    def close(self) -> None: ...


class Board(Follower):
    """Passes each logged value to a writer, which is made once the run's folder exists."""

    priority = 0  # after the folder

    def __init__(self, flag: str, make: Callable[[pathlib.Path], Writer]):
        self._flag, self._make = flag, make
        self._writer: Writer | None = None

    def observe(self, folder: pathlib.Path) -> None:
        try:
            self._writer = self._make(folder)
        except Exception as error:  # no account, no network, a full disk, ...
            log.warning(
                "warning: %s: %s; the run goes on without it",
                self._flag,
                str(error) or type(error).__name__,
            )

    def log_metrics(self, metrics_by_name: Mapping[str, Logged], info: object) -> None:
        """Sacred turns an exception raised here into a warning."""
        if self._writer is None:
            return
        for name, entry in metrics_by_name.items():
            for step, value in zip(entry["steps"], entry["values"], strict=True):
                self._writer.add_scalar(name, value, step)

    def join(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


def _tensorboard() -> Board:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(f"--tensorboard: it is not installed; `{PIP} tensorboard`") from None

    def make(folder: pathlib.Path) -> Writer:
        """Entries that a resumed run will write again are hidden."""
        series = reader.read(folder).metrics
        last = max((int(entry.steps[-1]) for entry in series.values()), default=-1)
        return SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1)

    return Board("--tensorboard", make)


class _Wandb:
    """A run on Weights & Biases, with environment steps as the x axis."""

    def __init__(self, wandb: ModuleType, project: str, folder: pathlib.Path):
        config, run = reader.read_config(folder), reader.read_run(folder)
        identity = f"eoi-{run['meta']['number']}"
        self._run = wandb.init(
            project=project,
            id=identity,
            name=f"{config['name']} {folder.name}",
            config=config,
            resume="allow",
            dir=str(folder),
        )
        self._run.define_metric("*", step_metric="t")

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._run.log({name: value, "t": step})

    def close(self) -> None:
        self._run.finish()


def _wandb(project: str) -> Board:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"--wandb: it is not installed; `{PIP} wandb`") from None
    return Board("--wandb", lambda folder: _Wandb(wandb, project, folder))


def observers(tensorboard: bool, wandb: str | None) -> list[Board]:
    """Boards that the user asked for. Raises UserError if a package is missing."""
    if wandb == "":
        raise UserError("--wandb: expected --wandb PROJECT")
    return [*([_tensorboard()] if tensorboard else []), *([_wandb(wandb)] if wandb else [])]
