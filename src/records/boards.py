"""TensorBoard and Weights & Biases, where their packages are installed."""

import logging
import pathlib
from collections.abc import Callable
from typing import Any, Protocol, cast

from sacred.observers import RunObserver

from eoi.records import reader
from eoi.utils.errors import UserError

log = logging.getLogger(__name__)


class Writer(Protocol):
    def add_scalar(self, name: str, value: float, step: int) -> None: ...
    def close(self) -> None: ...


class Board(RunObserver):
    """Hands each metric on, as it comes, to a writer that is made when the run's folder is there."""

    priority = 0  # after the folder

    def __init__(self, flag: str, make: Callable[[pathlib.Path], Writer]):
        self._flag, self._make = flag, make
        self._writer: Writer | None = None

    def observe(self, folder: pathlib.Path) -> None:
        try:
            self._writer = self._make(folder)
        except Exception as error:  # no account, no network, a full disk: theirs to know
            log.warning(
                "warning: %s: %s; the run goes on without it",
                self._flag,
                str(error) or type(error).__name__,
            )

    def log_metrics(self, metrics_by_name: Any, info: Any) -> None:
        """What it raises Sacred turns into a warning."""
        for name, entry in metrics_by_name.items() if self._writer else ():
            for step, value in zip(entry["steps"], entry["values"], strict=True):
                cast(Writer, self._writer).add_scalar(name, value, step)

    def join(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


def _tensorboard() -> Board:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard: it is not installed; `.venv/bin/pip install tensorboard`"
        ) from None

    def make(folder: pathlib.Path) -> Writer:
        """What a resumed run will write again is hidden from an earlier time."""
        series = reader.read(folder).metrics
        last = max((int(entry.steps[-1]) for entry in series.values()), default=-1)
        return cast(Writer, SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1))

    return Board("--tensorboard", make)


class _Wandb:
    """Its charts are over environment steps."""

    def __init__(self, wandb: Any, project: str, folder: pathlib.Path):
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
        raise UserError("--wandb: it is not installed; `.venv/bin/pip install wandb`") from None
    return Board("--wandb", lambda folder: _Wandb(wandb, project, folder))


def observers(tensorboard: bool, wandb: str | None) -> list[Board]:
    """Raises UserError when a package is missing."""
    if wandb == "":
        raise UserError("--wandb: expected --wandb PROJECT")
    return [*([_tensorboard()] if tensorboard else []), *([_wandb(wandb)] if wandb else [])]
