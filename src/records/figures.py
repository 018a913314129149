"""Figures: which runs a figure of the paper compares, what it shows of them, and what it claims.

A figure is a YAML file in config/figures, or the user's own; docs/figures.md explains its keys.
"""

import pathlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from eoi.config import loader
from eoi.config.schema import nearest, parse, setting
from eoi.records.record import Record, Series
from eoi.records.statistics import SCORES, Score
from eoi.records.verdicts import Claim, Relation, Side
from eoi.utils.errors import UserError
from eoi.utils.places import expanded

FOLDER = loader.FOLDER / "figures"
Kind = Literal["curves", "worlds", "positions", "embedding", "actions"]
SHARE = "test_return_share"  # test_return_mean as a share of the best return of the arm's world
RETURN = "test_return_mean"
_NAMING = frozenset({"arm", "less", "other_less", *get_args(Relation)})  # keys of a claim with arms


@dataclass(frozen=True)
class Arm:
    """Runs that are one curve: an algorithm in a world, with settings of its own."""

    name: str  # in a figure with several worlds "LABEL in WORLD"
    config: str  # the algorithm's file, as for --config
    env: str  # the world's file, as for --env-config
    settings: tuple[str, ...]  # key=value
    like: str = ""  # drawn dotted, in the colour of that arm
    label: str = ""  # name of the curve, the same in all worlds
    world: str = ""  # "": the figure has one world
    best: float | None = None  # best return of the world; None: not given


@dataclass(frozen=True, kw_only=True)
class Part:
    """A panel of a figure."""

    kind: Kind = "curves"
    metric: str = RETURN
    arms: tuple[str, ...] = ()  # (): all arms
    log: bool = False  # logarithmic axis, for a metric above 0
    over: str = ""  # worlds: label of the x axis
    worlds: dict | None = None  # worlds: name of the world at each tick


@dataclass(frozen=True)
class Figure:
    name: str  # of its file
    title: str
    caption: str
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    parts: tuple[Part, ...]
    claims: tuple[Claim, ...]

    def shown(self, part: Part) -> list[str]:
        """Names of the arms in a panel."""
        labels = part.arms or dict.fromkeys(arm.label for arm in self.arms.values())
        return [arm.name for x in labels for arm in self.arms.values() if arm.label == x]

    @property
    def metrics(self) -> list[str]:
        """Metrics that its panels and claims read."""
        found = [part.metric for part in self.parts if part.kind in ("curves", "worlds")]
        sides = (side for claim in self.claims for side in (claim.first, claim.second))
        found += [side.metric for side in sides if isinstance(side, Side)]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The keys of a figure's file."""

    title: str
    env: str = "pac_men"
    seeds: int | tuple[int, ...] = setting(0, default=5)  # their number, or all of them
    settings: dict | None = None  # of all arms
    worlds: dict | None = None  # in each of which all arms run
    arms: dict
    panels: tuple[dict, ...] = setting(default=({},))
    caption: str = ""
    claims: tuple[dict, ...] = ()


@dataclass(frozen=True)
class _World:
    """A world of a figure."""

    name: str
    settings: dict[str, Any]  # `env` among them
    best: float | None  # best return; None: not given


@dataclass(frozen=True, kw_only=True)
class _WrittenClaim:
    """The keys of a claim; one of above, below, level and not_above is given."""

    says: str
    arm: str
    less: str = ""  # arm that is subtracted from it
    metric: str = RETURN
    score: str = setting(default="final", among=tuple(SCORES))
    above: float | str | list | None = None
    below: float | str | list | None = None
    level: float | str | list | None = None
    not_above: float | str | list | None = None
    other_metric: str = ""  # "": the same
    other_score: str = setting(default="", among=("", *SCORES))  # "": the same
    other_less: str = ""
    margin: float = setting(0, default=0.0)
    paper: bool = True  # False: not counted among the tests of the paper's claims


def names() -> list[str]:
    """Names of the paper's figures, in their order, and then of further ones."""
    return sorted(loader.names("figures"), key=_natural)


def of_paper(name: str) -> bool:
    """The paper's figures have its numbers for names."""
    return name[:1].isdigit()


def _natural(name: str) -> tuple[bool, int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return (not of_paper(name), int(digits) if digits else 0, name)


def read(name: str) -> Figure:
    """A figure of config/figures, or the user's own by its file. Raises UserError."""
    own = expanded(name)
    if own.suffix in (".yaml", ".yml"):
        if not own.is_file():
            raise UserError(f"figure {name}: there is no such file")
        return _figure(own, own.stem)
    known = {each.lower(): each for each in names()}
    wanted = re.sub(r"^(figure|fig)[\s._-]*", "", name.lower())
    if wanted not in known:
        raise UserError(f"figure {name}: there is no such figure.{_near(wanted)}")
    return _figure(FOLDER / f"{known[wanted]}.yaml", known[wanted])


def _near(wanted: str) -> str:
    """Names of figures that are near, or all of them."""
    parts = [each for each in names() if each.rpartition("-")[0] == wanted or each[:-1] == wanted]
    if parts:
        return f" Did you mean {' or '.join(parts)}?"
    hint = nearest(wanted, names())
    return hint if "Did you mean" in hint else f" There are: {', '.join(names())}."


def _figure(path: pathlib.Path, name: str) -> Figure:
    where = f"{path.name}: "
    written = parse(_Written, loader.read_yaml(path), where)
    worlds = _worlds(written, where)
    arms = {
        arm.name: arm
        for label, content in written.arms.items()
        for arm in _arms(str(label), content, worlds, where)
    }
    if not arms:
        raise UserError(f"{where}arms: there is none; name at least one")
    parts = tuple(
        _part(content, written, f"{where}panels.{k}.")
        for k, content in enumerate(written.panels, 1)
    )
    likes = [arm.like for arm in arms.values() if arm.like]
    _refuse_unknown("arm", likes, written.arms, f"{where}like")
    claims = tuple(
        claim
        for k, content in enumerate(written.claims, 1)
        for each in _in_worlds(content, written)
        for claim in _claims(each, arms, f"{where}claims.{k}.")
    )
    caption = " ".join(written.caption.split())
    seeds = _seeds(written, where)
    return Figure(name, written.title, caption, seeds, arms, parts, claims)


def _seeds(written: _Written, where: str) -> tuple[int, ...]:
    seeds = tuple(range(written.seeds)) if isinstance(written.seeds, int) else written.seeds
    if not seeds:
        raise UserError(f"{where}seeds: there is none; give a number such as 5, or a list")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where}seeds: one is there twice")
    return seeds


def _worlds(written: _Written, where: str) -> list[_World]:
    """The worlds in which all arms run; one without a name where the figure names none."""
    shared = {"env": written.env, **(written.settings or {})}
    found = []
    for name, content in (written.worlds or {"": {}}).items():
        best = content.get("best") if isinstance(content, Mapping) else 0
        if best is not None and not (type(best) in (int, float) and best > 0):
            raise UserError(
                f"{where}worlds.{name}: expected its environment, settings, and a best return"
                f" above 0, such as {{env: pac_men, best: 40}}"
            )
        own = {key: value for key, value in content.items() if key != "best"}
        found.append(_World(str(name), shared | own, best))
    return found


def _arms(label: str, content: object, worlds: Sequence[_World], where: str) -> Iterator[Arm]:
    """The arm in each world."""
    if not isinstance(content, Mapping) or "config" not in content:
        raise UserError(
            f"{where}arms.{label}: expected its algorithm and settings, such as"
            f" {{config: qmix, lr: 5e-4}}"
        )
    for world in worlds:
        own = {str(key): value for key, value in (world.settings | dict(content)).items()}
        config, env, like = str(own.pop("config")), str(own.pop("env")), str(own.pop("like", ""))
        _refuse_misspelled(config, f"{where}arms.{label}.config")
        settings = tuple(f"{key}={value}" for key, value in own.items())
        name = _in_world(label, world.name)
        yield Arm(name, config, env, settings, like, label, world.name, world.best)


def _refuse_misspelled(config: str, where: str) -> None:
    """Raises UserError for no algorithm's name that is near one."""
    if _is_here(config):
        return
    hint = nearest(config, loader.names("algs"))
    if "Did you mean" in hint:
        raise UserError(f"{where}: there is no algorithm {config!r}.{hint}")


def _is_here(config: str) -> bool:
    """Whether an algorithm's file exists, in config/algs or as the user's own."""
    return config in loader.names("algs") or expanded(config).is_file()


def _in_world(label: str, world: str) -> str:
    """Name of an arm in a world."""
    return f"{label} in {world}" if world else label


def _part(content: Mapping[str, Any], written: _Written, where: str) -> Part:
    part = parse(Part, content, where)
    _refuse_unknown("arm", part.arms, written.arms, f"{where}arms")
    if part.kind != "worlds":
        return part
    known = [str(name) for name in written.worlds or {}]
    if not known:
        raise UserError(f"{where}kind: worlds needs the key worlds of the figure, with their names")
    shown = part.worlds or {name: name for name in known}
    _refuse_unknown("world", map(str, shown.values()), known, f"{where}worlds")
    return replace(part, worlds={str(tick): str(world) for tick, world in shown.items()})


def _in_worlds(content: Mapping[str, Any], written: _Written) -> Iterator[Mapping[str, Any]]:
    """A claim, or one for each world where its arm is named without one."""
    if not written.worlds or str(content.get("arm")) not in written.arms:
        yield content
        return
    for world in map(str, written.worlds):
        yield {
            key: _there(value, world, written.arms) if key in _NAMING else value
            for key, value in content.items()
        }


def _there(value: object, world: str, labels: Collection[str]) -> object:
    """The names of arms in a claim's value, each in this world."""
    if isinstance(value, list):
        return [_there(each, world, labels) for each in value]
    return _in_world(value, world) if isinstance(value, str) and value in labels else value


def _refuse_unknown(kind: str, wanted: Iterable[str], known: Collection[str], where: str) -> None:
    for name in wanted:
        if name not in known:
            raise UserError(f"{where}: there is no {kind} {name!r}.{nearest(name, known)}")


def _claims(content: Mapping[str, Any], arms: Mapping[str, Arm], where: str) -> Iterator[Claim]:
    """A claim, or one for each value where its relation has a list of them."""
    written = parse(_WrittenClaim, content, where)
    given = [name for name in get_args(Relation) if getattr(written, name) is not None]
    if len(given) != 1:
        raise UserError(f"{where}expected one of {', '.join(get_args(Relation))}")
    (relation,) = given
    if relation == "level" and not written.margin:
        raise UserError(f"{where}margin: missing; level needs the largest difference that counts")
    if relation in ("above", "below") and written.margin:
        raise UserError(f"{where}margin: has no effect with {relation}; leave it out")
    first = Side(written.arm, written.metric, _score(written.score), written.less)
    others = getattr(written, relation)
    for other in others if isinstance(others, list) else [others]:
        second = other
        if isinstance(other, str):
            metric = written.other_metric or written.metric
            score = _score(written.other_score or written.score)
            second = Side(other, metric, score, written.other_less)
        elif isinstance(other, bool) or not isinstance(other, int | float):
            raise UserError(f"{where}{relation}: expected an arm or a number, got {other!r}")
        sides = [side for side in (first, second) if isinstance(side, Side)]
        named = [arm for side in sides for arm in (side.arm, side.less) if arm]
        _refuse_unknown("arm", named, arms, f"{where}{relation}")
        says = " ".join(written.says.split())
        yield Claim(says, first, relation, second, written.margin, written.paper)


def _score(name: str) -> Score:
    return next(kind for kind in SCORES if kind == name)


def with_shares(figure: Figure, arms: Mapping[str, Sequence[Record]]) -> dict[str, list[Record]]:
    """The runs of each arm, with SHARE among their metrics where the best return is known."""
    return {name: [_with_share(r, figure.arms[name].best) for r in arms[name]] for name in arms}


def over_worlds(
    figure: Figure, arms: Mapping[str, Sequence[Record]]
) -> dict[str, dict[str, Sequence[Record]]]:
    """By label, the runs in each world; only labels whose runs have SHARE in all of the worlds."""
    labels: dict[str, list[Arm]] = {}
    for arm in figure.arms.values():
        labels.setdefault(arm.label, []).append(arm)
    return {
        label: {arm.world: arms[arm.name] for arm in every}
        for label, every in labels.items()
        if len(every) > 1 and all(_has_share(arms.get(arm.name, ())) for arm in every)
    }


def _has_share(records: Sequence[Record]) -> bool:
    return bool(records) and all(SHARE in record.metrics for record in records)


def _with_share(record: Record, best: float | None) -> Record:
    returns = record.metrics.get(RETURN)
    if best is None or returns is None:
        return record
    share = Series(returns.steps, returns.values / best)
    return replace(record, metrics=record.metrics | {SHARE: share})


def unavailable(figure: Figure) -> dict[str, str]:
    """Arms that cannot run, because their algorithm is not here, and the reason."""
    return {
        arm.name: f"no algorithm {arm.config!r} in config/algs"
        for arm in figure.arms.values()
        if not _is_here(arm.config)
    }
