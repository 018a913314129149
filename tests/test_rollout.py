"""The loop over an environment: lengths, padding, and repeated use of one memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from eoi.components.action_selection import Carry, Choice, Keys
from eoi.components.episodes import Kept
from eoi.envs.base import TimeStep
from eoi.runners.rollout import Rollout, play
from helpers import SPEC, keys

CPU, NOW = torch.device("cpu"), torch.tensor(0.0)


class Steps:
    """Copy n ends after `lengths[n]` steps; each step's reward is its number."""

    def __init__(self, individual: bool = False):
        self.spec = replace(SPEC, individual_rewards=individual)
        self.lengths, self.n_envs, self.time = torch.tensor([7, 5, 3]), 3, 0

    def reset(self, keys: Tensor) -> TimeStep:
        self.time = 0
        return self._now()

    def step(self, actions: Tensor) -> TimeStep:
        self.time += 1
        return self._now()

    def _now(self) -> TimeStep:
        spec, n = self.spec, self.n_envs
        time = self.lengths.clamp(max=self.time)
        reward = torch.where(self.lengths >= self.time, float(self.time), 0.0)
        own = reward[:, None] * torch.tensor([0.0, 0.25, 0.75])
        avail = torch.zeros(n, spec.n_agents, spec.n_actions, dtype=torch.bool)
        avail[..., self.time % spec.n_actions] = True
        return TimeStep(
            obs=time.float()[:, None, None].expand(n, spec.n_agents, spec.obs_size),
            state=time.float()[:, None].expand(n, spec.state_size),
            avail=avail,
            reward=reward,
            terminated=(self.time >= self.lengths) & (torch.arange(n) != 1),
            truncated=(self.time >= self.lengths) & (torch.arange(n) == 1),
            rewards=own if spec.individual_rewards else None,
        )

    def render(self, copy: int = 0) -> np.ndarray:
        return np.zeros((2, 2, 3), dtype=np.uint8)

    def text(self, copy: int = 0) -> str:
        return ""

    def close(self) -> None: ...


class Counters:
    """Takes the first available action; remembers the number of its steps."""

    def start(self, n: int, device: torch.device) -> Carry:
        return {"step": torch.zeros(n, 3, dtype=torch.int64)}

    def act(
        self, obs: Tensor, avail: Tensor, carry: Carry, keys: Keys, t: Tensor, greedy: bool
    ) -> Choice:
        actions, now = avail.int().argmax(-1), carry["step"]
        return Choice(actions, {"step": now + 1}, {"step": now[:, 0].float(), "other": now})


@pytest.mark.parametrize("individual", [False, True])
def test_a_shorter_rollout_leaves_no_reward_of_a_longer_one(individual):
    env = Steps(individual)
    rollout = Rollout(env, CPU, {"step": Kept(())})
    for lengths in ([7, 5, 3], [2, 3, 1], [4, 4, 4]):
        env.lengths = torch.tensor(lengths)
        episodes = rollout.run(Counters(), keys(3), NOW)
        assert episodes.length.tolist() == lengths
        assert rollout.steps(episodes) == sum(lengths)
        expected = [length * (length + 1) / 2 for length in lengths]
        assert episodes.outcome().returns.tolist() == expected
        padding = ~episodes.valid()
        assert episodes.reward[padding].abs().sum() == 0
        if individual:
            assert episodes.rewards is not None
            assert torch.equal(episodes.rewards.sum(-1), episodes.reward)


def test_rows_hold_each_step_and_the_observation_after_the_last():
    env = Steps()
    episodes = Rollout(env, CPU, {"step": Kept(())}).run(Counters(), keys(3), NOW)
    for n, length in enumerate(env.lengths.tolist()):
        for t in range(length + 1):
            assert (episodes.obs[n, t] == t).all() and (episodes.state[n, t] == t).all()
        for t in range(length):
            assert (episodes.actions[n, t] == t % 4).all()
            assert episodes.reward[n, t] == t + 1 and episodes.kept["step"][n, t] == t
            assert episodes.terminated[n, t] == (t == length - 1 and n != 1)
    assert set(episodes.kept) == {"step"}


def test_play_stops_when_every_copy_has_finished():
    env = Steps()
    env.lengths = torch.tensor([4, 2, 3])
    moments = list(play(env, Counters(), keys(3), NOW, greedy=True))
    assert [moment.step for moment in moments] == [0, 1, 2, 3, 4]
    running = [moment.running.tolist() for moment in moments[1:]]
    assert running == [[True] * 3, [True] * 3, [True, False, True], [True, False, False]]
    assert moments[0].choice is None and env.time == 4


def test_steps_draw_from_streams_of_their_own():
    """Every step has its own keys, an episode the same at all of its steps."""
    seen: list[Keys] = []

    class Watching(Counters):
        def act(self, obs, avail, carry, keys, t, greedy):
            seen.append(keys)
            return super().act(obs, avail, carry, keys, t, greedy)

    list(play(Steps(), Watching(), keys(3), NOW, greedy=False))
    steps = torch.cat([each.step for each in seen])
    assert len(steps.unique()) == len(steps) == 21
    assert all(torch.equal(each.episode, seen[0].episode) for each in seen)
    assert len(seen[0].episode.unique()) == 3
