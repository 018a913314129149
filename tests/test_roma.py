"""ROMA against hand-worked numbers and slow computations, and its runs used."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import leaky_relu, softplus

from eoi import evaluate, watch
from eoi import main as program
from eoi.components.batch import Batch
from eoi.components.replay import Wants
from eoi.controllers.controller import Controller, ControllerConfig
from eoi.envs.base import EnvSpec
from eoi.learners.base import Extra
from eoi.learners.q_learner import QConfig, QLearner
from eoi.learners.roma import (
    Roma,
    RomaConfig,
    closeness,
    divergence,
    entropy,
    scaled,
    specialisation,
)
from eoi.modules.agents import REGISTRY, Agent, Sizes
from eoi.modules.roles import Norm, Roles, RolesConfig
from eoi.saved import load_policy
from eoi.utils.errors import UserError
from eoi.utils.seeding import uniform
from helpers import (
    CONTROLLER,
    SPEC,
    context,
    keys,
    make_trainer,
    random_batch,
    step_keys,
    tiny,
    trained,
)
from test_memory import assert_equal_losses, batch_of, episodes, with_garbage
from test_q_learner import Q as VALUE

NOW, CPU = torch.tensor(0.0), torch.device("cpu")
ROLES = RolesConfig(role_dim=3, role_units=16, role_var_floor=0.002, role_norm="layer")
WEIGHTS = {"entropy_weight": 1e-4, "kl_weight": 1e-4, "dissimilarity_weight": 1e-3}
LOSSES = {**WEIGHTS, "soft_constraint": 1.0, "lr": 5e-4}
KINDS = ["role_mlp", "role_gru"]


def agents(kind: str, n_agents: int = 3, inputs: int = 6, hidden: int = 8, **more) -> Agent:
    torch.manual_seed(0)
    sizes = {"outputs": 5, "shared": True, "same_init": False, "own": ROLES, **more}
    return REGISTRY[kind](Sizes(n_agents, inputs, (hidden, hidden), **sizes))


def learner(kind: str, spec: EnvSpec = SPEC, own: RolesConfig = ROLES, **weights) -> QLearner:
    torch.manual_seed(0)
    shared = {"share_params": True, "obs_agent_id": True}
    controller = Controller(spec, ControllerConfig(**{**CONTROLLER, **shared, "agent": kind}), own)
    facts = context(spec)._replace(agents=controller.agents)
    extras: list[Extra] = [Roma(RomaConfig(**{**LOSSES, **weights}), facts)]
    return QLearner(spec, QConfig(**VALUE), controller, extras)


def roma_of(made: QLearner) -> Roma:
    (extra,) = made.extras
    assert isinstance(extra, Roma)
    return extra


def batch_for(kind: str) -> Batch:
    """Transitions, or whole episodes."""
    return batch_of(episodes()) if kind == "role_gru" else random_batch(count=9)


# --- numbers


def test_entropy_and_divergence_of_gaussians():
    one = torch.ones(3)
    assert entropy(one).item() == pytest.approx(4.256816, abs=1e-6)
    loss = softplus(1e-4 * entropy(one) + 1e-4 * 0.0)
    assert loss.item() == pytest.approx(0.693360, abs=1e-6)
    zero, first = torch.zeros(1), torch.ones(1)
    assert divergence(zero, first, first, first).item() == pytest.approx(0.5)
    assert divergence(zero, first, zero, 4 * first).item() == pytest.approx(0.318147, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(2, 7, 4, 3, generator=generator)
    assert divergence(mean, log_var.exp(), mean, log_var.exp()).abs().max() == 0
    torch.testing.assert_close(
        divergence(mean, log_var.exp(), mean + 1, one.expand_as(mean)),
        torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, (log_var / 2).exp()),
            torch.distributions.Normal(mean + 1, one),
        ).sum(-1),
    )


def test_a_pair_costs_the_larger_of_minus_closeness_and_distance_less_one():
    """With c = 1: max(-m, d - 1), between -1 and 0."""
    close, apart = torch.randn(2, 50, 4, 4, generator=torch.Generator().manual_seed(1))
    found = specialisation(close, apart.abs(), torch.tensor(1.0))
    pairs = torch.maximum(-scaled(close), scaled(apart.abs()) - 1)
    assert pairs.min() >= -1 and pairs.max() <= 0
    torch.testing.assert_close(found, pairs.mean(-1))


@pytest.mark.parametrize("constraint", [1.0, 0.3])
def test_specialisation_equals_a_loop_over_pairs(constraint):
    generator = torch.Generator().manual_seed(2)
    role, mean = torch.randn(2, 6, 3, 2, generator=generator)
    var = 0.01 + torch.rand(6, 3, 2, generator=generator)
    mean[0] *= 20  # some densities are at their floor
    distance = torch.rand(6, 3, 3, generator=generator)
    close, total = torch.zeros(6, 3, 3), 0.0
    for b in range(6):
        for i in range(3):
            for j in range(3):
                for k in range(2):
                    gap = role[b, j, k] - mean[b, i, k]
                    log_p = -0.5 * math.log(2 * math.pi * var[b, i, k]) - gap**2 / 2 / var[b, i, k]
                    close[b, i, j] += max(log_p + 13.9, -13.9) / 2
        low, high = close[b].min(), close[b].max()
        least, most = distance[b].min(), distance[b].max()
        for i in range(3):
            for j in range(3):
                m = (close[b, i, j] - low) / (high - low)
                d = (distance[b, i, j] - least) / (most - least)
                total += (d - constraint * min(m + d, 1)) / 9 / 6
    torch.testing.assert_close(closeness(role, mean, var), close)
    found = specialisation(closeness(role, mean, var), distance, torch.tensor(constraint))
    assert found.mean().item() == pytest.approx(float(total), abs=1e-5)


def test_equal_entries_have_a_finite_gradient():
    same = torch.full((2, 3, 3), 0.7, requires_grad=True)
    special = specialisation(same, same.square(), torch.tensor(1.0)).sum()
    special.backward()
    assert same.grad is not None and same.grad.isfinite().all()


# --- networks


def test_the_published_agent_has_as_many_parameters():
    """d_x = 34, five actions: 35,394; the generated layer's own 5,440 and 85."""
    agent = agents("role_gru", inputs=34, hidden=64)
    last = agent.roles.decoder.last
    assert last.weight.numel() + last.bias.numel() == 5440 + 85
    extra = Roma(RomaConfig(**LOSSES), context()._replace(agents=agent))
    assert sum(p.numel() for net in (agent, extra) for p in net.parameters()) == 35_394


@pytest.mark.parametrize("groups", [1, 3])
def test_a_role_generates_the_last_layer(groups):
    """Row by row: decode the role into a matrix, and multiply."""
    torch.manual_seed(0)
    net = Roles(groups, 6, 4, 5, ROLES)
    x, noise, hidden = torch.randn(7, 3, 6), torch.randn(7, 3, 3), torch.randn(7, 3, 4)
    out, given = net(x, noise, hidden)
    torch.testing.assert_close(given["role"], given["role_mean"] + given["role_var"].sqrt() * noise)
    layers = net.decoder
    for b in range(7):
        for i in range(3):
            k = 0 if groups == 1 else i
            z = layers.first.weight[k] @ given["role"][b, i] + layers.first.bias[k, :, 0]
            z = (z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt()
            z = leaky_relu(z * layers.norm.weight[k, :, 0] + layers.norm.bias[k, :, 0])
            matrix = layers.last.weight[k] @ z + layers.last.bias[k, :, 0]
            matrix = matrix.view(5, 5)  # [H + 1, U]
            torch.testing.assert_close(out[b, i], hidden[b, i] @ matrix[:4] + matrix[4])


def test_a_variance_has_a_floor():
    net = Roles(1, 6, 4, 5, replace(ROLES, role_var_floor=0.5))
    with torch.no_grad():
        net.encoder.net.last.bias[:, 3:] = -20
    _, given = net(torch.randn(7, 3, 6), torch.zeros(7, 3, 3), torch.randn(7, 3, 4))
    assert (given["role_var"] == 0.5).all()


def test_norms():
    torch.manual_seed(0)
    x = torch.randn(1, 16, 20)
    for kind, theirs in (("batch", torch.nn.BatchNorm1d(16)), ("layer", torch.nn.LayerNorm(16))):
        ours = Norm(kind, 1, 16)(x)
        torch.testing.assert_close(ours[0].T, theirs(x[0].T))
        alone = Norm(kind, 1, 16)(x[..., :1])
        assert torch.allclose(alone, ours[..., :1], atol=1e-6) == (kind == "layer")
    assert Norm("none", 1, 16)(x) is x and not list(Norm("none", 1, 16).parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
def test_acting_step_by_step_equals_unrolling(kind, shared):
    net = agents(kind, shared=shared)
    x, carry, found = torch.randn(4, 6, 3, 6 + net.noise), net.start(4, CPU), []
    for t in range(6):
        out, carry = net.step(x[:, t], carry)
        found.append(out)
    whole, given = net.explain(x)
    torch.testing.assert_close(torch.stack(found, 1), whole)
    torch.testing.assert_close(net.unroll(x), whole)
    torch.testing.assert_close(carry["role"], given["role_mean"][:, -1])


@pytest.mark.parametrize("kind", KINDS)
def test_separate_weights_of_one_start_are_shared_weights(kind):
    """Until they learn."""
    alone, shared = agents(kind, shared=False, same_init=True), agents(kind, shared=True)
    with torch.no_grad():
        for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True):
            ours.copy_(theirs[:1])
    x = torch.randn(4, 6, 3, 6 + alone.noise)
    torch.testing.assert_close(alone.unroll(x), shared.unroll(x))


# --- random roles


@pytest.mark.parametrize("kind", KINDS)
def test_a_role_is_drawn_at_each_step_from_the_steps_key(kind):
    made = learner(kind).controller
    obs, carry = torch.randn(2, 3, 6), made.start(2, CPU)
    first, again, other = (
        made.step(obs, carry, keys(2, name))[0] for name in ("one", "one", "two")
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    alone = made.step(obs[1:], made.start(1, CPU), keys(2, "one")[1:])[0]
    torch.testing.assert_close(alone, first[1:])  # whatever stands beside it
    mean, _ = made.step(obs, carry)  # without a key: the mean role
    noise = torch.zeros(2, 3, 3)
    torch.testing.assert_close(
        mean, made.agents.step(torch.cat([obs, torch.eye(3).expand(2, 3, 3), noise], -1), carry)[0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_targets_draw_roles_of_their_own(kind):
    made, batch = learner(kind), batch_for(kind)
    same = made.controller.following(batch)
    assert torch.equal(same, made.controller.following(batch))
    assert not torch.equal(same, made.target_controller.following(batch, "target"))
    assert not torch.equal(same, made.controller.following(replace(batch, key=keys(1, seed=5)[0])))


def test_roles_of_a_step_and_the_next_differ():
    made, batch = learner("role_mlp"), random_batch(count=9)
    batch = replace(batch, next_obs=batch.obs)
    assert not torch.equal(made.controller.now(batch), made.controller.following(batch))


# --- losses


@pytest.mark.parametrize("kind", KINDS)
def test_losses_at_the_start(kind):
    """On random inputs the authors' code has 0.6934 and -4.5e-4."""
    made = learner(kind)
    terms = made(batch_for(kind), NOW).terms
    assert terms["identifiability"].item() == pytest.approx(0.6934, abs=3e-4)
    assert -1e-3 <= terms["specialisation"].item() <= 0
    assert terms["specialisation"].item() == pytest.approx(-4.5e-4, abs=2.5e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_history_that_tells_the_role_has_no_divergence(kind):
    made, batch = learner(kind), batch_for(kind)
    batch = batch_of(episodes((7, 7, 7))) if kind == "role_gru" else batch
    roma, (_, given) = roma_of(made), made.controller.both(batch)[1:]
    roma.guess = lambda x, before: (given["role_mean"], given["role_var"])
    assert made(batch, NOW).stats["role_kl"].abs() < 1e-6


def test_identifiability_is_bounded():
    made, batch = learner("role_mlp", kl_weight=1e30), random_batch(count=9)
    loss = made(batch, NOW).terms["identifiability"]
    assert loss.item() == pytest.approx(2000.0)


def moved(made: QLearner, term: str, batch: Batch) -> set[str]:
    """Names of the parameters that a loss term reaches."""
    made.zero_grad()
    made(batch, NOW).terms[term].backward()
    grads = {name: p.grad for name, p in made.named_parameters()}
    return {name for name, g in grads.items() if g is not None and g.abs().sum() > 0}


@pytest.mark.parametrize("kind", KINDS)
def test_which_weights_a_term_reaches(kind):
    """The history is a constant; roles' distributions, and the networks of the losses, move."""
    made, batch = learner(kind), batch_for(kind)
    encoder = "controller.agents.roles.encoder."
    for term, net in (("identifiability", "history"), ("specialisation", "dissimilar")):
        reached = moved(made, term, batch)
        assert {name.startswith((encoder, f"extras.0.{net}.")) for name in reached} == {True}
        assert any(name.startswith(encoder) for name in reached)
        assert any(name.startswith(f"extras.0.{net}.") for name in reached)
    decoder = "controller.agents.roles.decoder."
    assert any(name.startswith(decoder) for name in moved(made, "td", batch))


def test_history_of_agents_with_memory_is_their_memory_before():
    made, batch = learner("role_gru"), batch_of(episodes())
    roma, net = roma_of(made), made.controller
    _, given = net.explained(batch)
    before = roma._before(batch, made._values(batch)[0])
    carry, none = net.start(3, CPU), torch.zeros(3, 3, ROLES.role_dim)
    for t in range(7):
        going = batch.length > t
        torch.testing.assert_close(before[going, t], carry["hidden"][going])
        x = torch.cat([given["input"][:, t], none], -1)
        _, carry = net.agents.step(x, carry)


def test_history_of_agents_without_memory_is_the_observation_before():
    made, batch = learner("role_mlp"), random_batch(count=9)
    before = roma_of(made)._before(batch, made._values(batch)[0])
    assert made.wants.last_obs and not made.wants.window
    hidden = made.controller.explain(batch.last_obs)[1]["hidden"]
    first = batch.has_earlier == 0
    assert (before[first] == 0).all() and first.any()
    torch.testing.assert_close(before[~first], hidden[~first])


def test_padding_changes_no_loss():
    """With the mean roles: random ones depend on the batch's shape."""
    made, batch = learner("role_gru"), replace(batch_of(episodes()), key=None)
    assert_equal_losses(made(batch, NOW), made(with_garbage(batch), NOW))


def test_without_weights_roma_leaves_its_agents_alone():
    """Bit for bit: roles stay, and learn from the TD error alone."""
    without = trained(tiny("roma", t_max=60, roma=dict.fromkeys(WEIGHTS, 0.0)))[0].runs[0].learner
    weightless, trainer = [], make_trainer(tiny("roma", t_max=60))
    for name in WEIGHTS:
        getattr(trainer.runs[0].learner.extras[0], name).zero_()
    trainer.train()
    shaped = trained(tiny("roma", t_max=60))[0].runs[0].learner
    assert not without.extras
    for made in (trainer.runs[0].learner, shaped):
        both = zip(made.controller.parameters(), without.controller.parameters(), strict=True)
        weightless.append(all(torch.equal(x, y) for x, y in both))
    assert weightless == [True, False]


# --- whole runs


@pytest.mark.parametrize(
    ("algorithm", "updates", "expected"),
    [
        ("qmix", {"roma": WEIGHTS}, "roma: agent=mlp gives no hidden; set agent to one of role_"),
        ("maac", {"agent": "role_mlp"}, "agent=role_mlp: learner=maac takes agents that draw"),
        ("ippo", {"agent": "role_gru"}, "agent=role_gru: learner=ppo takes agents that draw"),
        ("roma", {"role_norm": "bath"}, "role_norm: expected one of 'layer', 'batch', 'none'"),
        ("roma", {"role_dim": 0}, "role_dim: must be at least 1, got 0"),
    ],
)
def test_misfits_are_refused(algorithm, updates, expected):
    with pytest.raises(UserError, match=expected):
        tiny(algorithm, **updates)


def test_settings_of_roles_have_no_effect_elsewhere(tmp_path, capsys):
    words = ["--config=qmix", "with", "role_dim=4", f"local_results_path={tmp_path}"]
    assert program.main(words) == 2
    assert capsys.readouterr().err == "error: role_dim: has no effect with --config=qmix\n"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("algorithm", ["roma", "roma_rnn"])
def test_other_norms_train(norm, algorithm):
    _, seen = trained(tiny(algorithm, role_norm=norm, obs_last_action=True, t_max=60))
    assert all(math.isfinite(value) for _, value, _ in seen)
    assert {"role_kl", "role_entropy", "role_specialisation"} <= {name for name, _, _ in seen}


def test_roma_and_eoi_train_together():
    _, seen = trained(tiny("roma", t_max=60, eoi={"form": "policy"}))
    assert {"role_kl", "classifier_loss"} <= {name for name, _, _ in seen}


def test_beside_eoi_the_history_is_still_one_step_before():
    made = make_trainer(tiny("roma", eoi={"form": "classifier", "delta_t": 4})).team
    assert isinstance(made, QLearner) and made.wants == Wants(window=4, last_obs=True)


@pytest.mark.parametrize("algorithm", ["roma", "roma_rnn"])
def test_a_saved_run_is_evaluated_watched_and_played(algorithm, tmp_path):
    words = "seed=3 hidden_dim=8 batch_size_run=2 buffer_size=400 learning_starts=0 t_max=60"
    words += f" test_nepisode=2 batch_size=2 local_results_path={tmp_path}"
    assert program.main([f"--config={algorithm}", "with", *words.split()]) == 0
    run, out = tmp_path / "sacred" / "1", tmp_path / "found.json"
    assert evaluate.main([str(run), "--episodes=3", f"--out={out}"]) == 0
    assert len(json.loads(out.read_text())["episodes"]["return"]) == 3
    env, made, settings = watch.load(run, 1)
    (film,) = watch.shoot(env, made, 0, settings.run.t_max)
    roles = [shot.marks["role"] for shot in film[1:]]
    assert all(len(rows) == 4 and len(rows[0]) == 2 for rows in roles)  # two main components
    assert "role " in "\n".join(watch.screen(film[-1], coloured=False))
    policy = load_policy(run)
    with torch.no_grad():
        for p in policy.learner.controller.parameters():
            p.mul_(3)  # so that actions depend on the role
    obs = torch.rand(40, 4, policy.spec.obs_size, generator=torch.Generator().manual_seed(0))
    seen = [policy.act(obs) for _ in range(3) if policy.reset() is None]
    assert not torch.equal(seen[0], seen[1])


def test_role_noise_and_exploration_are_drawn_apart(monkeypatch):
    made, used, acting = learner("role_mlp"), [], step_keys(2, SPEC.n_agents)
    step = made.controller.step

    def noted(obs, carry, key):
        used.append(key)
        return step(obs, carry, key)

    monkeypatch.setattr(made.controller, "step", noted)
    obs = torch.rand(2, SPEC.n_agents, SPEC.obs_size)
    avail = torch.ones(2, SPEC.n_agents, SPEC.n_actions, dtype=torch.bool)
    made.act(obs, avail, made.start(2, CPU), acting, NOW, greedy=False)
    (key,) = used
    assert not (uniform(key, SPEC.n_agents, 2) == acting.draws).any()
