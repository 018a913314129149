"""How fast is it here? One table: environments, acting, updates, and (with --whole) whole runs of 10,000 episodes.

    python benchmarks/speed.py [--env pac_men ...] [--workers 0 1 2] [--whole] [--repeats 5]

One thread. Each figure is the median over the repeats, with the fastest and the slowest beside it: a wide range says the machine
was busy. Whole runs are timed from the first environment step to the last update, tests left out.
"""

import argparse
import contextlib
import io
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import envs
from assembly import Parts, build
from config import loader
from run import Training
from settings import Settings, configure
from utils.logging import RunLog
from utils.seeding import fold, root_key

COPIES = (1, 32, 512, 1024)
ALGORITHMS = ("qmix", "eoi_qmix", "eoi_explore_qmix", "maac", "eoi_maac", "ippo", "eoi_ippo", "mappo")


def rate(work: Callable[[], int], repeats: int, seconds: float = 1.0) -> tuple[float, float, float]:
    """Median, lowest and highest rate of `work`, which returns how much it did; each repeat lasts about `seconds`."""
    work()
    rates = []
    for _ in range(repeats):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            done += work()
        rates.append(done / (time.perf_counter() - start))
    return statistics.median(rates), min(rates), max(rates)


def row(what: str, figures: tuple[float, float, float], unit: str) -> None:
    middle, low, high = (f"{figure:,.0f}" for figure in figures)
    print(f"| {what} | {middle} | {low} - {high} | {unit} |", flush=True)


def make(algorithm: str, env: str, **updates: object) -> tuple[Parts, Settings]:
    settings = configure(loader.load(algorithm, env, {"seed": 1, "save_model": False, **updates}))
    return build(settings), settings


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


def acting(name: str, copies: int) -> Callable[[], int]:
    """Whole episodes played by epsilon-greedy agents, written to memory, as in training."""
    parts, _ = make("qmix", name, batch_size_run=copies, epsilon_start=0.1)
    keys, now = fold(root_key(1, "benchmark"), torch.arange(copies)), torch.tensor(0.0)
    return lambda: parts.train.steps(parts.train.run(parts.learner.act, keys, now))


def updating(algorithm: str, name: str) -> Callable[[], int]:
    """The updates that follow a rollout: drawing, reading, loss, step, targets. Twelve from a replay; all epochs, on-policy."""
    parts, settings = make(algorithm, name)
    now, key = torch.tensor(0.0), root_key(1, "draws")
    for first in range(0, 160, settings.run.batch_size_run):
        keys = fold(root_key(1, "benchmark"), first + torch.arange(settings.run.batch_size_run))
        parts.feed.insert(parts.train.run(parts.learner.act, keys, now))
    steps, interval = 10**6, getattr(settings.feed, "update_interval", 1)  # a moment at which twelve are due

    def updates() -> int:
        done = 0
        for batch in parts.feed.batches(key, now, steps, steps // interval - 12):
            parts.descent.update(batch, now, 0)
            done += 1
        return done

    return updates


def whole_run(algorithm: str, env: str) -> float:
    """Minutes of 10,000 episodes with one update an episode."""
    updates = {"batch_size_run": 32, "update_interval": 30, "t_max": 300_000, "test_interval": 10**9, "test_nepisode": 1}
    parts, settings = make(algorithm, env, **updates)
    training = Training(parts, settings, RunLog(lambda *_: None, "", settings.run.t_max), None)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        training.train()
    return (time.perf_counter() - start) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="*", default=["pac_men", "sc2"], choices=loader.names("envs"))
    parser.add_argument("--workers", nargs="*", type=int, default=[], help="PettingZoo's simple_spread in so many processes, e.g. 0 1 2")
    parser.add_argument("--whole", action="store_true", help="whole Pac-Men runs too, some minutes each")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread\n\n| what | median | range | unit |\n|---|---|---|---|")
    for env in asked.env:
        for copies in COPIES:
            row(f"{env}, environment only, N = {copies}", rate(environment_only(env, copies), asked.repeats), "steps/s")
            row(f"{env}, acting, N = {copies}", rate(acting(env, copies), asked.repeats), "steps/s")
        for algorithm in ALGORITHMS:
            row(
                f"{env}, {algorithm}, {make(algorithm, env)[1].replay.batch_size} transitions",
                rate(updating(algorithm, env), asked.repeats),
                "updates/s",
            )
    for workers in asked.workers:
        for copies in (1, 32):
            figures = rate(environment_only("pettingzoo", copies, workers=workers), asked.repeats)
            row(f"pettingzoo, {workers} workers, environment only, N = {copies}", figures, "steps/s")
    for algorithm in ("qmix", "eoi_qmix") if asked.whole else ():
        print(f"| pac_men, {algorithm}, 10,000 episodes | {whole_run(algorithm, 'pac_men'):.2f} | | minutes |", flush=True)


if __name__ == "__main__":
    main()
