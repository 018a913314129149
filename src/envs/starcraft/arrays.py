"""The operations that the simulator takes from an array library, besides operators and reshape.

With a few copies, a game loop is about forty calls on short arrays, and calls dominate its time.
numpy's calls take a third of the time of torch's. Both do IEEE arithmetic, so results are equal bit
for bit.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = Any  # a tensor or an ndarray; no common type has the operators of both


class Library(NamedTuple):
    # Under the same name in torch and numpy:
    amin: Callable[[Array, int], Array]
    concat: Callable[[Sequence[Array]], Array]
    fmod: Callable[[Array, Array], Array]
    maximum: Callable[[Array, Array], Array]
    minimum: Callable[[Array, Array], Array]
    sqrt: Callable[[Array], Array]
    where: Callable[[Array, Array, Array], Array]
    float32: object
    float64: object
    int32: object
    # Under different names:
    array: Callable[[Tensor], Array]  # from a tensor
    single: Callable[[Array], Array]  # values in float32
    pick: Callable[[Array, Array], Array]  # (values, index): values[..., index]
    # (values, index, more): values, with more[i] added to values[index[i]]
    add_at: Callable[[Array, Array, Array], Array]


def _library(module: ModuleType, **own: Callable[..., Array]) -> Library:
    shared = {name: getattr(module, name) for name in Library._fields if name not in own}
    return Library(**shared, **own)


TORCH = _library(
    torch,
    array=lambda tensor: tensor,
    single=Tensor.float,
    pick=lambda values, index: values.index_select(-1, index),
    add_at=lambda values, index, more: values.index_add(0, index, more),
)
NUMPY = _library(
    np,
    array=Tensor.numpy,
    single=lambda values: values.astype(np.float32),
    pick=lambda values, index: values.take(index, -1),
    add_at=lambda values, index, more: (
        values + np.bincount(index, more, len(values)).astype(np.float32)
    ),
)
