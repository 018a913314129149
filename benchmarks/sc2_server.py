"""Speed of unmodified SMAC through the API server. Client and server share one core.

    python benchmarks/sc2_server.py [--map 8m ...] [--seconds 10] [--repeats 5]

Random available actions; observations, state and masks are read each step, as a runner does.
Requires oxwhirl's SMAC, which is not on PyPI. Each figure is the median over the repeats, with the
slowest and the fastest beside it. On a busy machine the last column is more reliable: the speed of
both alone on the core, by their processor time.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from typing import NamedTuple

import numpy as np
import psutil
from smac.env import StarCraft2Env

from eoi import sc2_server


class Rate(NamedTuple):
    by_clock: float  # environment steps a second
    client: float  # milliseconds of processor time a step
    server: float

    @property
    def alone(self) -> float:
        return 1000 / (self.client + self.server)


def processor_time(process: psutil.Process) -> float:
    taken = process.cpu_times()
    return taken.user + taken.system


def play(env: StarCraft2Env, rng: np.random.Generator, seconds: float) -> Rate:
    """Whole episodes for about so long."""
    both = psutil.Process(), psutil.Process(env._sc2_proc.pid)
    before, start, steps = [processor_time(process) for process in both], time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        env.reset()
        done = False
        while not done:
            _, done, _ = env.step(
                [int(rng.choice(np.flatnonzero(row))) for row in env.get_avail_actions()]
            )
            env.get_obs()
            env.get_state()
            steps += 1
    clock = time.perf_counter() - start
    taken = [
        processor_time(process) - earlier for process, earlier in zip(both, before, strict=True)
    ]
    return Rate(steps / clock, *(1000 * time_ / steps for time_ in taken))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", nargs="*", default=["8m"])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the server inherits it
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        sc2_server.main(["install", folder])
        os.environ["SC2PATH"] = folder
        print("| map | steps/s by the clock | range | client, ms | server, ms | steps/s alone |")
        print("|---|---|---|---|---|---|")
        for name in asked.map:
            with contextlib.closing(StarCraft2Env(map_name=name, seed=1)) as env:
                env.reset()
                env._episode_count = 1  # the next reset goes on in the same game
                play(env, rng, 1.0)
                rates = [play(env, rng, asked.seconds) for _ in range(asked.repeats)]
            clock, client, server, alone = (
                statistics.median(values)
                for values in zip(*((*rate, rate.alone) for rate in rates), strict=True)
            )
            low, high = min(rates).by_clock, max(rates).by_clock
            speed = f"{clock:.0f} | {low:.0f} - {high:.0f}"
            print(f"| {name} | {speed} | {client:.2f} | {server:.2f} | {alone:.0f} |", flush=True)


if __name__ == "__main__":
    main()
