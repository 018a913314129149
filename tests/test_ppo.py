"""Advantages, the clipped objective, and the batches of on-policy learners."""

from dataclasses import fields, replace

import pytest
import torch

from eoi.components.batch import Batch
from eoi.components.episodes import Episodes
from eoi.components.replay import Replay, ReplayConfig
from eoi.components.returns import gae, standardised
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.learners import experience as sources
from eoi.learners.base import Extra, Progress
from eoi.learners.descent import Descent
from eoi.learners.experience import OnPolicy, transitions
from eoi.learners.ppo import PPO, PPOConfig
from eoi.modules.critics import StateValue, ValueConfig
from helpers import CONTROLLER, SPEC, Bonus, keys, random_batch

NOW, CPU = torch.tensor(0.0), torch.device("cpu")
CONFIG = {
    "gamma": 0.98,
    "optimizer": "adam",
    "optim_alpha": 0.99,
    "optim_eps": 1e-8,
    "batch_size": 5,
    "epochs": 3,
    "gae_lambda": 0.95,
    "actor_lr": 1e-2,
    "critic_lr": 1e-2,
    "actor_clip": 0.5,
    "critic_clip": 10.0,
    "eps_clip": 0.2,
    "entropy_coef": 0.0,
}


def learner(critic_input: str = "obs", seed: int = 0, extras=(), **changes) -> PPO:
    torch.manual_seed(seed)
    controller = Controller(SPEC, ControllerConfig(**CONTROLLER))
    cfg = PPOConfig(**{**CONFIG, "critic_input": critic_input, **changes})
    return PPO(SPEC, cfg, controller, extras)


def studied(made: PPO, lived: Episodes) -> Batch:
    """The transitions of a rollout with their advantages and returns."""
    return transitions(made.study(lived.batch(), NOW))


def minibatch(batch: Batch, log_p, advantage, returns) -> Batch:
    return replace(batch, kept={"log_p": log_p, "advantage": advantage, "returns": returns})


def episodes(lengths: tuple[int, ...] = (7, 4, 1), seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    out = Episodes.allocate(SPEC, len(lengths), CPU)
    for name in ("obs", "state", "reward"):
        getattr(out, name).copy_(torch.randn(getattr(out, name).shape, generator=g))
    out.actions.copy_(torch.randint(0, SPEC.n_actions, out.actions.shape, generator=g))
    out.avail.copy_(torch.rand(out.avail.shape, generator=g) < 0.5)
    out.avail[..., 1] = True
    out.avail[:, :-1].scatter_(-1, out.actions[..., None], True)
    for n, length in enumerate(lengths):
        out.terminated[n, length - 1] = n != 1  # the second ran out of time
        out.reward[n, length:] = 0
    return replace(out, length=torch.tensor(lengths))


def number(x: float) -> torch.Tensor:
    return torch.tensor(x)


def test_advantages_by_hand():
    reward, value = (
        torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1),
        torch.tensor([0.5, 0.5, 0.5, 9.0]).view(1, 4, 1),
    )
    terminated, valid = torch.tensor([[False, False, True]]), torch.ones(1, 3, dtype=torch.bool)
    advantage = gae(reward, value, terminated, valid, number(0.98), number(0.95))
    assert advantage.flatten().tolist() == pytest.approx([0.414071, 0.4555, 0.5], abs=1e-5)
    assert (advantage + value[:, :-1]).flatten().tolist() == pytest.approx(
        [0.914071, 0.9555, 1.0], abs=1e-5
    )


def test_a_time_out_is_bootstrapped_and_padding_is_not_read():
    reward, value = (
        torch.tensor([1.0, 77.0]).view(1, 2, 1),
        torch.tensor([0.5, 2.0, 55.0]).view(1, 3, 1),
    )
    never, valid = torch.zeros(1, 2, dtype=torch.bool), torch.tensor([[True, False]])
    advantage = gae(reward, value, never, valid, number(0.9), number(0.95))
    assert advantage.flatten().tolist() == pytest.approx([1 + 0.9 * 2 - 0.5, 0.0])


def test_with_lambda_one_it_is_the_return_less_the_value():
    lived = episodes()
    value = torch.randn(3, SPEC.episode_limit + 1, 3)
    reward = lived.reward[..., None].expand(-1, -1, 3)
    valid = torch.arange(SPEC.episode_limit) < lived.length[:, None]
    advantage = gae(reward, value, lived.terminated, valid, number(0.9), number(1.0))
    total = sum(0.9**k * lived.reward[0, k] for k in range(7))
    torch.testing.assert_close(advantage[0, 0], total - value[0, 0])
    timed_out = sum(0.9**k * lived.reward[1, k] for k in range(4)) + 0.9**4 * value[1, 4]
    torch.testing.assert_close(advantage[1, 0], timed_out - value[1, 0])


@pytest.mark.parametrize(("steps", "bound"), [(30, 4.545), (15, 2.614), (20, 3.324)])
def test_individuality_of_one_adds_a_known_return(steps, bound):
    """alpha (1 - gamma^(T - t)) / (1 - gamma), whatever the actions."""
    value, valid = torch.zeros(1, steps + 1, 1), torch.ones(1, steps, dtype=torch.bool)
    terminated = torch.arange(steps)[None] == steps - 1
    reward = torch.rand(1, steps, 1)
    plain, shaped = (
        gae(reward + more, value, terminated, valid, number(0.98), number(1.0))
        for more in (0.0, 0.2)
    )
    added = (shaped - plain).flatten().tolist()
    assert added == pytest.approx(
        [0.2 * (1 - 0.98 ** (steps - t)) / 0.02 for t in range(steps)], abs=1e-4
    )
    assert added[0] == pytest.approx(bound, abs=6e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "moves"),
    [(1.5, 1.0, 1.2, False), (1.5, -1.0, -1.5, True), (0.5, -1.0, -0.8, False)],
)
def test_the_clipped_objective(ratio, advantage, objective, moves):
    made, batch = learner(), random_batch()
    log_p = (
        made.log_policy(batch.obs, batch.avail)
        .gather(-1, batch.actions[..., None])
        .squeeze(-1)
        .detach()
    )
    full = torch.full((5, 3), advantage)
    lesson = minibatch(batch, log_p - number(ratio).log(), full, torch.zeros(5, 3))
    term = made(lesson, NOW).terms["policy"]
    assert term.item() == pytest.approx(-3 * objective, abs=1e-5)
    gradient = torch.autograd.grad(term, made.shared())
    assert bool(max(g.abs().max() for g in gradient) > 0) is moves


@pytest.mark.parametrize(("critic_input", "loss"), [("obs", 9.5), ("both", 15.0)])
def test_values_and_entropy_by_hand(critic_input, loss):
    """Values that repeat their first input: observations 1, 2, 3, or states 1 and 4."""
    made, batch = learner(critic_input, entropy_coef=0.01), random_batch(count=2)
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])  # entropy 1.75 ln 2
    for weight in made.parameters():
        torch.nn.init.zeros_(weight)
    made.controller.agents.mlp.layers[-1].bias.data[:] = p.log()[:, None]
    for layer in made.critic.net.layers:
        layer.weight.data[:, 0, 0] = 1
    batch.obs[..., 0], batch.state[:, 0] = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0])
    returns = torch.tensor([[0.0], [1.0]]).expand(2, 3)
    zeros = torch.zeros(2, 3)
    terms, stats, _ = made(minibatch(batch, zeros, zeros, returns), NOW)
    assert terms["value"].item() == pytest.approx(loss, abs=1e-5)
    assert terms["entropy"].item() == pytest.approx(-0.01 * 3 * 1.213008, abs=1e-6)
    assert stats["entropy"].item() == pytest.approx(1.213008, abs=1e-5)
    (slope,) = torch.autograd.grad(terms["entropy"], made.controller.agents.mlp.layers[-1].bias)
    expected = (
        0.01 * p * (p.log() + 1.213008)
    ).tolist()  # -coef dH/dz: down it goes, towards even policies
    assert slope.flatten().tolist() == pytest.approx(3 * expected, abs=1e-7)


@pytest.mark.parametrize("critic_input", ["obs", "state", "both"])
def test_before_the_first_step_the_whole_rollout_weighs_nothing(critic_input):
    """All ratios are 1, and advantages have no mean."""
    made = learner(critic_input)
    lesson = studied(made, episodes())
    assert len(lesson.obs) == 12
    terms, stats, _ = made(lesson, NOW)
    assert terms["policy"].item() == pytest.approx(0, abs=1e-5)
    assert stats["policy_change"].item() == pytest.approx(0, abs=1e-6)
    assert lesson.kept["advantage"].std(0, correction=0).tolist() == pytest.approx(
        [1.0] * 3, abs=1e-4
    )


def test_transitions_leave_padding_out():
    made, lived = learner(), episodes()
    lesson = studied(made, lived)
    torch.testing.assert_close(
        lesson.obs, torch.cat([lived.obs[0, :7], lived.obs[1, :4], lived.obs[2, :1]])
    )
    assert torch.equal(
        lesson.actions,
        torch.cat([lived.actions[0, :7], lived.actions[1, :4], lived.actions[2, :1]]),
    )
    assert torch.equal(
        lesson.avail, torch.cat([lived.avail[0, :7], lived.avail[1, :4], lived.avail[2, :1]])
    )
    last = lesson.kept["returns"][-1]
    torch.testing.assert_close(
        last, lived.reward[2, 0].expand(3)
    )  # one step and an end: nothing is bootstrapped


def test_values_depend_on_their_inputs_alone():
    obs, state = torch.randn(5, 3, SPEC.obs_size), torch.randn(5, SPEC.state_size)
    for sees, on_obs, on_state in (
        ("obs", True, False),
        ("state", False, True),
        ("both", True, True),
    ):
        net = StateValue(SPEC, ValueConfig(critic_input=sees), (8, 8))
        value = net(obs, state)
        assert torch.equal(net(obs + 1, state), value) is not on_obs
        assert torch.equal(net(obs, state + 1), value) is not on_state


def test_each_agents_own_reward_reaches_its_own_advantage():
    individual = torch.tensor([0.0, 5.0, 0.0]).expand(3, 7, 3)
    plain, shaped = (
        studied(learner(extras=extras), episodes()).kept["returns"]
        for extras in ([], [Bonus(individual)])
    )
    assert torch.equal(plain[:, [0, 2]], shaped[:, [0, 2]])
    assert (shaped[:, 1] > plain[:, 1] + 4.9).all()


def test_transitions_of_whole_episodes():
    lived, places = episodes(), [(0, t) for t in range(7)] + [(1, t) for t in range(4)] + [(2, 0)]
    batch = transitions(lived.batch())
    assert len(batch.obs) == 12 and batch.valid is None
    for row, (n, t) in enumerate(places):
        assert torch.equal(batch.obs[row], lived.obs[n, t])
        assert torch.equal(batch.next_obs[row], lived.obs[n, t + 1])
        assert torch.equal(batch.state[row], lived.state[n, t])
        assert torch.equal(batch.next_state[row], lived.state[n, t + 1])
        assert torch.equal(batch.avail[row], lived.avail[n, t])
        assert torch.equal(batch.next_avail[row], lived.avail[n, t + 1])
        assert torch.equal(batch.actions[row], lived.actions[n, t])
        assert batch.reward[row] == lived.reward[n, t]
        assert batch.terminated[row] == lived.terminated[n, t]


def source(made: PPO) -> tuple[OnPolicy, Replay]:
    replay = Replay(SPEC, ReplayConfig(buffer_size=50), CPU)
    return made.experience(replay), replay


def test_every_epoch_reads_every_transition_once():
    made = learner()
    experience, replay = source(made)
    experience.insert(episodes())
    lessons = list(experience.batches(keys(1)[0], NOW, Progress(12, 3, 0)))
    assert len(lessons) == 3 * 2  # twelve transitions in minibatches of about five
    whole = studied(made, episodes()).kept["returns"]
    returns = [lesson.kept["returns"] for lesson in lessons]
    for epoch in range(3):
        seen = torch.cat([each[:, 0] for each in returns[2 * epoch : 2 * epoch + 2]])
        torch.testing.assert_close(seen.sort().values, whole[:, 0].sort().values)
    assert not torch.equal(returns[0], returns[2])
    assert lessons[0].memory is None and replay.size == 0  # no extra reads it


def test_minibatches_hold_every_field_of_their_rows_but_the_next_step():
    lived = Episodes.allocate(replace(SPEC, individual_rewards=True, n_cells=9), 4, CPU, None, True)
    known = {name: torch.rand(4, 7, 3, SPEC.obs_size) for name in ("earlier", "last_obs")}
    known |= {"weight": torch.rand(4, 7, 3), "has_earlier": torch.rand(4, 7)}
    rollout = replace(lived.batch(), **known)
    rollout = replace(rollout, kept={"log_p": torch.rand(4, 7, 3)}, unswapped=rollout)
    rows, key = torch.tensor([2, 0]), keys(1)[0]
    found = sources.minibatch(rollout, rows, random_batch(), key)
    assert found.earned.shape == (2, 7, 3) and found.key is key
    for field in fields(Batch):
        whole, part = getattr(rollout, field.name), getattr(found, field.name)
        assert part is not None or field.name == "phases"
        if isinstance(whole, torch.Tensor):
            now = field.name.removeprefix("next_") if "cells" not in field.name else field.name
            assert torch.equal(part, getattr(rollout, now)[rows])
    assert torch.equal(found.kept["log_p"], rollout.kept["log_p"][rows])


def test_each_minibatch_has_a_key_of_its_own():
    experience, _ = source(learner())
    experience.insert(episodes())
    lessons = list(experience.batches(keys(1)[0], NOW, Progress(12, 3, 0)))
    assert len({int(lesson.key) for lesson in lessons}) == len(lessons)


class Reader(Extra[object]):
    """Reads earlier observations, and adds nothing."""

    window = 4


def test_extra_terms_get_transitions_of_earlier_rollouts_too():
    experience, replay = source(learner(extras=[Reader()]))
    for seed in range(3):
        experience.insert(episodes(seed=seed))
    lessons = list(experience.batches(keys(1)[0], NOW, Progress(12, 3, 0)))
    assert replay.size == 36
    for lesson in lessons:
        assert lesson.memory is not None and lesson.memory.earlier is not None
        assert lesson.memory.earlier.shape == (5, 3, SPEC.obs_size)


def test_it_climbs():
    """One action is rewarded: its probability rises."""
    made = learner(entropy_coef=0.0, epochs=20)
    descent, (experience, _) = Descent(made), source(made)
    lived = episodes((7, 7, 7, 7, 7, 7))
    lived.terminated.fill_(True)
    lived.reward.copy_((lived.actions == 2).float().mean(-1))
    before = made.policy(lived.obs, lived.avail)[..., 2].mean()
    experience.insert(lived)
    for lesson in experience.batches(keys(1)[0], NOW, Progress(42, 6, 0)):
        descent.update(lesson, NOW, 0)
    assert made.policy(lived.obs, lived.avail)[..., 2].mean() > before + 0.02


def test_standardised():
    assert standardised(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist() == [
        [-1.0, 0.0],
        [1.0, 0.0],
    ]
