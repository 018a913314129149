"""Learners by name: one loss each."""

from eoi.learners.maac import MAAC
from eoi.learners.ppo import PPO
from eoi.learners.q_learner import QLearner

REGISTRY = {"q_learner": QLearner, "maac": MAAC, "ppo": PPO}
AnyLearner = QLearner | MAAC | PPO
