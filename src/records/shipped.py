"""Settings in which runs differ from the shipped files of their algorithm and world.

A table names its rows by algorithm; these settings say which of them are not as that name says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from eoi.config import loader
from eoi.records.groups import IGNORED, WITHIN, differing, idle, order, plain, shown, value
from eoi.records.record import Config, Record, flat

# Settings that change how a run is recorded, and not what it learns
_RECORDING = frozenset({"absolute_nepisode", "log_interval", "test_interval", "test_nepisode"})
_UNTOLD = IGNORED | WITHIN | _RECORDING | {"env", "evaluate", "name"}
_SECTIONS = ("env_args.", "fleet.")  # a world's settings are in its title where they differ


def changed(
    records: Sequence[Record], told: Mapping[str, Sequence[str]], but: Sequence[str] = ()
) -> dict[str, list[str]]:
    """KEY=VALUE of the settings of each algorithm that differ from the shipped ones, by its name.

    Left out are settings without effect or that this version lacks, and a t_max that all runs
    share. A run counts only if its algorithm and world are shipped.

    told: for each name the settings that its runs' labels have, which are left out, as are those
    in `but`.
    """
    same = {*but, *(() if differing(records, ["t_max"]) else ("t_max",))}
    found: dict[str, dict[str, set[int | float | str | None]]] = {}
    defaults = loader.defaults()
    for record in (completed(record, defaults) for record in records):
        name = str(record.config.get("name"))
        for key, usual in _shipped(record).items():
            if key in same or key in told[name]:
                continue
            if plain(record.settings[key]) != plain(usual) and not idle(record, key):
                found.setdefault(name, {}).setdefault(key, set()).add(value(record, key))
    return {
        name: [
            f"{key}={' or '.join(map(shown, sorted(values, key=order)))}"
            for key, values in sorted(own.items())
        ]
        for name, own in sorted(found.items())
    }


def completed(record: Record, defaults: Config) -> Record:
    """The run with the default of each setting that is newer than it."""
    return replace(record, config=loader.merged(defaults, record.config))


def sentence(settings: Mapping[str, Sequence[str]], quote: str = "") -> str:
    """The line below a table; empty where all settings are the shipped ones.

    quote: stands on both sides of each algorithm and its settings.
    """
    parts = [f"{quote}{name} with {' '.join(own)}{quote}" for name, own in settings.items()]
    return f"Not the shipped settings: {'; '.join(parts)}." if parts else ""


def _shipped(record: Record) -> Mapping[str, object]:
    """The settings that the run's files give it; empty where they are not shipped."""
    name = str(record.config.get("name"))
    world = str(record.config.get("world") or record.config.get("env"))
    if name in loader.names("algs") and world in loader.names("envs"):
        return _loaded(name, world)
    return {}


@cache
def _loaded(algorithm: str, world: str) -> Mapping[str, object]:
    return {
        key: found
        for key, found in flat(loader.load(algorithm, world, {}))
        if key not in _UNTOLD and not key.startswith(_SECTIONS)
    }
