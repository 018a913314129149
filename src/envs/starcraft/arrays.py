"""What the engine asks of an array library besides operators and reshape, from torch and from numpy.

One copy of a fight is a handful of numbers, and the time of its loop is the time of calling forty functions. numpy's cost a third of
torch's, and for the same IEEE arithmetic: results are equal bit for bit.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = Any  # a tensor or an ndarray


class Library(NamedTuple):
    amin: Any
    concat: Any
    fmod: Any
    maximum: Any
    minimum: Any
    sqrt: Any
    where: Any
    float32: Any
    float64: Any
    int32: Any
    # Those above are of the same name in both, those below are not.
    array: Any  # from a tensor
    single: Any  # values in float32
    pick: Any  # (values, index): values[..., index]
    add_at: Any  # (values, index, more): values, more[i] added to values[index[i]]


def _library(module: Any, **own: Any) -> Library:
    return Library(
        **{name: getattr(module, name) for name in Library._fields if name not in own}, **own
    )


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
