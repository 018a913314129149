"""Learners by name: one loss each."""

from learners.q_learner import QLearner

REGISTRY = {"q_learner": QLearner}
