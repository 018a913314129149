"""Minutes and disk of a whole run of every algorithm in every world, from some seconds of each.

    python benchmarks/cost.py [--algorithms qmix ...] [--worlds pac_men ...] [--seconds 2]
                              [--t-max WORLD=STEPS ...]

One thread. Times training for some seconds, and one test and one report, and counts how often a
whole run does each. Prints the table of docs/performance.md. Minutes are CPU time: on a processor
whose neighbour is busy they are up to twice as many. Disk is what a run says it will leave: one
checkpoint of a full replay, and two sets of networks.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from eoi.build import make_worlds
from eoi.config import loader
from eoi.learners.hc import HCConfig
from eoi.run import Run, Trainer
from eoi.settings import configure
from eoi.utils.logging import RunLog

WORLDS = ("pac_men", "windy_maze", "firefighters", "sc2")
WARM = 3  # updates before the clock starts


class Cell:
    """An algorithm in a world."""

    def __init__(self, algorithm: str, world: str, folder: pathlib.Path, **given: Any):
        self.t_max = int(given.pop("t_max", 0) or loader.load(algorithm, world, {})["t_max"])
        given = {"seed": 1, "learning_starts": 0, "t_max": self.t_max} | given
        settings = configure(loader.load(algorithm, world, given))
        worlds = make_worlds(settings, 1)
        run = Run(settings, worlds, RunLog(lambda *_: None, "", self.t_max), folder, runs=0)
        self.run, self.trainer = run, Trainer([run], worlds)

    def learning(self, seconds: float) -> float:
        """Seconds of an environment step of training, with its share of the updates."""
        until = self.run.at.updates + WARM
        while self.run.at.updates < until:
            self._iteration()
        steps, start = self.run.at.t, time.process_time()
        while time.process_time() - start < seconds:
            self._iteration()
        return (time.process_time() - start) / (self.run.at.t - steps)

    def _iteration(self) -> None:
        self.trainer.play()
        self.trainer.learn()

    def minutes(self, step: float) -> float:
        """Minutes of the whole run; `step`: seconds of a step of training."""
        whole = self.t_max * step
        for work, every in (
            (self.trainer.test, self.run.cfg.test_interval),
            (self.trainer.report, self.run.cfg.log_interval),
        ):
            whole += self.t_max / every * timed(work)
        return whole / 60

    @property
    def megabytes(self) -> float:
        networks, checkpoint = self.run.disk()
        return (2 * networks + checkpoint) / 1e6


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def cost(
    algorithm: str, world: str, folder: pathlib.Path, seconds: float, steps: int | None
) -> tuple[float, float]:
    """Minutes and megabytes of a run."""
    cell = Cell(algorithm, world, folder, t_max=steps)
    step, cfg = cell.learning(seconds), cell.run.settings.learner
    if isinstance(cfg, HCConfig):  # its two stages differ
        choice = Cell(algorithm, world, folder, t_max=steps, skill_episodes=0).learning(seconds)
        first = min(1.0, cfg.skill_episodes * cell.run.spec.episode_limit / cell.t_max)
        step = first * step + (1 - first) * choice
    return cell.minutes(step), cell.megabytes


def length(pair: str) -> tuple[str, int]:
    """A world and the steps of a run, from WORLD=STEPS. Raises ValueError."""
    world, _, steps = pair.partition("=")
    if world not in loader.names("envs") or float(steps) < 1:
        raise ValueError(pair)
    return world, int(float(steps))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    algorithms = loader.names("algs")
    parser.add_argument("--algorithms", nargs="+", default=algorithms, choices=algorithms)
    parser.add_argument("--worlds", nargs="+", default=WORLDS, choices=loader.names("envs"))
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--t-max", nargs="+", default=[], type=length, metavar="WORLD=STEPS")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    steps = dict(asked.t_max)

    print("| | " + " | ".join(f"{world}: minutes, MB" for world in asked.worlds) + " |")
    print("|---" * (1 + len(asked.worlds)) + "|", flush=True)
    for algorithm in asked.algorithms:
        print(f"| `{algorithm}` ", end="", flush=True)
        for world in asked.worlds:
            with tempfile.TemporaryDirectory() as folder:
                with contextlib.redirect_stdout(io.StringIO()):  # progress
                    where = pathlib.Path(folder)
                    found = cost(algorithm, world, where, asked.seconds, steps.get(world))
                print("| {:.1f}, {:.0f} ".format(*found), end="", flush=True)
        print("|", flush=True)


if __name__ == "__main__":
    main()
