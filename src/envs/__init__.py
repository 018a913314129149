"""Worlds by name. A new one is its file, a line here, and a YAML in config/envs; the contract test finds it by this registry."""

from envs.base import EnvSpec, TimeStep, VecEnv
from envs.pac_men import PacMen
from envs.starcraft.lite import LiteStarCraft

REGISTRY = {"pac_men": PacMen, "sc2_lite": LiteStarCraft}

__all__ = ["REGISTRY", "EnvSpec", "TimeStep", "VecEnv"]
