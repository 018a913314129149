"""A fight seen from above, in colours and in characters. Pictures require Pillow.

Positions are in cells from the lower left corner of the picture.

Axes: J units, agents first; H rows of cells from the top, W columns.
"""

import math
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eoi.envs.grid import AGENT_COLOURS, FLOOR, WALL
from eoi.utils.shapes import Bool, Float, Int, UInt8

_ENEMY, _BAR = (48, 44, 52), (96, 200, 96)
# Colours of a picture, without those of the agents
LEGEND = {"enemy": _ENEMY, "health": _BAR, "ground": FLOOR, "wall": WALL}
_LETTER = 10  # pixels, the least height of the letters in a picture
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue
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
    """RGB picture: agents in colours with their numbers, dark enemies with their letters.

    Bars show health, and lines run from units to their targets.
    """
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
        inside = (rows - centre[i, 0]) ** 2 + (columns - centre[i, 1]) ** 2 <= size[i] ** 2
        image[inside] = colours[i]
    for i in living:
        row, column = np.maximum(centre[i].astype(int) - size[i], (4, 0))
        image[row - 4 : row - 1, column : column + 2 * size[i]] = WALL
        image[row - 4 : row - 1, column : column + math.ceil(2 * size[i] * health[i])] = _BAR
    names = [str(i) if i < n_agents else enemy_letter(i - n_agents) for i in range(len(health))]
    return _named(image, [_Name(names[i], centre[i], int(size[i]), colours[i]) for i in living])


class _Name(NamedTuple):
    """Name of a unit in a picture, and its circle, in pixels."""

    text: str
    centre: Float[np.ndarray, " 2"]  # row, column
    radius: int
    colour: UInt8[np.ndarray, " 3"]


def _named(
    image: UInt8[np.ndarray, "height width 3"], names: Sequence[_Name]
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture with each name inside of its circle, or on the right of a small one."""
    from PIL import Image, ImageDraw, ImageFont  # here, because fights do not need it

    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for text, (row, column), radius, colour in names:
        font = ImageFont.load_default(max(_LETTER, 1.5 * radius))
        if 2 * radius >= _LETTER:
            ink = _ENEMY if colour @ _LUMINANCE > 150 else "white"
            pen.text((column + 0.5, row + 0.5), text, ink, font, "mm")
        else:
            pen.text((column + radius + 2, row), text, _ENEMY, font, "lm")
    return np.asarray(picture)


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
            canvas[line, column] = name[0]
    edge, ground = "-" * width, ["".join(line).rstrip() for line in canvas[::-1]]
    bars = [f"{name}:{left:.0f}" for name, left in zip(names, health.tolist(), strict=True)]
    return "\n".join([edge, *ground, edge, " ".join(bars[:n_agents]), " ".join(bars[n_agents:])])


def enemy_letter(i: int) -> str:
    """A to Z, then AA, BB and so on."""
    return _CAPITALS[i % len(_CAPITALS)] * (1 + i // len(_CAPITALS))
