"""Pictures of the environments, beside this file: the start of an episode; for 8m, a fight."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "src"))

import eoi.utils.start  # noqa: F401 # refuses a Python without the requirements

import torch

from eoi.envs import REGISTRY, VecEnv
from eoi.envs.starcraft import LiteConfig, LiteStarCraft
from eoi.pictures.film import agent_colour, legend_of, with_legend
from eoi.utils.seeding import fold, root_key

KEY = fold(root_key(1, "picture"), torch.arange(1))
WEST = 5


def save(world: VecEnv, name: str) -> None:
    agents = {f"agent {i}": agent_colour(i) for i in range(world.spec.n_agents)}
    picture = with_legend(world.render(), agents | legend_of(world))
    picture.save(HERE / f"{name}.png", optimize=True)


for name in ("pac_men", "windy_maze", "firefighters"):
    world = REGISTRY[name](REGISTRY[name].Config(), 1)
    world.reset(KEY)
    save(world, name.replace("_", "-"))

fight = LiteStarCraft(LiteConfig(), 1)
now = fight.reset(KEY)
# Attack if possible, else walk towards the enemies
eagerness = torch.arange(fight.spec.n_actions)
eagerness[WEST] = 0
for _ in range(10):
    now = fight.step(torch.where(now.avail, eagerness, -1).argmax(-1))
save(fight, "8m")
