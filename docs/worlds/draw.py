"""Pictures of the environments, beside this file: the start of an episode; for 8m, a fight."""

import pathlib
import sys

import numpy as np
import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "src"))

from eoi.envs import REGISTRY
from eoi.envs.starcraft import LiteConfig, LiteStarCraft
from eoi.utils.seeding import fold, root_key

KEY = fold(root_key(1, "picture"), torch.arange(1))
WEST = 5


def save(picture: np.ndarray, name: str) -> None:
    Image.fromarray(picture).quantize(16).save(HERE / f"{name}.png", optimize=True)


for name in ("pac_men", "windy_maze", "firefighters"):
    world = REGISTRY[name](REGISTRY[name].Config(), 1)
    world.reset(KEY)
    save(world.render(), name.replace("_", "-"))

fight = LiteStarCraft(LiteConfig(), 1)
now = fight.reset(KEY)
# Attack if possible, else walk towards the enemies
eagerness = torch.arange(fight.spec.n_actions)
eagerness[WEST] = 0
for _ in range(10):
    now = fight.step(torch.where(now.avail, eagerness, -1).argmax(-1))
save(fight.render(), "8m")
