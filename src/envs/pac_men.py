"""Pac-Men (EOI, section 4.1 and A.4): four agents, four rooms, one team reward at the end. A reconstruction: the paper shows a figure.

Observation [75] = wall, dots, other agents, each a 5x5 view; state [155] = agents and dots of each of the 77 free cells, then t/T.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from config.schema import setting
from envs.base import EnvSpec, TimeStep
from envs.grid import VIEW, GridMap, drawing, picture, plus_map
from utils.errors import UserError
from utils.seeding import fold, uniform

EAT = 4
ROOMS = "TBLR"  # top, bottom, left, right
_WALL, _DOT, _AGENT = range(3)  # channels


@dataclass(frozen=True, kw_only=True)
class PacMenConfig:
    n_agents: int = setting(1, default=4)
    episode_limit: int = setting(1, default=30)  # T, steps
    dots_per_room: int = setting(1, default=3)  # drawn anew each episode, in distinct cells
    easy: bool = False  # dots in the bottom room only (paper A.4)
    see_others: bool = True  # False leaves the channel of other agents empty
    distinct_starts: bool = True  # False: every agent starts in the middle of the centre
    corridors: tuple[int, int, int, int] = setting(0, default=(3, 1, 2, 2))  # lengths: top, bottom, left, right
    room_width: int = setting(1, default=3)  # across the corridor
    room_depth: int = setting(1, default=5)  # along the corridor
    layout: str = ""  # an ASCII map with cells S, T, B, L, R instead of the generated one

    def __post_init__(self) -> None:
        smallest, starts = min(len(self.map.region(name)) for name in ROOMS), len(self.map.region("S"))
        if self.dots_per_room > smallest:
            raise UserError(f"env_args.dots_per_room: {self.dots_per_room} dots do not fit a room of {smallest} cells")
        if self.distinct_starts and self.n_agents > starts:
            raise UserError(f"env_args.n_agents: {self.n_agents} agents do not fit {starts} start cells")

    @property
    def map(self) -> GridMap:
        return GridMap(self.layout or plus_map(3, self.corridors, self.room_width, self.room_depth, ROOMS))


class PacMen:
    """N copies of Pac-Men on one device. Actions: up, down, left, right, eat."""

    Config = PacMenConfig
    action_names = ("up", "down", "left", "right", "eat")

    def __init__(self, cfg: PacMenConfig, n_envs: int, device: torch.device | str = "cpu"):
        self.cfg, self.n_envs, self.device = cfg, n_envs, torch.device(device)
        self.map = cfg.map
        cells = len(self.map.cells)
        rooms = [self.map.region(name) for name in ROOMS]
        starts = self.map.region("S")
        self.spec = EnvSpec(
            n_agents=cfg.n_agents,
            n_actions=5,
            obs_size=3 * VIEW**2,
            state_size=2 * cells + 1,
            episode_limit=cfg.episode_limit,
            fixed_length=True,
            obs_dtype=torch.uint8,
            metrics=("dots_eaten", "rooms_visited", "rooms_occupied"),
            reward_max=float(cfg.dots_per_room * (1 if cfg.easy else 4)),
            n_cells=cells,
        )
        stay = torch.arange(cells)[:, None]
        self._next = torch.cat([self.map.neighbours, stay], 1).flatten().to(device)  # [C * 5]
        # One gather reads a whole observation: channel k of a copy's map lies at k * (C + 1).
        self._views = torch.cat([self.map.windows + k * (cells + 1) for k in range(3)], 1).to(device)  # [C, 75]
        self._centre = _AGENT * VIEW**2 + VIEW**2 // 2  # an agent does not see itself
        self._room_of = torch.full((cells,), len(ROOMS))  # the last number stands for "in no room"
        for k, room in enumerate(rooms):
            self._room_of[room] = k
        self._room_of = self._room_of.to(device)
        self._dot_rooms = [room.to(device) for room in (rooms[1:2] if cfg.easy else rooms)]
        self._starts = starts.to(device)
        self._dots_per_room = torch.full((n_envs,), cfg.dots_per_room, device=device)
        self._maps = torch.zeros(n_envs, 3, cells + 1, dtype=torch.uint8, device=device)
        self._maps[:, _WALL, cells] = 1
        self._avail = torch.ones(n_envs, cfg.n_agents, 5, dtype=torch.bool, device=device)
        self._zero = torch.zeros(n_envs, device=device)
        self._never = torch.zeros(n_envs, dtype=torch.bool, device=device)
        self._always = ~self._never
        self._ones = torch.ones(n_envs, cfg.n_agents, dtype=torch.uint8, device=device)
        earlier = torch.ones(cfg.n_agents, cfg.n_agents, dtype=torch.bool, device=device).tril(-1)
        self._earlier = earlier  # [i, j]: j < i, who is served first when two eat one dot
        self._t = cfg.episode_limit

    def reset(self, keys: Int[Tensor, " N"]) -> TimeStep:
        self._t = 0
        starts = uniform(fold(keys, 0), len(self._starts)).argsort(1)[:, : self.cfg.n_agents]
        if not self.cfg.distinct_starts:
            starts = torch.full_like(starts, len(self._starts) // 2)
        self._position = self._starts[starts]  # [N, A]
        dots = self._maps[:, _DOT].zero_()
        for k, room in enumerate(self._dot_rooms):
            draw = uniform(fold(keys, 1 + k), len(room))  # [N, K]
            last = draw.sort(1).values.gather(1, self._dots_per_room[:, None] - 1)  # the highest draw that still gets a dot
            dots[:, room] = (draw <= last).to(torch.uint8)
        self._eaten = torch.zeros_like(self._position)
        self._visited = torch.zeros(self.n_envs, len(ROOMS) + 1, dtype=torch.bool, device=self.device)
        return self._moment()

    def step(self, actions: Int[Tensor, "N A"]) -> TimeStep:
        if self._t < self.cfg.episode_limit:
            self._t += 1
            self._position = self._next[self._position * 5 + actions]
            self._eat(actions == EAT)
            self._visited.scatter_(1, self._room_of[self._position], True)
            return self._moment()
        return self._moment(repeated=True)

    def _eat(self, tries: Tensor) -> None:
        dots = self._maps[:, _DOT]
        eating = tries & (dots.gather(1, self._position) > 0)  # [N, A]
        same_dot = (self._position[:, :, None] == self._position[:, None, :]) & eating[:, None, :] & self._earlier
        self._eaten += eating & ~same_dot.any(2)
        sentinel = self._maps.shape[2] - 1  # those who do not eat write into the wall's place, which holds no dot anyway
        dots.scatter_(1, torch.where(eating, self._position, sentinel), 0)

    def _moment(self, repeated: bool = False) -> TimeStep:
        agents = self._maps[:, _AGENT].zero_()
        agents.scatter_add_(1, self._position, self._ones)
        views = self._views[self._position].flatten(1)  # [N, A * 75]
        obs = self._maps.flatten(1).gather(1, views).view(self.n_envs, self.cfg.n_agents, -1)
        if self.cfg.see_others:
            obs[..., self._centre] -= 1
        else:
            obs[..., _AGENT * VIEW**2 :] = 0
        cells = self.spec.n_cells
        state = torch.empty(self.n_envs, self.spec.state_size, device=self.device)
        state[:, :cells] = agents[:, :cells]
        state[:, cells:-1] = self._maps[:, _DOT, :cells]
        state[:, -1] = self._t / self.cfg.episode_limit
        done = self._t >= self.cfg.episode_limit
        reward = self._eaten.sum(1).float() if done and not repeated else self._zero
        terminated = self._always if done else self._never
        return TimeStep(obs, state, self._avail, reward, terminated, self._never, self._info() if done else {})

    def _info(self) -> dict[str, Tensor]:
        room = self._room_of[self._position]
        occupied = torch.zeros_like(self._visited).scatter_(1, room, True)
        return {
            "dots_eaten": self._eaten.float(),  # [N, A]
            "room": room,  # [N, A] at the end: 0 to 3 as in ROOMS, 4 outside
            "rooms_visited": self._visited[:, :-1].sum(1).float(),
            "rooms_occupied": occupied[:, :-1].sum(1).float(),
        }

    @property
    def position(self) -> Int[Tensor, "N A"]:
        """The free cell each agent stands on, for position maps."""
        return self._position

    def _contents(self, copy: int) -> list[int]:
        return [i for i, dot in enumerate(self._maps[copy, _DOT, :-1].tolist()) if dot]

    def render(self, copy: int = 0) -> np.ndarray:
        return picture(self.map, {i: (122, 176, 96) for i in self._contents(copy)}, self._position[copy].tolist())

    def text(self, copy: int = 0) -> str:
        return drawing(self.map, {i: "*" for i in self._contents(copy)}, self._position[copy].tolist())

    def close(self) -> None: ...
