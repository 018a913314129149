"""Plays N copies of a world to the end. Axes: N copies, T time, A agents, U actions."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from eoi.components.action_selection import Draws
from eoi.components.episodes import Episodes
from eoi.envs.base import TimeStep, VecEnv
from eoi.utils.errors import Failure
from eoi.utils.seeding import fold

_TRIES = 5


@runtime_checkable
class Policy(Protocol):
    def __call__(
        self,
        obs: Float[Tensor, "N A O"],
        avail: Bool[Tensor, "N A U"],
        draws: Draws,
        t: Tensor,
        greedy: bool,
    ) -> tuple[Int[Tensor, "N A"], Float[Tensor, "N A U"]]: ...


class Rollout:
    """One environment and the memory for its episodes, which the next `run` writes over."""

    def __init__(self, env: VecEnv, device: torch.device, with_q: bool = False):
        self.env = env
        self._episodes = Episodes.allocate(env.spec, env.n_envs, device, with_q)
        self.dropped = 0  # episodes so far that broke off by a fault of the machine

    def run(
        self, policy: Policy, keys: Int[Tensor, " N"], t: Tensor, greedy: bool = False
    ) -> Episodes:
        """N episodes, each of whose randomness comes from its key; `t` is the environment step that schedules see.

        They are fewer where some were dropped; if all were, they are played again. Raises Failure when that does not help.
        """
        for _ in range(_TRIES):
            episodes = self._play(policy, keys, t, greedy)
            if "dropped" not in episodes.info:
                return episodes
            whole = ~episodes.info["dropped"].bool()
            self.dropped += int((~whole).sum())
            if whole.all():
                return episodes
            if whole.any():
                return episodes.at(whole)
        raise Failure(
            f"no episode came to its end in {_TRIES} tries: the games of {self.env.n_envs} copies broke off each time"
        )

    @torch.no_grad()
    def _play(self, policy: Policy, keys: Int[Tensor, " N"], t: Tensor, greedy: bool) -> Episodes:
        spec, out = self.env.spec, self._episodes
        draws = Draws.of_episodes(fold(keys, 0), spec.episode_limit, spec.n_agents)
        moment = self.env.reset(fold(keys, 1))
        out.length.zero_()
        step, running = 0, ~moment.done
        while step < spec.episode_limit and (spec.fixed_length or running.any()):
            self._observe(moment, step)
            actions, q = policy(moment.obs.float(), moment.avail, draws.at(step), t, greedy)
            moment = self.env.step(actions)
            out.actions[:, step], out.reward[:, step], out.terminated[:, step] = (
                actions,
                moment.reward,
                moment.terminated,
            )
            if out.rewards is not None and moment.rewards is not None:
                out.rewards[:, step] = moment.rewards
            if out.q is not None:
                out.q[:, step] = q
            out.length.add_(running)
            running = ~moment.done
            step += 1
        self._observe(moment, step)
        out.reward[:, step:] = 0
        if out.rewards is not None:
            out.rewards[:, step:] = 0
        return replace(out, info=moment.info)

    def steps(self, episodes: Episodes) -> int:
        """Environment steps in `episodes`; known without asking the device where all episodes have one length."""
        spec = self.env.spec
        return (
            len(episodes.length) * spec.episode_limit
            if spec.fixed_length
            else int(episodes.length.sum())
        )

    def _observe(self, moment: TimeStep, step: int) -> None:
        """A copy that has finished repeats its last moment, so the row after its last action holds its last observation."""
        out = self._episodes
        out.obs[:, step], out.state[:, step], out.avail[:, step] = (
            moment.obs,
            moment.state,
            moment.avail,
        )
