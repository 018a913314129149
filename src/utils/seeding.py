"""Random numbers as a pure function of a key and a position, on int64 tensors.

The hash is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). A torch.Generator is a single
sequence, but thousands of environment copies and dozens of stacked runs each need one, equal on
every device, and a resumed run has to restore all of them. Here a stream is a key, and no state
passes from draw to draw. The random state of a run is its seed and its counters. Keys are int64
tensors of any shape; `fold` derives a key for each index.
"""

import functools
import math
import zlib

import torch
from torch import Tensor

from eoi.utils.shapes import Float, Int

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's shift of int64 is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def root_key(seed: int, name: str, device: torch.device | str = "cpu") -> Int[Tensor, ""]:
    """Key of the stream `name` of a run. Streams of other names or seeds are independent of it."""
    return named(torch.tensor(seed, dtype=torch.int64, device=device), name)


def named(keys: Int[Tensor, "*k"], name: str) -> Int[Tensor, "*k"]:
    """Child keys for one use of randomness. Leaving out one use does not change another."""
    return fold(keys, zlib.crc32(name.encode()))


def fold(keys: Int[Tensor, "*k"], index: int | Int[Tensor, "*i"]) -> Int[Tensor, "*o"]:
    """Child key for each index; `index` broadcasts against `keys`."""
    # Keys are mixed first, so that fold(k, i) and fold(k + 1, i) are unrelated.
    if isinstance(index, Tensor):
        return _mix(_mix(keys) + (index + 1) * _GOLDEN)
    return _mix(_mix(keys) + _signed((index + 1) * _GOLDEN))


def _signed(number: int) -> int:
    """`number` modulo 2^64 as a signed 64-bit integer."""
    return (number + 2**63) % 2**64 - 2**63


@functools.lru_cache(maxsize=256)
def _positions(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """1, 2, ... times the golden ratio, in the given shape."""
    return (torch.arange(1, math.prod(shape) + 1, device=device) * _GOLDEN).view(shape)


def _at_positions(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """State of each key's stream at its first draws: [*keys, *shape]."""
    keys = keys.view((*keys.shape, *(1 for _ in shape)))
    return keys + _positions(shape, keys.device)


def uniform(keys: Int[Tensor, "*k"], *shape: int) -> Float[Tensor, "*o"]:
    """Uniform numbers on [0, 1) with 24 bits, of shape [*keys, *shape]."""
    x = _at_positions(keys, shape)
    # `_mix` without its last line, which does not change the highest 24 bits.
    x = (x ^ _shift(x, 30)).mul_(_MIX1)
    x = (x ^ _shift(x, 27)).mul_(_MIX2)
    return _shift(x, 40).to(torch.float32).mul_(2.0**-24)


def normal(keys: Int[Tensor, "*k"], *shape: int) -> Float[Tensor, "*o"]:
    """Standard normal numbers, of shape [*keys, *shape] (Box and Muller 1958)."""
    radius, angle = uniform(keys, 2, *shape).unbind(keys.dim())
    return (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()


def integers(
    keys: Int[Tensor, "*k"], high: int | Int[Tensor, "*h"], *shape: int
) -> Int[Tensor, "*o"]:
    """Uniform integers in [0, high), of shape [*keys, *shape]. Requires high < 2^31.

    `high`: a number, or a tensor of the shape of `keys`.
    """
    if isinstance(high, Tensor):
        high = high.view(*high.shape, *(1 for _ in shape))
    return _shift(_shift(_mix(_at_positions(keys, shape)), 32) * high, 32)
