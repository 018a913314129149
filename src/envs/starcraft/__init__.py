"""StarCraft II micromanagement: SMAC's maps, on the game itself or on a simulator of this project."""

import torch

from eoi.envs.starcraft.game import GameStarCraft
from eoi.envs.starcraft.lite import LiteConfig, LiteStarCraft
from eoi.envs.starcraft.settings import StarCraftConfig


class StarCraft:
    """N copies of one of SMAC's maps, by the engine that `cfg` comes to on this machine."""

    Config = StarCraftConfig

    def __new__(
        cls, cfg: StarCraftConfig | LiteConfig, n_envs: int, device: torch.device | str = "cpu"
    ) -> LiteStarCraft | GameStarCraft:
        settled = cfg.settled() if isinstance(cfg, StarCraftConfig) else cfg
        if isinstance(settled, LiteConfig):
            return LiteStarCraft(settled, n_envs, device)
        return GameStarCraft(settled, n_envs, device)
