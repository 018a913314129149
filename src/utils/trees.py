"""Nested containers of tensors: dataclasses, tuples and dictionaries."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


def map_tensors(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """`tree` with function(x, its counterparts in `others`) for every tensor x.

    Goes through dataclasses, tuples and dictionaries.
    """
    made: Any = tree
    rest: tuple[Any, ...] = others
    if isinstance(tree, Tensor):
        made = function(tree, *others)
    elif is_dataclass(tree) and not isinstance(tree, type):
        parts = {f.name: [getattr(x, f.name) for x in (tree, *rest)] for f in fields(tree)}
        made = replace(tree, **{name: map_tensors(function, *xs) for name, xs in parts.items()})
    elif isinstance(tree, tuple):
        found = [map_tensors(function, *xs) for xs in zip(tree, *rest, strict=True)]
        made = type(tree)(*found) if hasattr(tree, "_fields") else tuple(found)
    elif isinstance(tree, dict):
        made = {k: map_tensors(function, x, *(o[k] for o in rest)) for k, x in tree.items()}
    return made


def stacked(trees: Sequence[Tree]) -> Tree:
    """All tensors of the trees along a new leading axis R."""
    return map_tensors(lambda *xs: torch.stack(xs), *trees)


def member(tree: Tree, run: int) -> Tree:
    """One run's part of a stacked tree."""
    return map_tensors(lambda x: x[run], tree)
