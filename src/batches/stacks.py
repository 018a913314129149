"""Processes of a batch: single runs, and stacks of runs as fleets."""

from collections.abc import Sequence
from typing import Protocol

from eoi.batches.jobs import Job
from eoi.fleet import FleetConfig, refuse_unstackable
from eoi.settings import configure
from eoi.utils.errors import UserError


class Task(Protocol):
    """One process of a batch: a run, or a stack of runs."""

    @property
    def title(self) -> str: ...

    @property
    def remark(self) -> str:
        """The last line of a process that failed."""
        ...

    @remark.setter
    def remark(self, text: str) -> None: ...

    def command(self, mongo: str = "") -> list[str]: ...


class Stack:
    """New runs that differ in their seeds alone, as a fleet in one process."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs = list(jobs)

    @property
    def remark(self) -> str:
        return self.jobs[0].remark

    @remark.setter
    def remark(self, text: str) -> None:
        for job in self.jobs:
            job.remark = text

    @property
    def title(self) -> str:
        return f"{self.jobs[0].group} seeds {', '.join(str(job.seed) for job in self.jobs)}"

    def command(self, mongo: str = "") -> list[str]:
        seeds = ",".join(str(job.seed) for job in self.jobs)
        return self.jobs[0].fresh(f"fleet.seeds=[{seeds}]", mongo)


def stacked(jobs: Sequence[Job], processes: int) -> list[Task]:
    """The jobs as few processes: the new seeds of an arm as a fleet, where its world allows one.

    An arm is divided where there are fewer arms than `processes`.
    """
    begun = [job for job in jobs if job.state != "new"]
    arms: dict[str, list[Job]] = {}
    for job in jobs:
        if job.state == "new":
            arms.setdefault(" ".join(job.fresh("")), []).append(job)
    parts = -(-processes // max(len(arms), 1))
    found: list[Task] = [*begun]
    for members in arms.values():
        found += _divided(members, parts)
    return found


def _divided(members: Sequence[Job], parts: int) -> list[Task]:
    size = -(-len(members) // parts)
    if size > 1 and not _stacks(members[0]):
        size = 1
    pieces = [members[k : k + size] for k in range(0, len(members), size)]
    found: list[Task] = []
    for piece in pieces:
        found.append(Stack(piece) if len(piece) > 1 else piece[0])
    return found


def _stacks(job: Job) -> bool:
    """Whether runs of several seeds can be one program."""
    try:
        refuse_unstackable(FleetConfig(seeds=(), vary={}, compile=False), [configure(job.config)])
    except UserError:
        return False
    return True
