"""A grid world in forty lines: two agents light the lamps in the corners of a room.

PYTHONPATH=examples bash run.sh python src/main.py --config=qmix \
    --env-config=examples/lamps.yaml with lr=1e-3
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from eoi import envs
from eoi.config.schema import setting
from eoi.envs import GridConfig, GridWorld

ROOM = """
###########
#L.......L#
#....S....#
#....S....#
#L.......L#
###########
"""


@dataclass(frozen=True, kw_only=True)
class LampsConfig(GridConfig):
    letters: ClassVar = {".": "floor", "S": "start cell", "L": "lamp"}
    n_agents: int = setting(1, 2, default=2)
    episode_limit: int = setting(1, default=12)  # one agent lights two lamps in this time

    @property
    def map(self):
        return self._map(ROOM)


class Lamps(GridWorld):
    Config = LampsConfig
    items = ("dark lamp",)  # item 0; each item has a channel of the observation
    looks: ClassVar = {"dark lamp": ("*", (90, 90, 130)), "L": ("o", (250, 210, 90))}
    words: ClassVar = {"dark lamp": "dark lamp", "L": "lit lamp"}
    regions = "lamps"
    metrics = ("lamps_visited",)

    def __init__(self, cfg, n_envs, device="cpu"):
        lamps = cfg.map.parts("L")
        super().__init__(cfg, cfg.map, lamps, float(len(lamps)), n_envs, device)
        self._lamps = torch.cat(lamps).to(device)
        self._starts = cfg.map.region("S").to(device)

    def _begin(self, keys):
        self._position = self._drawn_starts(keys, self._starts)  # [N, A]
        self._maps[:, 0, self._lamps] = 1

    def _act(self, actions):
        self._move(actions)
        self._take(0, self._on(0))

    def _earned(self):
        return len(self._lamps) - self._maps[:, 0].sum(1)

    def _info(self):
        return {}


envs.REGISTRY["lamps"] = Lamps
