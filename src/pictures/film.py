"""Films of episodes: the world, and beside it each agent's last action, p(i | o_i) and marks.

Axes: A agents.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from io import BytesIO

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eoi.envs.base import VecEnv
from eoi.envs.grid import AGENT_COLOURS, RGB
from eoi.learners import Learner
from eoi.pictures.marks import Marks, as_text, main_components
from eoi.pictures.png import png
from eoi.runners.rollout import Moment
from eoi.saved import Recognise, greedy_episodes, recogniser

_SIDE = 480  # pixels, the least for the longer side of the world
# Pixels: the panel's width, its margin, its first lines, the height of each agent's block.
_PANEL, _MARGIN, _HEAD, _BLOCK = 280, 22, 120, 60
_ROW = 19  # pixels, the height of a line of the legend
PAPER, _INK, _FAINT, _TRACK = (255, 255, 255), (33, 37, 45), (118, 124, 134), (226, 229, 233)
_HOLD = 2000  # milliseconds on an episode's last frame
_FONT = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@dataclass(frozen=True)
class Shot:
    """The picture and the numbers of one moment of an episode."""

    picture: np.ndarray  # [height, width, 3]
    text: str
    step: int
    total: float  # return so far
    actions: list[str]  # that led to this moment; "" at the beginning
    recognised: list[float]  # p(i | o_i); empty without a classifier
    info: dict[str, list[float]]  # the world's metrics of the episode so far
    history: dict[str, float] = field(default_factory=dict)  # quantities for a chart over time
    marks: Marks = field(default_factory=dict)  # quantities of each agent; none at the beginning
    legend: dict[str, RGB] = field(default_factory=dict)  # colours of the picture
    coloured: bool = True  # the picture shows each agent in its colour

    @cached_property
    def png(self) -> bytes:
        return png(self.picture)


Films = Sequence[Sequence[Shot]]  # an episode each


def shoot(env: VecEnv, learner: Learner, seed: int, t: int) -> list[list[Shot]]:
    """One greedy episode in every copy; an episode of T steps has T + 1 shots."""
    films: list[list[Shot]] = [[] for _ in range(env.n_envs)]
    recognise = recogniser(learner)
    for moment in greedy_episodes(env, learner, seed, t):
        for copy in moment.running.nonzero().flatten().tolist():
            before = films[copy][-1].total if films[copy] else 0.0
            shot = _shot(env, moment, copy, before, recognise)
            films[copy].append(replace(shot, marks=_marks(learner, moment, copy)))
    found = iter(main_components([shot.marks for film in films for shot in film]))
    return [[replace(shot, marks=next(found)) for shot in film] for film in films]


def _marks(learner: Learner, moment: Moment, copy: int) -> Marks:
    """Quantities of each agent that led to this moment."""
    if moment.choice is None:
        return {}
    found = {name: x[copy] for name, x in learner.marks(moment.choice).items()}  # [A] or [A, D]
    return {name: x.reshape(len(x), -1).tolist() for name, x in found.items()}


def _shot(
    env: VecEnv, moment: Moment, copy: int, before: float, recognise: Recognise | None
) -> Shot:
    now = moment.now
    return Shot(
        picture=env.render(copy),
        text=env.text(copy),
        step=moment.step,
        total=before + float(now.reward[copy]),
        actions=[""] * env.spec.n_agents
        if moment.choice is None
        else [action_name(env, int(u)) for u in moment.choice.actions[copy]],
        recognised=recognise(now.obs[copy].float()).tolist() if recognise else [],
        info={
            name: np.atleast_1d(value[copy].cpu().numpy()).tolist()
            for name, value in now.info.items()
        },
        history=_history(env, copy),
        legend=legend_of(env),
        coloured=getattr(env, "colours_agents", True),
    )


def _history(env: VecEnv, copy: int) -> dict[str, float]:
    """Quantities for a chart, if the world has a method `history`."""
    own = getattr(env, "history", None)
    return own(copy) if own else {}


def legend_of(env: VecEnv) -> dict[str, RGB]:
    """Colours of the world's picture and their words, if it has an attribute `legend`."""
    return dict(getattr(env, "legend", {}))


def action_name(env: VecEnv, action: int) -> str:
    """The world's name for an action, if it has `action_names`."""
    names: Sequence[str] | None = getattr(env, "action_names", None)
    return names[action] if names else f"action {action}"


def agent_colour(i: int) -> tuple[int, int, int]:
    red, green, blue = AGENT_COLOURS[i % len(AGENT_COLOURS)].tolist()
    return red, green, blue


def gif(films: Films, title: str, fps: float, file: BytesIO) -> None:
    """Writes all films, one after the other, as an endless GIF."""
    # One palette for all frames, or the colours would flicker.
    palette = _palette([frame(films[0][0], [title]), frame(films[-1][-1], [title])])
    drawn = (
        each.quantize(palette=palette, dither=Image.Dither.NONE) for each in frames(films, title)
    )
    next(drawn).save(
        file,
        format="GIF",
        save_all=True,
        append_images=drawn,
        duration=durations(films, fps),
        loop=0,
    )


def frames(films: Films, title: str) -> Iterator[Image.Image]:
    """A frame for each shot, one film after the other."""
    for i, film in enumerate(films):
        name = f"episode {i + 1} of {len(films)}" if len(films) > 1 else ""
        for shot in film:
            yield frame(shot, [title, name])


def durations(films: Films, fps: float) -> list[int]:
    """How long each frame is shown, in milliseconds: an episode's last frame is held."""
    return [_HOLD if shot is film[-1] else round(1000 / fps) for film in films for shot in film]


def _palette(samples: Sequence[Image.Image]) -> Image.Image:
    """The most frequent colours, without near duplicates.

    quantize() confuses near duplicates, so that white paper would turn grey.
    """
    red, green, blue = np.concatenate(
        [np.asarray(sample, dtype=np.int64).reshape(-1, 3) for sample in samples]
    ).T
    packed, count = np.unique((red << 16) + (green << 8) + blue, return_counts=True)
    packed = packed[np.argsort(-count)]
    kept = np.empty((0, 3), dtype=np.int64)
    for colour in np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1)[:4096]:
        if len(kept) < 256 and (np.abs(kept - colour).max(1, initial=0) >= 8).all():
            kept = np.concatenate([kept, colour[None]])
    palette = Image.new("P", (1, 1))
    palette.putpalette(kept.ravel().tolist())
    return palette


def frame(shot: Shot, titles: Sequence[str]) -> Image.Image:
    """The world enlarged without blur, with the panel on its right."""
    height, width, _ = shot.picture.shape
    factor = max(1, -(-_SIDE // max(height, width)))
    world = Image.fromarray(shot.picture).resize(
        (width * factor, height * factor), Image.Resampling.NEAREST
    )
    agents = len(shot.actions)
    rows = -(-len(shot.legend) // 2)  # of the legend, which has two columns
    needed = _HEAD + agents * _BLOCK + rows * _ROW + _MARGIN
    canvas = Image.new("RGB", (world.width + _PANEL, max(world.height, needed)), PAPER)
    canvas.paste(world, (0, (canvas.height - world.height) // 2))
    draw, left = ImageDraw.Draw(canvas), world.width + _MARGIN
    for i, title in enumerate(titles):
        draw.text((left, _MARGIN + 16 * i), title, _FAINT, font(12))
    draw.text((left, _MARGIN + 40), f"t = {shot.step}", _INK, font(18))
    draw.text((left + 100, _MARGIN + 40), f"return {shot.total:.4g}", _INK, font(18))
    for i in range(agents):
        _agent(draw, shot, i, (left, _HEAD + i * _BLOCK))
    for k, (word, colour) in enumerate(shot.legend.items()):
        column, row = k % 2, k // 2
        _swatch(draw, word, colour, (left + 110 * column, canvas.height - (rows - row) * _ROW - 6))
    return canvas


def _swatch(draw: ImageDraw.ImageDraw, word: str, colour: RGB, at: tuple[int, int]) -> None:
    """A colour and its word."""
    x, y = at
    draw.rectangle((x, y + 1, x + 12, y + 13), colour, _FAINT)
    draw.text((x + 19, y), word, _FAINT, font(11))


def with_legend(picture: np.ndarray, legend: Mapping[str, RGB]) -> Image.Image:
    """A picture of a world, and below it the words of its colours."""
    world, width = Image.fromarray(picture), 110
    columns = max(1, min(len(legend), world.width // width))
    rows = -(-len(legend) // columns)
    canvas = Image.new("RGB", (world.width, world.height + rows * _ROW + 8), PAPER)
    canvas.paste(world, (0, 0))
    for k, (word, colour) in enumerate(legend.items()):
        at = (4 + width * (k % columns), world.height + 6 + _ROW * (k // columns))
        _swatch(ImageDraw.Draw(canvas), word, colour, at)
    return canvas


def _agent(draw: ImageDraw.ImageDraw, shot: Shot, i: int, at: tuple[int, int]) -> None:
    """Draws colour, if it is in the picture, name and action, then p(i | o_i) and marks.

    p(i | o_i) is a bar with a tick at chance.
    """
    x, y = at
    if shot.coloured:
        draw.rectangle((x, y + 1, x + 13, y + 14), agent_colour(i))
    draw.text((x + 22, y), f"agent {i}", _INK, font(13))
    draw.text((x + 100, y), shot.actions[i], _INK, font(13))
    if shot.recognised:
        p, left, width, top = shot.recognised[i], x + 68, 128, y + 23
        draw.text((x + 22, y + 20), "p(i|o)", _FAINT, font(11))
        draw.rectangle((left, top, left + width, top + 8), _TRACK)
        draw.rectangle((left, top, left + round(p * width), top + 8), agent_colour(i))
        chance = left + round(width / len(shot.actions))
        draw.line((chance, top - 2, chance, top + 10), _INK)
        draw.text((left + width + 8, y + 20), f"{p:.2f}", _INK, font(11))
    below = y + (36 if shot.recognised else 20)
    draw.text((x + 22, below), as_text(shot.marks, i), _INK, font(11))


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONT, size)
