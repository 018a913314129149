"""An environment in thirty lines: each of two agents sees a number and has to name the other's.

PYTHONPATH=examples bash run.sh python src/main.py --config=qmix --env-config=pettingzoo \
    with env_args.key=own_world t_max=20000
"""

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Telepathy(ParallelEnv):
    max_cycles = 4  # steps, the longest episode

    def __init__(self):
        self.possible_agents = ["left", "right"]
        self._obs_space, self._actions = spaces.Box(0, 1, (6,), np.float32), spaces.Discrete(3)

    def observation_space(self, agent):
        return self._obs_space

    def action_space(self, agent):
        return self._actions

    def reset(self, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.t, self.agents = 0, list(self.possible_agents)
        return self._draw(), {agent: {} for agent in self.agents}

    def _draw(self):
        """New numbers. An agent sees its own, one-hot, and faintly the other's."""
        self.numbers = self.random.integers(0, 3, 2)
        both = np.eye(3, dtype=np.float32)[self.numbers].ravel()
        left, right = np.repeat([1, 0.5], 3), np.repeat([0.5, 1], 3)
        return {
            "left": both * left.astype(np.float32),
            "right": both * right.astype(np.float32),
        }

    def step(self, actions):
        self.t += 1
        named = actions["left"], actions["right"]
        correct = float(named[0] == self.numbers[1]) + float(named[1] == self.numbers[0])
        over, agents = self.t == self.max_cycles, self.agents
        observations, self.agents = self._draw(), [] if over else agents
        rewards = {agent: correct / 2 for agent in agents}
        terminations, truncations = dict.fromkeys(agents, over), dict.fromkeys(agents, False)
        return observations, rewards, terminations, truncations, {agent: {} for agent in agents}


parallel_env = Telepathy
