"""The command that asks for a recorded run."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from eoi.config import loader
from eoi.records.groups import IGNORED, WITHIN, idle, plain
from eoi.records.record import Record, flat
from eoi.records.shipped import completed
from eoi.settings import configure
from eoi.utils.errors import UserError
from eoi.utils.places import command

_ANYWHERE = {"env": "pac_men", "env_args": {}, "use_cuda": False, "evaluate": False, "seed": 0}
_UNTOLD = IGNORED | {"label"}


def training_command(record: Record) -> str:
    """The shortest command whose settings are those of the run, with this version's files.

    Settings that have no effect, or that this version lacks, are left out. Settings newer than the
    run have their defaults. Empty where the run's world is not installed.
    """
    record = completed(record, loader.defaults())
    found = [
        (_different(record, settings), algorithm, env)
        for algorithm in _candidates("algs", record.config.get("name"), "learner", record)
        for env in _candidates("envs", None, "env", record)
        if (settings := _settings(algorithm, env))
    ]
    if not found:
        return ""
    keys, algorithm, env = min(found, key=lambda each: (len(each[0]), each[1:]))
    fixed = {key: value for key, value in record.config.items() if key not in WITHIN}
    text = json.dumps(fixed, sort_keys=True)
    pairs = [f"{key}={_written(record.settings[key])}" for key in keys if _is_read(text, key)]
    files = f"--config={algorithm} --env-config={env}"
    return " ".join([command("train"), files, "with", *pairs])


def _candidates(kind: str, name: object, key: str, record: Record) -> list[str]:
    """The file of that name if there is one, else those that agree with the run in `key`."""
    every = loader.names(kind)
    if name in every:
        return [str(name)]
    return [each for each in every if _content(kind, each).get(key) == record.settings.get(key)]


@cache
def _content(kind: str, name: str) -> Mapping[str, Any]:
    return loader.load(name, "pac_men", {}) if kind == "algs" else loader.load("qmix", name, {})


@cache
def _settings(algorithm: str, env: str) -> Mapping[str, object]:
    """Settings by dotted keys that a run has without further ones; empty if it cannot run here."""
    config = loader.load(algorithm, env, {})
    try:
        return dict(flat(config | {"env_args": asdict(configure(config | {"seed": 0}).env)}))
    except UserError:
        return {}


def _different(record: Record, other: Mapping[str, object]) -> list[str]:
    """Settings of the run that have another value in `other`."""
    return [
        key
        for key, value in record.settings.items()
        if key in other
        and key not in _UNTOLD
        and plain(value) != plain(other[key])
        and not idle(record, key)
    ]


@cache
def _is_read(config: str, key: str) -> bool:
    """Whether a run with this configuration, as JSON, reads the setting, so that it may be given.

    True where that cannot be judged, as for a configuration of another version.
    """
    whole = json.loads(config) | _ANYWHERE
    try:
        configure(whole)
    except UserError:
        return True
    try:
        configure(whole, loader.parse_updates([f"{key}=0"]))
    except UserError:
        return key.startswith("env_args.")
    return True


def _written(value: object) -> str:
    """A value as a word of a command line, from which the same value is read."""
    text = str(value)
    read = loader.parse_updates([f"key={text}"])["key"]
    return shlex.quote(text if read == value and type(read) is type(value) else repr(value))
