"""Games for the tests of the workers, importable by a worker process."""

import os
import pathlib
import time
from types import SimpleNamespace

import numpy as np
import torch
from gymnasium import spaces

from envs.base import EnvSpec
from envs.workers import GameStep

SPEC = EnvSpec(
    n_agents=2, n_actions=3, obs_size=4, state_size=5, episode_limit=6, fixed_length=False, obs_dtype=torch.float32, metrics=("sum",)
)


class Dice:
    """Random numbers from the reset's seed; ends after 3 to 6 steps. `fault` says what goes wrong at step 2."""

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
        obs, state = self.random.random((2, 4), dtype=np.float32), np.full(5, self.seed % 1000, dtype=np.float32)
        return GameStep(obs, state, avail, reward, over and self.length < 5, over and self.length >= 5, {"sum": float(obs.sum())})

    def render(self) -> np.ndarray:
        return np.full((4, 4, 3), self.t, dtype=np.uint8)

    def text(self) -> str:
        return f"t = {self.t}"

    def close(self) -> None: ...


class Leaving:
    """A PettingZoo environment whose agents differ in everything: views, actions (from 1 on), masks, how long they stay."""

    def __init__(self, max_cycles: int = 5, together: bool = False):
        self.possible_agents, self.together = ["short", "tall"], together
        self.unwrapped = SimpleNamespace(max_cycles=max_cycles)
        seen = spaces.Dict({"observation": spaces.Box(0, 9, (2, 2)), "action_mask": spaces.Box(0, 1, (4,), np.int8)})
        self._views = {"short": spaces.Discrete(3), "tall": seen}
        self._moves = {"short": spaces.Discrete(2, start=1), "tall": spaces.Discrete(4)}

    def observation_space(self, agent: str) -> spaces.Space:
        return self._views[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self._moves[agent]

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.possible_agents)
        return self._seen(self.agents), {agent: {} for agent in self.agents}

    def _seen(self, agents):
        mask = np.array([0, 1, 1, self.t % 2], dtype=np.int8)
        whole = {"short": self.t % 3, "tall": {"observation": np.full((2, 2), self.t, np.float32), "action_mask": mask}}
        return {agent: whole[agent] for agent in agents}

    def step(self, actions):
        self.t += 1
        assert set(actions) == set(self.agents) and all(self._moves[agent].contains(action) for agent, action in actions.items())
        there = self.agents
        gone = {agent: (agent == "short" and self.t == 2) or (self.together and self.t == 2) for agent in there}
        late = {agent: self.t == 4 for agent in there}
        self.agents = [agent for agent in there if not (gone[agent] or late[agent])]
        return self._seen(there), {agent: float(actions[agent]) for agent in there}, gone, late, {agent: {} for agent in there}

    def close(self) -> None: ...


def leaving(**kwargs) -> Leaving:
    return Leaving(**kwargs)


def continuous() -> Leaving:
    env = Leaving()
    env._moves["tall"] = spaces.Box(0, 1, (2,))
    return env
