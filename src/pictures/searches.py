"""A search of settings: its trials over time, and their values over each setting."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def searches(
    title: str,
    settings: Sequence[Mapping[str, str]],
    numbers: Sequence[int],
    values: Sequence[float],
    logs: Collection[str] = (),
) -> Figure:
    """Each trial's value by its number, with the best so far; then a panel for each setting.

    settings: of each trial, as they were typed, by key. logs: keys with a logarithmic axis.
    numbers: of the trials, which rise; a failed one is missing.
    """
    keys = list(settings[0])
    figure = Figure(figsize=(3.2 * (1 + len(keys)), 2.8), layout="constrained")
    history, *others = figure.subplots(1, 1 + len(keys), squeeze=False)[0]
    history.plot(numbers, values, "o", markersize=4, alpha=0.6)
    history.step(numbers, np.maximum.accumulate(values), where="post", color="0.3")
    history.set_title(title)
    history.set_xlabel("trial")
    history.xaxis.set_major_locator(MaxNLocator(integer=True))
    history.set_ylabel("final test return, mean over seeds")
    for axes, key in zip(others, keys, strict=True):
        _over(axes, [each[key] for each in settings], values)
        axes.set_xlabel(key)
        axes.sharey(history)
        if key in logs:
            axes.set_xscale("log")
    return figure


def _over(axes: Axes, texts: Sequence[str], values: Sequence[float]) -> None:
    """Values over one setting, later trials darker."""
    age = np.linspace(0.25, 1, len(values))
    try:
        places = [float(text) for text in texts]
    except ValueError:  # words, each at a place of its own
        words = sorted(set(texts))
        places = [words.index(text) for text in texts]
        axes.set_xticks(range(len(words)), words)
    axes.scatter(places, values, c=age, cmap="Blues", vmin=0, vmax=1, edgecolors="0.5", s=22)
