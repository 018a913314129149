"""Speed on this machine: environments, acting, updates, a PettingZoo game by itself and as a world.

    python benchmarks/speed.py [--env pac_men ...] [--algorithms qmix ...] [--workers 0 1 2]
                               [--whole] [--repeats 5] [--seconds 1]

One thread a process. Prints the tables of docs/performance.md. Each figure is the median over the
repeats, followed by the lowest and the highest where they lie more than a tenth apart, as they do
on a busy machine. `--whole` adds runs of 10,000 episodes, timed from the first environment step to
the last update, tests left out.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from eoi import envs
from eoi.build import make_env, make_worlds
from eoi.config import loader
from eoi.envs.pettingzoo import constructor
from eoi.learners.base import Progress
from eoi.run import Run, Trainer
from eoi.settings import configure
from eoi.utils.errors import UserError
from eoi.utils.logging import RunLog
from eoi.utils.seeding import fold, root_key

COPIES = (1, 32, 512, 1024)
LFO = {"lfo": {"omega": 0.2}}
# The stage in which skills are chosen; so many steps that a rollout of it ends.
SECOND_STAGE = {"skill_episodes": 0, "update_interval": 480}
GAME = "mpe2.simple_spread_v3"

Figures = tuple[float, float, float]  # median, lowest, highest
Measured = Callable[[Callable[[], int]], Figures]


def rate(work: Callable[[], int], repeats: int, seconds: float) -> Figures:
    """Amount of work in a second; `work` returns the amount of one call."""
    work()
    rates = []
    for _ in range(repeats):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            done += work()
        rates.append(done / (time.perf_counter() - start))
    return statistics.median(rates), min(rates), max(rates)


def microseconds(rates: Figures) -> Figures:
    middle, low, high = rates
    return 1e6 / middle, 1e6 / high, 1e6 / low


def cell(figures: Figures) -> str:
    """Median, and the range where it is wide."""
    middle, low, high = (f"{figure:,.0f}" for figure in figures)
    return middle if figures[2] < 1.1 * figures[1] else f"{middle} ({low} to {high})"


def heading(title: str, columns: Sequence[str]) -> None:
    print(f"\n{title}:\n\n| | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|", flush=True)


def row(what: str, cells: Iterable[str]) -> None:
    """A line of a table, cell by cell as they are measured."""
    print(f"| {what} |", end="", flush=True)
    for text in cells:
        print(f" {text} |", end="", flush=True)
    print(flush=True)


def make(algorithm: str, env: str, **updates: object) -> Trainer:
    """A trainer of one run without records."""
    settings = configure(loader.load(algorithm, env, {"seed": 1, "save_model": False, **updates}))
    worlds = make_worlds(settings)
    log = RunLog(lambda *_: None, "", settings.run.t_max)
    return Trainer([Run(settings, worlds, log)], worlds)


def environment_only(name: str, copies: int, **env_args: object) -> Callable[[], int]:
    """Random available actions, drawn beforehand."""
    settings = configure(loader.load("qmix", name, {"seed": 1, "env_args": env_args}))
    env = envs.REGISTRY[settings.run.env](settings.env, copies, "cpu")
    keys = fold(root_key(1, "benchmark"), torch.arange(copies))
    shape = (env.spec.episode_limit, copies, env.spec.n_agents, env.spec.n_actions)
    scores = torch.rand(shape if env.spec.episode_limit * copies < 50_000 else (1, *shape[1:]))

    def episode() -> int:
        moment, steps = env.reset(keys), 0
        for step in range(env.spec.episode_limit):
            steps += copies - int(moment.done.sum())
            actions = scores[step % len(scores)].masked_fill(~moment.avail, -1).argmax(-1)
            moment = env.step(actions)
            if bool(moment.done.all()):
                break
        return steps

    return episode


def by_itself() -> Callable[[], int]:
    """Whole episodes of the bare game by random actions, drawn beforehand. Raises UserError."""
    game = constructor(GAME)()
    moves = torch.randint(
        game.action_space(game.possible_agents[0]).n,
        (game.unwrapped.max_cycles, len(game.possible_agents)),
    )
    chosen = [dict(zip(game.possible_agents, step, strict=True)) for step in moves.tolist()]

    def episode() -> int:
        game.reset(seed=1)
        for actions in chosen:
            game.step(actions)
        return len(chosen)

    return episode


def acting(name: str, copies: int) -> Callable[[], int]:
    """Whole episodes played by epsilon-greedy agents, written to memory, as in training."""
    settings = configure(loader.load("qmix", name, {"seed": 1}))
    with contextlib.closing(make_env(settings, 1)) as env:
        rollout = copies * (env.spec.episode_limit + 1)
    # The replay must hold a rollout, although nothing is inserted here.
    room = max(settings.replay.buffer_size, rollout)
    updates = {"batch_size_run": copies, "buffer_size": room, "test_nepisode": 1}
    trainer = make("qmix", name, epsilon_start=0.1, **updates)
    keys, now = fold(root_key(1, "benchmark"), torch.arange(copies)), torch.tensor(0.0)
    return lambda: trainer.rollout.steps(trainer.rollout.run(trainer.team, keys, now))


def updating(algorithm: str, name: str, **updates: object) -> Callable[[], int]:
    """The updates that follow a rollout: drawing, reading, loss, step, targets.

    Twelve from a replay; all epochs of an on-policy learner.
    """
    trainer = make(algorithm, name, learning_starts=0, **updates)
    (run,) = trainer.runs
    now, key, copies = torch.tensor(0.0), root_key(1, "draws"), run.cfg.batch_size_run
    for first in range(0, 160, copies):
        keys = fold(root_key(1, "benchmark"), first + torch.arange(copies))
        run.experience.insert(trainer.rollout.run(trainer.team, keys, now))
    # So many steps and episodes that twelve updates are due.
    cfg = run.settings.learner
    steps, size = 12 * getattr(cfg, "update_interval", 1), getattr(cfg, "batch_size", 0)
    episodes = size + 11 * getattr(cfg, "update_interval_episodes", 0)
    at = Progress(steps, episodes, 0, steps)

    def update() -> int:
        done = 0
        for batch in run.experience.batches(key, now, at):
            trainer.descent.update(batch, now, 0)
            done += 1
        return done

    return update


def whole_run(algorithm: str, env: str) -> float:
    """Minutes of 10,000 episodes with one update an episode."""
    updates = {
        "batch_size_run": 32,
        "update_interval": 30,
        "t_max": 300_000,
        "test_interval": 10**9,
        "test_nepisode": 1,
    }
    trainer = make(algorithm, env, **updates)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    return (time.perf_counter() - start) / 60


def steps(worlds: Sequence[str], measured: Measured) -> None:
    """Environments alone, and with acting agents."""
    heading("Steps per second", [f"N = {copies}" for copies in COPIES])
    for name in worlds:
        row(f"{name}, alone", (cell(measured(environment_only(name, n))) for n in COPIES))
        row(f"{name}, acting", (cell(measured(acting(name, n))) for n in COPIES))


def updates(worlds: Sequence[str], algorithms: Sequence[str], measured: Measured) -> None:
    """Updates of each learner on each world."""
    heading("Updates per second", worlds)
    learners: dict[str, tuple[str, dict]] = {algorithm: (algorithm, {}) for algorithm in algorithms}
    if "qmix" in learners:
        learners["qmix with lfo.omega=0.2"] = ("qmix", LFO)
    if "hc" in learners:
        learners["hc, second stage"] = ("hc", SECOND_STAGE)
    for what, (algorithm, settings) in learners.items():
        row(f"`{what}`", (cell(measured(updating(algorithm, name, **settings))) for name in worlds))


def pettingzoo_path(workers: Sequence[int], measured: Measured) -> None:
    """One game's step by itself, and as a world here: the difference is the cost of the path."""
    try:
        alone = cell(microseconds(measured(by_itself())))
    except UserError as error:
        print(f"\nPettingZoo left out: {error}", flush=True)
        return
    heading(f"Microseconds a step of {GAME}", ["N = 1", "N = 32"])
    row("by itself", [alone, ""])

    def figure(count: int, copies: int) -> str:
        if count > copies:
            return ""
        made = environment_only("pettingzoo", copies, key=GAME, workers=count)
        return cell(microseconds(measured(made)))

    for count in workers:
        where = f"in {count} workers" if count else "in this process"
        row(f"as a world, {where}", (figure(count, copies) for copies in (1, 32)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = loader.names("algs")
    parser.add_argument(
        "--env",
        nargs="*",
        default=["pac_men", "windy_maze", "firefighters", "sc2"],
        choices=loader.names("envs"),
    )
    parser.add_argument(
        "--algorithms",
        nargs="*",
        default=known,
        choices=known,
        help="default: all, qmix with LFO, and the second stage of hc",
    )
    parser.add_argument(
        "--workers",
        nargs="*",
        type=int,
        default=[0, 1, 2],
        help=f"processes that play {GAME}; empty: leave it out",
    )
    parser.add_argument(
        "--whole", action="store_true", help="whole Pac-Men runs too, some minutes each"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each repeat")
    asked = parser.parse_args()
    torch.set_num_threads(1)

    def measured(work: Callable[[], int]) -> Figures:
        return rate(work, asked.repeats, asked.seconds)

    print(f"torch {torch.__version__}, one thread")
    steps(asked.env, measured)
    updates(asked.env, asked.algorithms, measured)
    if asked.whole:
        heading("Minutes for 10,000 episodes", ["pac_men"])
        for algorithm in ("qmix", "eoi_qmix"):
            row(f"`{algorithm}`", [f"{whole_run(algorithm, 'pac_men'):.2f}"])
    if asked.workers:  # last: an error message comes below the table
        pettingzoo_path(asked.workers, measured)


if __name__ == "__main__":
    main()
