"""Speed on this machine: environments, acting, updates, a PettingZoo game by itself and as a world.

    python benchmarks/speed.py [--env pac_men ...] [--algorithms qmix ...] [--workers 0 1 2]
                               [--whole] [--repeats 5] [--seconds 1]

One thread a process. Each figure is the median over the repeats, with the lowest and the highest
beside it: on a busy machine they lie far apart. `--whole` adds runs of 10,000 episodes, timed from
the first environment step to the last update, tests left out.
"""

import argparse
import contextlib
import io
import itertools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

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


def row(what: str, figures: Figures, unit: str) -> None:
    middle, low, high = (f"{figure:,.0f}" for figure in figures)
    print(f"| {what} | {middle} | {low} - {high} | {unit} |", flush=True)


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
    steps, size = 12 * getattr(cfg, "update_interval", 1), run.settings.replay.batch_size
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


def world(name: str, algorithms: Sequence[str], measured: Callable[[Callable[[], int]], Figures]):
    for copies in COPIES:
        alone = measured(environment_only(name, copies))
        row(f"{name}, environment only, N = {copies}", alone, "steps/s")
        row(f"{name}, acting, N = {copies}", measured(acting(name, copies)), "steps/s")
    learners: dict[str, tuple[str, dict]] = {algorithm: (algorithm, {}) for algorithm in algorithms}
    if "qmix" in learners:
        learners["qmix, lfo.omega=0.2"] = ("qmix", LFO)
    if "hc" in learners:
        learners["hc, second stage"] = ("hc", SECOND_STAGE)
    for what, (algorithm, updates) in learners.items():
        size = configure(loader.load(algorithm, name, {"seed": 1, **updates})).replay.batch_size
        figures = measured(updating(algorithm, name, **updates))
        row(f"{name}, {what}, batches of {size}", figures, "updates/s")


def pettingzoo_path(workers: Sequence[int], measured: Callable[[Callable[[], int]], Figures]):
    """One game's step by itself, and as a world here: the difference is the cost of the path."""
    try:
        row(f"{GAME} by itself", microseconds(measured(by_itself())), "µs/step")
    except UserError as error:
        print(f"\nPettingZoo left out: {error}", flush=True)
        return
    for count, copies in itertools.product(workers, (1, 32)):
        if count <= copies:
            figures = measured(environment_only("pettingzoo", copies, key=GAME, workers=count))
            what = f"{GAME} as a world, workers = {count}, N = {copies}"
            row(what, microseconds(figures), "µs/step")


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

    print(f"torch {torch.__version__}, one thread\n")
    print("| what | median | range | unit |\n|---|---|---|---|")
    for name in asked.env:
        world(name, asked.algorithms, measured)
    for algorithm in ("qmix", "eoi_qmix") if asked.whole else ():
        minutes = whole_run(algorithm, "pac_men")
        print(f"| pac_men, {algorithm}, 10,000 episodes | {minutes:.2f} | | minutes |", flush=True)
    if asked.workers:  # last: an error message comes below the table
        pettingzoo_path(asked.workers, measured)


if __name__ == "__main__":
    main()
