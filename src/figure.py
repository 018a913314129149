"""Makes a figure of the paper: runs what is missing, draws it, and judges the paper's claims.

    bash run.sh figure NAME [NAME ...] [--seeds N] [-j JOBS] [--on local|ray|slurm] [--quick]
                       [--recorded] [--runs RUNS ...] [--out FILE] [--dry-run] [with key=value ...]
    bash run.sh figure --list      figures, their finished runs, and how long the rest will take
    bash run.sh figure --page      docs/results.md, with its pictures, from results/evidence

NAME is a figure of the paper, such as 4-right, another one of --list, or a file of your own,
FILE.yaml (docs/figures.md).
Finished runs are found by their settings, interrupted ones are resumed, and the new seeds of an arm
are one fleet where its world allows it. Beside the picture stand its verdicts (.md) and the metrics
of its runs (.csv.gz).
"""

from eoi.utils.start import launch

import os
import pathlib
import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence

import matplotlib

from eoi import batch
from eoi.batches.arms import jobs_of
from eoi.batches.engines import ENGINES, Pace, refuse_one_of_an_array
from eoi.batches.jobs import UNDER_WAY, Job, find
from eoi.batches.report import Screen
from eoi.batches.stacks import stacked
from eoi.pictures.look import LOOK
from eoi.pictures.paper import ALONE, drawn
from eoi.records import figures, labels, reader, table
from eoi.records.figures import Figure
from eoi.records.record import Record
from eoi.reports import results
from eoi.reports.listed import distinct, listed
from eoi.reports.results import Arms
from eoi.reports.runs import cleaned
from eoi.utils.errors import UserError
from eoi.utils.places import ROOT
from eoi.utils.script import FIGURES, Parser, guarded, output, positive, write_text, write_whole

_QUICK_SEEDS = 2
_PROTOCOL_SEEDS, _PROTOCOL = 10, ("test_nepisode=32", "absolute_nepisode=320")


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("names", nargs="*", metavar="NAME")
    result.add_argument(
        "--seeds", type=batch.seeds, metavar="N", help="5: 0 to 4; 3,4; 2-6; default: the figure's"
    )
    result.add_argument(
        "-j",
        "--jobs",
        type=positive,
        default=os.cpu_count() or 1,
        help="processes at a time; default: one for each processor",
    )
    result.add_argument(
        "--on", choices=sorted(ENGINES), default="local", help="where to run; default: local"
    )
    result.add_argument("--address", default="", help="of the Ray cluster")
    result.add_argument("--mongo", default="", metavar="URL[:DB]", help="records runs there, too")
    result.add_argument(
        "--quick",
        action="store_true",
        help="a hundredth of the episodes and two seeds, in results/quick: shows that all works",
    )
    result.add_argument(
        "--protocol",
        choices=("gorsane",),
        help="of Gorsane et al. 2022: ten seeds, 32 episodes a test, and 320 of the best networks",
    )
    result.add_argument(
        "--runs", nargs="+", metavar="RUNS", help="draw these runs or tables, and start none"
    )
    result.add_argument(
        "--recorded",
        action="store_true",
        help="count the runs in results/evidence, and make those that they lack",
    )
    result.add_argument(
        "--out",
        type=output,
        metavar="FILE",
        help="default: in results/figures; .png .pdf .svg",
    )
    result.add_argument(
        "--only", type=int, metavar="K", help="run K alone, counted from 0; for array jobs"
    )
    result.add_argument("--dry-run", action="store_true", help="print the commands")
    result.add_argument("--list", action="store_true", help="what is finished, what is left")
    result.add_argument("--page", action="store_true", help="write docs/results.md")
    return result


# The runs


def planned(options: Namespace, given: Sequence[str], figure: Figure) -> dict[str, list[Job]]:
    """The runs of each arm, with their states; notes the arms that cannot run. Raises UserError."""
    for arm, reason in figures.unavailable(figure).items():
        note(f"figure {figure.name}: {arm} is left out: {reason}")
    arms = jobs_of(figure, _seeds(options, figure), given, options.quick)
    if not arms:
        raise UserError(f"figure {figure.name}: no arm of it can run")
    return arms


def _seeds(options: Namespace, figure: Figure) -> list[int]:
    if options.seeds:
        return options.seeds
    if options.quick:
        return list(range(_QUICK_SEEDS))
    return list(range(_PROTOCOL_SEEDS) if options.protocol else figure.seeds)


def trained(jobs: Sequence[Job], options: Namespace, argv: Sequence[str]) -> None:
    """Runs what is missing. Raises KeyboardInterrupt where the user stops it."""
    left = [job for job in jobs if job.state not in UNDER_WAY]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are finished or under way", flush=True)
    tasks = left if options.on == "slurm" else stacked(left, options.jobs)
    screen = Screen(jobs if options.on == "slurm" else tasks)
    if options.dry_run:
        for task in tasks:
            screen.say(task, f"to do: {shlex.join(task.command(options.mongo))}")
        return
    pace = Pace(options.jobs, options.mongo, options.address, list(argv), "figure")
    stopped = bool(tasks) and ENGINES[options.on](tasks, pace, screen)
    find(jobs)
    for job in jobs:
        if job.remark and job.state != "finished":
            note(f"{job.title}: {job.state}: {job.remark}")
    if stopped:
        raise KeyboardInterrupt


def finished(arms: Mapping[str, Sequence[Job]]) -> Arms:
    """Records of the finished runs; notes one that cannot be read."""
    found: Arms = {}
    for name, jobs in arms.items():
        for job in jobs:
            if job.state == "finished" and job.folder is not None:
                try:
                    record = reader.read(job.folder)
                except UserError as error:
                    note(f"{error}; the run is left out")
                else:
                    found.setdefault(name, []).append(record)
    return found


def note_misspelt(figure: Figure) -> None:
    """Names the metrics that differ from a logged one by a slip of the keys."""
    for metric in figure.metrics:
        if meant := labels.meant(metric):
            note(f"figure {figure.name}: {metric} is not logged here; did you mean {meant}?")


def note_nan(figure: Figure, arms: Arms) -> None:
    """Names the runs in which a metric of the figure is nan or infinite."""
    for name, records in arms.items():
        for record in records:
            for metric in figure.metrics:
                step = record.not_finite(metric)
                if step is not None:
                    note(f"{name}: {metric} of {record.folder} is not finite at step {step:,}")


# What is made of them


def _refuse_unlogged(figure: Figure, arms: Arms) -> None:
    """Raises UserError where the figure shows metrics alone, and no run has logged one."""
    logged = {name for records in arms.values() for record in records for name in record.metrics}
    if logged.isdisjoint(figure.metrics) and not any(p.kind in ALONE for p in figure.parts):
        wanted = " or ".join(figure.metrics)
        raise UserError(f"figure {figure.name}: no run has logged {wanted}")


def make(figure: Figure, arms: Arms, out: pathlib.Path, quick: bool) -> None:
    """Writes the pictures, the verdicts and the table of runs, and prints the verdicts."""
    if not arms:
        raise UserError(f"figure {figure.name}: no finished run of it, so there is nothing to draw")
    note_nan(figure, arms)
    whole = {name: [cleaned(record)[0] for record in runs] for name, runs in arms.items()}
    shown = figures.with_shares(figure, whole)
    _refuse_unlogged(figure, shown)
    with matplotlib.rc_context(LOOK):
        for suffix, picture in drawn(figure, shown, note):
            path = out.with_name(f"{out.stem}{suffix}{out.suffix}")
            kind = path.suffix[1:].lower()
            write_whole(path, lambda file, p=picture, k=kind: p.savefig(file, format=k))
            print(path)
    write_text(out.with_suffix(".md"), f"# {figure.title}\n\n{results.section(figure, shown)}")
    runs = list({r.folder: r for members in arms.values() for r in members}.values())
    kept = [*figure.metrics, figures.RETURN, "episode", "ep_length_mean", "test_ep_length_mean"]
    table.write(out.with_name(f"{out.stem}{table.SUFFIX}"), runs, kept)
    print(out.with_suffix(".md"))
    if quick:
        note("a quick run tests the program, not the claims")
    for verdict in results.verdicts(figure, shown):
        print(f"{verdict.outcome}: {verdict.claim.test}: {verdict.sentence}")


# The command


def note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def body(argv: Sequence[str]) -> None:
    words, given = batch.split(argv)
    options = parser().parse_args(words)
    given = [*(_PROTOCOL if options.protocol else ()), *given]
    if any(pair.partition("=")[0] == "seed" for pair in given):
        raise UserError("with seed: the runs of a figure have seeds of their own; use --seeds")
    if options.recorded and (options.quick or options.runs):
        raise UserError("--recorded: goes with neither --quick nor --runs")
    if options.page:
        _write_page()
    elif options.list:
        every = [figures.read(name) for name in options.names or figures.names()]
        seeds = {figure.name: _seeds(options, figure) for figure in every}
        print(listed(every, seeds, given, options.quick))
    else:
        _made(options, given, argv)


def _write_page() -> None:
    records = results.evidence()
    shown = list(results.on_page(records))
    for path in results.pictures(shown, note):
        print(path)
    write_text(results.PAGE, results.page(shown, records))
    print(results.PAGE)


def _made(options: Namespace, given: Sequence[str], argv: Sequence[str]) -> None:
    if not options.names:
        raise UserError(f"figure: name one, or --list. There are: {', '.join(figures.names())}")
    every = [figures.read(name) for name in options.names]
    outs = [_out(options, figure) for figure in every]
    if options.runs:
        records = _given_runs(options)
        for figure, out in zip(every, outs, strict=True):
            make(figure, _among(figure, records, given), out, options.quick)
    else:
        _run(options, given, argv, every, outs)


def _run(
    options: Namespace,
    given: Sequence[str],
    argv: Sequence[str],
    every: Sequence[Figure],
    outs: Sequence[pathlib.Path],
) -> None:
    """Makes the runs that the figures lack, and the figures of them."""
    refuse_one_of_an_array(options.on, options.only)
    for figure in every:
        note_misspelt(figure)
    pool = results.Pool(results.evidence() if options.recorded else [])
    recorded = [results.among(figure, pool, given) for figure in every]
    arms = [
        results.lacking(planned(options, given, figure), own)
        for figure, own in zip(every, recorded, strict=True)
    ]
    jobs = [job for own in arms for members in own.values() for job in members]
    find(jobs)
    chosen = _chosen(distinct(jobs), options.only)
    trained(chosen, options, argv)
    if options.dry_run or options.on == "slurm":
        return
    if options.only is None:
        find(jobs)
        for figure, there, own, out in zip(every, recorded, arms, outs, strict=True):
            make(figure, results.together(there, finished(own)), out, options.quick)
    if any(job.state != "finished" for job in chosen):
        raise SystemExit(1)


def _among(figure: Figure, records: Sequence[Record], given: Sequence[str]) -> Arms:
    """The runs of each arm; notes those of none. Raises UserError where all are of none."""
    arms = results.among(figure, results.Pool(records), given)
    remarks = list(results.left_out(figure, records, arms))
    if not arms:
        why = "; ".join(remarks) or "none of --runs has a seed of --seeds"
        raise UserError(f"figure {figure.name}: no run of it to draw; {why}")
    for remark in remarks:
        note(f"figure {figure.name}: {remark}")
    return arms


def _given_runs(options: Namespace) -> list[Record]:
    """The runs of --runs, with the seeds of --seeds where it is given."""
    damaged: list[str] = []
    records = reader.find_runs(options.runs, damaged)
    for reason in damaged:
        note(f"{reason}; the run is left out")
    return [r for r in records if options.seeds is None or r.seed in options.seeds]


def _chosen(jobs: list[Job], only: int | None) -> list[Job]:
    """All runs, or the one of that number. Raises UserError."""
    if only is None:
        return jobs
    if not 0 <= only < len(jobs):
        raise UserError(f"--only {only}: there are the runs 0 to {len(jobs) - 1}")
    return [jobs[only]]


def _out(options: Namespace, figure: Figure) -> pathlib.Path:
    """The picture's file. Raises UserError."""
    if options.out is None:
        folder = ROOT / "results" / "quick" / "figures" if options.quick else FIGURES
        return folder / f"figure_{figure.name}.png"
    if len(options.names) > 1:
        raise UserError(f"--out {options.out}: names one picture, for {len(options.names)} figures")
    if options.out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(f"--out {options.out}: the name has to end with .pdf, .png, .svg")
    return options.out


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
