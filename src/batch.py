"""Many runs: algorithms x environments x seeds.

    bash run.sh batch --config ALG[,ALG] --env-config ENV[,ENV]
                      [--seeds 5 | --seeds 3,4,7 | --seeds 2-6] [-j JOBS]
                      [--vary KEY=VALUE,VALUE ...] [--on local|ray|slurm]
                      [--mongo URL[:DB]] [--dry-run | --list] [with key=value ...]

Call it again to continue: finished runs are skipped, interrupted ones are resumed. A run is
recognised by its recorded settings, also if it was started on its own; set another `label` to make
it again. Each run has one thread. Ctrl-C stops all runs, and each keeps a checkpoint.
"""

from eoi.utils.start import launch

import itertools
import os
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence

from eoi.batches.engines import ENGINES, Pace
from eoi.batches.jobs import Job, find, plan
from eoi.batches.report import Screen, table
from eoi.config import loader
from eoi.utils.errors import UserError
from eoi.utils.script import Parser, guarded, positive


def seeds(text: str) -> list[int]:
    """Seeds 0 to 4 of `5`, 3 and 4 of `3,4`, 2 to 6 of `2-6`."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if dash and int(low) > int(high):
            raise ArgumentTypeError(f"{part} goes down, so no seed is in it; write {high}-{low}")
        found += range(int(low), int(high) + 1) if dash else [int(part)]
    return (
        list(range(found[0])) if len(found) == 1 and "," not in text and "-" not in text else found
    )


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("--config", required=True, metavar="ALG[,ALG]")
    result.add_argument(
        "--env-config", default="pac_men", metavar="ENV[,ENV]", help="default: pac_men"
    )
    result.add_argument(
        "--seeds", type=seeds, default=[0], metavar="N", help="5: 0 to 4; 3,4; 2-6; default: 1"
    )
    result.add_argument(
        "-j",
        "--jobs",
        type=positive,
        default=os.cpu_count() or 1,
        help="runs at a time; default: one for each processor",
    )
    result.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="another axis of the grid; may be repeated",
    )
    result.add_argument(
        "--on", choices=sorted(ENGINES), default="local", help="where to run; default: local"
    )
    result.add_argument(
        "--address",
        default="",
        help="of the Ray cluster; default: one on this machine with -j processors",
    )
    result.add_argument(
        "--mongo", default="", metavar="URL[:DB]", help="records each run there, too"
    )
    result.add_argument(
        "--only", type=int, metavar="K", help="run K alone, counted from 0; for array jobs"
    )
    result.add_argument(
        "--list", action="store_true", help="print the folders of the finished runs"
    )
    result.add_argument("--dry-run", action="store_true", help="print the commands")
    return result


def grid(options: Namespace, given: Sequence[str]) -> list[Job]:
    """All runs in their order, each of them checked. Raises UserError."""
    varied = _varied(options.vary)
    algorithms, worlds = (
        [name for name in text.split(",") if name] for text in (options.config, options.env_config)
    )
    named = {"--config": algorithms, "--env-config": worlds, "--seeds": options.seeds}
    for option, values in (
        named | {f"--vary {key}": values for key, values in varied.items()}
    ).items():
        _refuse_none_or_twice(option, values)
    for key in (pair.partition("=")[0] for pair in given):
        if key in ("seed", *varied):
            option = "--seeds" if key == "seed" else "--vary"
            raise UserError(
                f"with {key}: the runs of this batch have values of their own;"
                f" give them by {option} alone"
            )
    axes = ([f"{key}={value}" for value in values] for key, values in varied.items())
    cells = itertools.product(algorithms, worlds, itertools.product(*axes), options.seeds)
    return [
        plan(algorithm, env, seed, list(arm), list(given)) for algorithm, env, arm, seed in cells
    ]


def _varied(pairs: Iterable[str]) -> dict[str, list[str]]:
    """The values of each setting that --vary names."""
    varied: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, values = pair.partition("=")
        if not equals:
            raise UserError(f"--vary {pair}: expected KEY=VALUE,VALUE")
        if key == "seed":
            raise UserError("--vary seed: the seeds of a batch are those of --seeds")
        if key in varied:
            raise UserError(
                f"--vary {key}: given twice; name all its values at once,"
                f" --vary {key}={','.join(varied[key])},{values}"
            )
        varied[key] = values.split(",")
    return varied


def _refuse_none_or_twice(option: str, values: Sequence[object]) -> None:
    if not values:
        hint = (
            "a number alone counts them, so seed 0 is --seeds 1"
            if option == "--seeds"
            else "name at least one"
        )
        raise UserError(f"{option}: there is none, so nothing would run; {hint}")
    # 1 and 1.0 are the same run.
    read = [loader.parse_updates([f"value={value}"]) for value in values]
    for value, content in zip(values, read, strict=True):
        if read.count(content) > 1:
            raise UserError(
                f"{option}: {value} is there twice, which would be the same run; name it once"
            )


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before `with`, and the key=value pairs after it."""
    words = list(argv)
    at = words.index("with") if "with" in words else len(words)
    pairs = words[at + 1 :]
    for pair in pairs:
        if "=" not in pair or pair.startswith("-"):
            raise UserError(f"with {pair}: expected key=value, and options before `with`")
    return words[:at], pairs


def settled(jobs: Iterable[Job], screen: Screen) -> list[Job]:
    """The jobs that have to run; the state of the others is printed."""
    left = []
    for job in jobs:
        if job.state in ("finished", "running elsewhere"):
            screen.say(job, job.state + (f", run {job.folder.name}" if job.folder else ""))
        else:
            left.append(job)
    return left


def body(argv: Sequence[str]) -> None:
    words, given = split(argv)
    options = parser().parse_args(words)
    jobs = grid(options, given)
    if options.only is not None:
        if not 0 <= options.only < len(jobs):
            raise UserError(f"--only {options.only}: the batch has the runs 0 to {len(jobs) - 1}")
        jobs = [jobs[options.only]]
    find(jobs)
    if options.list:
        print("\n".join(str(job.folder) for job in jobs if job.state == "finished"))
        return
    screen = Screen(jobs)
    left = settled(jobs, screen)
    if options.dry_run:
        for job in left:
            screen.say(job, f"to do: {' '.join(job.command(options.mongo))}")
        return
    stopped = bool(left) and ENGINES[options.on](
        left, Pace(options.jobs, options.mongo, options.address, list(argv)), screen
    )
    find(jobs)
    print(table(jobs))
    if stopped:
        raise KeyboardInterrupt
    failed = sum(job.state != "finished" for job in jobs)
    if failed and options.on != "slurm":
        raise SystemExit(1)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
