"""Learners by name: one loss each."""

from learners.maac import MAAC
from learners.ppo import PPO
from learners.q_learner import QLearner

REGISTRY = {"q_learner": QLearner, "maac": MAAC, "ppo": PPO}
AnyLearner = QLearner | MAAC | PPO
