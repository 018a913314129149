"""Action values over the available actions, and their size.

Axes: A agents, U actions; *b is B transitions or B T episodes.
"""

from torch import Tensor

from eoi.components.batch import Batch, mean_of
from eoi.utils.shapes import Bool, Float, Int


def count(avail: Bool[Tensor, "*b U"]) -> Int[Tensor, "*b 1"]:
    """Number of available actions, at least 1."""
    return avail.sum(-1, keepdim=True).clamp(min=1)


def mean_over(q: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Float[Tensor, "*b 1"]:
    """Mean over the available actions."""
    return q.masked_fill(~avail, 0).sum(-1, keepdim=True) / count(avail)


def centred(q: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Float[Tensor, "*b U"]:
    """Zero mean over the available actions; unavailable actions get 0."""
    return (q - mean_over(q, avail)).masked_fill(~avail, 0)


def spread(q: Float[Tensor, "*b U"], avail: Bool[Tensor, "*b U"]) -> Float[Tensor, "*b"]:
    """Difference between the highest and the lowest value of the available actions."""
    own = centred(q, avail)  # 0, which lies between both, where unavailable
    return own.amax(-1) - own.amin(-1)


def variance(
    q: Float[Tensor, "*b A U"], avail: Bool[Tensor, "*b A U"], batch: Batch
) -> Float[Tensor, " A"]:
    """Mean square of an agent's centred values over the batch and its available actions."""
    return batch.mean(q.square().sum(-1)) / batch.mean(avail.sum(-1).float())


def sizes(q: Float[Tensor, "*b A U"], batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """Size of the agents' values at `batch.obs`, each a mean over agents.

    q_offset: mean over the batch of the absolute mean over actions. q_scale: deviation over batch
    and actions of the centred values. q_std: mean over the batch of the deviation over actions.
    """
    avail = batch.avail
    own = centred(q, avail)
    deviation = (own.square().sum(-1) / count(avail)[..., 0]).sqrt()  # [*b, A]
    return {
        "q_offset": mean_of(batch, mean_over(q, avail)[..., 0].abs()),
        "q_scale": variance(own, avail, batch).sqrt().mean(),
        "q_std": mean_of(batch, deviation),
    }
