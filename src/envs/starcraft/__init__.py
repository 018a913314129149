"""StarCraft II micromanagement: SMAC's maps, on the game itself or on this project's simulator."""

import torch

from eoi.envs.starcraft.game import GameStarCraft
from eoi.envs.starcraft.lite import LiteConfig, LiteStarCraft
from eoi.envs.starcraft.settings import StarCraftConfig


class StarCraft:
    """N copies of one of SMAC's maps, on the engine that `cfg` resolves to on this machine."""

    Config = StarCraftConfig

    def __new__(
        cls, cfg: StarCraftConfig | LiteConfig, n_envs: int, device: torch.device | str = "cpu"
    ) -> LiteStarCraft | GameStarCraft:
        resolved = cfg.resolved() if isinstance(cfg, StarCraftConfig) else cfg
        if isinstance(resolved, LiteConfig):
            return LiteStarCraft(resolved, n_envs, device)
        return GameStarCraft(resolved, n_envs, device)
