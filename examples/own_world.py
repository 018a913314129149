"""Two agents that see a number each have to name the other's: a world of one's own in thirty lines.

PYTHONPATH=examples bash run.sh python src/main.py --config=qmix --env-config=pettingzoo with env_args.key=own_world t_max=20000
"""

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Telepathy(ParallelEnv):
    max_cycles = 4  # steps, the longest episode

    def __init__(self):
        self.possible_agents = ["left", "right"]
        self._seen, self._moves = spaces.Box(0, 1, (6,), np.float32), spaces.Discrete(3)

    def observation_space(self, agent):
        return self._seen

    def action_space(self, agent):
        return self._moves

    def reset(self, seed=None, options=None):
        self.random, self.t, self.agents = (
            np.random.default_rng(seed),
            0,
            list(self.possible_agents),
        )
        return self._draw(), {agent: {} for agent in self.agents}

    def _draw(self):
        self.numbers = self.random.integers(0, 3, 2)
        both = np.eye(3, dtype=np.float32)[
            self.numbers
        ].ravel()  # what each sees: its own number and, faintly, the other's
        return {
            "left": both * np.repeat([1, 0.5], 3).astype(np.float32),
            "right": both * np.repeat([0.5, 1], 3).astype(np.float32),
        }

    def step(self, actions):
        self.t += 1
        right = float(actions["left"] == self.numbers[1]) + float(
            actions["right"] == self.numbers[0]
        )
        over, there = self.t == self.max_cycles, self.agents
        observations, self.agents = self._draw(), [] if over else there
        same = [{agent: value for agent in there} for value in (right / 2, over, False)]
        return observations, *same, {agent: {} for agent in there}


parallel_env = Telepathy
