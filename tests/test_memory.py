"""Agents with memory: networks, losses over padded episodes, the replay, whole runs."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from eoi import evaluate, watch
from eoi import main as program
from eoi.components.batch import Batch, last_of
from eoi.components.episodes import Episodes
from eoi.components.replay import Replay, ReplayConfig, Wants
from eoi.config import loader
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.learners import REGISTRY
from eoi.learners.base import Extra
from eoi.learners.eoi import (
    Explore,
    IntrinsicQConfig,
    Pull,
    PullConfig,
    ShapedReward,
    WeightedConfig,
)
from eoi.learners.lfo import LFO, LFOConfig
from eoi.learners.ppo import PPO, PPOConfig
from eoi.learners.q_learner import QConfig, QLearner
from eoi.modules.agents import GRUAgent, MLPAgent, Sizes
from eoi.saved import load_policy
from eoi.settings import configure
from eoi.utils.errors import UserError
from helpers import CONTROLLER, SPEC, context, keys, make_trainer, tiny, trained
from test_eoi import EXPLORE, PULL, WEIGHTED
from test_fleet import assert_near
from test_lfo import CONFIG as SWAP
from test_ppo import CONFIG as CLIP
from test_q_learner import Q as VALUE
from test_replay import Q, numbered
from test_resume import assert_same, final, resumed

NOW, CPU = torch.tensor(0.0), torch.device("cpu")
SIZES = Sizes(n_agents=3, inputs=6, hidden=(8, 8), outputs=4, shared=False, same_init=False)
MEMORY = {
    "agent": "gru",
    "batch_size": 2,  # episodes
    "obs_last_action": True,
    "obs_agent_id": True,
}
LOADED = {name: loader.load(name, "pac_men", {}) for name in loader.names("algs")}
ALGORITHMS = [
    name
    for name, config in LOADED.items()
    if REGISTRY[config["learner"]].memory and config["agent"] in ("mlp", "gru")
]


def controller(**changes) -> Controller:
    torch.manual_seed(0)
    return Controller(SPEC, ControllerConfig(**{**CONTROLLER, "agent": "gru", **changes}))


# --- networks


def test_a_single_agent_is_pytorchs_gru_cell():
    torch.manual_seed(0)
    net, cell = GRUAgent(replace(SIZES, n_agents=1)), torch.nn.GRUCell(8, 8)
    with torch.no_grad():
        for name, layer in (("ih", net.input_gates), ("hh", net.hidden_gates)):
            getattr(cell, f"weight_{name}").copy_(layer.weight[0])
            getattr(cell, f"bias_{name}").copy_(layer.bias[0, :, 0])

    def linear(layer, x):
        return x @ layer.weight[0].T + layer.bias[0, :, 0]

    x, carry, hidden = torch.randn(5, 9, 6), net.start(5, CPU), torch.zeros(5, 8)
    for t in range(9):
        out, carry = net.step(x[:, t, None], carry)
        hidden = cell(linear(net.encode, x[:, t]).relu(), hidden)
        torch.testing.assert_close(carry["hidden"][:, 0], hidden)
        torch.testing.assert_close(out[:, 0], linear(net.head, hidden))


@pytest.mark.parametrize("agent", ["mlp", "gru"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("ids", [False, True])
def test_acting_step_by_step_equals_unrolling(agent, shared, last, ids):
    net = controller(agent=agent, share_params=shared, obs_last_action=last, obs_agent_id=ids)
    obs, actions = torch.randn(5, 9, 3, SPEC.obs_size), torch.randint(0, 4, (5, 9, 3))
    carry, found = net.start(5, CPU), []
    for t in range(9):
        out, carry = net.step(obs[:, t], carry)
        carry = net.took(carry, actions[:, t])
        found.append(out)
    torch.testing.assert_close(torch.stack(found, 1), net(obs, last_of(actions)))


def test_inputs_are_the_observation_the_last_action_and_the_id():
    net, seen = controller(agent="mlp", obs_last_action=True, obs_agent_id=True), []
    net.agents.unroll = lambda x, length: seen.append(x) or x[..., :4]
    obs, actions = torch.randn(2, 3, 3, 6), torch.randint(0, 4, (2, 3, 3))
    net(obs, last_of(actions))
    (x,) = seen
    torch.testing.assert_close(x[..., :6], obs)
    assert x[:, 0, :, 6:10].abs().sum() == 0  # nothing came before
    torch.testing.assert_close(x[:, 1:, :, 6:10], one_hot(actions[:, :-1], 4).float())
    torch.testing.assert_close(x[..., 10:], torch.eye(3).expand(2, 3, 3, 3))


def test_one_agents_loss_leaves_the_others_alone():
    net = GRUAgent(SIZES)
    net.unroll(torch.randn(5, 9, 3, 6))[:, :, 1].sum().backward()
    for p in net.parameters():
        assert p.grad is not None and p.grad[1].abs().sum() > 0
        assert p.grad[[0, 2]].abs().sum() == 0


def test_shared_weights_are_one_network():
    net = GRUAgent(replace(SIZES, shared=True))
    x, order = torch.randn(5, 9, 3, 6), [2, 0, 1]
    torch.testing.assert_close(net.unroll(x[:, :, order]), net.unroll(x)[:, :, order])
    same = GRUAgent(replace(SIZES, same_init=True))
    assert all(torch.equal(p[0], p[i]) for p in same.parameters() for i in range(3))


def test_the_output_depends_on_earlier_observations_alone():
    net, x = GRUAgent(SIZES), torch.randn(1, 9, 3, 6)
    before, x[:, 4] = net.unroll(x), 0.0
    after = net.unroll(x)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amax((0, 2, 3)).min() > 0
    mlp, x = MLPAgent(SIZES), torch.randn(1, 9, 3, 6)
    before, x[:, 4] = mlp.unroll(x), 0.0
    assert torch.equal(before[:, 5:], mlp.unroll(x)[:, 5:])


# --- losses over padded episodes


def episodes(lengths: tuple[int, ...] = (7, 4, 2), seed: int = 0) -> Episodes:
    """Random episodes; the second one ran out of time."""
    g = torch.Generator().manual_seed(seed)
    out = Episodes.allocate(SPEC, len(lengths), CPU, Q)
    for x in (out.obs, out.state, out.reward, out.kept["q"]):
        x.copy_(torch.randn(x.shape, generator=g))
    out.actions.copy_(torch.randint(0, SPEC.n_actions, out.actions.shape, generator=g))
    out.avail.copy_(torch.rand(out.avail.shape, generator=g) < 0.5)
    out.avail[..., 1] = True
    out.avail[:, :-1].scatter_(-1, out.actions[..., None], True)
    for n, length in enumerate(lengths):
        out.terminated[n, length - 1] = n != 1
        out.reward[n, length:] = 0
    return replace(out, length=torch.tensor(lengths))


def batch_of(played: Episodes, seed: int = 0) -> Batch:
    """Whole episodes with every optional field."""
    replay = Replay(SPEC, ReplayConfig(buffer_size=50), CPU, Q)
    replay.insert(played)
    count = len(played.length)
    (drawn,) = replay.draw_episodes(keys(1, seed=seed), count, 4)
    return replay.read_episodes(drawn, Wants(last_actions=True, window=4), keys(1)[0])


def with_garbage(batch: Batch, more: int = 4) -> Batch:
    """Longer by `more` steps. All padding is garbage, but for the row after the last step."""
    assert batch.valid is not None
    g = torch.Generator().manual_seed(5)

    def longer(x: torch.Tensor) -> torch.Tensor:
        shape = (len(x), more, *x.shape[2:])
        if x.dtype == torch.bool:
            filling = torch.rand(shape, generator=g) < 0.5
            filling[..., 1] = True
        elif x.dtype == torch.int64:
            filling = torch.randint(0, SPEC.n_actions, shape, generator=g)
        else:
            filling = 100 * torch.randn(shape, generator=g)
        out = torch.cat([x, filling], 1)
        noise = torch.cat([filling.roll(k, 1) for k in range(out.shape[1] // more + 1)], 1)
        padding = torch.cat([batch.valid, torch.zeros(len(x), more)], 1) == 0
        out[padding] = noise[:, : out.shape[1]][padding]
        return out

    names = {f.name for f in fields(Batch)} - {"key", "weight", "unswapped", "memory", "kept"}
    tensors = {n: getattr(batch, n) for n in names if getattr(batch, n) is not None}
    made = {name: longer(x) for name, x in tensors.items()}
    made["valid"] = torch.cat([batch.valid, torch.zeros(len(batch.valid), more)], 1)
    for n, length in enumerate(batch.valid.sum(1).int().tolist()):
        # The row after the last step holds the last observation, of which a value is taken.
        made["obs"][n, length] = batch.next_obs[n, length - 1]
        made["state"][n, length] = batch.next_state[n, length - 1]
        if "last_actions" in made:
            made["last_actions"][n, length] = batch.actions[n, length - 1]
    return replace(batch, **made, kept={name: longer(x) for name, x in batch.kept.items()})


def q_learner(mixer: str, extras: list[Extra], **changes) -> QLearner:
    cfg = QConfig(**{**VALUE, "mixer": mixer, **changes})
    made = QLearner(SPEC, cfg, controller(obs_last_action=True), extras)
    for net in (made.target_controller, made.target_mixer):
        for p in net.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return made


def attached(form: str) -> list[Extra]:
    torch.manual_seed(1)
    eoi: dict[str, Extra] = {
        "pull": Pull(PullConfig(**PULL), context()),
        "stored": Pull(
            PullConfig(**{**PULL, "q_source": "stored", "q_input": "normalised"}), context()
        ),
        "explore": Explore(IntrinsicQConfig(**EXPLORE), context()),
        "reward": ShapedReward(WeightedConfig(**WEIGHTED), context()),
    }
    if form == "none":
        return []
    if form != "lfo":
        return [eoi[form]]
    swapped = LFO(LFOConfig(**{**SWAP, "derangement": True}), context(eoi=eoi["pull"]))
    return [eoi["pull"], swapped]


def assert_equal_losses(ours, theirs) -> None:
    assert ours.terms.keys() == theirs.terms.keys() and ours.stats.keys() == theirs.stats.keys()
    for name, term in {**ours.terms, **ours.stats}.items():
        other = {**theirs.terms, **theirs.stats}[name]
        torch.testing.assert_close(term, other, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("mixer", ["qmix", "vdn", "none"])
@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("form", ["none", "pull", "stored", "explore", "reward", "lfo"])
def test_padding_changes_no_value_loss(mixer, double_q, form):
    batch, extras = batch_of(episodes()), attached(form)
    made = q_learner(mixer, extras, double_q=double_q)
    ours, theirs = made(batch, NOW), made(with_garbage(batch), NOW)
    if form == "lfo":  # which draws for whole episodes
        assert ours.stats["lfo_weight_mean"] > 0
    assert_equal_losses(ours, theirs)
    slopes = []
    for losses in (ours, theirs):
        total = torch.stack(list(losses.terms.values())).sum()
        slopes.append(torch.autograd.grad(total, made.shared()))
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("critic_input", ["obs", "both"])
@pytest.mark.parametrize("form", ["none", "reward"])
def test_padding_changes_no_policy_loss(critic_input, form):
    cfg = PPOConfig(**{**CLIP, "critic_input": critic_input, "entropy_coef": 0.1})
    made = PPO(SPEC, cfg, controller(obs_last_action=True), attached(form))
    rollout = replace(episodes().batch(), memory=batch_of(episodes()))
    # Policies that acted were others, so that some ratios are clipped.
    ours, theirs = made.study(rollout, NOW), made.study(with_garbage(rollout), NOW)
    with torch.no_grad():
        for p in made.controller.parameters():
            p += 0.3
    assert_equal_losses(made(ours, NOW), made(theirs, NOW))


@pytest.mark.parametrize("form", ["none", "pull", "explore", "reward", "lfo"])
def test_episodes_of_one_length_need_no_mask(form):
    """The mean is over steps, with and without a mask of ones."""
    batch, made = batch_of(episodes((7, 7, 7))), q_learner("qmix", attached(form))
    assert batch.valid is not None and batch.valid.all()
    assert_equal_losses(made(batch, NOW), made(replace(batch, valid=None), NOW))
    cfg = PPOConfig(**{**CLIP, "critic_input": "obs", "entropy_coef": 0.1})
    policy = PPO(SPEC, cfg, controller(obs_last_action=True), [])
    rollout = policy.study(episodes((7, 7, 7)).batch(), NOW)
    assert_equal_losses(policy(rollout, NOW), policy(replace(rollout, valid=None), NOW))


def slow_td(made: QLearner, batch: Batch) -> float:
    """Episode by episode and step by step, as agents act; the mean is over valid steps."""
    assert batch.last_actions is not None
    total, count = torch.zeros(()), 0
    for b in range(len(batch.reward)):
        steps = batch.reward.shape[1] if batch.valid is None else int(batch.valid[b].sum())
        outputs = []
        for net in (made.controller, made.target_controller):
            carry, found = net.start(1, CPU), []
            for t in range(steps + 1):
                obs = batch.obs[b, t] if t < steps else batch.next_obs[b, t - 1]
                out, carry = net.step(obs[None], carry)
                if t < steps:
                    carry = net.took(carry, batch.actions[b, t][None])
                found.append(out[0])
            outputs.append(found)
        online, target = outputs
        for t in range(steps):
            taken = online[t].gather(1, batch.actions[b, t][:, None]).squeeze(1)
            chooser = online if made.cfg.double_q else target
            best = chooser[t + 1].masked_fill(~batch.next_avail[b, t], -1e9).argmax(1)
            following = target[t + 1].gather(1, best[:, None]).squeeze(1)
            joint = made.mixer(taken[None], batch.state[b, t][None])[0]
            after = made.target_mixer(following[None], batch.next_state[b, t][None])[0]
            goal = batch.reward[b, t] + 0.9 * (1 - batch.terminated[b, t]) * after
            total, count = total + (joint - goal).square().sum(), count + 1
    return (total / count).item()


@pytest.mark.parametrize("mixer", ["qmix", "vdn", "none"])
@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("lengths", [(7, 4, 2), (7, 7, 7)])
def test_the_loss_equals_a_slow_computation(mixer, double_q, lengths):
    made, batch = q_learner(mixer, [], double_q=double_q), batch_of(episodes(lengths))
    if lengths == (7, 7, 7):
        batch = replace(batch, valid=None)
    assert made(batch, NOW).terms["td"].item() == pytest.approx(slow_td(made, batch), rel=1e-4)


# --- whole episodes from the replay


def assert_episode(batch: Batch, row: int, n: int, length: int, window: int) -> None:
    """Row `row` is episode number `n`, all of whose entries tell where they belong."""
    assert batch.last_actions is not None
    assert batch.earlier is not None and batch.has_earlier is not None
    for t in range(length):
        mark = 100 * n + t
        assert batch.reward[row, t] == mark
        assert batch.valid is None or batch.valid[row, t] == 1
        for now, then in ((batch.obs, batch.next_obs), (batch.state, batch.next_state)):
            assert (now[row, t] == mark).all() and (then[row, t] == mark + 1).all()
        assert (batch.kept["q"][row, t] == mark).all()
        assert (batch.actions[row, t] == t % 4).all()
        assert (batch.last_actions[row, t] == ((t - 1) % 4 if t else -1)).all()
        assert batch.avail[row, t, :, t % 4].all()
        assert batch.next_avail[row, t, :, (t + 1) % 4].all()
        assert batch.terminated[row, t] == (t == length - 1)
        back = mark - batch.earlier[row, t, 0, 0]
        assert batch.has_earlier[row, t] == (t > 0)
        assert (1 <= back <= min(t, window)) if t else back == 0
        assert batch.last_obs is not None and batch.last_obs[row, t, 0, 0] == mark - (t > 0)
    for t in range(length, batch.obs.shape[1]):
        assert batch.valid is not None and batch.valid[row, t] == 0
        assert (batch.obs[row, t] == 100 * n + length).all()


@pytest.mark.parametrize("fixed", [False, True])
def test_episodes_from_the_replay_equal_those_inserted(fixed):
    """Against marks 100 * episode + step, at every turn of the ring."""
    spec = replace(SPEC, fixed_length=fixed)
    replay = Replay(spec, ReplayConfig(buffer_size=50), CPU, Q)
    lengths = [7] * 40 if fixed else [1 + (5 * k) % 7 for k in range(40)]
    wants = Wants(last_actions=True, window=3, last_obs=True)
    for first in range(0, 40, 4):
        replay.insert(numbered(spec, lengths[first : first + 4], first))
        held = range(first + 4 - replay.episodes, first + 4)
        for drawn in replay.draw_episodes(keys(3, seed=first), 4, wants.window):
            batch = replay.read_episodes(drawn, wants, keys(1)[0])
            numbers = (batch.reward[:, 0] // 100).long().tolist()
            assert len(set(numbers)) == len(numbers) == min(4, len(held))
            assert set(numbers) <= set(held) and (batch.valid is None) is fixed
            longest = spec.episode_limit if fixed else max(lengths[n] for n in numbers)
            assert batch.obs.shape[1] == longest
            for row, n in enumerate(numbers):
                assert_episode(batch, row, n, lengths[n], wants.window)


def test_every_episode_is_drawn_equally_often():
    replay = Replay(SPEC, ReplayConfig(buffer_size=50), CPU, Q)
    replay.insert(numbered(SPEC, [1, 7, 3, 7, 2], 0))
    drawn = replay.draw_episodes(keys(2000), 2, 0)
    starts = torch.cat([each.rows[:, 0] for each in drawn])
    counts = torch.stack([(starts == row).float().mean() for row in starts.unique()])
    assert len(counts) == 5 and counts.tolist() == pytest.approx([0.2] * 5, abs=0.02)


def test_updates_wait_for_a_full_batch():
    trainer = make_trainer(tiny("qmix", **MEMORY | {"batch_size": 3, "batch_size_run": 1}))
    for episode in range(1, 5):
        trainer.play()
        trainer.learn()
        assert (trainer.at.updates > 0) == (episode >= 3)


def test_an_interval_in_episodes_counts_from_the_first_full_batch():
    every = {"update_interval_episodes": 2, "batch_size": 3, "batch_size_run": 1}
    trainer, seen = make_trainer(tiny("qmix", **MEMORY | every)), []
    for _ in range(8):
        trainer.play()
        trainer.learn()
        seen.append(trainer.at.updates)
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3]


def test_an_interval_in_episodes_of_agents_without_memory():
    every = {"update_interval_episodes": 2, "batch_size_run": 1, "learning_starts": 0}
    trainer, seen = make_trainer(tiny("qmix", **every)), []
    for _ in range(5):
        trainer.play()
        trainer.learn()
        seen.append(trainer.at.updates)
    assert seen == [0, 1, 1, 2, 2]


# --- whole runs


@pytest.mark.parametrize(
    ("algorithm", "shared"),
    [(name, False) for name in ALGORITHMS] + [("qmix", True), ("eoi_mappo", True)],
)
def test_it_trains_with_finite_numbers(algorithm, shared, tmp_path):
    chosen = tiny(algorithm, **MEMORY, share_params=shared)
    trainer, seen = trained(chosen, tmp_path)
    assert trainer.at.updates > 0 and isinstance(
        trainer.runs[0].learner.controller.agents, GRUAgent
    )
    assert all(math.isfinite(value) for _, value, _ in seen)
    assert {"test_return_mean", "test_snd", "loss"} <= {name for name, _, _ in seen}
    moved = trainer.runs[0].learner.state_dict()
    before = make_trainer(chosen).runs[0].learner.state_dict()
    for name in ("encode", "input_gates", "hidden_gates", "head"):
        key = f"controller.agents.{name}.weight"
        assert not torch.equal(moved[key], before[key])


@pytest.mark.parametrize("algorithm", ["qmix", "ippo"])
def test_agents_without_memory_see_their_last_action(algorithm):
    _, seen = trained(tiny(algorithm, obs_last_action=True, obs_agent_id=True, t_max=60))
    assert {"test_snd", "loss"} <= {name for name, _, _ in seen}


@pytest.mark.parametrize("algorithm", ["eoi_qmix", "eoi_ippo"])
def test_it_trains_where_episodes_differ_in_length(algorithm):
    """On 8m by the lite engine."""
    short = {"t_max": 400, "test_interval": 400, "log_interval": 100, "buffer_size": 2000}
    chosen = tiny(algorithm, "sc2", **MEMORY, **short, env_args={"engine": "lite"})
    trainer, seen = trained(chosen)
    assert trainer.at.updates > 0 and all(math.isfinite(value) for _, value, _ in seen)


@pytest.mark.parametrize("algorithm", ["qmix", "eoi_qmix", "eoi_explore_qmix", "iql", "eoi_mappo"])
def test_it_resumes_exactly(algorithm, tmp_path):
    trained(tiny(algorithm, **MEMORY), tmp_path / "whole")
    trained(tiny(algorithm, **MEMORY, t_max=61), tmp_path / "parts")
    resumed(tiny(algorithm, **MEMORY), tmp_path / "parts").train()
    assert_same(final(tmp_path / "parts"), final(tmp_path / "whole"))


@pytest.mark.parametrize("algorithm", ["vdn", "eoi_qmix", "eoi_explore_qmix", "iql", "eoi_mappo"])
def test_a_fleets_runs_are_the_runs_alone(algorithm):
    chosen = [tiny(algorithm, **MEMORY, seed=seed) for seed in (1, 2)]
    fleet = make_trainer(*chosen)
    fleet.train()
    for ours, settings in zip(fleet.runs, chosen, strict=True):
        theirs = trained(settings)[0].runs[0]
        assert ours.at == theirs.at
        assert_near(ours.learner, theirs.learner, 1e-3)
        for name in ("loss", "return_mean", "test_return_mean"):
            assert ours.log.latest[name] == pytest.approx(theirs.log.latest[name], abs=1e-3)


@pytest.mark.parametrize("algorithm", ["maac", "eoi_maac", "kl_maac", "hc", "hsd"])
def test_learners_without_memory_refuse_agents_that_have_one(algorithm):
    with pytest.raises(UserError, match=r"agent=gru: learner=\w+ takes agents without memory"):
        configure(loader.load(algorithm, "pac_men", {"seed": 1, "agent": "gru"}))
    with pytest.raises(UserError, match=r"agent: expected one of 'mlp', 'gru', .* got 'gur'"):
        configure(loader.load("qmix", "pac_men", {"seed": 1, "agent": "gur"}))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A saved run whose agents remember."""
    results = tmp_path_factory.mktemp("memory")
    words = [f"{key}={value}" for key, value in MEMORY.items()]
    words += ["seed=3", "hidden_dim=8", "batch_size_run=2", "buffer_size=400", "learning_starts=0"]
    words += ["t_max=240", "test_nepisode=2", "test_interval=120", "log_interval=120"]
    words += ["update_interval=30", f"local_results_path={results}"]
    assert program.main(["--config=eoi_qmix", "--env-config=pac_men", "with", *words]) == 0
    return results / "sacred" / "1"


def test_a_saved_run_is_evaluated_and_watched(run, tmp_path):
    out = tmp_path / "found.json"
    assert evaluate.main([str(run), "--episodes=3", f"--out={out}"]) == 0
    assert len(json.loads(out.read_text())["episodes"]["return"]) == 3
    page = tmp_path / "film.html"
    assert watch.main([str(run), "--episodes", "1", "--out", str(page), "--quiet"]) == 0
    assert page.stat().st_size > 1000


def test_a_loaded_policy_remembers_until_it_is_reset(run):
    policy = load_policy(run)
    g = torch.Generator().manual_seed(0)
    obs = torch.rand(6, 4, policy.spec.obs_size, generator=g)
    team = policy.learner.controller
    with torch.no_grad():
        for p in team.parameters():
            p.mul_(6)  # so that actions depend on the memory
    first = [policy.act(x) for x in obs]
    forgetful = []
    for x in obs:
        policy.reset()
        forgetful.append(policy.act(x))
    assert not torch.equal(torch.stack(forgetful), torch.stack(first))
    actions, carry = [], team.start(1, CPU)
    with torch.no_grad():
        for x in obs:
            q, carry = team.step(x[None], carry)
            actions.append(q.argmax(-1)[0])
            carry = team.took(carry, actions[-1][None])
    assert torch.equal(torch.stack(first), torch.stack(actions))
    with torch.no_grad():
        whole = team(obs[None], last_of(torch.stack(actions)[None])).argmax(-1)[0]
    assert torch.equal(torch.stack(first), whole)
    policy.reset()
    assert torch.equal(torch.stack([policy.act(x) for x in obs]), torch.stack(first))
    with pytest.raises(ValueError, match="another number of episodes than before; call reset"):
        policy.act(obs[:3])
    policy.reset()
    many = policy.act(obs.numpy())
    assert isinstance(many, np.ndarray) and np.array_equal(many[0], first[0].numpy())


def test_a_loaded_policys_memory_matters(run):
    """The same observation has other values after another history."""
    team = load_policy(run).learner.controller
    obs = torch.rand(2, 5, 4, 75, generator=torch.Generator().manual_seed(1))
    obs[1, -1] = obs[0, -1]
    with torch.no_grad():
        q = team(obs, torch.zeros(2, 5, 4, dtype=torch.long))
    assert (q[0, -1] - q[1, -1]).abs().max() > 1e-4
