"""Targets, losses and target networks against numbers worked out by hand or in plain loops."""

import math
import re

import pytest
import torch
from torch import nn

from eoi.components.action_values import sizes
from eoi.components.batch import Batch
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.learners.base import Pair, Values, frozen_copy
from eoi.learners.descent import Descent, as_share, track, without_conflict
from eoi.learners.q_learner import QConfig, QLearner
from eoi.utils.errors import UserError
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
        made = learner(mixer, extras=[Bonus(individual)])
        reward = made.reward(batch, made.streams(batch, NOW), joint)
        torch.testing.assert_close(reward, batch.reward[:, None] + expected)
        # Past the end of a task the target is the reward.
        assert made(batch, NOW).stats["target_mean"].item() == pytest.approx(
            (batch.reward[:, None] + expected).mean().item(), rel=1e-5
        )


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        (torch.ones(5), r"Bonus.rewards: return a dictionary, such as {'mine': reward}"),
        ({"x": torch.ones(5)}, r"'x' has the shape (5,); a reward for each agent has (5, 3)"),
        ({"x": torch.ones(5, 1)}, r"'x' has the shape (5, 1)"),
    ],
)
def test_rewards_of_another_shape_are_refused(rewards, said, monkeypatch):
    monkeypatch.setattr(Bonus, "rewards", lambda *_: rewards)
    with pytest.raises(UserError, match=re.escape(said)):
        learner("vdn", extras=[Bonus(torch.ones(5, 3))])(random_batch(), NOW)


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


class Following(Bonus):
    """Has a target network that is copied every two episodes."""

    def __init__(self) -> None:
        super().__init__(torch.zeros(5, 3))
        self.online, self.target = nn.Linear(1, 1), frozen_copy(nn.Linear(1, 1))

    def targets(self) -> list[Pair]:
        return [Pair(self.target, self.online, 1.0, interval=2)]


def test_every_hard_target_has_an_interval_of_its_own():
    made = learner(target_update_interval=4, extras=[Following()])
    descent, copied = Descent(made), []
    for episode in range(1, 9):
        descent.update(random_batch(), NOW, episode)
        copied.append([*descent.copied_at])
    assert [each[-1] for each in copied] == [0, 2, 2, 4, 4, 6, 6, 8]
    assert [each[0] for each in copied] == [each[1] for each in copied] == [0, 0, 0, 4, 4, 4, 4, 8]
    ours, theirs = made.target_controller.parameters(), made.controller.parameters()
    assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("saved", "loaded"), [(3, [3, 3, 3]), ([1, 2, 3], [1, 2, 3])])
def test_a_checkpoint_with_one_time_of_all_copies_is_read(saved, loaded):
    descent = Descent(learner(target_update_interval=4, extras=[Following()]))
    descent.load_state(descent.state_of() | {"copied_at": saved})
    assert descent.copied_at == loaded == descent.state_of()["copied_at"]


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


def test_a_share_is_of_the_main_gradients_norm_agent_by_agent():
    g = torch.Generator().manual_seed(0)
    main, side = ([torch.randn(3, *s, generator=g) for s in ((4, 2), (5,))] for _ in range(2))
    main[0][2], main[1][2] = 0, 0
    added = as_share(side, main, torch.tensor(0.3))
    for agent in range(3):
        ours, theirs, before = (
            torch.cat([part[agent].flatten() for part in parts]) for parts in (added, main, side)
        )
        assert ours.norm().item() == pytest.approx(0.3 * theirs.norm().item(), rel=1e-5)
        assert torch.allclose(ours * before.norm(), ours.norm() * before, atol=1e-5)


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


# Diagnostics


def episode(q: torch.Tensor, avail: torch.Tensor, valid: list[float]) -> Batch:
    """An episode of the values' [1, T, A, U] length, whose agents took action 0."""
    steps, agents = q.shape[1:3]
    obs, state = torch.zeros(1, steps, agents, SPEC.obs_size), torch.zeros(1, steps, 5)
    actions, zero = torch.zeros(1, steps, agents, dtype=torch.long), torch.zeros(1, steps)
    return Batch(
        *(obs, state, avail, actions, zero, zero, obs, state, avail), valid=torch.tensor([valid])
    )


def test_offset_scale_and_spread_of_hand_worked_values():
    """Two agents, two steps and one of padding; 90 and above is unavailable, or padding."""
    first = [[1.0, 3, 99], [-4, -4, -1], [90, 95, 99]]
    second = [[5.0, 98, 99], [0, 2, 97], [96, 90, 99]]
    q = torch.tensor([first, second]).transpose(0, 1)[None]  # [1, 3, 2, 3]
    avail = (q < 90) | (torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1) > 0)
    found = sizes(q, episode(q, avail, [1.0, 1, 0]))
    # Means over actions 2, -3 and 5, 1. Centred: (-1, 1), (-1, -1, 2) and (0), (-1, 1).
    expected = {
        "q_offset": (2 + 3 + 5 + 1) / 4,
        "q_scale": ((8 / 5) ** 0.5 + (2 / 3) ** 0.5) / 2,
        "q_std": (1 + 2**0.5 + 0 + 1) / 4,
    }
    assert {name: x.item() for name, x in found.items()} == pytest.approx(expected)
    # Neither scale nor spread sees an offset at an observation.
    offset = torch.tensor([3.0, -2, 0]).view(1, 3, 1, 1)
    moved = sizes(7 * q + offset, episode(q, avail, [1.0, 1, 0]))
    assert moved["q_scale"].item() == pytest.approx(7 * expected["q_scale"])
    assert moved["q_std"].item() == pytest.approx(7 * expected["q_std"])
    assert moved["q_offset"].item() == pytest.approx((17 + 23 + 38 + 5) / 4)


def test_the_mixing_weight_of_known_weights_is_the_chain_rule():
    """|W1| = (1, 2, 3), |w2| = 3: weights (3, 6, 9) elu'(h), h = 6 and h = -1 + 0 + 0."""
    made = learner(mixing_embed_dim=1, mixing_bias="linear")
    nn.init.zeros_(made.mixer.first.weight)
    with torch.no_grad():  # W1, w2, b1, v
        made.mixer.first.bias.copy_(torch.tensor([1.0, 2, -3, -3, 0, 0.5]))
    taken = torch.tensor([[[1.0, 1, 1], [-1, 0, 0], [-9, -9, -9]]])
    q = torch.stack([taken, torch.full_like(taken, 99.0)], -1)  # [1, 3, 3, 2]
    batch = episode(q, torch.ones_like(q, dtype=torch.bool), [1.0, 1, 0])
    found = made.mixing_weight(batch, Values(q, q))
    assert found.item() == pytest.approx((6 + 6 / math.e) / 2)


@pytest.mark.parametrize("mixer", ["qmix", "vdn", "none"])
def test_the_mixing_weight_is_the_slope_of_the_mixer(mixer):
    made, batch = learner(mixer), random_batch()
    found = made.diagnose(batch, NOW)["mixing_weight"]
    if mixer != "qmix":
        assert found.item() == 1
        return
    q = made.controller(batch.obs).gather(-1, batch.actions[..., None])[..., 0].detach().double()
    double, slopes = made.mixer.double(), []
    for step in 1e-6 * torch.eye(3, dtype=torch.float64):
        above, below = (double(x, batch.state.double()) for x in (q + step, q - step))
        slopes.append((above - below) / 2e-6)
    assert found.item() == pytest.approx(torch.stack(slopes).mean().item(), rel=1e-4)


def test_diagnostics_of_values_are_those_of_the_batch_and_leave_no_gradient():
    made, batch = learner(), masked(random_batch())
    found = made.diagnose(batch, NOW)
    expected = sizes(made.controller(batch.obs).detach(), batch)
    assert {name: found[name].item() for name in expected} == {
        name: x.item() for name, x in expected.items()
    }
    assert not any(x.requires_grad for x in found.values())
    assert all(p.grad is None for p in made.parameters())
