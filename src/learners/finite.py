"""The loss term that ceased to be finite first.

Nothing is fetched from the device until `broken` is called. The tensors are written in place, so
that `see` can be a part of a CUDA graph.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class _Seen(NamedTuple):
    """State of the terms of one kind of update."""

    sound: Tensor  # [terms], in a stack [terms, R], bool: finite until now
    last: Tensor  # the same shape: number of the last update at which they were


class Finite:
    """Keeps, for each term of a loss, the number of updates before its first nan or infinity."""

    def __init__(self) -> None:
        self._terms: dict[tuple[str, ...], _Seen] = {}  # by the names of the terms
        self._updates: Tensor | None = None  # scalar, int64, on the device of the terms

    def see(self, terms: Mapping[str, Tensor]) -> None:
        """The terms of one update. Updates may differ in them."""
        now = torch.stack([term.detach() for term in terms.values()]).isfinite()
        names = tuple(terms)
        if self._updates is None:
            self._updates = torch.zeros((), dtype=torch.int64, device=now.device)
        if names not in self._terms:
            self._terms[names] = _Seen(torch.ones_like(now), torch.zeros_like(now).long())
        sound, last = self._terms[names]
        # A term that breaks in this update was finite before it.
        last.copy_(torch.where(sound, self._updates + now.long(), last))
        sound.logical_and_(now)
        self._updates.add_(1)

    def broken(self, run: int | None = None) -> tuple[list[str], int]:
        """Terms that ceased to be finite first, and how many updates ago; none if all are finite.

        `run`: of this run of a stack.
        """
        found: dict[str, int] = {}
        for names, (sound, last) in self._terms.items():
            if run is not None:
                sound, last = sound[:, run], last[:, run]
            each = zip(names, sound.tolist(), last.tolist(), strict=True)
            found |= {name: count for name, fine, count in each if not fine}
        updates = 0 if self._updates is None else int(self._updates)
        first = min(found.values(), default=updates)
        return [name for name, count in found.items() if count == first], updates - first
