"""Against a plain list of all that was ever inserted."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import one_hot

from eoi.components.batch import Batch
from eoi.components.episodes import Episodes, Kept
from eoi.components.replay import _TOGETHER, Replay, ReplayConfig, Wants
from eoi.envs.base import EnvSpec
from eoi.utils.errors import UserError
from eoi.utils.seeding import root_key
from eoi.utils.trees import map_tensors
from helpers import SPEC, keys, make_trainer, tiny

CPU = torch.device("cpu")
Q = {"q": Kept((SPEC.n_agents, SPEC.n_actions))}


def numbered(spec: EnvSpec, lengths: list[int], first: int) -> Episodes:
    """Episodes whose every entry tells where it belongs: 100 * episode + step."""
    out = Episodes.allocate(spec, len(lengths), CPU, Q)
    for n, length in enumerate(lengths):
        for t in range(spec.episode_limit + 1):
            mark = 100 * (first + n) + t if t <= length else -1
            out.obs[n, t], out.state[n, t] = mark, mark
            out.avail[n, t, :, t % spec.n_actions] = True
            if t < spec.episode_limit:
                out.reward[n, t], out.actions[n, t] = mark, t % spec.n_actions
                out.kept["q"][n, t] = mark
                out.terminated[n, t] = t == length - 1
    return replace(out, length=torch.tensor(lengths))


def sampled(buffer: Replay, count: int, window: int = 4, seed: int = 0) -> Batch:
    rows = buffer.draw(keys(1, seed=seed), count, window)[0]
    return buffer.read(rows, Wants(last_actions=True, window=window, last_obs=True))


@pytest.fixture(params=[False, True])
def filled(request):
    """A ring of 60 rows after several turns, with episodes of one length or of many."""
    spec = replace(SPEC, fixed_length=request.param)
    buffer = Replay(spec, ReplayConfig(buffer_size=50), CPU, Q)
    lengths = [7] * 40 if request.param else [1 + (5 * k) % 7 for k in range(40)]
    for first in range(0, 40, 4):
        buffer.insert(numbered(spec, lengths[first : first + 4], first))
    return buffer, lengths


def test_every_sampled_field_belongs_to_one_transition(filled):
    buffer, lengths = filled
    batch = sampled(buffer, 3000)
    mark = batch.reward
    episode, step = (mark // 100).long(), (mark % 100).long()
    last = step == torch.tensor(lengths)[episode] - 1
    assert torch.equal(batch.obs, mark[:, None, None].expand_as(batch.obs))
    assert torch.equal(batch.state[:, 0], mark)
    assert torch.equal(batch.next_obs[:, 0, 0], mark + 1)
    assert torch.equal(batch.next_state[:, 0], mark + 1)
    assert torch.equal(batch.actions[:, 0], step % SPEC.n_actions)
    for avail, at in ((batch.avail, step), (batch.next_avail, step + 1)):
        assert torch.equal(
            avail, one_hot(at % SPEC.n_actions, SPEC.n_actions).bool()[:, None].expand_as(avail)
        )
    assert torch.equal(batch.terminated, last.float())
    assert torch.equal(batch.kept["q"][:, 0, 0], mark)
    assert batch.last_actions is not None
    before = torch.where(step == 0, -1, (step - 1) % SPEC.n_actions)
    assert torch.equal(batch.last_actions, before[:, None].expand_as(batch.last_actions))


def test_uniform_over_the_newest_whole_episodes(filled):
    buffer, lengths = filled
    kept, rows = [], 0
    for episode in reversed(range(40)):
        rows += lengths[episode] + 1
        if rows > buffer.rows:
            break
        kept += [100 * episode + t for t in range(lengths[episode])]
    assert buffer.size == len(kept)
    drawn = sampled(buffer, 40000).reward.long().tolist()
    counts = torch.tensor([drawn.count(mark) for mark in kept], dtype=torch.float)
    assert counts.sum() == 40000
    assert counts.min() > 0.75 * counts.mean()
    assert counts.max() < 1.25 * counts.mean()


def test_positives_lie_one_to_delta_steps_back_in_the_same_episode(filled):
    """Uniform over the steps within reach; none at the first step of an episode."""
    buffer, _ = filled
    batch = sampled(buffer, 6000)
    step = (batch.reward % 100).long()
    offset = (batch.reward - batch.earlier[:, 0, 0]).long()
    assert torch.equal(batch.has_earlier, (step > 0).float())
    assert torch.equal(batch.reward - batch.last_obs[:, 0, 0], batch.has_earlier)
    assert (offset[step == 0] == 0).all()
    for t in range(1, 7):
        seen = offset[step == t].bincount(minlength=5)
        reach = min(t, 4)
        assert seen[0] == 0 and seen.sum() == seen[1 : reach + 1].sum()
        assert seen[1 : reach + 1].min() > 0.6 * seen[1 : reach + 1].float().mean()


def test_draws_are_a_function_of_their_key(filled):
    buffer, _ = filled
    assert torch.equal(sampled(buffer, 50).reward, sampled(buffer, 50).reward)
    assert not torch.equal(sampled(buffer, 50).reward, sampled(buffer, 50, seed=1).reward)
    together = buffer.draw(keys(3), 50, 4)
    alone = buffer.draw(keys(3)[1:2], 50, 4)
    assert torch.equal(together[1].row, alone[0].row)


def test_small_counts_are_stored_in_one_byte_and_come_back_as_numbers():
    spec = replace(SPEC, obs_dtype=torch.uint8)
    buffer = Replay(spec, ReplayConfig(buffer_size=20), CPU)
    buffer.insert(numbered(spec, [3, 2], 0))
    assert buffer.fields["obs"].dtype == torch.uint8
    assert sampled(buffer, 10).obs.dtype == torch.float32
    assert not [name for name in buffer.fields if name.startswith("kept")]


def test_stored_tensors_hold_no_autograd_graph():
    """PyMARL's leak: stored values kept the graph of their computation alive."""
    trainer = make_trainer(tiny("eoi_qmix_literal", eoi={"q_source": "stored"}))
    trainer.play()
    (run,) = trainer.runs
    assert any(p.requires_grad for p in run.learner.parameters())
    assert run.replay.size > 0 and run.replay.fields["kept.q"].abs().sum() > 0
    for stored in run.replay.fields.values():
        assert stored.grad_fn is None and not stored.requires_grad


def test_more_episodes_at_once_than_the_ring_holds_are_refused():
    buffer = Replay(SPEC, ReplayConfig(buffer_size=10), CPU)
    with pytest.raises(ValueError, match="buffer_size"):
        buffer.insert(numbered(SPEC, [7, 7, 7], 0))


def test_actions_beyond_a_byte_keep_their_numbers():
    """PettingZoo's worlds may have any number of actions."""
    spec = replace(SPEC, n_actions=300)
    buffer = Replay(spec, ReplayConfig(buffer_size=20), CPU)
    buffer.insert(replace(numbered(spec, [3], 0), actions=torch.full((1, 7, 3), 299)))
    assert sampled(buffer, 10).actions.unique().tolist() == [299]


def test_a_replay_too_small_for_a_batch_of_whole_episodes_is_refused(settings):
    with pytest.raises(UserError, match=r"batch_size=64 episodes: the replay holds 3. of 30 steps"):
        make_trainer(settings("qmix_rnn", "pac_men", batch_size=64, buffer_size=1000))


def test_learners_that_replay_nothing_take_no_memory_for_it(settings):
    (run,) = make_trainer(settings("ippo", "pac_men", buffer_size=20_000)).runs
    assert run.replay.bytes < 1e6 and not run.learner.replays


def test_size_is_said_before_it_is_taken(caplog):
    """A replay of 2*10^5 transitions of 8m stays under 700 MB."""
    eight = EnvSpec(8, 14, 80, 168, 120, False, torch.float32, ())
    with caplog.at_level("INFO"):
        Replay(eight, ReplayConfig(buffer_size=200_000), torch.device("meta"))
    megabytes = float(caplog.text.split("transitions, ")[1].split(" MB")[0])
    assert 600 < megabytes < 700


def test_draws_read_together_are_those_read_one_by_one(monkeypatch, settings):
    trainer = make_trainer(settings("eoi_qmix", "pac_men", seed=1))
    trainer.play()
    (run,) = trainer.runs
    keys, wants = root_key(1, "draws") + torch.arange(5), run.learner.wants
    drawn = run.replay.draw(keys, 7, wants.window)
    apart = list(run.replay.read_each(drawn, wants, keys))
    monkeypatch.setitem(_TOGETHER, "cpu", 3)
    together = list(run.replay.read_each(drawn, wants, keys))
    assert len(apart) == len(together) == 5
    for one, other in zip(apart, together, strict=True):
        assert one.obs.shape[0] == 7 and one.earlier is not None
        map_tensors(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0) or x, one, other)
