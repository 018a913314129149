"""All of a run's state at the end of an iteration, as what `torch.load(weights_only=True)` reads back.

Randomness is a function of the seed and the counters, and no episode is under way between two iterations, so this is everything:
counters, networks, optimiser, replay, what the next report will need, and what was logged.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from components.episodes import Outcome
from components.replay_buffer import Batch

if TYPE_CHECKING:
    from run import Training


def take(training: "Training") -> dict[str, Any]:
    parts = training.parts
    return {
        "counters": asdict(training.at),
        "learner": parts.learner.state_dict(),
        "descent": parts.descent.state(),
        "replay": parts.replay.state(),
        "since_report": [vars(outcome) for outcome in training.since_report],
        "batch": None if training.batch is None else vars(training.batch),
        "stats": training.stats,
        "log": training.log.state(),
    }


def put(training: "Training", content: dict[str, Any]) -> None:
    """Raises KeyError or RuntimeError when `content` is of another program or configuration."""
    parts = training.parts
    parts.learner.load_state_dict(content["learner"])
    parts.descent.load_state(content["descent"])
    parts.replay.load_state(content["replay"])
    training.at = type(training.at)(**content["counters"])
    training.since_report = [Outcome(**outcome) for outcome in content["since_report"]]
    training.batch = None if content["batch"] is None else Batch(**content["batch"])
    training.stats = content["stats"]
    training.log.load_state(content["log"])
