"""Rewards of one's own: from the world, through the replay, into every learner's target."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("mpe2")

from eoi.components.episodes import Episodes
from eoi.components.replay import Wants
from eoi.envs.pettingzoo import PettingZoo, PettingZooConfig
from eoi.utils.errors import UserError
from helpers import SPEC, keys, make_trainer, random_batch, trained
from test_lfo import batch_of, lfo
from test_maac import learner as maac
from test_ppo import learner as ppo
from test_ppo import studied
from test_q_learner import learner as q_learner

NOW = torch.tensor(0.0)
OWN = replace(SPEC, individual_rewards=True)
ZOO = {"key": "zoo:leaving"}


def test_a_world_tells_who_earned_what():
    """`short` plays 1 or 2 and gets it as reward, `tall` gets 1; the team gets the sum."""
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


def test_the_replay_stores_each_agents_own_reward(settings):
    own = ZOO | {"reward": "individual"}
    trainer = make_trainer(settings("iql", "pettingzoo", env_args=own, batch_size_run=3))
    (run,) = trainer.runs
    episodes = trainer.rollout.run(run.learner, keys(3), NOW)
    run.experience.insert(episodes)
    assert episodes.rewards is not None and torch.equal(episodes.rewards.sum(-1), episodes.reward)
    assert episodes.rewards.abs().sum() > 0 and torch.equal(
        episodes.outcome().returns, episodes.rewards.sum((1, 2))
    )
    batch = run.replay.read(run.replay.draw(keys(1, "draw"), 40, 1)[0], Wants())
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
    """If each agent has the team's reward, the loss is the team's; if one has it, it is not."""
    batch = random_batch(SPEC, 6)
    each = replace(batch, rewards=batch.reward[:, None].expand(-1, SPEC.n_agents))
    one = replace(batch, rewards=each.rewards * torch.tensor([1.0, 0.0, 0.0]))
    team, same, other = (make()(b, NOW, 0).terms["td"] for b in (batch, each, one))
    assert torch.equal(team, same) and not torch.isclose(team, other)


def test_an_agents_own_reward_moves_its_own_target_alone():
    batch = replace(random_batch(), rewards=torch.zeros(5, SPEC.n_agents))
    paid = replace(batch, rewards=torch.tensor([0.0, 2.0, 0.0]).expand(5, -1))
    made = maac()
    before, after = (made.target(b, NOW) for b in (batch, paid))
    assert torch.allclose(after - before, torch.tensor([0.0, 2.0, 0.0]).expand(5, -1), atol=1e-6)
    made = q_learner("none")
    before, after = (made(b, NOW).stats["target_mean"] for b in (batch, paid))
    assert (after - before).item() == pytest.approx(2 / 3, rel=1e-4)


def test_advantages_come_from_rewards_of_ones_own():
    episodes = Episodes.allocate(OWN, 2, torch.device("cpu"))
    team = Episodes.allocate(SPEC, 2, torch.device("cpu"))
    episodes.rewards[:, :, 1] = 1.0
    paid, unpaid = (studied(ppo(), each).kept["returns"] for each in (episodes, team))
    gain = (paid - unpaid).view(2, -1, SPEC.n_agents)
    assert (
        gain[..., 0].abs().max() == 0 and gain[..., 2].abs().max() == 0 and gain[..., 1].min() > 0
    )


def test_rewards_change_hands_with_what_earned_them():
    batch = batch_of()
    owners = batch.obs[..., 0]
    handed, _ = lfo().rearrange(replace(batch, rewards=owners), NOW)
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
    trainer, seen = trained(chosen)
    assert trainer.at.updates > 0 and "return_mean" in {name for name, _, _ in seen}


def test_a_mixer_is_refused(settings):
    with pytest.raises(
        UserError, match=r"env_args.reward=individual: mixer=qmix .* set mixer=none"
    ):
        make_trainer(settings("qmix", "pettingzoo", env_args=ZOO | {"reward": "individual"}))
