"""Experience replay: whole episodes in one ring of rows, each observation stored once; sampled as transitions.

An episode of length L takes L + 1 rows, the last of which holds only what is observed after the last action. So the next
observation of row k is row k + 1, and an earlier observation of the same agent is some rows before. Axes: B batch, A agents,
U actions, O observation, S state.
"""

import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi.components.action_selection import UpdateDraws
from eoi.components.episodes import Episodes
from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.utils.memory import require
from eoi.utils.seeding import fold, integers, uniform

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    buffer_size: int = setting(1)  # transitions
    batch_size: int = setting(1)


@dataclass(frozen=True)
class Batch:
    """Transitions, of one run or of a stack of R (*r).

    `positive` is an observation of the same agent some steps earlier in the same episode (EOI, eq. 2).
    """

    obs: Float[Tensor, "*r B A O"]
    state: Float[Tensor, "*r B S"]
    avail: Bool[Tensor, "*r B A U"]
    actions: Int[Tensor, "*r B A"]
    reward: Float[Tensor, "*r B"]
    terminated: Float[Tensor, "*r B"]  # 1: nothing is bootstrapped
    next_obs: Float[Tensor, "*r B A O"]
    next_state: Float[Tensor, "*r B S"]
    next_avail: Bool[Tensor, "*r B A U"]
    positive: Float[Tensor, "*r B A O"]
    has_positive: Float[
        Tensor, "*r B"
    ]  # 0 at the first step of an episode, where `positive` is the observation itself
    rewards: Float[Tensor, "*r B A"] | None = None  # each agent's own, in worlds that have them
    q: Float[Tensor, "*r B A U"] | None = None  # Q^a(o) at the time of acting
    draws: UpdateDraws | None = None  # for losses that draw
    weight: Float[Tensor, "*r B A"] | None = None  # of each agent's own gradient; None: 1
    lived: "Batch | None" = None  # as it was, where agents have been handed each other's experience

    @property
    def earned(self) -> Float[Tensor, "*r B M"]:
        """What the learners' targets start from: the team's reward [B, 1], or each agent's own [B, A]."""
        return self.reward[..., None] if self.rewards is None else self.rewards


def transitions(episodes: Episodes) -> Batch:
    """All N * T steps of the episodes in order, padding included; none has a positive."""
    obs, acted = episodes.obs.float(), slice(None, -1)

    def flat(x: Tensor) -> Tensor:
        return x.flatten(0, 1)

    return Batch(
        obs=flat(obs[:, acted]),
        state=flat(episodes.state[:, acted]),
        avail=flat(episodes.avail[:, acted]),
        actions=flat(episodes.actions),
        reward=flat(episodes.reward),
        terminated=flat(episodes.terminated).float(),
        next_obs=flat(obs[:, 1:]),
        next_state=flat(episodes.state[:, 1:]),
        next_avail=flat(episodes.avail[:, 1:]),
        positive=flat(obs[:, acted]),
        has_positive=torch.zeros_like(flat(episodes.reward)),
        rewards=None if episodes.rewards is None else flat(episodes.rewards),
        q=None if episodes.q is None else flat(episodes.q),
    )


class Rows(NamedTuple):
    """Where the transitions of one batch lie."""

    row: Int[Tensor, " B"]
    following: Int[Tensor, " B"]
    positive: Int[Tensor, " B"]
    has_positive: Bool[Tensor, " B"]


class ReplayBuffer:
    """A ring that drops its oldest episodes whole."""

    def __init__(
        self,
        spec: EnvSpec,
        cfg: ReplayConfig,
        device: torch.device,
        with_q: bool = False,
        runs: int = 1,
    ):
        """Raises UserError when this and `runs` - 1 more of its size do not fit the free memory; 0: somebody has asked already."""
        episodes = -(-cfg.buffer_size // spec.episode_limit)
        self.rows = max(cfg.buffer_size, spec.episode_limit) + episodes
        self.device, self.fixed_length = device, spec.episode_limit if spec.fixed_length else None
        self.n_agents = spec.n_agents
        agents, actions = spec.n_agents, spec.n_actions
        shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "obs": (spec.obs_dtype, (agents, spec.obs_size)),
            "state": (torch.float32, (spec.state_size,)),
            "avail": (torch.bool, (agents, actions)),
            "actions": (torch.uint8, (agents,)),
            "reward": (torch.float32, ()),
            "terminated": (torch.bool, ()),
            "step": (torch.int32, ()),  # time within the episode
            "row_of": (torch.int64, ()),  # ring: transition -> row
        }
        if spec.individual_rewards:
            shapes["rewards"] = (torch.float32, (agents,))
        if with_q:
            shapes["q"] = (torch.float32, (agents, actions))
        size = (
            sum(dtype.itemsize * math.prod(shape) for dtype, shape in shapes.values()) * self.rows
        )
        if runs:
            times = f"{runs} times " if runs > 1 else ""
            log.info(
                "replay: %s%d transitions, %.0f MB on %s",
                times,
                cfg.buffer_size,
                runs * size / 1e6,
                device,
            )
            require(
                runs * size,
                device,
                f"buffer_size: a replay of {times}{cfg.buffer_size} transitions",
                "buffer_size",
                cfg.buffer_size,
            )
        self.fields = {
            k: torch.zeros(self.rows, *shape, dtype=dtype, device=device)
            for k, (dtype, shape) in shapes.items()
        }
        self._lengths: deque[int] = deque()  # of the episodes held, oldest first
        self._head = 0  # next row to write
        self._used = 0  # rows held
        self._first = 0  # the oldest transition's position in row_of
        self.size = 0  # transitions held

    def state(self) -> dict[str, Any]:
        """What `load_state` wants; rows that were never written are left out."""
        end = self._head if self._head == self._used and self._first == 0 else self.rows
        fields = {
            name: field if end == self.rows else field[:end].clone()
            for name, field in self.fields.items()
        }
        numbers = {name: getattr(self, name) for name in ("_head", "_used", "_first", "size")}
        return {"fields": fields, "lengths": list(self._lengths), **numbers}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises KeyError or RuntimeError when it is the state of another replay."""
        for name, field in self.fields.items():
            saved = state["fields"][name]
            field[: len(saved)].copy_(saved)
        self._lengths = deque(state["lengths"])
        for name in ("_head", "_used", "_first", "size"):
            setattr(self, name, state[name])

    def insert(self, episodes: Episodes) -> None:
        """Copies the episodes in, [N, T1, ...] without their padding."""
        n, limit = episodes.actions.shape[:2]
        whole = (
            self.fixed_length is not None
        )  # then there is no padding, and the device need not be asked where it is
        lengths = [self.fixed_length] * n if self.fixed_length else episodes.length.tolist()
        step = torch.arange(limit + 1, device=self.device).expand(n, -1)  # [N, T1]
        keep = step <= episodes.length[:, None]
        rows = (self._head + torch.arange(sum(lengths) + n, device=self.device)) % self.rows
        self._make_room(len(rows))
        values = {
            "obs": episodes.obs,
            "state": episodes.state,
            "avail": episodes.avail,
            "step": step,
        }
        acted = {
            "actions": episodes.actions,
            "reward": episodes.reward,
            "terminated": episodes.terminated,
        }
        if episodes.rewards is not None:
            acted["rewards"] = episodes.rewards
        if episodes.q is not None and "q" in self.fields:
            acted["q"] = episodes.q
        values |= {k: torch.cat([x, torch.zeros_like(x[:, :1])], 1) for k, x in acted.items()}
        past = step >= episodes.length[:, None]
        for name in () if whole else acted:
            values[name][past] = (
                0  # nothing was done after the last observation, whatever lay in that memory before
            )
        for name, value in values.items():
            flat = value.flatten(0, 1) if whole else value[keep]
            self.fields[name].index_copy_(0, rows, flat.to(self.fields[name].dtype))
        acted_on = rows.view(n, -1)[:, :-1].flatten() if whole else rows[~past[keep]]
        places = (
            self._first + self.size + torch.arange(sum(lengths), device=self.device)
        ) % self.rows
        self.fields["row_of"].index_copy_(0, places, acted_on)
        self._lengths.extend(lengths)
        self._head = (self._head + len(rows)) % self.rows
        self._used += len(rows)
        self.size += sum(lengths)

    def _make_room(self, wanted: int) -> None:
        if wanted > self.rows:
            raise ValueError(
                f"{wanted} rows do not fit a replay of {self.rows}: lower batch_size_run or raise buffer_size"
            )
        while self._used + wanted > self.rows:
            oldest = self._lengths.popleft()
            self._used -= oldest + 1
            self.size -= oldest
            self._first = (self._first + oldest) % self.rows

    def draw(self, keys: Int[Tensor, " K"], count: int, delta_t: int) -> list[Rows]:
        """K draws of `count` transitions, uniform with replacement, and positives 1 to `delta_t` steps back (EOI, section 3.2)."""
        place = integers(fold(keys, 0), self.size, count)  # [K, B]
        row = self.fields["row_of"][(self._first + place) % self.rows]
        reach = self.fields["step"][row].clamp(max=delta_t)
        back = (uniform(fold(keys, 1), count) * reach).long() + (reach > 0)
        return [
            Rows(*rows)
            for rows in zip(
                row, (row + 1) % self.rows, (row - back) % self.rows, reach > 0, strict=True
            )
        ]

    def read(self, rows: Rows) -> Batch:
        count, read = (
            len(rows.row),
            {name: field.index_select for name, field in self.fields.items()},
        )
        both = torch.cat([rows.row, rows.following])
        obs = read["obs"](0, torch.cat([both, rows.positive])).float()
        state, avail = read["state"](0, both), read["avail"](0, both)
        return Batch(
            obs=obs[:count],
            state=state[:count],
            avail=avail[:count],
            actions=read["actions"](0, rows.row).long(),
            reward=read["reward"](0, rows.row),
            terminated=read["terminated"](0, rows.row).float(),
            next_obs=obs[count : 2 * count],
            next_state=state[count:],
            next_avail=avail[count:],
            positive=obs[2 * count :],
            has_positive=rows.has_positive.float(),
            rewards=read["rewards"](0, rows.row) if "rewards" in read else None,
            q=read["q"](0, rows.row) if "q" in read else None,
        )
