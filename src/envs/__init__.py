"""Worlds by name. A new one is its file, a line here, and a YAML in config/envs; the contract test finds it by this registry."""

from envs.base import EnvSpec, TimeStep, VecEnv
from envs.pac_men import PacMen

REGISTRY = {"pac_men": PacMen}

__all__ = ["REGISTRY", "EnvSpec", "TimeStep", "VecEnv"]
