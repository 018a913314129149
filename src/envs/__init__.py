"""Worlds by name. A new one is its file, a line here, and a YAML in config/envs; the contract test finds it by this registry."""

from envs.base import EnvSpec, TimeStep, VecEnv
from envs.firefighters import Firefighters
from envs.pac_men import PacMen
from envs.pettingzoo import PettingZoo
from envs.starcraft.lite import LiteStarCraft
from envs.windy_maze import WindyMaze

REGISTRY = {
    "pac_men": PacMen,
    "windy_maze": WindyMaze,
    "firefighters": Firefighters,
    "sc2_lite": LiteStarCraft,
    "pettingzoo": PettingZoo,
}

__all__ = ["REGISTRY", "EnvSpec", "TimeStep", "VecEnv"]
