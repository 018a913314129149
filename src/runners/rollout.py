"""Plays N copies of a world to the end: the only loop over an environment.

Axes: N copies, T time, A agents, O observation, U actions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from eoi.components.action_selection import Carry, Choice, Keys
from eoi.components.episodes import Episodes, Kept
from eoi.envs.base import TimeStep, VecEnv
from eoi.utils.errors import Failure
from eoi.utils.seeding import fold, named, uniform
from eoi.utils.shapes import Bool, Float, Int

_TRIES = 5


@runtime_checkable
class Team(Protocol):
    """Agents that act: a learner, or a stack of learners."""

    def start(self, n: int, device: torch.device) -> Carry: ...

    def act(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        carry: Carry,
        keys: Keys,
        t: Tensor,
        greedy: bool,
    ) -> Choice: ...


@runtime_checkable
class Located(Protocol):
    """A world whose agents stand in cells."""

    @property
    def position(self) -> Int[Tensor, "N A"]: ...


class Moment(NamedTuple):
    """One step of N episodes played side by side."""

    step: int
    now: TimeStep
    choice: Choice | None  # the actions that led here; None at the start
    running: Bool[Tensor, " N"]  # False for a copy that had finished before


def play(
    env: VecEnv, team: Team, keys: Int[Tensor, " N"], t: Tensor, greedy: bool
) -> Iterator[Moment]:
    """One episode in every copy, whose randomness comes from its key.

    `t` is the environment step that schedules see.
    """
    spec = env.spec
    steps = torch.arange(spec.episode_limit, device=keys.device)[:, None]
    step_keys, episode_keys = fold(named(keys, "step"), steps), named(keys, "episode")
    # Drawn for all steps at once, since a step of a small world is short.
    draws = uniform(step_keys, spec.n_agents, 2)  # [T, N, A, 2]
    now = env.reset(named(keys, "world"))
    carry = team.start(env.n_envs, now.obs.device)
    running = torch.ones(env.n_envs, dtype=torch.bool, device=now.obs.device)
    yield Moment(0, now, None, running)
    for step in range(spec.episode_limit):
        if not spec.fixed_length and not running.any():
            return
        acting = Keys(draws[step], step_keys[step], episode_keys)
        choice = team.act(now.obs.float(), now.avail, carry, acting, t, greedy)
        carry = choice.carry
        now = env.step(choice.actions)
        yield Moment(step + 1, now, choice, running)
        if not spec.fixed_length:
            running = ~now.done


class Rollout:
    """One environment and the memory for its episodes, which the next `run` writes over."""

    def __init__(
        self,
        env: VecEnv,
        device: torch.device,
        keeps: Mapping[str, Kept] | None = None,
        with_cells: bool = False,
    ):
        """`keeps`: tensors of `Choice.keep` to store; `with_cells`: record the agents' cells."""
        self.env = env
        self._episodes = Episodes.allocate(env.spec, env.n_envs, device, keeps, with_cells)
        self.dropped = 0  # episodes so far that broke off by a fault of the machine

    def run(self, team: Team, keys: Int[Tensor, " N"], t: Tensor, greedy: bool = False) -> Episodes:
        """N episodes, fewer where some were dropped; played again if all were.

        Raises Failure when that does not help.
        """
        for _ in range(_TRIES):
            episodes = self._play(team, keys, t, greedy)
            if "dropped" not in episodes.info:
                return episodes
            whole = ~episodes.info["dropped"].bool()
            self.dropped += int((~whole).sum())
            if whole.all():
                return episodes
            if whole.any():
                return episodes.at(whole)
        raise Failure(
            f"no episode came to its end in {_TRIES} tries: "
            f"the games of {self.env.n_envs} copies broke off each time"
        )

    @torch.no_grad()
    def _play(self, team: Team, keys: Int[Tensor, " N"], t: Tensor, greedy: bool) -> Episodes:
        out, last = self._episodes, None
        out.length.zero_()
        for moment in play(self.env, team, keys, t, greedy):
            self._record(moment)
            self._record_cells(moment.step)
            last = moment
        assert last is not None
        # Rows of an earlier, longer rollout.
        out.reward[:, last.step :] = 0
        if out.rewards is not None:
            out.rewards[:, last.step :] = 0
        return replace(out, info=last.now.info)

    def _record(self, moment: Moment) -> None:
        """Writes one step.

        A copy that has finished repeats its last step, so the row after its last action holds its
        last observation.
        """
        out, now, step = self._episodes, moment.now, moment.step
        out.obs[:, step], out.state[:, step], out.avail[:, step] = now.obs, now.state, now.avail
        if moment.choice is None:
            return
        out.actions[:, step - 1] = moment.choice.actions
        out.reward[:, step - 1], out.terminated[:, step - 1] = now.reward, now.terminated
        if out.rewards is not None and now.rewards is not None:
            out.rewards[:, step - 1] = now.rewards
        for name, memory in out.kept.items():
            memory[:, step - 1] = moment.choice.keep[name]
        out.length.add_(moment.running)

    def _record_cells(self, step: int) -> None:
        cells = self._episodes.cells
        if cells is not None and isinstance(self.env, Located):
            cells[:, step] = self.env.position

    def steps(self, episodes: Episodes) -> int:
        """Environment steps in `episodes`; the device is asked only where their lengths differ."""
        spec = self.env.spec
        whole = len(episodes.length) * spec.episode_limit
        return whole if spec.fixed_length else int(episodes.length.sum())
