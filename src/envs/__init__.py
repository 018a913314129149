"""Environments by name.

A new environment is a file here, a line in REGISTRY, and a YAML file in config/envs. The contract
test covers every entry of REGISTRY. Programs can import the classes: `from eoi.envs import PacMen`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from eoi.config.schema import parse
from eoi.envs.base import EnvSpec, TimeStep, VecEnv
from eoi.envs.firefighters import Firefighters, FirefightersConfig
from eoi.envs.grid import GridConfig, GridMap, GridWorld
from eoi.envs.pac_men import PacMen, PacMenConfig
from eoi.envs.pettingzoo import PettingZoo, PettingZooConfig
from eoi.envs.starcraft import LiteConfig, LiteStarCraft, StarCraft, StarCraftConfig
from eoi.envs.windy_maze import WindyMaze, WindyMazeConfig

REGISTRY = {
    "pac_men": PacMen,
    "windy_maze": WindyMaze,
    "firefighters": Firefighters,
    "sc2": StarCraft,
    "pettingzoo": PettingZoo,
}


def configured(name: str, env_args: Mapping[str, Any]) -> Any:
    """Checked settings of the environment `name`. Raises UserError.

    Settings that depend on this machine, such as StarCraft's `engine: auto`, are resolved.
    """
    cfg: Any = parse(REGISTRY[name].Config, env_args, "env_args.")
    return cfg.resolved() if hasattr(cfg, "resolved") else cfg


def setting_names() -> set[str]:
    """Full names of the settings of all environments."""
    return {f"env_args.{each.name}" for kind in REGISTRY.values() for each in fields(kind.Config)}


__all__ = [
    "REGISTRY",
    "EnvSpec",
    "Firefighters",
    "FirefightersConfig",
    "GridConfig",
    "GridMap",
    "GridWorld",
    "LiteConfig",
    "LiteStarCraft",
    "PacMen",
    "PacMenConfig",
    "PettingZoo",
    "PettingZooConfig",
    "StarCraft",
    "StarCraftConfig",
    "TimeStep",
    "VecEnv",
    "WindyMaze",
    "WindyMazeConfig",
    "configured",
    "setting_names",
]
