"""Values that change with the environment steps t."""

import torch
from torch import Tensor

from eoi.utils.shapes import Float

Scalar = Float[Tensor, ""]


def linear(start: Scalar, finish: Scalar, duration: Scalar, t: Scalar) -> Scalar:
    """From `start` at t = 0 to `finish` at t = `duration`, then constant.

    `finish` from the start if the duration is 0.
    """
    t = torch.where(duration > 0, t, 1.0)
    return start + (finish - start) * (t / duration.clamp(min=1)).clamp(0, 1)


def trapezoid(warmup: Scalar, anneal: Scalar, floor: Scalar, t: Scalar) -> Scalar:
    """From 0 to 1 over `warmup` steps, then from 1 to `floor` over `anneal` steps.

    A duration of 0 leaves its part out.
    """
    rise = torch.where(warmup > 0, (t / warmup.clamp(min=1)).clamp(0, 1), 1.0)
    fall = torch.where(anneal > 0, 1 - ((t - warmup) / anneal.clamp(min=1)).clamp(0, 1), 1.0)
    return rise * (floor + (1 - floor) * fall)
