"""The last words of a run: its result, its folder, and the commands to go on with it."""

import math
import pathlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from eoi.records import reader
from eoi.utils.places import command

SHOWN = 20  # runs of a fleet that are listed


@dataclass(frozen=True)
class Finished:
    """One run at its end."""

    folder: pathlib.Path | None  # None: not recorded
    seed: int
    label: str  # settings that set it apart in a fleet
    t: int  # environment steps
    best: float  # highest test return since the first update; -inf: no such test
    best_step: int
    last: float  # return of the last test
    last_step: int
    saved: bool  # with networks
    resumable: bool  # with a checkpoint
    modules: tuple[str, ...] = ()  # modules that its commands need
    untrained: str = ""  # a sentence, where it made no update
    failure: str = ""

    @property
    def id(self) -> str:
        return self.folder.name if self.folder else "-"

    @property
    def result(self) -> str:
        """`best test return 27.66 at step 282,000, last 24.09 at step 300,000`."""
        if self.untrained:
            return self.untrained
        last = f"{self.last:.4g} at step {self.last_step:,}"
        if math.isinf(self.best):
            return f"no best test, last {last}"
        return f"best test return {self.best:.4g} at step {self.best_step:,}, last {last}"


def named(folder: pathlib.Path) -> str:
    """The word that names a run in a command: its id, or its folder elsewhere."""
    here = folder.resolve().parent == reader.SACRED.resolve()
    return folder.name if here else shlex.quote(str(folder))


def closing(runs: Sequence[Finished]) -> str:
    """Result, folder and next commands of a run, or of a fleet."""
    first = next((run for run in runs if not run.failure), runs[0])
    words = [f"Result: {first.result}" if len(runs) == 1 else fleet_table(runs)]
    if first.folder is not None:
        where = str(first.folder)
        if len(runs) > 1:
            where = f"{runs[0].folder} to {runs[-1].folder}"
        words += [f"Folder: {where}. To go on:", *_next(runs, first)]
    return "\n".join(words)


def _next(runs: Sequence[Finished], first: Finished) -> list[str]:
    """Lines with a verb and its command."""
    assert first.folder is not None
    name = named(first.folder)
    every = " ".join(named(run.folder) for run in runs if run.folder)
    if len(runs) > SHOWN:
        every = shlex.quote(str(first.folder.parent))
    lines = [("plot", f"{command('plot')} {every}")]
    if first.saved:
        verbs = ("watch", "evaluate")
        lines += [(verb, f"{command(verb, first.modules)} {name}") for verb in verbs]
    if first.resumable:
        train = command("train", first.modules)
        lines.append(("resume", f"{train} --resume {name} with t_max={2 * first.t}"))
    return [f"    {verb:8}  {words}" for verb, words in lines]


def fleet_table(runs: Sequence[Finished]) -> str:
    """A line for each of the first runs of a fleet, then the number of the others."""
    from eoi.records.summary import aligned  # here, because scipy takes long to import

    rows = [["run", "seed", "settings", "best test return", "at step", "last"]]
    for run in runs[:SHOWN]:
        best = "-" if math.isinf(run.best) else f"{run.best:.4g}"
        if run.untrained:
            best = "no update"
        numbers = [best, f"{run.best_step:,}", f"{run.last:.4g}"]
        if run.failure:
            numbers = [f"failed: {run.failure[:60]}", "", ""]
        rows.append([run.id, str(run.seed), run.label, *numbers])
    if not any(run.label for run in runs):
        rows = [row[:2] + row[3:] for row in rows]
    more = len(runs) - SHOWN
    return aligned(rows, "") + (f"\n... and {more} more runs" if more > 0 else "")
