"""Counts of anything that has a code, in a table of fixed size.

Axes: K any number of things, in the order of time; O observation; *b and *k are any axes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from eoi.utils.seeding import fold, integers
from eoi.utils.shapes import Float, Int

PLACES = 8  # entries that a thing may take
_MARK = PLACES  # number of the hash that tells things apart


def code(x: Float[Tensor, "*b O"]) -> Int[Tensor, "*b"]:
    """A 64-bit code of each row: equal rows have equal codes, others almost never."""
    bits = (x.float() + 0.0).view(torch.int32).long()  # + 0.0: -0 is 0
    places = torch.arange(x.shape[-1], device=x.device)
    return fold(fold(torch.zeros_like(places), places), bits).sum(-1)


def later(codes: Int[Tensor, " K"]) -> Int[Tensor, " K"]:
    """For each entry, how many of the following ones equal it."""
    ordered, order = codes.sort(stable=True)
    place = torch.arange(len(codes), device=codes.device)
    ends = torch.ones_like(codes, dtype=torch.bool)  # the last of its equals
    ends[:-1] = ordered[1:] != ordered[:-1]
    last = torch.where(ends, place, len(codes)).flip(0).cummin(0).values.flip(0)
    return torch.empty_like(codes).scatter_(0, order, last - place)


class Counts(nn.Module):
    """A hash table of counts.

    A thing takes the first free one of its `PLACES` entries, and keeps it: its count is exact. A
    thing whose entries are all taken is not counted. Two things are confused if they share an entry
    and 31 further bits.
    """

    owner: Tensor
    count: Tensor

    def __init__(self, entries: int):
        super().__init__()
        self.entries = entries
        for name in ("owner", "count"):  # owner 0: a free entry
            self.register_buffer(name, torch.zeros(entries, dtype=torch.int32))

    def _places(self, codes: Int[Tensor, "*k"]) -> Iterator[Int[Tensor, "*k"]]:
        """Entries that each thing may take, one after the other."""
        for number in range(PLACES):
            yield integers(fold(codes, number), self.entries)

    @staticmethod
    def _marks(codes: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        return (integers(fold(codes, _MARK), 2**31 - 1) + 1).int()

    def add(self, codes: Int[Tensor, "*k"], amount: Tensor) -> None:
        """Counts each code `amount` [*k] times more."""
        codes, amount = codes.flatten(), amount.flatten().int()
        mark, waiting = self._marks(codes), amount > 0
        nothing = torch.zeros_like(amount)
        for place in self._places(codes):
            # A free entry goes to the highest mark of those that are waiting for it.
            free = waiting & (self.owner[place] == 0)
            self.owner.scatter_reduce_(0, place, torch.where(free, mark, nothing), "amax")
            mine = waiting & (self.owner[place] == mark)
            self.count.index_add_(0, place, torch.where(mine, amount, nothing))
            waiting = waiting & ~mine

    def of(self, codes: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        """Count of each code; 0 where it is not counted."""
        mark, found = self._marks(codes), torch.zeros_like(codes)
        for place in self._places(codes):
            found = torch.where(self.owner[place] == mark, self.count[place].long(), found)
        return found

    def filled(self) -> Float[Tensor, ""]:
        """Share of the entries in use."""
        return (self.owner > 0).float().mean()
