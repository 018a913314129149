"""The loss term that ceased to be finite first.

Nothing is fetched from the device until `broken` is called.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class Finite:
    """Counts, for each term of a loss, the updates before its first nan or infinity."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sound: Tensor | None = None  # [terms], in a stack [terms, R], bool: finite until now
        self._updates: Tensor | None = None  # the same shape: finite updates
        self._seen = 0

    def see(self, terms: Mapping[str, Tensor]) -> None:
        now = torch.stack([term.detach() for term in terms.values()]).isfinite()
        if self._sound is None or self._updates is None:
            self._names, self._sound, self._updates = tuple(terms), now, now.long()
        else:
            self._sound &= now
            self._updates += self._sound
        self._seen += 1

    def broken(self, run: int | None = None) -> tuple[list[str], int]:
        """Terms that ceased to be finite first, and how many updates ago; none if all are finite.

        `run`: of this run of a stack.
        """
        if self._updates is None:
            return [], 0
        counts = (self._updates if run is None else self._updates[:, run]).tolist()
        first = min(counts)
        return [
            name
            for name, count in zip(self._names, counts, strict=True)
            if count == first < self._seen
        ], self._seen - first
