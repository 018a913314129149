"""A fight seen from above, in colours and in letters.

Positions are in cells from the lower left corner of the picture.

Axes: J units, agents first; H rows of cells from the top, W columns.
"""

import math
import string

import numpy as np

from eoi.envs.grid import AGENT_COLOURS, FLOOR, WALL
from eoi.utils.shapes import Bool, Float, Int, UInt8

_ENEMY, _BAR = (48, 44, 52), (96, 200, 96)
# Colours of a picture, without those of the agents
LEGEND = {"enemy": _ENEMY, "health": _BAR, "ground": FLOOR, "wall": WALL}
_DIGITS, _CAPITALS = "0123456789" + string.ascii_lowercase, string.ascii_uppercase


def draw_fight(
    ground: Bool[np.ndarray, "H W"],  # walkable
    position: Float[np.ndarray, "J 2"],
    health: Float[np.ndarray, " J"],  # 0 (dead) to 1
    radius: Float[np.ndarray, " J"],  # cells
    target: Int[np.ndarray, " J"],  # target of each unit; its own number: no target
    n_agents: int,
    scale: int = 20,  # pixels a cell
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB picture: coloured agents, dark enemies, bars of health, lines from units to targets."""
    image = (
        np.array([WALL, FLOOR], dtype=np.uint8)[ground.astype(int)]
        .repeat(scale, 0)
        .repeat(scale, 1)
    )
    # Rows are counted downwards.
    centre = np.stack([len(ground) - position[:, 1], position[:, 0]], 1) * scale
    colours = [
        AGENT_COLOURS[i % len(AGENT_COLOURS)] if i < n_agents else np.array(_ENEMY)
        for i in range(len(health))
    ]
    living = np.flatnonzero(health > 0)
    for i in living:
        if target[i] != i:
            way = np.linspace(centre[i], centre[target[i]], 8 * scale).astype(int)
            image[way[:, 0], way[:, 1]] = colours[i]
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    size = (radius * scale).astype(int)
    for i in living:
        image[(rows - centre[i, 0]) ** 2 + (columns - centre[i, 1]) ** 2 <= size[i] ** 2] = colours[
            i
        ]
    for i in living:
        row, column = np.maximum(centre[i].astype(int) - size[i], (4, 0))
        image[row - 4 : row - 1, column : column + 2 * size[i]] = WALL
        image[row - 4 : row - 1, column : column + math.ceil(2 * size[i] * health[i])] = _BAR
    return image


def write_fight(
    rows: int,
    columns: int,
    position: Float[np.ndarray, "J 2"],
    health: Float[np.ndarray, " J"],
    n_agents: int,
    scale: float = 1.0,
) -> str:
    """Drawing with agents as digits and small letters, enemies as capitals; then the healths.

    `scale`: lines of text for each cell.
    """
    lines, width = math.ceil(rows * scale), math.ceil(2 * columns * scale)
    names = [*_DIGITS[:n_agents], *(enemy_letter(i) for i in range(len(health) - n_agents))]
    # Two characters for each cell, and room for units that are shifted to the right
    canvas = np.full((lines, width + len(names)), " ")
    for name, (x, y), left in zip(names, position.tolist(), health.tolist(), strict=True):
        if left > 0:
            line, column = min(int(scale * y), lines - 1), int(2 * scale * x)
            while canvas[line, column] != " ":
                column += 1
            canvas[line, column] = name
    edge, ground = "-" * width, ["".join(line).rstrip() for line in canvas[::-1]]
    bars = [f"{name}:{left:.0f}" for name, left in zip(names, health.tolist(), strict=True)]
    return "\n".join([edge, *ground, edge, " ".join(bars[:n_agents]), " ".join(bars[n_agents:])])


def enemy_letter(i: int) -> str:
    return _CAPITALS[i % len(_CAPITALS)]
