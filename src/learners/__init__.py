"""Learners by name: a loss each."""

from eoi.learners.base import Extra, Learner
from eoi.learners.hc import HC
from eoi.learners.hsd import HSD
from eoi.learners.maac import MAAC
from eoi.learners.ppo import PPO
from eoi.learners.q_learner import QLearner

REGISTRY: dict[str, type[Learner]] = {
    "q_learner": QLearner,
    "maac": MAAC,
    "ppo": PPO,
    "hc": HC,
    "hsd": HSD,
}

__all__ = ["HC", "HSD", "MAAC", "PPO", "REGISTRY", "Extra", "Learner", "QLearner"]
