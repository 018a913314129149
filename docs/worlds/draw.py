"""Draws the worlds' pictures beside this file: the start of an episode."""

import pathlib
import sys

import torch
from PIL import Image

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "src"))

from envs import REGISTRY
from utils.seeding import fold, root_key

for name in ("pac_men", "windy_maze", "firefighters"):
    world = REGISTRY[name](REGISTRY[name].Config(), 1)
    world.reset(fold(root_key(1, "picture"), torch.arange(1)))
    Image.fromarray(world.render()).quantize(16).save(HERE / f"{name.replace('_', '-')}.png", optimize=True)
