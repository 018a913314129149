"""Figures: which runs a figure of the paper compares, what it shows of them, and what it claims.

A figure is a YAML file in config/figures, or the user's own; docs/figures.md explains its keys.
"""

import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from eoi.config import loader
from eoi.config.schema import nearest, parse, setting
from eoi.records.statistics import SCORES, Score
from eoi.records.verdicts import Claim, Relation, Side
from eoi.utils.errors import UserError

FOLDER = loader.FOLDER / "figures"
Kind = Literal["curves", "positions", "embedding", "actions"]


@dataclass(frozen=True)
class Arm:
    """Runs that are one curve: an algorithm in a world, with settings of its own."""

    name: str
    config: str  # the algorithm's file, as for --config
    env: str  # the world's file, as for --env-config
    settings: tuple[str, ...]  # key=value
    like: str = ""  # drawn dotted, in the colour of that arm


@dataclass(frozen=True, kw_only=True)
class Part:
    """A panel of a figure."""

    kind: Kind = "curves"
    metric: str = "test_return_mean"
    arms: tuple[str, ...] = ()  # (): all arms
    log: bool = False  # logarithmic axis, for a metric above 0


@dataclass(frozen=True)
class Figure:
    name: str  # of its file
    title: str
    caption: str
    seeds: int
    arms: dict[str, Arm]
    parts: tuple[Part, ...]
    claims: tuple[Claim, ...]

    def shown(self, part: Part) -> list[str]:
        """Names of the arms in a panel."""
        return list(part.arms or self.arms)

    @property
    def metrics(self) -> list[str]:
        """Metrics that its panels and claims read."""
        found = [part.metric for part in self.parts if part.kind == "curves"]
        sides = (side for claim in self.claims for side in (claim.first, claim.second))
        found += [side.metric for side in sides if isinstance(side, Side)]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The keys of a figure's file."""

    title: str
    env: str = "pac_men"
    seeds: int = setting(1, default=5)
    settings: dict | None = None  # of all arms
    arms: dict
    panels: tuple[dict, ...] = setting(default=({},))
    caption: str = ""
    claims: tuple[dict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _WrittenClaim:
    """The keys of a claim; one of above, below, level and not_above is given."""

    says: str
    arm: str
    metric: str = "test_return_mean"
    score: str = setting(default="final", among=tuple(SCORES))
    above: float | str | list | None = None
    below: float | str | list | None = None
    level: float | str | list | None = None
    not_above: float | str | list | None = None
    other_metric: str = ""  # "": the same
    other_score: str = setting(default="", among=("", *SCORES))  # "": the same
    margin: float = setting(0, default=0.0)


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
    own = pathlib.Path(name).expanduser()
    if own.suffix == ".yaml":
        if not own.is_file():
            raise UserError(f"figure {name}: there is no such file")
        return _figure(own, own.stem)
    if name not in names():
        raise UserError(f"figure {name}: there is no such figure.{nearest(name, names())}")
    return _figure(FOLDER / f"{name}.yaml", name)


def _figure(path: pathlib.Path, name: str) -> Figure:
    where = f"{path.name}: "
    written = parse(_Written, loader.read_yaml(path), where)
    arms = {arm: _arm(written, arm, content, where) for arm, content in written.arms.items()}
    if not arms:
        raise UserError(f"{where}arms: there is none; name at least one")
    parts = tuple(
        parse(Part, content, f"{where}panels.{k}.") for k, content in enumerate(written.panels, 1)
    )
    for part in parts:
        _refuse_unknown_arms(part.arms, arms, f"{where}panels")
    _refuse_unknown_arms([arm.like for arm in arms.values() if arm.like], arms, f"{where}like")
    claims = tuple(
        claim
        for k, content in enumerate(written.claims, 1)
        for claim in _claims(content, arms, f"{where}claims.{k}.")
    )
    caption = " ".join(written.caption.split())
    return Figure(name, written.title, caption, written.seeds, arms, parts, claims)


def _arm(written: _Written, name: str, content: object, where: str) -> Arm:
    if not isinstance(content, Mapping) or "config" not in content:
        raise UserError(
            f"{where}arms.{name}: expected its algorithm and settings, such as"
            f" {{config: qmix, lr: 5e-4}}"
        )
    own = {str(key): value for key, value in ((written.settings or {}) | dict(content)).items()}
    config, env = str(own.pop("config")), str(own.pop("env", written.env))
    like = str(own.pop("like", ""))
    return Arm(name, config, env, tuple(f"{key}={value}" for key, value in own.items()), like)


def _refuse_unknown_arms(wanted: Iterable[str], arms: Mapping[str, Arm], where: str) -> None:
    for name in wanted:
        if name not in arms:
            raise UserError(f"{where}: there is no arm {name!r}.{nearest(name, arms)}")


def _claims(content: Mapping[str, Any], arms: Mapping[str, Arm], where: str) -> Iterator[Claim]:
    """A claim, or one for each value where its relation has a list of them."""
    written = parse(_WrittenClaim, content, where)
    given = [name for name in get_args(Relation) if getattr(written, name) is not None]
    if len(given) != 1:
        raise UserError(f"{where}expected one of {', '.join(get_args(Relation))}")
    (relation,) = given
    if relation == "level" and not written.margin:
        raise UserError(f"{where}margin: missing; level needs the largest difference that counts")
    first = Side(written.arm, written.metric, _score(written.score))
    others = getattr(written, relation)
    for other in others if isinstance(others, list) else [others]:
        second = other
        if isinstance(other, str):
            metric = written.other_metric or written.metric
            second = Side(other, metric, _score(written.other_score or written.score))
        elif isinstance(other, bool) or not isinstance(other, int | float):
            raise UserError(f"{where}{relation}: expected an arm or a number, got {other!r}")
        sides = [side.arm for side in (first, second) if isinstance(side, Side)]
        _refuse_unknown_arms(sides, arms, f"{where}{relation}")
        yield Claim(" ".join(written.says.split()), first, relation, second, written.margin)


def _score(name: str) -> Score:
    return next(kind for kind in SCORES if kind == name)


def unavailable(figure: Figure) -> dict[str, str]:
    """Arms that cannot run, because their algorithm is not here, and the reason."""
    known = loader.names("algs")
    return {
        arm.name: f"no algorithm {arm.config!r} in config/algs{_hint(arm.config, known)}"
        for arm in figure.arms.values()
        if arm.config not in known and not pathlib.Path(arm.config).expanduser().is_file()
    }


def _hint(name: str, known: Sequence[str]) -> str:
    """The nearest name, without a list of all where none is near."""
    hint = nearest(name, known)
    return f".{hint}" if "Did you mean" in hint else ""
