"""Film strips of skills: an episode for each skill of each agent, in which the agent holds it.

The other agents choose their skills as always, and all episodes begin alike.

Axes: N copies (agent by agent, skill by skill), A agents, O observation, U actions.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from eoi.components.action_selection import Carry, Choice, Keys
from eoi.controllers.hierarchy import Hierarchy
from eoi.envs.base import VecEnv
from eoi.learners import Learner
from eoi.pictures.film import agent_colour, font
from eoi.runners.rollout import play
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key
from eoi.utils.shapes import Bool, Float, UInt8

_FRAMES = 8  # of a strip, evenly spread over the episode
# Pixels: the longer side of a frame, the width of the names, and gaps.
_SIDE, _NAMES, _GAP, _HEAD = 144, 118, 6, 30
_PAPER, _INK, _FAINT = (255, 255, 255), (33, 37, 45), (118, 124, 134)

Point = tuple[float, float]  # x, y in pixels
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass
class Strip:
    """An episode in which an agent holds a skill."""

    agent: int
    skill: int
    frames: list[np.ndarray] = field(default_factory=list)  # [height, width, 3] each
    paths: list[list[Point]] = field(default_factory=list)  # where it was until each frame
    total: float = 0.0  # return


def _skills(learner: Learner) -> tuple[int, int]:
    """Numbers of agents and of skills. Raises UserError where there are none."""
    controller = learner.controller
    if not isinstance(controller, Hierarchy):
        raise UserError("--skills: the agents of this run have no skills; those of hc and hsd have")
    return controller.n_agents, controller.n_skills


def copies(learner: Learner) -> int:
    """Copies of the world that `draw` takes. Raises UserError for agents without skills."""
    n_agents, n_skills = _skills(learner)
    return n_agents * n_skills


class Holding:
    """A team in each copy of which one agent holds one skill for the whole episode."""

    def __init__(self, learner: Learner, limit: int):
        """`limit`: steps of the longest episode."""
        self.learner, self.limit = learner, limit

    def start(self, n: int, device: torch.device) -> Carry:
        _, n_skills = _skills(self.learner)
        every, carry = torch.arange(n, device=device), self.learner.start(n, device)
        carry["skill"][every, every // n_skills] = every % n_skills
        carry["left"][every, every // n_skills] = self.limit
        return carry

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Tensor,
        greedy: bool,
    ) -> Choice:
        return self.learner.act(obs, avail, carry, keys, t, greedy)


@torch.no_grad()
def played(env: VecEnv, learner: Learner, seed: int) -> list[Strip]:
    """The strip of each copy of the world, in which the same episode begins."""
    limit, (_, n_skills) = env.spec.episode_limit, _skills(learner)
    strips = [Strip(*divmod(copy, n_skills)) for copy in range(env.n_envs)]
    paths: list[list[Point]] = [[] for _ in strips]
    shown = set(np.linspace(0, limit, min(_FRAMES, limit + 1)).round().astype(int).tolist())
    keys = fold(root_key(seed, "watch"), torch.zeros(env.n_envs, dtype=torch.int64))
    for moment in play(env, Holding(learner, limit), keys, torch.tensor(0.0), greedy=True):
        for copy, strip in enumerate(strips):
            picture = env.render(copy)
            paths[copy] += _place(picture, agent_colour(strip.agent))
            strip.total += float(moment.now.reward[copy] * moment.running[copy])
            if moment.step in shown:
                strip.frames.append(picture)
                strip.paths.append(list(paths[copy]))
    return strips


def _place(
    picture: UInt8[np.ndarray, "height width 3"], colour: tuple[int, int, int]
) -> list[Point]:
    """The middle of an agent, if the world draws it in its colour."""
    y, x = np.nonzero((picture == colour).all(-1))
    return [(float(x.mean()), float(y.mean()))] if len(x) else []


def _content(picture: UInt8[np.ndarray, "height width 3"]) -> Box:
    """The part of a picture inside of its border."""
    y, x = np.nonzero((picture != picture[0, 0]).any(-1))
    if not len(x):
        return 0, 0, picture.shape[1], picture.shape[0]
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def draw(env: VecEnv, learner: Learner, seed: int, title: str) -> Image.Image:
    """The strips below each other, with the path of the agent that holds the skill."""
    strips = played(env, learner, seed)
    box = _content(strips[0].frames[0])
    width, height = _drawn(strips[0], 0, box).size
    last = strips[-1]
    size = (
        _NAMES + (width + _GAP) * len(last.frames) + _GAP,
        _HEAD + len(strips) * (height + _GAP) + 2 * _GAP * (last.agent + 1),
    )
    canvas = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((_GAP, _GAP), title, _FAINT, font(12))
    for row, strip in enumerate(strips):
        top = _HEAD + row * (height + _GAP) + 2 * _GAP * strip.agent
        pen.rectangle((_GAP, top + 2, _GAP + 13, top + 15), agent_colour(strip.agent))
        pen.text((_GAP + 20, top), f"agent {strip.agent}", _INK, font(13))
        pen.text((_GAP + 20, top + 18), f"skill {strip.skill}", _INK, font(13))
        pen.text((_GAP + 20, top + 38), f"return {strip.total:.4g}", _FAINT, font(11))
        for place in range(len(strip.frames)):
            left = _NAMES + place * (width + _GAP)
            canvas.paste(_drawn(strip, place, box), (left, top))
    return canvas


def _drawn(strip: Strip, place: int, box: Box) -> Image.Image:
    """A frame at its size, with the agent's path until then."""
    left, top, right, bottom = box
    scale = _SIDE / max(right - left, bottom - top)
    size = (round((right - left) * scale), round((bottom - top) * scale))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    frame = Image.fromarray(strip.frames[place]).crop(box).resize(size, how)
    path = [((x - left) * scale, (y - top) * scale) for x, y in strip.paths[place]]
    if path:
        pen, colour, (x, y) = ImageDraw.Draw(frame), agent_colour(strip.agent), path[-1]
        pen.line(path, colour, 2)
        pen.ellipse((x - 5, y - 5, x + 5, y + 5), outline=colour, width=2)
    return frame
