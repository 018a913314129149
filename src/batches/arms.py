"""The runs of a figure's arms."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache

from eoi import learners
from eoi.batches.jobs import Job, complete, plan
from eoi.records.figures import Arm, Figure, unavailable
from eoi.records.record import Config
from eoi.utils.errors import UserError

QUICK = 100  # a quick run has one in this many of the steps


def jobs_of(
    figure: Figure, seeds: Sequence[int], given: Sequence[str] = (), quick: bool = False
) -> dict[str, list[Job]]:
    """The runs of each arm that can run, checked. Raises UserError."""
    left_out = unavailable(figure)
    jobs: dict[str, Job] = {}
    for name, arm in figure.arms.items():
        if name in left_out:
            continue
        try:
            jobs[name] = _job(arm, tuple(given), quick)
        except UserError as error:
            raise UserError(f"figure {figure.name}: {name}: {error}") from None
    complete(jobs.values())
    return {name: _of_seeds(job, seeds) for name, job in jobs.items()}


def _of_seeds(job: Job, seeds: Sequence[int]) -> list[Job]:
    return [replace(job, seed=seed, config=job.config | {"seed": seed}) for seed in seeds]


@cache
def _job(arm: Arm, given: tuple[str, ...], quick: bool) -> Job:
    """An arm's run with seed 0."""
    job = plan(arm.config, arm.env, 0, list(arm.settings), list(given))
    if not quick:
        return job
    shorter = {key: f"{key}={value}" for key, value in _shorter(job.config).items()}
    own = [shorter.get(word.partition("=")[0], word) for word in arm.settings]
    return plan(arm.config, arm.env, 0, own, [*shorter.values(), *given])


def _shorter(config: Config) -> dict[str, int | str]:
    """Settings of a run with a hundredth of the steps and few, small tests."""
    steps = max(1, config["t_max"] // QUICK)
    interval = max(1, steps // 4)
    found: dict[str, int | str] = {
        "t_max": steps,
        "test_interval": interval,
        "log_interval": interval,
        "test_nepisode": 8,
        "save_interval": 0,
        "local_results_path": "results/quick",
    }
    reads = {field.name for field in fields(learners.REGISTRY[config["learner"]].Config)}
    if "learning_starts" in reads:
        found["learning_starts"] = min(config["learning_starts"], steps // 10)
    return found
