"""Segments, agents with skills, and the decoder's network, against plain loops."""

from dataclasses import replace

import pytest
import torch

from eoi.components.batch import Batch
from eoi.components.episodes import Episodes, Kept
from eoi.components.replay import Replay, ReplayConfig, Wants
from eoi.components.segments import at_ends, inside, segments
from eoi.controllers.controller import ControllerConfig
from eoi.controllers.hierarchy import Hierarchy
from eoi.learners.base import Progress
from eoi.learners.finite import Finite
from eoi.modules.agents import CentralAgent, Sizes
from eoi.modules.decoder import Decoder
from helpers import CONTROLLER, SPEC
from test_replay import Q, numbered

CPU = torch.device("cpu")
GAMMA = torch.tensor(0.9)
ALL = torch.ones(5, dtype=torch.bool)


def lived(lengths: tuple[int, ...], skills: int = 5, own: bool = False, seed: int = 0) -> Batch:
    """Random episodes of SPEC as the replay reads them; the second one ran out of time."""
    g = torch.Generator().manual_seed(seed)
    keeps = {"skill": Kept((SPEC.n_agents,), torch.int64)}
    out = Episodes.allocate(SPEC, len(lengths), CPU, keeps)
    for x in (out.obs, out.state, out.reward):
        x.copy_(torch.randn(x.shape, generator=g))
    out.kept["skill"].copy_(torch.randint(0, skills, out.actions.shape, generator=g))
    out.actions.copy_(torch.randint(0, SPEC.n_actions, out.actions.shape, generator=g))
    out.avail.copy_(torch.rand(out.avail.shape, generator=g) < 0.5)
    out.avail[..., 1] = True
    out.avail[:, :-1].scatter_(-1, out.actions[..., None], True)
    for n, length in enumerate(lengths):
        out.terminated[n, length - 1] = n != 1
    out.length.copy_(torch.tensor(lengths))
    replay = Replay(SPEC, ReplayConfig(buffer_size=90), CPU, keeps)
    replay.insert(out)
    batch = replay.read_episodes(replay.newest(len(lengths)), Wants(last_actions=True))
    rewards = torch.randn(batch.actions.shape, generator=g)
    return replace(batch, rewards=rewards) if own else batch


def test_a_segment_by_hand():
    """Ten steps with a reward of 1 at the first one: R = 1, and the rest counts 0.99^10."""
    spec = replace(SPEC, episode_limit=10)
    batch = Episodes.allocate(spec, 1, CPU, {"skill": Kept((3,), torch.int64)}).batch()
    batch.reward[0, 0] = 1
    found = segments(batch, 10, torch.tensor(0.99), ALL)
    assert found.reward.tolist() == [[1.0]]
    assert (0.99 * (1 - found.terminated)).item() == pytest.approx(0.904382, abs=1e-6)


@pytest.mark.parametrize("hold", [1, 3, 4, 7])
@pytest.mark.parametrize("lengths", [(7, 4, 2), (7, 7, 7)])
@pytest.mark.parametrize("own", [False, True])
def test_segments_equal_a_slow_computation(hold, lengths, own):
    batch = lived(lengths, own=own)
    found = segments(batch, hold, GAMMA, ALL)
    assert found.valid is not None and found.avail.shape == (3, -(-7 // hold), 3, 5)
    for b, length in enumerate(lengths):
        for s in range(found.reward.shape[1]):
            first, end = s * hold, min((s + 1) * hold, length)
            assert found.valid[b, s] == (end > first)
            if end <= first:
                continue
            reward = sum(0.9 ** (t - first) * batch.reward[b, t] for t in range(first, end))
            assert found.reward[b, s] == pytest.approx(float(reward), rel=1e-5)
            going = 1 - float(batch.terminated[b, end - 1])
            follows = 0.9 * (1 - float(found.terminated[b, s]))
            assert follows == pytest.approx(going * 0.9 ** (end - first), abs=1e-6)
            assert torch.equal(found.obs[b, s], batch.obs[b, first])
            assert torch.equal(found.state[b, s], batch.state[b, first])
            assert torch.equal(found.next_obs[b, s], batch.next_obs[b, end - 1])
            assert torch.equal(found.next_state[b, s], batch.next_state[b, end - 1])
            assert torch.equal(found.actions[b, s], batch.kept["skill"][b, first])
            if own and batch.rewards is not None and found.rewards is not None:
                each = sum(0.9 ** (t - first) * batch.rewards[b, t] for t in range(first, end))
                torch.testing.assert_close(found.rewards[b, s], each)


@pytest.mark.parametrize("hold", [2, 3, 7])
def test_a_segments_number_goes_to_its_last_step(hold):
    lengths = (7, 4, 2)
    batch = lived(lengths)
    numbers = 1 + torch.arange(3 * -(-7 // hold) * 3.0).view(3, -1, 3)
    found = at_ends(numbers, batch, hold)
    for b, length in enumerate(lengths):
        for t in range(7):
            last = t < length and ((t + 1) % hold == 0 or t == length - 1)
            expected = numbers[b, t // hold] if last else torch.zeros(3)
            assert torch.equal(found[b, t], expected), (b, t)
    assert inside(batch, hold).sum() == sum(lengths)


def test_the_newest_episodes_of_a_replay():
    replay = Replay(SPEC, ReplayConfig(buffer_size=50), CPU, Q)
    for first in range(0, 12, 3):
        replay.insert(numbered(SPEC, [7, 3, 5], first))

    def read(*which: int) -> list[int]:
        batch = replay.read_episodes(replay.newest(*which), Wants())
        return (batch.reward[:, 0] // 100).long().tolist()

    assert read(3) == [9, 10, 11] and read(2, 1) == [9, 10]
    assert read(1, 4) == [7] and read(99)[-1] == 11 and len(read(99)) == replay.episodes


def hierarchy(n_skills: int = 3, **changes) -> Hierarchy:
    torch.manual_seed(0)
    return Hierarchy(SPEC, ControllerConfig(**{**CONTROLLER, **changes}), n_skills)


def test_a_skill_is_held_for_its_steps():
    made = hierarchy()
    carry, seen, left = made.start(2, CPU), [], []
    for step in range(7):
        chosen = torch.full((2, 3), step)
        skill, carry = made.held(carry, chosen, 3)
        seen.append(skill[0, 0].item())
        left.append(carry["left"][1, 2].item())
    assert seen == [0, 0, 0, 3, 3, 3, 6] and left == [2, 1, 0, 2, 1, 0, 2]


def test_the_low_level_sees_the_skill():
    made = hierarchy(obs_agent_id=True, obs_last_action=True)
    obs = torch.randn(4, 3, SPEC.obs_size)
    told = made.with_skill(obs, torch.tensor([0, 2, 1]).expand(4, 3))
    assert torch.equal(told[..., : SPEC.obs_size], obs)
    assert told[0, :, SPEC.obs_size :].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    last = torch.zeros(4, 3, dtype=torch.int64)
    assert made.low(told, last).shape == (4, 3, SPEC.n_actions)
    assert made(obs).shape == (4, 3, 3) and made.reads_last_action


def test_a_central_agent_sees_the_whole_team():
    torch.manual_seed(0)
    sizes = Sizes(3, inputs=6, hidden=(8, 8), outputs=4, shared=False, same_init=False)
    net, x = CentralAgent(sizes), torch.randn(5, 3, 6)
    before = net.unroll(x)
    x[0, 2] += 1
    after = net.unroll(x)
    assert (before[0] != after[0]).all() and torch.equal(before[1:], after[1:])
    assert torch.equal(net.step(x, {})[0], after) and after.shape == (5, 3, 4)


def test_the_decoder_is_pytorchs_lstm():
    torch.manual_seed(0)
    net = Decoder(6, 8, 5)
    theirs = torch.nn.LSTM(6, 8, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for suffix, direction in (("", net.forwards), ("_reverse", net.backwards)):
            getattr(theirs, f"weight_ih_l0{suffix}").copy_(direction.inputs.weight)
            getattr(theirs, f"weight_hh_l0{suffix}").copy_(direction.hidden.weight)
            getattr(theirs, f"bias_ih_l0{suffix}").copy_(direction.inputs.bias)
            getattr(theirs, f"bias_hh_l0{suffix}").zero_()
    x = torch.randn(4, 7, 6)
    for length in (7, 3, 1):
        valid = (torch.arange(7) < length).float().expand(4, 7)
        expected = net.head(theirs(x[:, :length])[0].mean(1))
        torch.testing.assert_close(net(x, valid), expected)
    nothing = net(x, torch.zeros(4, 7))
    assert torch.equal(nothing, net.head(torch.zeros(4, 16)))


@pytest.mark.parametrize(
    ("episodes", "new", "interval", "since", "due"),
    [
        (30, 30, 60, 0, 0),
        (60, 30, 60, 0, 1),
        (90, 30, 60, 0, 0),
        (180, 120, 60, 0, 2),
        (90, 30, 60, 30, 1),
        (70, 30, 60, 40, 0),
        (50, 30, 60, 40, 0),
    ],
)
def test_ends_of_intervals_within_a_rollout(episodes, new, interval, since, due):
    assert Progress(0, episodes, 0, 0, new).due(interval, since) == due


def test_the_first_broken_term_among_updates_of_several_kinds():
    fine, nan = torch.tensor(1.0), torch.tensor(float("nan"))
    watch = Finite()
    assert watch.broken() == ([], 0)
    watch.see({"a": fine, "b": fine})
    watch.see({"c": fine})
    watch.see({"a": fine, "b": fine})
    assert watch.broken() == ([], 0)
    watch.see({"c": nan})
    watch.see({"a": nan, "b": fine})
    watch.see({"a": fine, "b": nan})
    assert watch.broken() == (["c"], 3)  # the fourth of six updates
