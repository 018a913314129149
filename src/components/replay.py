"""Experience replay: whole episodes in one ring of rows, each observation stored once.

An episode of length L takes L + 1 rows; the last one holds only the observation after the last
action. So the next observation of row k is row k + 1, and an earlier observation of the same agent
lies some rows before. Samples are transitions, or whole episodes.

Axes: B batch, T time (T1 = T + 1), A agents, K draws.
"""

import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from eoi.components.batch import Batch, last_of
from eoi.components.episodes import Episodes, Kept
from eoi.config.schema import setting
from eoi.envs.base import EnvSpec
from eoi.utils.memory import Setting, require
from eoi.utils.seeding import fold, integers, uniform
from eoi.utils.shapes import Bool, Int
from eoi.utils.trees import map_tensors

log = logging.getLogger(__name__)

_TOGETHER = {"cuda": 32}  # draws that are read at once, by the device; otherwise 1


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    buffer_size: int = setting(1)  # transitions


@dataclass(frozen=True)
class Wants:
    """Optional fields of a batch that a learner reads."""

    last_actions: bool = False
    window: int = 0  # steps back that `earlier` may lie; 0: it is not read
    last_obs: bool = False

    @property
    def has_earlier(self) -> bool:
        return self.last_obs or self.window > 0


class Rows(NamedTuple):
    """Places of the transitions of one batch in the ring."""

    row: Int[Tensor, " B"]
    following: Int[Tensor, " B"]
    earlier: Int[Tensor, " B"]


class Sequences(NamedTuple):
    """Places of whole episodes in the ring; rows past an episode's end repeat its last one."""

    rows: Int[Tensor, "B T1"]
    length: Int[Tensor, " B"]
    back: Int[Tensor, "B T"]  # steps from each transition to its earlier observation; 0: none


class ReplayState(TypedDict):
    """Content of a replay in a checkpoint."""

    fields: dict[str, Tensor]
    lengths: list[int]
    _head: int
    _used: int
    _first: int
    size: int


class Replay:
    """A ring that drops its oldest episodes whole."""

    def __init__(
        self,
        spec: EnvSpec,
        cfg: ReplayConfig,
        device: torch.device,
        keeps: Mapping[str, Kept] | None = None,
        runs: int = 1,
    ):
        """`runs`: replays of this size that must fit in memory together; 0 skips the check.

        Raises UserError when they do not fit.
        """
        episodes = -(-cfg.buffer_size // spec.episode_limit)
        self.rows = max(cfg.buffer_size, spec.episode_limit) + episodes
        self.device, self.limit = device, spec.episode_limit
        self.fixed_length = spec.fixed_length
        self.keeps = dict(keeps or {})
        fields = _fields(spec) | {f"kept.{name}": kept for name, kept in self.keeps.items()}
        row = sum(x.dtype.itemsize * math.prod(x.shape) for x in fields.values())
        self.bytes = size = row * self.rows
        if runs:
            times = f"{runs} times " if runs > 1 else ""
            megabytes = runs * size / 1e6
            log.info(
                "replay: %s%d transitions, %.0f MB on %s",
                times,
                cfg.buffer_size,
                megabytes,
                device,
            )
            content = f"buffer_size: a replay of {times}{cfg.buffer_size} transitions"
            require(runs * size, device, content, Setting("buffer_size", cfg.buffer_size))
        self.fields = {
            name: torch.zeros(self.rows, *x.shape, dtype=x.dtype, device=device)
            for name, x in fields.items()
        }
        self._lengths: deque[int] = deque()  # of the episodes held, oldest first
        self._head = 0  # next row to write
        self._used = 0  # rows held
        self._first = 0  # position of the oldest transition in row_of
        self.size = 0  # transitions held

    @property
    def episodes(self) -> int:
        """Episodes held."""
        return len(self._lengths)

    def state(self) -> ReplayState:
        """Content for a checkpoint; rows that were never written are left out."""
        end = self._head if self._head == self._used and self._first == 0 else self.rows
        return {
            "fields": {
                name: field if end == self.rows else field[:end].clone()
                for name, field in self.fields.items()
            },
            "lengths": list(self._lengths),
            "_head": self._head,
            "_used": self._used,
            "_first": self._first,
            "size": self.size,
        }

    def load_state(self, state: ReplayState) -> None:
        """Raises KeyError or RuntimeError when it is the state of another replay."""
        for name, field in self.fields.items():
            saved = state["fields"][name]
            field[: len(saved)].copy_(saved)
        self._lengths = deque(state["lengths"])
        self._head, self._used = state["_head"], state["_used"]
        self._first, self.size = state["_first"], state["size"]

    def insert(self, episodes: Episodes) -> None:
        """Copies the episodes in, [N, T1, ...] without their padding."""
        n, limit = episodes.actions.shape[:2]
        # Without padding, the device need not be asked where it is.
        whole = self.fixed_length
        lengths = [limit] * n if whole else episodes.length.tolist()
        step = torch.arange(limit + 1, device=self.device).expand(n, -1)  # [N, T1]
        held = step <= episodes.length[:, None]
        rows = (self._head + torch.arange(sum(lengths) + n, device=self.device)) % self.rows
        self._make_room(len(rows))
        values = {"obs": episodes.obs, "state": episodes.state, "avail": episodes.avail}
        values["step"] = step
        past = step >= episodes.length[:, None]
        for name, x in self._acted(episodes).items():
            padded = torch.cat([x, torch.zeros_like(x[:, :1])], 1)
            if not whole:
                padded[past] = 0  # nothing was done after the last observation
            values[name] = padded
        for name, value in values.items():
            flat = value.flatten(0, 1) if whole else value[held]
            self.fields[name].index_copy_(0, rows, flat.to(self.fields[name].dtype))
        acted_on = rows.view(n, -1)[:, :-1].flatten() if whole else rows[~past[held]]
        places = torch.arange(sum(lengths), device=self.device)
        places = (self._first + self.size + places) % self.rows
        self.fields["row_of"].index_copy_(0, places, acted_on)
        self._lengths.extend(lengths)
        self._head = (self._head + len(rows)) % self.rows
        self._used += len(rows)
        self.size += sum(lengths)

    def _acted(self, episodes: Episodes) -> dict[str, Tensor]:
        """Fields [N, T, ...] that exist at each action."""
        fields = {
            "actions": episodes.actions,
            "reward": episodes.reward,
            "terminated": episodes.terminated,
        }
        if episodes.rewards is not None:
            fields["rewards"] = episodes.rewards
        return fields | {f"kept.{name}": episodes.kept[name] for name in self.keeps}

    def _make_room(self, wanted: int) -> None:
        if wanted > self.rows:
            raise ValueError(
                f"{wanted} rows do not fit a replay of {self.rows}: "
                "lower batch_size_run or raise buffer_size"
            )
        while self._used + wanted > self.rows:
            oldest = self._lengths.popleft()
            self._used -= oldest + 1
            self.size -= oldest
            self._first = (self._first + oldest) % self.rows

    def draw(self, keys: Int[Tensor, " K"], count: int, window: int) -> list[Rows]:
        """K draws of `count` transitions, uniform with replacement.

        `window`: an earlier observation lies 1 to `window` steps back (EOI, section 3.2); 0: none.
        """
        place = integers(fold(keys, 0), self.size, count)  # [K, B]
        row = self.fields["row_of"][(self._first + place) % self.rows]
        back = self._back(fold(keys, 1), row, window)
        found = zip(row, (row + 1) % self.rows, (row - back) % self.rows, strict=True)
        return [Rows(*rows) for rows in found]

    def _back(self, keys: Tensor, row: Int[Tensor, "K ..."], window: int) -> Int[Tensor, "K ..."]:
        """Steps from each row to its earlier observation, which is of the same episode."""
        if not window:
            return torch.zeros_like(row)
        reach = self.fields["step"][row].clamp(max=window)
        return (uniform(keys, *row.shape[1:]) * reach).long() + (reach > 0)

    def read(self, rows: Rows, wants: Wants, key: Int[Tensor, ""] | None = None) -> Batch:
        """The transitions at `rows`."""
        count = len(rows.row)
        both = torch.cat([rows.row, rows.following])
        begun = self._at("step", rows.row) > 0
        seen = {"obs": rows.row, "next_obs": rows.following}
        if wants.window:
            seen["earlier"] = rows.earlier
        if wants.last_obs:
            seen["last_obs"] = (rows.row - begun.long()) % self.rows
        every = self._at("obs", torch.cat(list(seen.values()))).float()
        obs = dict(zip(seen, every.split(count), strict=True))
        state, avail = self._at("state", both), self._at("avail", both)
        return Batch(
            obs=obs["obs"],
            state=state[:count],
            avail=avail[:count],
            actions=self._at("actions", rows.row).long(),
            reward=self._at("reward", rows.row),
            terminated=self._at("terminated", rows.row).float(),
            next_obs=obs["next_obs"],
            next_state=state[count:],
            next_avail=avail[count:],
            rewards=self._at("rewards", rows.row) if "rewards" in self.fields else None,
            last_actions=self._last_actions(rows.row, begun) if wants.last_actions else None,
            earlier=obs.get("earlier"),
            last_obs=obs.get("last_obs"),
            has_earlier=begun.float() if wants.has_earlier else None,
            kept={name: self._at(f"kept.{name}", rows.row) for name in self.keeps},
            key=key,
        )

    def read_each(
        self, drawn: Sequence[Rows], wants: Wants, keys: Int[Tensor, " K"]
    ) -> Iterator[Batch]:
        """The transitions of each draw. On a GPU, those of many draws are read by one kernel."""
        together = _TOGETHER.get(self.device.type, 1)
        for first in range(0, len(drawn), together):
            several = drawn[first : first + together]
            if len(several) == 1:
                yield self.read(several[0], wants, keys[first])
                continue
            whole = self.read(Rows(*map(torch.cat, zip(*several, strict=True))), wants)
            end = 0
            for rows, key in zip(several, keys[first:], strict=False):
                start, end = end, end + len(rows.row)
                part = slice(start, end)
                yield replace(map_tensors(lambda x, part=part: x[part], whole), key=key)

    def _at(self, name: str, rows: Int[Tensor, " B"]) -> Tensor:
        return self.fields[name].index_select(0, rows)

    def _last_actions(
        self, row: Int[Tensor, " B"], begun: Bool[Tensor, " B"]
    ) -> Int[Tensor, "B A"]:
        actions = self._at("actions", (row - 1) % self.rows).long()
        return actions.masked_fill(~begun[:, None], -1)

    def draw_episodes(self, keys: Int[Tensor, " K"], count: int, window: int) -> list[Sequences]:
        """K draws of `count` different episodes; `window` as in `draw`."""
        chosen = uniform(fold(keys, 0), self.episodes).argsort(-1)[:, :count]  # [K, B]
        drawn = []
        for key, (rows, length) in zip(fold(keys, 1), self._located(chosen), strict=True):
            back = self._back(key[None], rows[None, :, :-1], window).squeeze(0)
            drawn.append(Sequences(rows, length, back))
        return drawn

    def newest(self, count: int, but: int = 0) -> Sequences:
        """The `count` newest episodes but for the last `but` ones; fewer where fewer are held."""
        end = max(self.episodes - but, 1)
        places = torch.arange(max(end - count, 0), end, device=self.device)
        ((rows, length),) = self._located(places[None])
        return Sequences(rows, length, torch.zeros_like(rows[:, :-1]))

    def _located(
        self, chosen: Int[Tensor, "K B"]
    ) -> Iterator[tuple[Int[Tensor, "B T1"], Int[Tensor, " B"]]]:
        """Rows and lengths of episodes, which are numbered from the oldest one held."""
        lengths = torch.tensor(self._lengths, device=self.device)
        start = (self._head - self._used + (lengths + 1).cumsum(0) - lengths - 1) % self.rows
        for places in chosen:
            length = lengths[places]
            longest = self.limit if self.fixed_length else int(length.max())
            step = torch.arange(longest + 1, device=self.device).clamp(max=length[:, None])
            yield (start[places, None] + step) % self.rows, length

    def read_episodes(
        self, drawn: Sequences, wants: Wants, key: Int[Tensor, ""] | None = None
    ) -> Batch:
        """The episodes at `drawn` as one batch [B, T]."""
        rows, acted = drawn.rows, drawn.rows[:, :-1]
        obs, state, avail = (self.fields[name][rows] for name in ("obs", "state", "avail"))
        obs = obs.float()
        actions = self.fields["actions"][acted].long()
        steps = torch.arange(acted.shape[1], device=self.device)
        earlier = (steps - drawn.back)[..., None, None].expand_as(obs[:, :-1])
        return Batch(
            obs=obs[:, :-1],
            state=state[:, :-1],
            avail=avail[:, :-1],
            actions=actions,
            reward=self.fields["reward"][acted],
            terminated=self.fields["terminated"][acted].float(),
            next_obs=obs[:, 1:],
            next_state=state[:, 1:],
            next_avail=avail[:, 1:],
            rewards=self.fields["rewards"][acted] if "rewards" in self.fields else None,
            valid=None if self.fixed_length else (steps < drawn.length[:, None]).float(),
            last_actions=last_of(actions),
            earlier=obs[:, :-1].gather(1, earlier) if wants.window else None,
            last_obs=torch.cat([obs[:, :1], obs[:, :-2]], 1) if wants.last_obs else None,
            has_earlier=(steps > 0).expand(acted.shape).float() if wants.has_earlier else None,
            kept={name: self.fields[f"kept.{name}"][acted] for name in self.keeps},
            key=key,
        )


def _fields(spec: EnvSpec) -> dict[str, Kept]:
    """Storage of one row."""
    agents = spec.n_agents
    fields = {
        "obs": Kept((agents, spec.obs_size), spec.obs_dtype),
        "state": Kept((spec.state_size,)),
        "avail": Kept((agents, spec.n_actions), torch.bool),
        "actions": Kept((agents,), torch.uint8 if spec.n_actions <= 256 else torch.int32),
        "reward": Kept(()),
        "terminated": Kept((), torch.bool),
        "step": Kept((), torch.int32),  # time within the episode
        "row_of": Kept((), torch.int64),  # ring: transition -> row
    }
    if spec.individual_rewards:
        fields["rewards"] = Kept((agents,))
    return fields
