"""Fleets: many runs in one process, the product of seeds and values of settings."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eoi.build import make_env, make_learner
from eoi.config import loader
from eoi.config.schema import nearest, parse, setting, varying
from eoi.envs.base import EnvSpec
from eoi.learners.base import Extra, Learner
from eoi.learners.extras import sections
from eoi.settings import RunConfig, Settings
from eoi.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    seeds: tuple[int, ...] = setting(0, 2**31 - 1)
    vary: dict  # setting: its values
    compile: bool


def varied(cfg: FleetConfig, given: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """For each run, the settings that set it apart, and the label of its arm.

    One run without settings of its own where no fleet is asked for. Raises UserError.
    """
    for key, values in cfg.vary.items():
        _refuse_axis(key, values)
    _refuse_twice(cfg.seeds, "fleet.seeds")
    for key in (*cfg.vary, *(["seed"] if cfg.seeds else [])):
        if _holds(given, key):
            raise UserError(f"with {key}: the runs of this fleet have values of their own")
    for values in itertools.product(*cfg.vary.values()):
        arm = [f"{key}={value}" for key, value in zip(cfg.vary, values, strict=True)]
        for seed in [f"seed={seed}" for seed in cfg.seeds] or [""]:
            yield loader.parse_updates(filter(None, [*arm, seed])), " ".join(arm)


def _refuse_axis(key: object, values: object) -> None:
    """Raises UserError for a setting and values that no runs can vary in."""
    if not isinstance(key, str):
        raise UserError(f"fleet.vary: {key!r} is not the name of a setting")
    if key == "seed":
        raise UserError("fleet.vary: the seeds of a fleet are those of fleet.seeds=[1,2]")
    if not isinstance(values, list) or not values:
        example = f"fleet.vary={{'{key}': [0, 0.05]}}"
        raise UserError(f"fleet.vary: {key} needs a list of values, e.g. {example}")
    _refuse_twice(values, f"fleet.vary: {key}")


def _refuse_twice(values: Sequence[object], key: str) -> None:
    if len(set(map(repr, values))) < len(values):
        raise UserError(f"{key} names a value twice")


def _holds(given: Mapping[str, Any], key: str) -> bool:
    """Raises UserError for a section that has been given a value."""
    section, _, rest = key.partition(".")
    if not rest or section not in given:
        return section in given
    if not isinstance(given[section], Mapping):
        raise UserError(f"with {section}: a section, set {section}.NAME=...")
    return _holds(given[section], rest)


def given_fleet(given: Mapping[str, Any]) -> FleetConfig:
    """The fleet that the user asks for. Raises UserError."""
    typed = given.get("fleet", {})
    if not isinstance(typed, Mapping):
        raise UserError("with fleet: a section, set fleet.NAME=...")
    asked = loader.merged(loader.defaults()["fleet"], typed)
    return parse(FleetConfig, asked, "fleet.")


def refuse_unstackable(cfg: FleetConfig, members: Sequence[Settings]) -> None:
    """Raises UserError with the reason why these runs cannot be one program."""
    first = members[0]
    known = _may_vary(members)
    for key in cfg.vary:
        if key not in known:
            raise UserError(
                f"fleet.vary: runs that differ in {key} are not one program; "
                f"start a fleet for each value.{nearest(key, known)}"
            )
    if len({tuple(chosen.section for chosen in member.extras) for member in members}) > 1:
        key, value = _switch(cfg, members)
        raise UserError(
            f"fleet.vary: with {key}={value} that part is not in the program; "
            f"give {value} a fleet, or a run, of its own"
        )
    if first.run.evaluate:
        raise UserError(
            "evaluate: a fleet trains; evaluate its runs one by one with src/evaluate.py"
        )
    with contextlib.closing(make_env(first, 1)) as env:
        if not env.spec.fixed_length:
            raise UserError(
                f"fleet: the episodes of {first.run.env} differ in length, "
                "so its runs' updates would fall apart; use src/batch.py"
            )
        _refuse_unread(cfg, members, env.spec)


def _may_vary(members: Sequence[Settings]) -> set[str]:
    """Names of the settings in which the runs may differ."""
    first = members[0]
    parts = {"": (RunConfig, type(first.learner)), "env_args.": (type(first.env),)}
    parts |= {f"{name}.": (forms[""].Config,) for name, forms in sections().items() if "" in forms}
    parts |= {f"{each.section}.": (type(each.cfg),) for each in first.extras}
    return {prefix + name for prefix, kinds in parts.items() for k in kinds for name in varying(k)}


def _refuse_unread(cfg: FleetConfig, members: Sequence[Settings], spec: EnvSpec) -> None:
    """Raises UserError for a setting of which all runs would have the first one's value."""
    for key in cfg.vary:
        section, _, name = key.rpartition(".")
        # The first run of each value: the first two differ in this setting alone.
        values: dict[object, Settings] = {}
        for member in members:
            values.setdefault(_value(member, key), member)
        if len(values) < 2:
            continue
        ours, *theirs = (_owner(member, section, spec) for member in values.values())
        if any(len(_numbers(other)) != len(_numbers(ours)) for other in theirs):
            raise UserError(
                f"fleet.vary: {key}: one of its values switches a part off, and such runs do not "
                "stack; give them a fleet of their own"
            )
        if _numbers(ours) == _numbers(theirs[0]):
            raise UserError(
                f"fleet.vary: {key}: {type(ours).__name__} keeps it as a plain number, of which a "
                f'fleet has one; register it by scalar(self, "{name}", cfg.{name})'
            )


def _value(settings: Settings, key: str) -> object:
    """Value of a setting of the learner or of an extra; None: it is read elsewhere, or not."""
    section, _, name = key.rpartition(".")
    chosen = settings.extra(section)
    cfg = settings.learner if not section else chosen and chosen.cfg
    return getattr(cfg, name, None)


def _owner(settings: Settings, section: str, spec: EnvSpec) -> Learner | Extra:
    """The part that reads a section; the learner itself for settings without a section."""
    learner = make_learner(settings, spec)
    names = ["", *(chosen.section for chosen in settings.extras)]
    return [learner, *learner.extras][names.index(section)]


def _numbers(part: Learner | Extra) -> list[float]:
    """Numbers of a part that a stack keeps apart for each run.

    They are 0-dim buffers, learning rates, and the window of each run's own replay.
    """
    learner = isinstance(part, Learner)
    groups, window = (part.own_groups(), 0) if learner else (part.groups(), part.window)
    buffers = ((name, x) for name, x in part.named_buffers() if not name.startswith("extras."))
    return [*(x.item() for _, x in buffers if not x.dim()), *(g.lr for g in groups), window]


def _switch(cfg: FleetConfig, members: Sequence[Settings]) -> tuple[str, object]:
    """The varied setting, and its value, that switches an extra off in some runs."""
    sections = {chosen.section for member in members for chosen in member.extras}
    everywhere = {s for s in sections if all(member.extra(s) for member in members)}
    apart = sections - everywhere
    for key, values in cfg.vary.items():
        if key.partition(".")[0] in apart:
            return key, min(values, key=lambda value: (not isinstance(value, (int, float)), value))
    raise AssertionError("runs differ in extras without a varied setting of theirs")
