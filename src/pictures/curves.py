"""The arithmetic of learning curves: smoothing, a common x axis, means and bands over seeds. Axes: R runs, K entries, G grid points."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

BANDS = {
    "std": "± standard deviation",
    "ci": "95 % confidence interval of the mean",
    "minmax": "lowest to highest seed",
}
# Student's t at 97.5 % for 1 to 30 degrees of freedom: with a handful of seeds the normal 1.96 would be far too narrow.
_T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
_T += (
    2.120,
    2.110,
    2.101,
    2.093,
    2.086,
    2.080,
    2.074,
    2.069,
    2.064,
    2.060,
    2.056,
    2.052,
    2.048,
    2.045,
    2.042,
)


class Curve(NamedTuple):
    x: Float[np.ndarray, " K"]  # rising
    y: Float[np.ndarray, " K"]


class Summary(NamedTuple):
    """Several runs as one curve, where all of them have values."""

    x: Float[np.ndarray, " G"]
    mean: Float[np.ndarray, " G"]
    low: Float[np.ndarray, " G"]
    high: Float[np.ndarray, " G"]


def smoothed(y: Float[np.ndarray, " K"], width: int) -> Float[np.ndarray, " K"]:
    """Mean over `width` entries around each; fewer at both ends."""
    before, after = width // 2, (width + 1) // 2
    return np.array([y[max(0, i - before) : i + after].mean() for i in range(len(y))])


def automatic_width(entries: int) -> int:
    """About a twentieth of the entries, odd, so that the window is centred."""
    return round(entries / 20) | 1


def deviation(y: Float[np.ndarray, "R G"]) -> Float[np.ndarray, " G"]:
    """Sample standard deviation over the runs; 0 for a single one."""
    return y.std(0, ddof=1) if len(y) > 1 else np.zeros(y.shape[1:])


def summarise(curves: Sequence[Curve], band: str) -> Summary:
    """Mean and band on the union of the runs' own x, from the latest beginning to the earliest end."""
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= max(curve.x[0] for curve in curves)) & (x <= min(curve.x[-1] for curve in curves))]
    y = np.stack([np.interp(x, *curve) for curve in curves])  # [R, G]
    mean, n = y.mean(0), len(y)
    if band == "minmax":
        return Summary(x, mean, y.min(0), y.max(0))
    half = deviation(y)
    if band == "ci":
        half = half * (_T[n - 2] if 2 <= n <= len(_T) + 1 else 1.96) / n**0.5
    return Summary(x, mean, mean - half, mean + half)


def final(y: Float[np.ndarray, " K"]) -> float:
    """Mean of the last tenth of the entries, rounded up."""
    tenth = -(-len(y) // 10)
    return float(y[-tenth:].mean())
