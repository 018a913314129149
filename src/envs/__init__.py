"""Worlds by name. A new one is its file, a line here, and a YAML in config/envs; the contract test finds it by this registry."""

from collections.abc import Mapping
from typing import Any

from eoi.config.schema import parse
from eoi.envs.base import EnvSpec, TimeStep, VecEnv
from eoi.envs.firefighters import Firefighters
from eoi.envs.pac_men import PacMen
from eoi.envs.pettingzoo import PettingZoo
from eoi.envs.starcraft import StarCraft
from eoi.envs.windy_maze import WindyMaze

REGISTRY = {
    "pac_men": PacMen,
    "windy_maze": WindyMaze,
    "firefighters": Firefighters,
    "sc2": StarCraft,
    "pettingzoo": PettingZoo,
}


def configured(name: str, env_args: Mapping[str, Any]) -> Any:
    """The checked settings of a world. What they leave open to this machine is settled, if the world has such. Raises UserError."""
    cfg: Any = parse(REGISTRY[name].Config, env_args, "env_args.")
    return cfg.settled() if hasattr(cfg, "settled") else cfg


__all__ = ["REGISTRY", "EnvSpec", "TimeStep", "VecEnv", "configured"]
