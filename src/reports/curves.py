"""The arithmetic of a report's curves: shorter series, a common grid, a middle with its band.

Axes: R runs, K entries, G grid points.
"""

from collections.abc import Sequence

import numpy as np

from eoi.pictures.curves import Curve, Summary, summarise
from eoi.records.statistics import (
    FEWEST,
    bootstrap_interval,
    deviation,
    interquartile_mean,
)
from eoi.utils.shapes import Float

BANDS = {
    "iqm": "interquartile mean, 95 % bootstrap interval",
    "std": "mean ± standard deviation",
    "minmax": "mean, lowest to highest run",
}
_MOST, _FEWEST = 200, 40  # points of a curve
_BUDGET = 400_000  # points of all curves together: some 5 MB


def points(curves: int) -> int:
    """Points of each of so many curves, so that a page stays small."""
    return max(_FEWEST, min(_MOST, _BUDGET // max(curves, 1)))


def thinned(curve: Curve, most: int) -> Curve:
    """The curve itself, or `most` points: means over as many groups of neighbouring entries."""
    if len(curve.x) <= most:
        return curve
    return Curve(*(np.array([p.mean() for p in np.array_split(z, most)]) for z in curve))


def on_grid(curves: Sequence[Curve]) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, "R G"]]:
    """All curves on one grid over the range that they share, measured or interpolated.

    The grid has at most as many points as the longest curve.
    """
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= max(curve.x[0] for curve in curves)) & (x <= min(curve.x[-1] for curve in curves))]
    longest = max(len(curve.x) for curve in curves)
    if len(x) > longest:
        x = x[np.linspace(0, len(x) - 1, longest).round().astype(int)]
    return x, np.stack([np.interp(x, *curve) for curve in curves])


def middle(curves: Sequence[Curve], band: str) -> Summary:
    """Several runs as one curve with a band; nan where a run has no finite value.

    Empty where the runs share no x.

    band: a key of BANDS.
    """
    x, y = on_grid(curves)
    if not len(x):  # such as one entry each, at different steps
        return Summary(x, x, x, x)
    found = summarise([Curve(x, row) for row in y], band)
    gaps = np.isnan(y).any(0)  # an interquartile mean would trim them as the highest values
    return Summary(x, *(np.where(gaps, np.nan, z) for z in found[1:]))


def centre(values: Float[np.ndarray, " R"], band: str) -> tuple[float, float, float]:
    """Middle of the runs' final values and the ends of its band; nan if a run has none.

    The ends are nan, too, where an interquartile mean is of fewer than three runs.
    """
    if not np.isfinite(values).all():
        return np.nan, np.nan, np.nan
    mean, spread = float(values.mean()), float(deviation(values))
    if band == "iqm":
        known = len(values) >= FEWEST
        low, high = (float(x) for x in bootstrap_interval([values])) if known else (np.nan, np.nan)
        return float(interquartile_mean(values)), low, high
    if band == "minmax":
        return mean, float(values.min()), float(values.max())
    return mean, mean - spread, mean + spread
