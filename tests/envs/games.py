"""Games for the tests of the workers, importable by a worker process."""

import os
import pathlib
import time

import numpy as np
import torch

from eoi.envs.base import EnvSpec
from eoi.envs.workers import GameStep

SPEC = EnvSpec(
    n_agents=2,
    n_actions=3,
    obs_size=4,
    state_size=5,
    episode_limit=6,
    fixed_length=False,
    obs_dtype=torch.float32,
    metrics=("sum",),
)


class Dice:
    """Random numbers from the reset's seed; ends after 3 to 6 steps. `fault`: happens at step 2."""

    def __init__(self, fault: str = "", folder: str = ""):
        self.spec, self.fault = SPEC, fault
        if folder:
            (pathlib.Path(folder) / str(os.getpid())).touch()
        if fault == "building":
            raise RuntimeError("no game here")

    def reset(self, seed: int) -> GameStep:
        self.random, self.t, self.seed = np.random.default_rng(seed), 0, seed
        self.length = int(self.random.integers(3, 7))
        return self._moment(0.0)

    def step(self, actions: np.ndarray) -> GameStep:
        self.t += 1
        if self.t == 2:
            if self.fault == "raise":
                raise RuntimeError("the dice fell off the table")
            if self.fault == "die":
                os._exit(7)
            if self.fault == "sleep":
                time.sleep(600)
        return self._moment(float(actions.sum()))

    def _moment(self, reward: float) -> GameStep:
        over = self.t >= self.length
        avail = np.ones((2, 3), dtype=bool)
        avail[1, 2] = False
        obs, state = (
            self.random.random((2, 4), dtype=np.float32),
            np.full(5, self.seed % 1000, dtype=np.float32),
        )
        return GameStep(
            obs,
            state,
            avail,
            reward,
            over and self.length < 5,
            over and self.length >= 5,
            {"sum": float(obs.sum())},
        )

    def render(self) -> np.ndarray:
        return np.full((4, 4, 3), self.t, dtype=np.uint8)

    def text(self) -> str:
        return f"t = {self.t}"

    def close(self) -> None: ...
