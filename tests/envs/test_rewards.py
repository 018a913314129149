"""Rewards of one's own: from the world, through the replay, into every learner's target."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("mpe2")

from eoi.assembly import build
from eoi.components.episodes import Episodes
from eoi.envs.pettingzoo import PettingZoo, PettingZooConfig
from eoi.utils.errors import UserError
from helpers import SPEC, keys, random_batch
from test_lfo import batch_of, lfo
from test_maac import drawn_batch
from test_maac import learner as maac
from test_ppo import learner as ppo
from test_q_learner import learner as q_learner
from test_training import trained

NOW = torch.tensor(0.0)
OWN = replace(SPEC, individual_rewards=True)
ZOO = {"key": "zoo:leaving"}


def test_a_world_tells_who_earned_what():
    """`short` plays 1 or 2 and is paid for it, `tall` 1 (its first free move); the team gets the sum."""
    env = PettingZoo(PettingZooConfig(key="zoo:leaving", reward="individual"), 2)
    env.reset(keys(2))
    moment = env.step(torch.tensor([[0, 1], [1, 1]]))
    assert env.spec.individual_rewards and moment.rewards is not None
    assert moment.rewards.tolist() == [[1, 1], [2, 1]] and moment.reward.tolist() == [2, 3]
    while not moment.done.all():
        moment = env.step(moment.avail.int().argmax(-1))
    assert env.step(torch.zeros(2, 2, dtype=torch.long)).rewards.tolist() == [
        [0, 0],
        [0, 0],
    ]  # a finished copy earns nothing
    env.close()


def test_what_was_earned_lies_in_the_replay_where_it_was_earned(parts):
    made = parts("iql", "pettingzoo", env_args=ZOO | {"reward": "individual"}, batch_size_run=3)
    episodes = made.train.run(made.learner.act, keys(3), NOW)
    made.feed.insert(episodes)
    assert episodes.rewards is not None and torch.equal(episodes.rewards.sum(-1), episodes.reward)
    assert episodes.rewards.abs().sum() > 0 and torch.equal(
        episodes.outcome().returns, episodes.rewards.sum((1, 2))
    )
    batch = made.replay.read(made.replay.draw(keys(1, "draw"), 40, 1)[0])
    assert (
        batch.rewards is not None
        and torch.equal(batch.rewards.sum(-1), batch.reward)
        and torch.equal(batch.earned, batch.rewards)
    )


def test_the_team_is_paid_as_one_elsewhere():
    batch = random_batch()
    assert batch.rewards is None and torch.equal(batch.earned, batch.reward[:, None])


@pytest.mark.parametrize("make", [lambda: q_learner("none"), maac])
def test_equal_shares_of_ones_own_are_the_teams_reward(make):
    """With the team's reward paid to everybody the loss is the team's; paid to one agent it is not."""
    batch = drawn_batch(SPEC, 6)
    everybody = replace(batch, rewards=batch.reward[:, None].expand(-1, SPEC.n_agents))
    one = replace(batch, rewards=everybody.rewards * torch.tensor([1.0, 0.0, 0.0]))
    team, same, other = (make()(b, NOW, 0).terms["td"] for b in (batch, everybody, one))
    assert torch.equal(team, same) and not torch.isclose(team, other)


def test_an_agents_own_reward_moves_its_own_target_alone():
    batch = replace(random_batch(), rewards=torch.zeros(5, SPEC.n_agents))
    paid = replace(batch, rewards=torch.tensor([0.0, 2.0, 0.0]).expand(5, -1))
    made = q_learner("none")
    before, after = (
        made._target(b, made.target_controller(b.next_obs), NOW) for b in (batch, paid)
    )
    assert torch.allclose(after - before, torch.tensor([0.0, 2.0, 0.0]).expand(5, -1))


def test_advantages_come_from_rewards_of_ones_own():
    episodes = Episodes.allocate(OWN, 2, torch.device("cpu"))
    team = Episodes.allocate(SPEC, 2, torch.device("cpu"))
    episodes.rewards[:, :, 1] = 1.0
    paid, unpaid = ppo().study(episodes, NOW), ppo().study(team, NOW)
    gain = (paid.returns - unpaid.returns).view(2, -1, SPEC.n_agents)
    assert (
        gain[..., 0].abs().max() == 0 and gain[..., 2].abs().max() == 0 and gain[..., 1].min() > 0
    )


def test_rewards_change_hands_with_what_earned_them():
    batch = batch_of()
    owners = batch.obs[..., 0]
    handed, _ = lfo()(replace(batch, rewards=owners), NOW)
    assert torch.equal(handed.rewards, handed.obs[..., 0])


@pytest.mark.parametrize("algorithm", ["iql", "maac", "ippo", "mappo", "eoi_ippo"])
def test_learners_without_a_mixer_train_on_them(algorithm, settings):
    chosen = settings(
        algorithm,
        "pettingzoo",
        env_args=ZOO | {"reward": "individual"},
        t_max=40,
        log_interval=20,
        test_interval=20,
    )
    training, seen = trained(build(chosen), chosen)
    assert training.at.updates > 0 and "return_mean" in {name for name, _, _ in seen}


def test_a_mixer_is_refused(settings):
    with pytest.raises(
        UserError, match=r"env_args.reward=individual: mixer=qmix .* set mixer=none"
    ):
        build(settings("qmix", "pettingzoo", env_args=ZOO | {"reward": "individual"}))
