"""Output of a batch: a line for each run in progress, and a table at the end."""

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Sequence

from eoi.batches.jobs import Job
from eoi.batches.stacks import Task
from eoi.records import reader, summary
from eoi.records.record import Record
from eoi.records.statistics import FINAL
from eoi.utils.errors import UserError

_EVERY = 30.0  # seconds between two lines of one run, where lines cannot be rewritten
METRIC = "test_return_mean"


class Screen:
    """One line for each run in progress: rewritten in place on a terminal, else printed anew."""

    def __init__(self, jobs: Sequence[Task]):
        self._width = max((len(job.title) for job in jobs), default=0)
        self._number = {id(job): k for k, job in enumerate(jobs)}
        self._live = sys.stdout.isatty()
        self._shown: dict[int, str] = {}
        self._told: dict[int, float] = {}
        self._lines = 0
        self._lock = threading.Lock()

    def number(self, job: Task) -> int:
        """The job's place in the batch, from 0."""
        return self._number[id(job)]

    def _line(self, job: Task, text: str) -> str:
        count = len(self._number)
        return f"{self.number(job):{len(str(count - 1))}}  {job.title:{self._width}}  {text}"

    def say(self, job: Task, text: str) -> None:
        """Prints a line that stays."""
        with self._lock:
            self._shown.pop(id(job), None)
            self._clear()
            print(self._line(job, text), flush=True)
            self._draw()

    def progress(self, job: Task, line: str) -> None:
        """Shows the numbers of a run's own progress line."""
        found = re.search(r"(\d+\.\d)%.*?steps  (.*)", line)
        if not found:
            return
        speed = re.sub(r"\d+ episodes  ", "", found[2])
        text = f"{found[1]:>5}%  {speed}"
        with self._lock:
            if self._live:
                self._shown[id(job)] = self._line(job, text)
                self._clear()
                self._draw()
            elif time.monotonic() - self._told.get(id(job), float("-inf")) >= _EVERY:
                self._told[id(job)] = time.monotonic()
                print(self._line(job, text), flush=True)

    def _clear(self) -> None:
        if self._live and self._lines:
            print(f"\x1b[{self._lines}A\x1b[J", end="")
        self._lines = 0

    def _draw(self) -> None:
        if self._live:
            width, height = shutil.get_terminal_size()
            lines = [line[: width - 1] for line in self._shown.values()][: height - 2]
            self._lines = len(lines)
            print("".join(f"{line}\n" for line in lines), end="", flush=True)


def table(jobs: Sequence[Job]) -> str:
    """For each group of seeds: how many runs are finished, and their final test returns."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(" ".join(job.fresh("")), []).append(job)
    rows = [["", "finished", "mean ± sd", "IQM [95 % interval]", "seed: final value", "runs"]]
    for members in groups.values():
        done = [job for job in members if job.state == "finished"]
        found = summary.finals([r for job in done if (r := record(job))], METRIC)
        numbers = [found.mean, found.iqm, found.each] if len(found.values) else ["-", "", ""]
        which = ",".join(str(job.folder.name) for job in done if job.folder)
        rows.append([members[0].group, f"{len(done)}/{len(members)}", *numbers, which])
    unfinished = [
        f"{job.title}: {job.state}{': ' + job.remark if job.remark else ''}"
        for job in jobs
        if job.state != "finished"
    ]
    return os.linesep.join([f"{METRIC}, {FINAL}", summary.aligned(rows, ""), *unfinished])


def record(job: Job) -> Record | None:
    """The job's run, if it can be read."""
    try:
        return reader.read(job.folder) if job.folder else None
    except UserError:
        return None
