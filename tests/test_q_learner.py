"""Targets, losses and target networks against numbers worked out by hand or in plain loops."""

import pytest
import torch
from torch import nn

from eoi.controllers.controller import Controller, ControllerConfig
from eoi.learners.descent import Descent, track, without_conflict
from eoi.learners.q_learner import QConfig, QLearner
from helpers import CONTROLLER, SPEC, Bonus, masked, random_batch, step_keys

NOW = torch.tensor(0.0)
Q = {
    "gamma": 0.9,
    "optimizer": "adam",
    "optim_alpha": 0.99,
    "optim_eps": 1e-8,
    "batch_size": 5,
    "update_interval": 1,
    "update_interval_episodes": 0,
    "learning_starts": 0,
    "lr": 1e-2,
    "double_q": False,
    "mixer": "qmix",
    "mixing_embed_dim": 4,
    "mixing_activation": "elu",
    "mixing_bias": "mlp",
    "hypernet_layers": 1,
    "hypernet_embed": 8,
    "target_update_tau": 0.01,
    "target_update_interval": 0,
    "grad_norm_clip": 0.0,
    "epsilon_start": 1.0,
    "epsilon_finish": 0.1,
    "epsilon_anneal_time": 100,
}


def learner(mixer: str = "qmix", seed: int = 0, extras=(), **changes) -> QLearner:
    torch.manual_seed(seed)
    controller = Controller(SPEC, ControllerConfig(**CONTROLLER))
    made = QLearner(SPEC, QConfig(**{**Q, "mixer": mixer, **changes}), controller, extras)
    # Targets of their own: a loss that reads an online network instead has another value.
    for net in (made.target_controller, made.target_mixer):
        for p in net.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return made


def slow_td(made: QLearner, batch) -> float:
    """One transition and one agent at a time."""
    squares, double = [], made.cfg.double_q
    for b in range(len(batch.reward)):
        q, online, next_q = (
            net(obs[b : b + 1])[0]
            for net, obs in (
                (made.controller, batch.obs),
                (made.controller, batch.next_obs),
                (made.target_controller, batch.next_obs),
            )
        )
        taken, best = [], []
        for i in range(SPEC.n_agents):
            taken.append(q[i, batch.actions[b, i]])
            legal = [u for u in range(SPEC.n_actions) if batch.next_avail[b, i, u]]
            chooser = online if double else next_q
            best.append(next_q[i, max(legal, key=lambda u, i=i, c=chooser: c[i, u].item())])
        joint = made.mixer(torch.stack(taken)[None], batch.state[b : b + 1])[0]
        following = made.target_mixer(torch.stack(best)[None], batch.next_state[b : b + 1])[0]
        target = batch.reward[b] + 0.9 * (1 - batch.terminated[b]) * following
        squares.append((joint - target).square().sum())
    return torch.stack(squares).mean().item()


@pytest.mark.parametrize("mixer", ["qmix", "vdn", "none"])
@pytest.mark.parametrize("double_q", [False, True])
def test_the_loss_equals_a_slow_computation(mixer, double_q):
    made = learner(mixer, double_q=double_q)
    batch = masked(random_batch())
    terms, stats, _ = made(batch, NOW)
    assert terms["td"].item() == pytest.approx(slow_td(made, batch), rel=1e-4)
    assert stats["loss"].item() == terms["td"].item()


def test_vdn_of_one_agent_is_a_hand_worked_dqn():
    made = learner("vdn")
    batch = random_batch(count=1, reward=torch.tensor([2.0]), terminated=torch.tensor([0.0]))
    with torch.no_grad():
        for net, values in (
            (made.controller, [1.0, 0, 0, 0]),
            (made.target_controller, [0.0, 5, 3, 0]),
        ):
            for p in net.parameters():
                p.zero_()
            net.agents.mlp.layers[-1].bias.copy_(torch.tensor(values)[None, :, None])
    batch = random_batch(
        count=1,
        reward=torch.tensor([2.0]),
        terminated=torch.tensor([0.0]),
        actions=torch.zeros(1, 3, dtype=torch.long),
    )
    terms, stats, _ = made(batch, NOW)
    assert stats["target_mean"].item() == pytest.approx(2 + 0.9 * 15)
    assert terms["td"].item() == pytest.approx((3 - 15.5) ** 2)
    double = learner("vdn", double_q=True)
    double.load_state_dict(made.state_dict())
    assert double(batch, NOW).stats["target_mean"].item() == pytest.approx(
        2.0
    )  # online prefers action 0, worth 0 to the target


def test_nothing_is_bootstrapped_past_the_end():
    made, batch = learner(), random_batch(terminated=torch.ones(5))
    assert made(batch, NOW).stats["target_mean"].item() == pytest.approx(
        batch.reward.mean().item(), abs=1e-6
    )


def test_only_the_online_networks_get_a_gradient():
    made = learner(double_q=True)
    made(random_batch(), NOW).terms["td"].backward()
    reached = {
        name.split(".")[0]
        for name, p in made.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == {"controller", "mixer"}


def test_individual_rewards_reach_each_agent_or_their_sum_the_team():
    individual = torch.arange(15.0).view(5, 3)
    batch = random_batch(terminated=torch.ones(5))
    summed = individual.sum(1, keepdim=True)
    for mixer, expected in (("none", individual), ("vdn", summed), ("qmix", summed)):
        joint = expected.shape[1]
        reward = learner(mixer, extras=[Bonus(individual)]).reward(batch, NOW, joint)
        torch.testing.assert_close(reward, batch.reward[:, None] + expected)
        # Past the end of a task the target is the reward.
        made = learner(mixer, extras=[Bonus(individual)])
        assert made(batch, NOW).stats["target_mean"].item() == pytest.approx(
            (batch.reward[:, None] + expected).mean().item(), rel=1e-5
        )


def test_soft_targets():
    """From 0 to a frozen 1, after 100 updates, 0.633968."""
    target, online = nn.Linear(1, 1), nn.Linear(1, 1)
    for p, value in ((target, 0.0), (online, 1.0)):
        nn.init.constant_(p.weight, value)
        nn.init.constant_(p.bias, value)
    for _ in range(100):
        track(target, online, 0.01)
    assert target.weight.item() == pytest.approx(0.633968, abs=1e-5)


def test_hard_targets_are_copied_every_interval_of_episodes():
    made = learner(target_update_interval=10)
    descent = Descent(made)
    before = made.target_controller.state_dict()["agents.mlp.layers.0.weight"].clone()
    descent.update(random_batch(), NOW, episode=9)
    assert torch.equal(made.target_controller.agents.mlp.layers[0].weight, before)
    descent.update(random_batch(), NOW, episode=10)
    assert torch.equal(
        made.target_controller.agents.mlp.layers[0].weight,
        made.controller.agents.mlp.layers[0].weight,
    )
    assert torch.equal(made.target_mixer.first.weight, made.mixer.first.weight)


def test_gradients_are_clipped():
    free, clipped = learner(), learner(grad_norm_clip=1e-3)
    for made in (free, clipped):
        made.groups()
        Descent(made).update(random_batch(), NOW, 0)
    sizes = [
        torch.stack([p.grad.square().sum() for p in m.controller.parameters()]).sum()
        for m in (free, clipped)
    ]
    assert sizes[0] > 1e-4 and sizes[1].sqrt() <= 1e-3 + 1e-6


def test_descent_is_adam_on_the_sum_of_the_terms():
    made, other, batch = learner(), learner(), random_batch()
    optimiser = torch.optim.Adam(
        [*other.controller.parameters(), *other.mixer.parameters()], lr=1e-2
    )
    descent = Descent(made)
    for _ in range(3):
        descent.update(batch, NOW, 0)
        optimiser.zero_grad()
        other(batch, NOW).terms["td"].backward()
        optimiser.step()
        for target, online, tau, *_ in other.targets():
            track(target, online, tau)
    for ours, theirs in zip(made.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_conflicting_gradients_are_projected_agent_by_agent():
    main = [torch.tensor([[1.0, 0.0], [0.0, 2.0]])]
    side = [torch.tensor([[-3.0, 1.0], [5.0, 1.0]])]
    (result,) = without_conflict(side, main)
    assert result.tolist() == [[0.0, 1.0], [5.0, 1.0]]


def test_acting():
    made, batch = learner(), random_batch()
    own = step_keys(5, 3)
    greedy, carry, keep = made.act(batch.obs, batch.avail, {}, own, NOW, True)
    torch.testing.assert_close(keep["q"], made.controller(batch.obs))
    assert torch.equal(greedy, keep["q"].argmax(-1)) and carry == {}
    assert made.epsilon(torch.tensor(50.0)).item() == pytest.approx(0.55)
    late = made.act(batch.obs, batch.avail, {}, own, torch.tensor(1e6), False).actions
    flip, choice = own.draws.unbind(-1)
    expected = torch.where(flip < 0.1, (choice * 4).long(), greedy)
    assert torch.equal(late, expected)
