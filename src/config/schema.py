"""A strict reading of settings into frozen dataclasses.

Unknown, missing, mistyped and out-of-range keys are refused by their full name.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from eoi.utils.errors import UserError

T = TypeVar("T")


def setting(
    low: float | None = None,
    high: float | None = None,
    default: Any = dataclasses.MISSING,
    varies: bool = False,
    among: Collection[str] | None = None,
    own: bool = False,
    inert: bool = False,
) -> Any:
    """A dataclass field with bounds, both inclusive, or with names to choose `among`.

    `varies`: runs stacked in a fleet may differ in it. `own`: plugins may add names.
    `inert`: a world's setting that changes no episode.
    """
    metadata = {"low": low, "high": high, "varies": varies, "among": among, "own": own}
    return dataclasses.field(default=default, metadata=metadata | {"inert": inert})


def varying(cls: type) -> set[str]:
    """The names of the settings in which runs of a fleet may differ."""
    return {f.name for f in dataclasses.fields(cls) if f.metadata.get("varies")}


def inert(cls: type) -> set[str]:
    """The names of the settings that change no episode."""
    return {f.name for f in dataclasses.fields(cls) if f.metadata.get("inert")}


_NEAR = 0.7  # similarity of names; at 0.6, `foo` is near `form`

OWN = " A name of your own is known once its module is in plugins=[MODULE]."


def nearest(name: str, names: Iterable[str]) -> str:
    """' Did you mean ...?', or a list when nothing is near and the list is short."""
    names = sorted(names)
    plain = {other.lower().lstrip("-"): other for other in names}
    wanted = name.lower().lstrip("-")
    close = [other for other in plain if len(wanted) > 2 and other.startswith(wanted)][:1]
    close = close or difflib.get_close_matches(wanted, plain, n=1, cutoff=_NEAR)
    if close:
        return f" Did you mean {plain[close[0]]!r}?"
    return f" There are: {', '.join(names)}." if len(names) <= 40 else ""


def parse(cls: type[T], values: Mapping[str, Any], prefix: str = "", strict: bool = True) -> T:
    """An instance of the dataclass `cls` from `values`; `strict` refuses other keys.

    Raises UserError naming the key in full, `prefix` included.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    hints = typing.get_type_hints(cls)
    if strict:
        for key in values:
            if key not in fields:
                raise UserError(f"{prefix}{key}: there is no such setting.{nearest(key, fields)}")
    found = {}
    for name, f in fields.items():
        if name in values:
            found[name] = _checked(prefix + name, values[name], hints[name], f)
        elif f.default is dataclasses.MISSING:
            raise UserError(f"{prefix}{name}: this setting is missing")
    return cls(**found)


def _checked(name: str, value: Any, hint: Any, f: dataclasses.Field) -> Any:
    try:
        value = _convert(value, hint)
    except TypeError:
        given = "nothing" if value == "" else repr(value)
        raise UserError(f"{name}: expected {_show(hint)}, got {given}") from None
    low, high, among, own = (f.metadata.get(key) for key in ("low", "high", "among", "own"))
    if among is not None and value not in among:
        choices = ", ".join(repr(choice) for choice in among)
        more = f".{OWN}" if own else ""
        raise UserError(f"{name}: expected one of {choices}, got {value!r}{more}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            if low is not None and not number >= low:
                raise UserError(f"{name}: must be at least {low}, got {number}")
            if high is not None and not number <= high:
                raise UserError(f"{name}: must be at most {high}, got {number}")
    return value


def _convert(value: Any, hint: Any) -> Any:
    """`value` as `hint`. Raises TypeError."""
    converter = _CONVERTERS.get(typing.get_origin(hint) or hint)
    if converter is not None:
        return converter(value, typing.get_args(hint))
    if type(value) is not hint:  # exact: True is no int
        raise TypeError
    return value


def _one_of(value: Any, args: tuple[Any, ...]) -> Any:
    options = (value, str(value)) if type(value) is int else (value,)
    for option in options:
        if any(option == a and type(option) is type(a) for a in args):
            return option
    raise TypeError


def _first_that_fits(value: Any, args: tuple[Any, ...]) -> Any:
    for option in args:
        try:
            return _convert(value, option)
        except TypeError:
            continue
    raise TypeError


def _text(value: Any, _: tuple[Any, ...]) -> str:
    """The id of a run, 3, is read as a number."""
    if type(value) in (str, int):
        return str(value)
    raise TypeError


def _number(value: Any, _: tuple[Any, ...]) -> float:
    if type(value) in (int, float):
        return float(value)
    raise TypeError


def _integer(value: Any, _: tuple[Any, ...]) -> int:
    """1e5 is an integer, written as a float."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is int:
        return value
    raise TypeError


def _dictionary(value: Any, _: tuple[Any, ...]) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _tuple(value: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        raise TypeError
    return tuple(_convert(v, k) for v, k in zip(value, kinds, strict=True))


_CONVERTERS = {
    typing.Literal: _one_of,
    typing.Union: _first_that_fits,
    types.UnionType: _first_that_fits,
    str: _text,
    float: _number,
    int: _integer,
    dict: _dictionary,
    tuple: _tuple,
}


_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a text",
    tuple: "a list",
    dict: "names with values",
    types.NoneType: "None",
}


def _show(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(a) for a in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_show, typing.get_args(hint)))
    args = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and args[-1] is not Ellipsis:
        return f"a list of {len(args)}"
    return _WORDS.get(typing.get_origin(hint) or hint, str(hint))
