"""PettingZoo environments for the tests, made of as little as can be."""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
from gymnasium import spaces


class Leaving:
    """A PettingZoo environment whose agents differ in spaces, masks, and length of stay.

    Action numbers begin at 1.
    """

    def __init__(self, max_cycles: int = 5, together: bool = False):
        self.possible_agents, self.together = ["short", "tall"], together
        self.unwrapped = SimpleNamespace(max_cycles=max_cycles)
        seen = spaces.Dict(
            {
                "observation": spaces.Box(0, 9, (2, 2)),
                "action_mask": spaces.Box(0, 1, (4,), np.int8),
            }
        )
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
        whole = {
            "short": self.t % 3,
            "tall": {"observation": np.full((2, 2), self.t, np.float32), "action_mask": mask},
        }
        return {agent: whole[agent] for agent in agents}

    def step(self, actions):
        self.t += 1
        assert set(actions) == set(self.agents) and all(
            self._moves[agent].contains(action) for agent, action in actions.items()
        )
        there = self.agents
        gone = {
            agent: (agent == "short" and self.t == 2) or (self.together and self.t == 2)
            for agent in there
        }
        late = {agent: self.t == 4 for agent in there}
        self.agents = [agent for agent in there if not (gone[agent] or late[agent])]
        return (
            self._seen(there),
            {agent: float(actions[agent]) for agent in there},
            gone,
            late,
            {agent: {} for agent in there},
        )

    def close(self) -> None: ...


def leaving(**kwargs) -> Leaving:
    return Leaving(**kwargs)


class Drawn(Leaving):
    """The same with a picture of its own: 6 x 8 pixels of its step, with an alpha channel.

    `fault`: in the mode of pictures, it fails in making or drawing, or draws nothing.
    """

    metadata: ClassVar = {"render_modes": ["human", "rgb_array"]}

    def __init__(self, render_mode: str | None = None, fault: str = ""):
        super().__init__()
        if fault == "making" and render_mode:
            raise RuntimeError("no screen")
        self.unwrapped.render_mode, self.fault = render_mode, fault

    def render(self):
        if self.fault == "drawing":
            raise RuntimeError("no screen")
        drawn = self.unwrapped.render_mode and self.fault != "nothing"
        return np.full((6, 8, 4), self.t, dtype=np.uint8) if drawn else None


def continuous() -> Leaving:
    env = Leaving()
    env._moves["tall"] = spaces.Box(0, 1, (2,))
    return env


class Wrong(Leaving):
    """With one of the faults that are easily made."""

    def __init__(self, fault: str):
        super().__init__()
        self.fault = fault

    def reset(self, seed=None, options=None):
        seen, infos = super().reset(seed)
        if self.fault == "missing":
            del seen["tall"]
        if self.fault == "long":
            seen["tall"]["observation"] = np.zeros((2, 3), np.float32)
        return seen if self.fault == "old reset" else (seen, infos)

    def step(self, actions):
        seen, rewards, *rest = super().step(actions)
        if self.fault == "stranger":
            rewards["agent_0"] = 1.0
        return (seen, rewards, *rest)[: 4 if self.fault == "old step" else 5]
