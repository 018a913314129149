"""All of a run's state at the end of an iteration, as what `torch.load(weights_only=True)` reads back.

Randomness is a function of the seed and the counters, and no episode is under way between two iterations, so this is everything:
counters, networks, optimiser, replay, what the next report will need, and what was logged.
"""

from dataclasses import asdict, is_dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from eoi.assembly import Parts
from eoi.components.action_selection import UpdateDraws
from eoi.components.episodes import Outcome
from eoi.components.replay_buffer import Batch
from eoi.learners.feeds import Lesson
from eoi.utils.logging import RunLog

_KINDS = {
    kind.__name__: kind for kind in (Batch, Lesson, UpdateDraws)
}  # what a learner may have learnt from


class Resumable(Protocol):
    """What a training is made of, as far as its state goes."""

    parts: Parts
    at: Any  # its counters, a dataclass
    since_report: list[Outcome]
    batch: Any
    stats: dict[str, Tensor]
    log: RunLog


def take(training: Resumable) -> dict[str, Any]:
    parts = training.parts
    return {
        "counters": asdict(training.at),
        "learner": networks(parts.learner),
        "descent": parts.descent.state(),
        "replay": parts.replay.state(),
        "since_report": [vars(outcome) for outcome in training.since_report],
        "batch": _plain(training.batch),
        "stats": training.stats,
        "log": training.log.state(),
    }


def networks(learner: nn.Module) -> dict[str, Tensor]:
    """A learner's parameters by name, copied: a view into a stack of learners would be written with all of the stack."""
    return {name: x.clone() for name, x in learner.state_dict().items()}


def put(training: Resumable, content: dict[str, Any]) -> None:
    """Raises KeyError or RuntimeError when `content` is of another program or configuration."""
    parts = training.parts
    parts.learner.load_state_dict(content["learner"])
    parts.descent.load_state(content["descent"])
    parts.replay.load_state(content["replay"])
    training.at = type(training.at)(**content["counters"])
    training.since_report = [Outcome(**outcome) for outcome in content["since_report"]]
    training.batch = _built(content["batch"])
    training.stats = content["stats"]
    training.log.load_state(content["log"])


def _plain(value: Any) -> Any:
    """Dictionaries and tensors for an object of one of the kinds; a checkpoint holds no classes."""
    kind = type(value).__name__
    if kind not in _KINDS:
        return value
    fields = vars(value) if is_dataclass(value) else value._asdict()
    return {"kind": kind, "fields": {name: _plain(field) for name, field in fields.items()}}


def _built(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return _KINDS[value["kind"]](**{name: _built(field) for name, field in value["fields"].items()})
