"""Quantities of each agent that films show beside it: skills, roles, and so on.

Axes: M moments, A agents, D numbers of one quantity.
"""

from collections.abc import Sequence

import numpy as np

from eoi.utils.shapes import Float

Marks = dict[str, list[list[float]]]  # [A, D] by name


def as_text(marks: Marks, agent: int) -> str:
    """An agent's quantities in a line: `skill 3  role -0.31 1.20`."""
    return "  ".join(
        f"{name} {' '.join(_number(value) for value in rows[agent])}"
        for name, rows in marks.items()
    )


def _number(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main_components(moments: Sequence[Marks]) -> list[Marks]:
    """`moments` with vectors of more than two numbers as their two main components.

    The components are those of all agents at all moments together.
    """
    turned = [dict(marks) for marks in moments]
    long = {name for marks in moments for name, rows in marks.items() if len(rows[0]) > 2}
    for name in long:
        there = [marks for marks in turned if name in marks]
        components = _two_components(np.array([marks[name] for marks in there]))
        for marks, rows in zip(there, components, strict=True):
            marks[name] = rows.tolist()
    return turned


def _two_components(x: Float[np.ndarray, "M A D"]) -> Float[np.ndarray, "M A 2"]:
    """Coordinates on the two axes of largest variance."""
    centred = x - x.mean((0, 1))
    rows = centred.reshape(-1, x.shape[-1])
    _, axes = np.linalg.eigh(rows.T @ rows)  # in columns, in rising order of variance
    axes = axes[:, :-3:-1]
    # An axis has no direction of its own: its largest entry is made positive.
    largest = np.abs(axes).argmax(0)
    return centred @ (axes * np.sign(axes[largest, [0, 1]]))
