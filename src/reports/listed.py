"""The list of figures: their finished runs, those on record, and how long the others will take."""

import math
from collections.abc import Iterable, Mapping, Sequence

from eoi.batches import durations
from eoi.batches.arms import jobs_of
from eoi.batches.jobs import Job, find
from eoi.records import figures, reader, summary
from eoi.records.figures import Figure
from eoi.reports import results


def listed(
    every: Sequence[Figure], seeds: Mapping[str, Sequence[int]], given: Sequence[str], quick: bool
) -> str:
    """A line for each figure, and one for all of them. `seeds`: those of each figure, by its name.

    Quick runs are never on record.
    """
    arms = {f.name: jobs_of(f, seeds[f.name], given, quick) for f in every}
    jobs = distinct(job for own in arms.values() for job in _all(own))
    find([job for own in arms.values() for job in _all(own)])
    speeds = durations.measured([reader.SACRED])
    pool = results.Pool([] if quick else results.evidence())
    new = {f.name: results.lacking(arms[f.name], results.among(f, pool, given)) for f in every}

    def row(name: str, own: Sequence[Job], lacking: Sequence[Job], title: str) -> list[str]:
        done = sum(job.state == "finished" for job in own)
        recorded = f"{len(own) - len(lacking)}/{len(own)}" if name != _ALL else ""
        times = [_hours(speeds.left(own)), recorded, _hours(speeds.left(lacking))]
        return [name, f"{done}/{len(own)}", *times, title]

    rows = [["figure", "finished", "left", "on record", "lacking", ""]]
    rows += [row(f.name, _all(arms[f.name]), _all(new[f.name]), _title(f)) for f in every]
    lacking = distinct(job for own in new.values() for job in _all(own))
    rows.append(row(_ALL, jobs, lacking, "each run once"))
    basis = "measured on finished runs" if speeds.measured else "a rough estimate"
    legend = f"finished: in {reader.SACRED}; left: hours of the others on one core, {basis}"
    if quick:
        return f"{summary.aligned([[*cells[:3], cells[5]] for cells in rows], '')}\n{legend}"
    legend += (
        f"\non record: in the tables of {results.EVIDENCE}, up to so many seeds;"
        " lacking: hours of the runs that --recorded makes"
    )
    return f"{summary.aligned(rows, '')}\n{legend}"


_ALL = "all"


def _title(figure: Figure) -> str:
    absent = ", ".join(figures.unavailable(figure))
    return figure.title + (f" (not here yet: {absent})" if absent else "")


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, in order; figures share runs."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.identity, job)
    return list(found.values())


def _all(arms: Mapping[str, Sequence[Job]]) -> list[Job]:
    return distinct(job for jobs in arms.values() for job in jobs)


def _hours(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}"
