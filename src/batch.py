"""Many runs: algorithms x environments x seeds.

    bash run.sh batch --config ALG[,ALG] --env-config ENV[,ENV]
                      [--seeds 5 | --seeds 3,4,7 | --seeds 2-6] [-j JOBS]
                      [--vary KEY=VALUE,VALUE ...] [--on local|ray|slurm]
                      [--mongo URL[:DB]] [--dry-run | --list] [with key=value ...]
    bash run.sh batch --config ALG --env-config ENV --search KEY=LOW..HIGH[:log] [--search KEY=A,B]
                      [--trials 20] [--seeds 3] [-j JOBS] [with key=value ...]

Call it again to continue: finished runs are skipped, interrupted ones are resumed. A run is
recognised by its recorded settings, also if it was started on its own; set another `label` to make
it again. Each run has one thread. Ctrl-C stops all runs, and each keeps a checkpoint.

--search looks for settings with a high final test return, by Optuna (docs/search.md). A trial is
one choice, trained with all seeds. Its study is a file, and the same call continues it.
"""

from eoi.utils.start import launch

import itertools
import os
import pathlib
import re
import shlex
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence

from eoi.batches import search
from eoi.batches.engines import ENGINES, Pace, refuse_one_of_an_array
from eoi.batches.jobs import UNDER_WAY, Job, find, plan, refuse_axis
from eoi.batches.report import Screen, table
from eoi.batches.stacks import stacked
from eoi.utils.errors import UserError
from eoi.utils.places import ROOT
from eoi.utils.script import (
    FIGURES,
    Parser,
    guarded,
    integer,
    output,
    positive,
    refuse_before_with,
    write_whole,
)

_MOST = 10_000  # seeds in one part of a list
_SEEDS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def seeds(text: str) -> list[int]:
    """Seeds 0 to 4 of `5`, 3 and 4 of `3,4`, 2 to 6 of `2-6`. Raises ArgumentTypeError."""
    if not _SEEDS.fullmatch(text):
        raise ArgumentTypeError(f"expected how many, as 5, or which, as 3,4,7 or 2-6; got {text!r}")
    if text.isdigit():
        return _counted(int(text))
    found: dict[int, None] = {}
    for part in text.split(","):
        for seed in _range(part if "-" in part else f"{part}-{part}"):
            if seed in found:
                raise ArgumentTypeError(search.twice(seed))
            found[seed] = None
    return list(found)


def _counted(count: int) -> list[int]:
    """As many seeds, from 0. Raises ArgumentTypeError."""
    if count < 1:
        raise ArgumentTypeError(
            "there is none, so nothing would run;"
            " a number alone counts them, so seed 0 is --seeds 1"
        )
    if count > _MOST:
        raise ArgumentTypeError(
            f"{count} counts the seeds, {_MOST:,} at most; one seed is {count}-{count}"
        )
    return list(range(count))


def _range(part: str) -> range:
    """The seeds of LOW-HIGH. Raises ArgumentTypeError."""
    low, high = map(int, part.split("-"))
    if low > high:
        raise ArgumentTypeError(f"{part} goes down, so no seed is in it; write {high}-{low}")
    if high - low >= _MOST:
        raise ArgumentTypeError(f"{part} has more than {_MOST:,} seeds")
    return range(low, high + 1)


TRIALS = 20  # of a search


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
    _add_search(result)
    result.add_argument(
        "--only", type=integer, metavar="K", help="run K alone, counted from 0; for array jobs"
    )
    result.add_argument(
        "--list", action="store_true", help="print the folders of the finished runs"
    )
    result.add_argument("--dry-run", action="store_true", help="print the commands")
    return result


def _add_search(parser: Parser) -> None:
    group = parser.add_argument_group("a search in place of a grid")
    group.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="KEY=LOW..HIGH[:log]",
        help="a setting and its range, or KEY=A,B; may be repeated",
    )
    group.add_argument(
        "--trials", type=positive, metavar="N", help=f"choices to try; default: {TRIALS}"
    )
    group.add_argument(
        "--study", type=output, metavar="FILE", help="default: a file in results/search"
    )


def grid(options: Namespace, given: Sequence[str]) -> list[Job]:
    """All runs in their order, each of them checked. Raises UserError."""
    varied = _varied(options.vary)
    algorithms, worlds = (
        [name for name in text.split(",") if name] for text in (options.config, options.env_config)
    )
    named = {"--config": algorithms, "--env-config": worlds}
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
        refuse_axis("--vary", key)
        if key in varied:
            raise UserError(
                f"--vary {key}: given twice; name all its values at once,"
                f" --vary {key}={','.join(varied[key])},{values}"
            )
        varied[key] = values.split(",")
    return varied


def _refuse_none_or_twice(option: str, values: Sequence[str]) -> None:
    if not values:
        raise UserError(f"{option}: there is none, so nothing would run; name at least one")
    search.refuse_twice(option, values)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before `with`, and the key=value pairs after it."""
    words = list(argv)
    at = words.index("with") if "with" in words else len(words)
    pairs = words[at + 1 :]
    for pair in pairs:
        if "=" not in pair or pair.startswith("-"):
            raise UserError(f"with {pair}: expected key=value, and options before `with`")
    refuse_before_with(words[:at])
    return words[:at], pairs


def settled(jobs: Iterable[Job], screen: Screen) -> list[Job]:
    """The jobs that have to run; the state of the others is printed."""
    left = []
    for job in jobs:
        if job.state in UNDER_WAY:
            screen.say(job, job.state + (f", run {job.folder.name}" if job.folder else ""))
        else:
            left.append(job)
    return left


def body(argv: Sequence[str]) -> None:
    words, given = split(argv)
    options = parser().parse_args(words)
    refuse_one_of_an_array(options.on, options.only)
    if options.search:
        searched(options, given, argv)
        return
    for name, value in (("--trials", options.trials), ("--study", options.study)):
        if value is not None:
            raise UserError(f"{name}: has no effect without --search")
    run_grid(options, given, argv)


def run_grid(options: Namespace, given: Sequence[str], argv: Sequence[str]) -> None:
    """All runs of the grid. Raises UserError, KeyboardInterrupt, SystemExit."""
    jobs = grid(options, given)
    if options.only is not None:
        if not 0 <= options.only < len(jobs):
            raise UserError(f"--only {options.only}: the batch has the runs 0 to {len(jobs) - 1}")
        jobs = [jobs[options.only]]
    find(jobs)
    if options.list:
        print("".join(f"{job.folder}\n" for job in jobs if job.state == "finished"), end="")
        return
    screen = Screen(jobs)
    left = settled(jobs, screen)
    if options.dry_run:
        for job in left:
            screen.say(job, f"to do: {shlex.join(job.command(options.mongo))}")
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


STUDIES = ROOT / "results" / "search"


def searched(options: Namespace, given: Sequence[str], argv: Sequence[str]) -> None:
    """A search, with its table and its picture. Raises UserError."""
    _refuse_beside_search(options)
    trials = options.trials or TRIALS
    asked = search.question(
        options.config, options.env_config, options.seeds, options.search, given
    )
    path = options.study or STUDIES / f"{asked.name}.log"
    if options.dry_run:
        print(f"{trials} trials of {len(asked.seeds)} runs each; the study is {path}")
        return
    pace = Pace(options.jobs, options.mongo, options.address, list(argv))

    def runner(jobs: Sequence[Job]) -> bool:
        tasks = stacked(jobs, options.jobs)
        return bool(tasks) and ENGINES[options.on](tasks, pace, Screen(tasks))

    study = search.Search(asked, path)
    at_once = max(1, options.jobs // len(asked.seeds))
    stopped = study.run(trials, at_once, runner, lambda trial: print(told(trial)))
    print(f"{search.table(study)}\n{path}")
    if any(trial.value is not None for trial in study.finished()):
        print(drawn(study))
    if stopped:
        raise KeyboardInterrupt


def _refuse_beside_search(options: Namespace) -> None:
    """Raises UserError for options that a search does not have."""
    taken = {"--vary": options.vary, "--only": options.only is not None, "--list": options.list}
    for name, given in taken.items():
        if given:
            raise UserError(f"{name}: has no effect with --search; leave it out")
    for name, text in (("--config", options.config), ("--env-config", options.env_config)):
        if "," in text:
            raise UserError(f"{name} {text}: a search has one; make a search for each")
    if options.on == "slurm":
        raise UserError("--on slurm: a search waits for its runs; use --on local, or --on ray")


def told(trial: search.Trial) -> str:
    """A line about a finished trial."""
    settings = " ".join(f"{key}={text}" for key, text in trial.settings.items())
    result = "failed" if trial.value is None else f"{trial.value:.4g}"
    return f"trial {trial.number}: {settings} -> {result}"


def drawn(study: search.Search) -> pathlib.Path:
    """Draws the search. Returns the picture's file."""
    import matplotlib  # here, because the runs do not need it

    from eoi.pictures.look import LOOK
    from eoi.pictures.searches import searches

    path = FIGURES / f"search_{study.path.stem}.png"
    known = [trial for trial in study.finished() if trial.value is not None]
    logs = {each.key for each in study.asked.space if each.log}
    with matplotlib.rc_context(LOOK):
        title = f"{study.asked.algorithm} on {study.asked.env}"
        settings = [trial.settings for trial in known]
        numbers = [trial.number for trial in known]
        values = [trial.value or 0.0 for trial in known]
        figure = searches(title, settings, numbers, values, logs)
        write_whole(path, lambda file: figure.savefig(file, format="png"))
    return path


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    launch(main)
