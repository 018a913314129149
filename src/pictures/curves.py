"""The arithmetic of learning curves: smoothing, a common x axis, means and bands over runs.

Axes: R runs, K entries, G grid points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eoi.records.statistics import (
    FEWEST,
    deviation,
    mean_interval,
    sample_efficiency,
    smoothed,
)
from eoi.utils.shapes import Float

__all__ = ["BANDS", "Curve", "Summary", "automatic_width", "smoothed", "summarise"]

BANDS = {
    "std": "± standard deviation",
    "ci": "95 % confidence interval of the mean (Student's t)",
    "minmax": "lowest to highest seed",
    "iqm": "95 % bootstrap interval of the interquartile mean",
}


class Curve(NamedTuple):
    x: Float[np.ndarray, " K"]  # rising
    y: Float[np.ndarray, " K"]


class Summary(NamedTuple):
    """Several runs as one curve, over the range that they share."""

    x: Float[np.ndarray, " G"]
    mean: Float[np.ndarray, " G"]  # with band `iqm` the interquartile mean
    low: Float[np.ndarray, " G"]
    high: Float[np.ndarray, " G"]


def automatic_width(entries: int) -> int:
    """A window of about a twentieth of the entries; odd, so that it is centred."""
    return round(entries / 20) | 1


def summarise(curves: Sequence[Curve], band: str) -> Summary:
    """Mean and band on all x at which each run has values, measured or interpolated; or nowhere.

    band: a key of BANDS. With a single run its two edges are that run; those of `iqm` are its
    middle with two runs, too.
    """
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= max(curve.x[0] for curve in curves)) & (x <= min(curve.x[-1] for curve in curves))]
    y = np.array([np.interp(x, *curve) for curve in curves])  # [R, G]
    if not len(x):  # such as one entry each, at different steps
        return Summary(x, x, x, x)
    mean = y.mean(0)
    if band == "minmax" or len(y) == 1:
        return Summary(x, mean, y.min(0), y.max(0))
    if band == "iqm":
        few = len(y) < FEWEST
        return Summary(x, mean, mean, mean) if few else Summary(x, *sample_efficiency([y]))
    if band == "ci":
        return Summary(x, mean, *mean_interval(y))
    return Summary(x, mean, mean - deviation(y), mean + deviation(y))
