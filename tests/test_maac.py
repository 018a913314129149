"""MAAC, and EOI and the KL baseline on it, against hand-worked numbers and plain loops."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import leaky_relu, one_hot

from eoi.components.action_selection import sample
from eoi.components.episodes import Episodes
from eoi.components.replay import Replay, ReplayConfig, Wants
from eoi.components.returns import standardised
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.envs.base import EnvSpec
from eoi.learners.base import Policies, norm
from eoi.learners.descent import Descent, clip_each
from eoi.learners.eoi import ShapedReward, WeightedConfig
from eoi.learners.kl import KLConfig, KLDivergence
from eoi.learners.maac import MAAC, MAACConfig
from eoi.learners.policy_learner import log_softmax
from eoi.modules.critics import AttentionConfig, AttentionCritic
from helpers import (
    CONTROLLER,
    SPEC,
    Bonus,
    context,
    keys,
    make_trainer,
    masked,
    random_batch,
    step_keys,
    tiny,
    trained,
)
from test_eoi import WEIGHTED
from test_q_learner import learner as qmix

NOW = torch.tensor(0.0)
CONFIG = {
    "gamma": 0.98,
    "optimizer": "adam",
    "optim_alpha": 0.99,
    "optim_eps": 1e-8,
    "batch_size": 5,
    "update_interval": 1,
    "update_interval_episodes": 0,
    "learning_starts": 0,
    "actor_lr": 1e-2,
    "critic_lr": 1e-2,
    "actor_clip": 0.5,
    "critic_clip": 10.0,
    "attend_heads": 2,
    "target_update_tau": 0.01,
    "target_update_interval": 0,
    "reward_scale": 100.0,
    "logit_decay": 1e-3,
}


def spec_of(n_agents: int, n_actions: int = 4) -> EnvSpec:
    return replace(SPEC, n_agents=n_agents, n_actions=n_actions)


def critic(spec: EnvSpec = SPEC, heads: int = 2, hidden: int = 8) -> AttentionCritic:
    return AttentionCritic(spec, AttentionConfig(attend_heads=heads), (hidden, hidden))


def learner(spec: EnvSpec = SPEC, seed: int = 0, extras=(), **changes) -> MAAC:
    torch.manual_seed(seed)
    controller = Controller(spec, ControllerConfig(**CONTROLLER))
    made = MAAC(spec, MAACConfig(**{**CONFIG, **changes}), controller, extras)
    # Targets of their own: a loss that reads an online network instead has another value.
    for net in (made.target_controller, made.target_critic):
        for p in net.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return made


def joint(spec: EnvSpec, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    batch = random_batch(spec, count)
    return batch.obs, one_hot(batch.actions, spec.n_actions).float()


def slow_critic(
    net: AttentionCritic, obs: torch.Tensor, actions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One transition, one agent and one head at a time (MAAC, eq. 5 and 6)."""
    count, agents = obs.shape[:2]
    size = net.key.weight.shape[0] // net.heads
    values, squares = torch.zeros_like(actions), torch.zeros(())

    def layer(which, i: int, x: torch.Tensor) -> torch.Tensor:
        return which.weight[i] @ x + which.bias[i, :, 0]

    for b in range(count):
        e = [
            leaky_relu(layer(net.see_and_do, j, torch.cat([obs[b, j], actions[b, j]])))
            for j in range(agents)
        ]
        for i in range(agents):
            s = leaky_relu(layer(net.see, i, obs[b, i]))
            heads = [s]
            for m in range(net.heads):
                part = slice(m * size, (m + 1) * size)
                others = [j for j in range(agents) if j != i]
                logits = torch.stack(
                    [
                        (net.selector.weight[part] @ s) @ (net.key.weight[part] @ e[j])
                        for j in others
                    ]
                )
                squares = squares + logits.square().mean() / count
                weights = (logits / math.sqrt(size)).softmax(0)
                seen = [
                    leaky_relu(net.value.weight[part] @ e[j] + net.value.bias[part]) for j in others
                ]
                heads.append(sum(w * v for w, v in zip(weights, seen, strict=True)))
            values[b, i] = layer(net.last, i, leaky_relu(layer(net.first, i, torch.cat(heads))))
    return values, squares


@pytest.mark.parametrize("agents", [2, 3])
def test_the_critic_equals_a_loop_over_transitions_agents_and_heads(agents):
    spec = spec_of(agents)
    net, (obs, actions) = critic(spec), joint(spec)
    with torch.no_grad():
        for ours, theirs in zip(net(obs, actions), slow_critic(net, obs, actions), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_parameter_count():
    net = critic(replace(SPEC, obs_size=25, n_actions=5, n_agents=4), heads=4, hidden=128)
    assert sum(p.numel() for p in net.parameters()) == 212_628


def test_attention_is_over_the_others_and_even_without_a_selector():
    net = critic()
    logits = torch.randn(3, 3, 2, 5)
    weights = net.weights(logits)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 2, 5))
    assert torch.diagonal(weights).abs().sum() == 0
    even = net.weights(torch.zeros(3, 3, 2, 5))
    assert even[0, 1].flatten().tolist() == pytest.approx([0.5] * 10)


def test_two_agents_have_nothing_to_choose_between():
    """Attention over one other agent is 1: the logits' decay alone moves keys and selectors."""
    spec = spec_of(2)
    made = learner(spec)
    terms, *_ = made(random_batch(spec), NOW, 0)
    chosen = [made.critic.key.weight, made.critic.selector.weight]
    assert all(
        g.abs().max() == 0 for g in torch.autograd.grad(terms["td"], chosen, retain_graph=True)
    )
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(terms["attention"], chosen))


def test_a_single_agent_attends_to_no_other():
    spec = spec_of(1)
    Descent(made := learner(spec)).update(random_batch(spec), NOW, 0)
    assert all(torch.isfinite(p).all() for p in made.parameters())


def test_an_agents_values_do_not_depend_on_its_own_action():
    net, (obs, actions) = critic(), joint(SPEC)
    other = actions.clone()
    other[:, 1] = actions[:, 1].roll(1, -1)
    before, after = net(obs, actions)[0], net(obs, other)[0]
    assert torch.equal(before[:, 1], after[:, 1])
    assert (before[:, [0, 2]] - after[:, [0, 2]]).abs().max() > 0


class Says(torch.nn.Module):
    """A critic whose values are given."""

    def __init__(self, q: list[Any]):  # [U], or [A, 1]
        super().__init__()
        self.q = torch.tensor(q)

    def forward(
        self, obs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.q.expand_as(actions), torch.zeros(())


def with_policy(made: MAAC, p: list[float]) -> MAAC:
    """Every agent draws from `p` whatever it sees, now and by the target."""
    for controller in (made.controller, made.target_controller):
        for weight in controller.parameters():
            torch.nn.init.zeros_(weight)
        controller.agents.mlp.layers[-1].bias.data[:] = torch.tensor(p).log()[:, None]
    return made


@pytest.mark.parametrize(("terminated", "expected"), [(0.0, 2.9698), (1.0, 1.0)])
def test_the_target_discounts_the_entropy_and_ends_with_the_task(terminated, expected):
    """With r = 1, Q' = 2, log pi' = -1, scale 100."""
    p = [math.exp(-1)] * 2 + [(1 - 2 * math.exp(-1)) / 2] * 2
    made = with_policy(learner(), p)
    made.target_critic = Says([2.0] * 4)
    made.draws = lambda batch: (torch.zeros(5, 3), torch.zeros(5, 3))  # the first action
    batch = random_batch(reward=torch.ones(5), terminated=torch.full((5,), terminated))
    assert made.target(batch, NOW).flatten().tolist() == pytest.approx([expected] * 15, abs=1e-5)


def test_the_critics_loss_equals_a_slow_computation():
    made, batch = learner(), masked(random_batch())
    with torch.no_grad():
        following = log_softmax(made.target_controller(batch.next_obs), batch.next_avail)
        drawn = sample(following.exp(), made.draws(batch)[1])
        next_q, _ = slow_critic(made.target_critic, batch.next_obs, one_hot(drawn, 4).float())
        q, logits = slow_critic(made.critic, batch.obs, one_hot(batch.actions, 4).float())
        total = 0.0
        for b in range(5):
            for i in range(3):
                u = drawn[b, i]
                soft = next_q[b, i, u] - following[b, i, u] / 100
                target = batch.reward[b] + 0.98 * (1 - batch.terminated[b]) * soft
                total += (q[b, i, batch.actions[b, i]] - target).square().item() / 5
    terms, stats, _ = made(batch, NOW, 0)
    assert terms["td"].item() == pytest.approx(total, rel=1e-4)
    assert terms["attention"].item() == pytest.approx(1e-3 * logits.item(), rel=1e-4)
    assert stats["loss"].item() == terms["td"].item()


@pytest.mark.parametrize("final", [1.0, 12.0])
def test_rewards_are_not_standardised(final):
    """Standardised, a reward at the end of 30 steps would be sqrt(29), others -0.185695."""
    spec = replace(SPEC, episode_limit=30)
    lived = Episodes.allocate(spec, 1, torch.device("cpu"))
    lived.avail.fill_(True)
    lived.reward[0, -1], lived.terminated[0, -1] = final, True
    scored = standardised(lived.reward.T).flatten().tolist()
    assert scored == pytest.approx([-0.185695] * 29 + [5.38516], abs=1e-5)
    replay = Replay(spec, ReplayConfig(buffer_size=60), torch.device("cpu"))
    replay.insert(lived)
    (rows,) = replay.draw(keys(1), 400, 4)
    batch = replay.read(rows, Wants(), keys(1)[0])
    expected = final * (rows.row == 29).float()
    assert torch.equal(batch.reward, expected) and 0 < expected.count_nonzero() < 400
    made = learner(spec, reward_scale=1e9)
    made.target_critic = Says([0.0] * 4)
    torch.testing.assert_close(
        made.target(batch, NOW), expected[:, None].expand(-1, 3), atol=1e-6, rtol=0
    )


def test_the_actors_loss_equals_a_slow_computation():
    """Eq. 9, step by step and agent by agent; the critics judge freshly drawn actions."""
    made, batch = learner(reward_scale=2.0, logit_decay=0.1), random_batch()
    batch.avail[::2, 0, 1] = batch.avail[1, 2, 0] = False
    logits, (draws, _) = made.controller(batch.obs), made.draws(batch)
    log_p = [[logits[b, i, batch.avail[b, i]].log_softmax(0) for i in range(3)] for b in range(5)]
    place = [
        [int((log_p[b][i].exp().cumsum(0) > draws[b, i]).nonzero()[0]) for i in range(3)]
        for b in range(5)
    ]
    drawn = torch.tensor(
        [[batch.avail[b, i].nonzero().flatten()[place[b][i]] for i in range(3)] for b in range(5)]
    )
    assert not torch.equal(drawn, batch.actions)
    with torch.no_grad():
        q, _ = slow_critic(made.critic, batch.obs, one_hot(drawn, 4).float())
    loss = decay = torch.zeros(())
    for b in range(5):
        for i in range(3):
            chosen, values = log_p[b][i][place[b][i]], q[b, i, batch.avail[b, i]]
            average = sum(
                p * value for p, value in zip(log_p[b][i].exp().tolist(), values, strict=True)
            )
            signal = chosen.item() / 2 - (values[place[b][i]] - average)
            loss = loss + chosen * signal / 5
            decay = decay + 0.1 * logits[b, i].square().mean() / 5
    terms = made(batch, NOW, 1).terms
    assert set(terms) == {"actor", "logits"}
    for ours, theirs in ((terms["actor"], loss), (terms["logits"], decay)):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
        slopes = (
            torch.autograd.grad(term, made.shared(), retain_graph=True) for term in (ours, theirs)
        )
        for a, b in zip(*slopes, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_the_baseline_leaves_no_advantage_on_average():
    """Every action is drawn in turn, and its advantage read off the actors' loss."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    made, batch = with_policy(learner(), p.tolist()), random_batch()
    made.critic = Says([0.7, -0.2, 0.4, 0.1])
    advantage = []
    for log_p, middle in zip(p.log(), p.cumsum(0) - p / 2, strict=True):
        draws = middle.expand(5, 3)
        made.draws = lambda batch, draws=draws: (draws, draws)
        loss = made(batch, NOW, 1).terms["actor"].detach() / 3
        advantage.append(log_p / 100 - loss / log_p)
    assert torch.stack(advantage).tolist() == pytest.approx([0.51, -0.39, 0.21, -0.09], abs=1e-5)
    assert (p * torch.stack(advantage)).sum().abs() < 1e-6


@pytest.mark.parametrize(("p", "still"), [((0.26894, 0.73106), True), ((0.5, 0.5), False)])
def test_the_actors_rest_where_the_policy_is_the_softmax_of_scaled_values(p, still):
    """Values (0, 0.01) at scale 100; evenly spread draws give the expectation."""
    spec, count = spec_of(2, 2), 20_000
    made = with_policy(learner(spec, logit_decay=0.0), list(p))
    made.critic = Says([0.0, 0.01])
    even = (torch.arange(count) + 0.5).div(count)[:, None].expand(count, 2)
    made.draws = lambda batch: (even, even)
    terms, *_ = made(random_batch(spec, count), NOW, 1)
    bias = made.controller.agents.mlp.layers[-1].bias
    (gradient,) = torch.autograd.grad(terms["actor"], bias)
    assert bool(gradient.abs().max() < 1e-5) is still


def test_each_phase_moves_its_own():
    made, batch = learner(), random_batch()
    for phase, expected in ((0, "critic"), (1, "controller")):
        made.zero_grad()
        sum(made(batch, NOW, phase).terms.values()).backward()
        reached = {name.split(".")[0] for name, p in made.named_parameters() if p.grad is not None}
        assert reached == {expected}


def test_actors_learn_from_the_critic_just_moved():
    """Critic, actors, targets. One Adam equals two: it skips parameters without a gradient."""
    made, other, batch = learner(actor_clip=0.0, critic_clip=0.0), learner(), random_batch()
    optimisers = [
        torch.optim.Adam(net.parameters(), lr=1e-2) for net in (other.critic, other.controller)
    ]
    descent = Descent(made)
    for _ in range(3):
        descent.update(batch, NOW, 0)
        for phase, optimiser in enumerate(optimisers):
            other.zero_grad()
            sum(other(batch, NOW, phase).terms.values()).backward()
            optimiser.step()
        with torch.no_grad():
            for pair in other.targets():
                for target, online in zip(
                    pair.target.parameters(), pair.online.parameters(), strict=True
                ):
                    target.lerp_(online, 0.01)
    for ours, theirs in zip(made.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_every_agents_gradient_is_clipped_by_itself():
    gradients = [torch.tensor([[3.0, 0.0], [0.1, 0.0]]), torch.tensor([[4.0], [0.0]])]
    clip_each(gradients, 0.5)
    assert gradients[0].flatten().tolist() == pytest.approx([0.3, 0.0, 0.1, 0.0], abs=1e-6)
    assert gradients[1].flatten().tolist() == pytest.approx([0.4, 0.0], abs=1e-6)


@pytest.mark.parametrize("agents", [2, 4])
def test_actors_are_clipped_one_by_one_and_the_critics_by_their_number(agents):
    """Limits 0.5, and 10 n."""
    made = learner(spec_of(agents), actor_lr=1e-3, critic_lr=1e-4)
    actors, critics = made.groups()
    assert (list(actors.modules), actors.lr, actors.clip, actors.axes) == (
        [made.controller],
        1e-3,
        0.5,
        1,
    )
    assert (list(critics.modules), critics.lr, critics.clip, critics.axes) == (
        [made.critic],
        1e-4,
        10.0 * agents,
        0,
    )


def test_large_gradients_arrive_clipped():
    made = learner(logit_decay=1e6)
    made.phases = 1  # stop after the critics, whose gradients the actors' phase clears
    Descent(made).update(random_batch(), NOW, 0)
    assert norm([p.grad for p in made.critic.parameters()]).item() == pytest.approx(30, rel=1e-4)
    made.phases = 2
    Descent(made).update(random_batch(), NOW, 0)
    for i in range(3):
        assert norm([p.grad[i] for p in made.shared()]).item() == pytest.approx(0.5, rel=1e-4)


def test_shaped_rewards_reach_each_agents_own_target():
    """Where p = 1, every target is shifted alike."""
    individual = torch.arange(15.0).view(5, 3)
    plain, shaped = learner(), learner(extras=[Bonus(individual)])
    batch = random_batch()
    torch.testing.assert_close(shaped.target(batch, NOW), plain.target(batch, NOW) + individual)


class Recorded(ShapedReward):
    """Remembers the rewards that it gave."""

    def __init__(self) -> None:
        super().__init__(WeightedConfig(**WEIGHTED), context())
        self.paid: list[torch.Tensor] = []

    def rewards(self, batch, t):
        found = super().rewards(batch, t)
        self.paid.append(found["individuality"])
        return found


@pytest.mark.parametrize("make", [qmix, learner])
def test_rewards_are_recomputed_at_every_update(make):
    """By the classifier as it is. MAAC's critics use the classifier of the update before."""
    torch.manual_seed(0)
    batch, extra, expected = random_batch(), Recorded(), []
    descent = Descent(make(extras=[extra]))
    for _ in range(3):
        p = extra.posterior(batch.obs)
        expected.append(0.05 * torch.stack([p[:, i, i] for i in range(3)], 1))
        descent.update(batch, NOW, 0)
    paid = extra.paid
    assert len(paid) == 3
    for ours, theirs in zip(paid, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (paid[0] - paid[1]).abs().max() > 1e-5 < (paid[1] - paid[2]).abs().max()


@pytest.mark.parametrize(("steps", "bound"), [(30, 4.545), (15, 2.614), (20, 3.324)])
def test_being_recognised_adds_a_known_value_whatever_the_actions(steps, bound):
    """alpha (1 - gamma^(T - t)) / (1 - gamma), by targets from the last step to the first."""
    individuality = ShapedReward(WeightedConfig(**{**WEIGHTED, "alpha": 0.2}), context())
    individuality.recognised = lambda obs: torch.ones(obs.shape[:-1])
    added = []
    following = {
        False: [[0.0]] * 3,
        True: [[9.0]] * 3,
    }  # of each agent, at the step after; the end has none
    for step in reversed(range(steps)):
        batch = random_batch(
            count=1, seed=step, terminated=torch.tensor([float(step == steps - 1)])
        )
        for shaped in following:
            made = learner(extras=[individuality] if shaped else [])
            made.target_critic = Says(following[shaped])
            following[shaped] = made.target(batch, NOW).T.tolist()
        added.append(torch.tensor(following[True]) - torch.tensor(following[False]))
        expected = 0.2 * (1 - 0.98 ** (steps - step)) / 0.02
        assert added[-1].flatten().tolist() == pytest.approx([expected] * 3, abs=1e-4)
    assert added[-1].mean().item() == pytest.approx(bound, abs=6e-4)


def test_a_constant_added_to_all_values_moves_no_actor():
    """The optimal critic's shift leaves the policy gradient as it is."""
    made, batch = learner(), random_batch()
    gradients = []
    for shift in (0.0, 22.7258):
        made.critic = Says([0.1 + shift, shift, -0.2 + shift, shift])
        gradients.append(torch.autograd.grad(made(batch, NOW, 1).terms["actor"], made.shared()))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_sampling_follows_the_distribution_and_never_the_impossible():
    p = torch.tensor([0.2, 0.0, 0.5, 0.3]).expand(20000, 4)
    chosen = sample(p, torch.rand(20000, generator=torch.Generator().manual_seed(0)))
    assert chosen.bincount(minlength=4).div(20000).tolist() == pytest.approx(
        [0.2, 0, 0.5, 0.3], abs=0.01
    )
    edges = torch.tensor([0.0, 1 - 2.0**-24])
    assert sample(torch.tensor([0.0, 0.5, 0.5, 0.0]).expand(2, 4), edges).tolist() == [1, 2]
    torch.manual_seed(1)
    rough = torch.randn(2000, 7).mul(20).softmax(-1)
    assert rough.gather(1, sample(rough, torch.full((2000,), 1 - 2.0**-24))[:, None]).min() > 0


@pytest.mark.parametrize("make", [qmix, learner])
def test_unavailable_actions_are_never_drawn(make):
    made = make()
    avail = torch.zeros(500, 3, 4, dtype=torch.bool)
    avail[..., 2] = True
    batch = random_batch(count=500)
    own = step_keys(500, 3)
    for greedy in (False, True):
        assert (made.act(batch.obs, avail, {}, own, NOW, greedy).actions == 2).all()
    assert torch.equal(made.policy(batch.obs, avail), avail.float())


def divergence(*p: list[float]) -> torch.Tensor:
    """KL term of fixed policies at weight 1, its mean over pairs, and its largest gradient."""
    logits = torch.tensor([p]).log().requires_grad_()
    everyones = logits.detach().log_softmax(-1)
    spec = spec_of(len(p), len(p[0]))
    extra = KLDivergence(KLConfig(weight=1.0), context(spec))
    policies = Policies(
        logits.log_softmax(-1),
        lambda obs, avail, last: everyones[:, None].expand(-1, len(p), -1, -1),
    )
    terms, stats, _ = extra.losses(random_batch(spec, 1), policies, NOW)
    terms["kl"].backward()
    return torch.stack([terms["kl"].detach(), stats["kl_mean"], logits.grad.abs().max()])


def test_kl_by_hand():
    """0.8 ln 9 for each of the two; equal policies do not part."""
    term, mean, _ = divergence([0.9, 0.1], [0.1, 0.9])
    assert mean.item() == pytest.approx(1.757780, abs=1e-5)
    assert term.item() == pytest.approx(-2 * 1.757780, abs=1e-5)
    assert divergence([0.3, 0.7], [0.3, 0.7]).abs().max() < 1e-6


def test_kl_is_bounded_and_not_negative():
    """At most 10 a pair, 30 for each of four agents."""
    tiny = 1e-30
    term, mean, _ = divergence([1 - tiny, tiny], [tiny, 1 - tiny])
    assert term.item() == pytest.approx(-20, abs=1e-3)
    assert mean.item() > 60
    term, _, _ = divergence(*(torch.eye(4).clamp(min=tiny).tolist()))
    assert term.item() / 4 == pytest.approx(-30, abs=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        term, mean, _ = divergence(*torch.randn(3, 5, generator=generator).softmax(-1).tolist())
        assert term < 0 < mean
        assert term.item() == pytest.approx(
            -6 * mean.item(), rel=1e-4
        )  # six pairs, none at its bound


def test_kl_of_agents_that_see_their_last_action():
    trainer = make_trainer(tiny("kl_maac", seed=1, obs_last_action=True))
    trainer.train()
    assert trainer.at.updates > 0 and "kl_mean" in trainer.runs[0].log.latest


def test_a_weight_of_lfo_scales_the_divergence():
    made = learner(extras=[KLDivergence(KLConfig(weight=0.5), context())])
    batch, weight = random_batch(), torch.tensor([0.25, 1.0, 0.0])
    plain, scaled = (
        torch.autograd.grad(made(each, NOW, 1).terms["kl"], made.shared())
        for each in (batch, replace(batch, weight=weight.expand(5, 3)))
    )
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(b, a * weight[:, None, None])
    assert all(a.abs().amax((1, 2)).min() > 0 for a in plain)


def test_kl_compares_policies_on_the_same_observation_and_moves_one():
    """KL(pi_i || pi_j) at agent i's own observation, gradient to pi_i alone."""
    made = learner(extras=[KLDivergence(KLConfig(weight=0.5), context())])
    batch = masked(random_batch())
    total = torch.zeros(())
    for i in range(3):
        obs, avail = (x[:, i : i + 1].expand(-1, 3, -1) for x in (batch.obs, batch.avail))
        log_p = log_softmax(made.controller(obs), avail).unbind(1)
        total = total + sum(
            (log_p[i].exp() * (log_p[i] - log_p[j].detach())).sum(-1).mean()
            for j in range(3)
            if j != i
        )
    term = made(batch, NOW, 1).terms["kl"]
    assert term.item() == pytest.approx(-0.5 * total.item(), rel=1e-4)
    ours, theirs = (torch.autograd.grad(loss, made.shared()) for loss in (term, -0.5 * total))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["maac", "eoi_maac", "kl_maac"])
def test_a_single_agent_trains_and_reports(name):
    _, logged = trained(tiny(name, env_args={"n_agents": 1}))
    assert all(math.isfinite(value) for metric, value, *_ in logged if metric == "grad_norm")
    assert any(metric == "grad_norm" for metric, *_ in logged)
