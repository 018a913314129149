"""EOI's classifier and its forms against hand-worked numbers and plain loops."""

import copy
import math

import pytest
import torch
from torch import Tensor

from eoi.components.batch import Batch, of_actions
from eoi.components.episodes import Episodes
from eoi.envs.base import EnvSpec
from eoi.learners.base import Losses, Values
from eoi.learners.eoi import (
    Constraint,
    Explore,
    Individuality,
    IntrinsicPolicy,
    IntrinsicPolicyConfig,
    IntrinsicQConfig,
    Invariant,
    InvariantConfig,
    Pull,
    PullConfig,
    ShapedReward,
    WeightedConfig,
    cross_entropy,
    invariant,
    normalised,
    own_log_odds,
)
from eoi.modules.layers import AgentLinear, AgentMLP
from eoi.modules.mixers import MixerConfig, QMixer
from helpers import SPEC, context, masked, random_batch, step_keys

NOW = torch.tensor(0.0)
BASE = {
    "form": "pull",
    "beta1": 0.04,
    "beta2": 0.1,
    "delta_t": 4,
    "log_odds_step": 0.0,
    "classifier_lr": 1e-3,
    "intrinsic": "p",
}
WEIGHTED = BASE | {"alpha": 0.05, "alpha_warmup": 0, "alpha_anneal": 0, "alpha_floor": 0.0}
PULL = WEIGHTED | {
    "strength": "weight",
    "value_lr": 1e-4,
    "value_tau": 0.01,
    "q_source": "recomputed",
    "q_input": "raw",
    "project": False,
    "trust_region": 0.0,
    "constraint_lr": 0.0,
    "constraint_slack": 0.2,
}
EXPLORE = BASE | {
    "value_lr": 1e-4,
    "value_tau": 0.01,
    "gamma": 0.92,
    "reward_scale": 10.0,
    "chooser": "own",
    "explorers": "all",
    "explore_turn": 0,
    "episode_ratio": 0.4,
    "explore_ratio": 1.0,
    "explore_hold": 0,
    "explore_anneal": 0,
    "explore_floor": 0.0,
}
TWO = EnvSpec(2, 5, 1, 1, 9, True, torch.float32, ())
FOUR = EnvSpec(4, 5, 25, 7, 30, True, torch.float32, ())


def pull(spec: EnvSpec = SPEC, gamma: float = 0.98, **changes) -> Pull:
    torch.manual_seed(0)
    made = Pull(PullConfig(**{**PULL, **changes}), context(spec, gamma=gamma))
    for p in made.target_value.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return made


def values(spec: EnvSpec = SPEC, count: int = 5) -> Values:
    g = torch.Generator().manual_seed(9)
    shape = (count, spec.n_agents, spec.n_actions)
    return Values(torch.randn(shape, generator=g).requires_grad_(), torch.randn(shape, generator=g))


class Fixed(torch.nn.Module):
    """A classifier whose logits are given: [B, A, A] for anchors, another for positives."""

    def __init__(self, anchor: torch.Tensor, positive: torch.Tensor):
        super().__init__()
        self.anchor, self.positive, self.calls = torch.nn.Parameter(anchor), positive, 0

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.anchor if self.calls == 1 else self.positive


class Constant(torch.nn.Module):
    """A classifier that says one thing."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.logits


Row = list[float]


def own_first(p: Row) -> list[Row]:
    """The same for every agent, counted from its own name."""
    return [p[-i:] + p[:-i] for i in range(4)]


def fixed(anchor: Row | list[Row], positive: Row | list[Row], **changes) -> Individuality:
    """One transition of a game of four: what is said of each agent, or of all."""
    made = Individuality(Individuality.Config(**{**BASE, **changes}), context(FOUR))
    logits = [torch.tensor(p).log().expand(1, 4, 4).clone() for p in (anchor, positive)]
    made.classifier = Fixed(*logits)
    return made


def test_uniform_predictions():
    """Every term is ln 4, the total 1.580375; only the likelihood has a gradient there."""
    made = fixed([0.25] * 4, [0.25] * 4)
    (terms, stats, _), p = made.classify(random_batch(FOUR, 1, has_earlier=torch.ones(1)))
    for name in ("classifier_ce", "classifier_pd", "classifier_mi"):
        assert stats[name].item() == pytest.approx(math.log(4), abs=1e-5)
    assert terms["classifier"].item() == pytest.approx(1.580375, abs=1e-5)
    assert p.tolist() == [[pytest.approx(0.25)] * 4]
    plain = fixed([0.25] * 4, [0.25] * 4, beta1=0.0, beta2=0.0)
    for each in (made, plain):
        each.classifier.calls = 0
        each.classify(random_batch(FOUR, 1, has_earlier=torch.ones(1)))[0].terms[
            "classifier"
        ].backward()
    torch.testing.assert_close(made.classifier.anchor.grad, plain.classifier.anchor.grad)


def test_a_hand_worked_loss_and_gradient():
    """For every agent in turn; the logit gradients of an observation sum to 0."""
    made = fixed(own_first([0.7, 0.1, 0.1, 0.1]), own_first([0.4, 0.3, 0.2, 0.1]))
    (terms, stats, _), _ = made.classify(random_batch(FOUR, 1, has_earlier=torch.ones(1)))
    found = [stats[f"classifier_{name}"].item() for name in ("ce", "pd", "mi", "loss")]
    assert found == pytest.approx([0.356675, 1.524221, 0.940448, 0.511689], abs=1e-5)
    assert terms["classifier"].item() == pytest.approx(0.511689, abs=1e-5)
    terms["classifier"].backward()
    gradient = 4 * made.classifier.anchor.grad[0]  # the mean is over four agents
    for row, expected in zip(
        gradient, own_first([-0.328864, 0.105621, 0.109621, 0.113621]), strict=True
    ):
        assert row.tolist() == pytest.approx(expected, abs=1e-5)
    assert gradient.sum(-1).abs().max() < 1e-6


@pytest.mark.parametrize("beta1", [0.0, 0.04, 0.5])
@pytest.mark.parametrize("beyond", [-0.1, 0.1])
def test_evenness_is_stable_up_to_a_beta2_of_one_and_beta1(beta1, beyond):
    """On an observation that all agents share, a small deviation falls or grows."""
    made = fixed(
        [0.2503, 0.2499, 0.2499, 0.2499], [0.25] * 4, beta1=beta1, beta2=1 + beta1 + beyond
    )
    made.classify(random_batch(FOUR, 1, has_earlier=torch.ones(1)))[0].terms[
        "classifier"
    ].backward()
    row = made.classifier.anchor.detach()[0, 0]
    slope = made.classifier.anchor.grad[0].sum(0)  # of logits that are the four agents' in common
    before, after = (x.std() for x in (row, row - slope))
    assert (after > before) == (beyond > 0)
    assert (after / before).item() == pytest.approx(
        1 + beyond / 4, abs=3e-3
    )  # z falls by (1 + beta1 - beta2) z / 4


def test_anchors_without_a_positive_lose_that_term_only():
    made = fixed([0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1])
    stats = made.classify(random_batch(FOUR, 1, has_earlier=torch.zeros(1)))[0].stats
    assert stats["classifier_pd"].item() == 0
    assert stats["classifier_mi"].item() == pytest.approx(0.940448, abs=1e-5)


def test_the_positive_distance_is_a_mean_over_all_anchors():
    """Those without a positive count as 0: with one of four, it is a quarter."""
    made = fixed([0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1])
    made.classifier.anchor.data = made.classifier.anchor.data.repeat(4, 1, 1)
    made.classifier.positive = made.classifier.positive.repeat(4, 1, 1)
    found = []
    for has in ([1.0, 1, 1, 1], [0.0, 0, 1, 0]):
        made.classifier.calls = 0
        batch = random_batch(FOUR, 4, has_earlier=torch.tensor(has))
        losses, _ = made.classify(batch)
        found.append(losses)
    whole, quarter = (losses.stats["classifier_pd"].item() for losses in found)
    assert quarter == pytest.approx(whole / 4, rel=1e-5) and whole > 1
    loss = [losses.terms["classifier"].item() for losses in found]
    assert loss[0] - loss[1] == pytest.approx(0.04 * 0.75 * whole, rel=1e-3)


@pytest.mark.parametrize(
    ("share", "beta2", "optimum"),
    [(0.6, 0.1, 0.6107), (0.6, 0.2, 0.6237), (0.5, 0.2, 0.5), (0.8, 0.1, 0.8224), (0.7, 0.0, 0.7)],
)
def test_the_optimum_over_shared_observations(share, beta2, optimum):
    """The posterior p(i|o) is the share of visits, sharpened by the mutual information."""
    logit = torch.tensor(0.1, requires_grad=True)
    optimiser = torch.optim.SGD([logit], lr=1.0)
    for _ in range(400):
        cfg = Individuality.Config(**{**BASE, "beta1": 0.0, "beta2": beta2})
        made = Individuality(cfg, context(TWO, hidden=2))
        row = torch.stack([logit, torch.zeros(())])
        made.classifier = Constant(row.expand(100, 2, 2))
        (terms, *_), _ = made.classify(random_batch(TWO, 100))
        log_p = row.log_softmax(-1)
        balanced = (
            -(log_p[0] + log_p[1]) / 2
        )  # what the classifier loss takes for labels, half and half
        loss = terms["classifier"] - balanced - share * log_p[0] - (1 - share) * log_p[1]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert logit.sigmoid().item() == pytest.approx(optimum, abs=2e-4)


def test_reward_is_alpha_p_and_uniform_p_raises_it_by_a_twentieth():
    """With n = 4, alpha = 0.2 and uniform p: 0.05."""
    made = ShapedReward(WeightedConfig(**{**WEIGHTED, "alpha": 0.2}), context(FOUR))
    for p in made.classifier.parameters():
        torch.nn.init.zeros_(p)
    batch = random_batch(FOUR)
    (reward,) = made.rewards(batch, NOW).values()
    assert reward.flatten().tolist() == pytest.approx([0.05] * 20)
    centred = ShapedReward(WeightedConfig(**{**WEIGHTED, "intrinsic": "centred"}), context(FOUR))
    centred.load_state_dict(made.state_dict())
    assert centred.rewards(batch, NOW)["individuality"].abs().max() < 1e-7


def test_alpha_rises_and_falls():
    made = ShapedReward(
        WeightedConfig(**{**WEIGHTED, "alpha": 0.2, "alpha_warmup": 100, "alpha_anneal": 100}),
        context(FOUR),
    )
    assert [
        made.weight(torch.tensor(float(t))).item() for t in (0, 50, 100, 150, 300)
    ] == pytest.approx([0, 0.1, 0.2, 0.1, 0])


def test_recognised_reads_each_agents_own_name():
    made, obs = pull(), torch.randn(5, 3, SPEC.obs_size)
    p = made.classifier(obs).softmax(-1)
    torch.testing.assert_close(made.recognised(obs), torch.stack([p[:, i, i] for i in range(3)], 1))


@pytest.mark.parametrize("q_source", ["recomputed", "stored"])
@pytest.mark.parametrize("q_input", ["raw", "normalised"])
def test_the_intrinsic_value_loss_equals_a_slow_computation(q_source, q_input):
    """Eq. 6, transition by transition and agent by agent."""
    made, batch, given = pull(q_source=q_source, q_input=q_input), masked(random_batch()), values()
    lived = batch.kept["q"] if q_source == "stored" else given.q.detach()

    def seen(q, avail):
        out, can = torch.zeros_like(q), q[avail]
        out[avail] = (
            (can - can.mean()) / (can.var(correction=0) + 1e-8).sqrt()
            if q_input == "normalised"
            else can
        )
        return out

    def value(net, obs, q, avail, i):
        h = torch.cat([obs[i], seen(q[i], avail[i])])
        for k, layer in enumerate([net.first, *net.rest.layers]):
            h = (h.relu() if k else h) @ layer.weight[i].T + layer.bias[i, :, 0]
        return h

    total = 0.0
    for b in range(5):
        for i in range(3):
            p = made.classifier(batch.obs[b]).softmax(-1)[i, i]
            following = value(
                made.target_value, batch.next_obs[b], given.next_q[b], batch.next_avail[b], i
            )
            target = p + 0.98 * (1 - batch.terminated[b]) * following
            total += (
                value(made.value, batch.obs[b], lived[b], batch.avail[b], i) - target
            ).square().item() / 5
    assert made.losses(batch, given, NOW).terms["intrinsic_value"].item() == pytest.approx(
        total, rel=1e-4
    )


def test_the_pull_is_the_chain_rule():
    """Q^a(o) = W o and Q^p(o, q) = c q: the gradient on W is -alpha c o^T (eq. 7).

    It is 0 for unavailable actions.
    """
    made = pull(alpha=0.3)
    layer, c = AgentLinear(3, SPEC.obs_size + SPEC.n_actions, 1), torch.randn(3, SPEC.n_actions)
    layer.weight = torch.nn.Parameter(torch.cat([torch.zeros(3, 1, SPEC.obs_size), c[:, None]], -1))
    torch.nn.init.constant_(layer.bias, 1000.0)  # the ReLU behind it is linear there
    made.value.first, made.value.rest = layer, AgentMLP(3, [1, 1])
    torch.nn.init.ones_(made.value.rest.layers[0].weight)
    weight = torch.randn(3, SPEC.n_actions, SPEC.obs_size, requires_grad=True)
    batch = masked(random_batch())
    q, slope = torch.einsum("auo,bao->bau", weight, batch.obs), c * batch.avail
    made.losses(batch, Values(q, q.detach()), NOW).terms["pull"].backward()
    expected = -0.3 * torch.einsum("bau,bao->auo", slope, batch.obs) / 5
    torch.testing.assert_close(weight.grad, expected)
    assert layer.weight.grad is None
    torch.testing.assert_close(
        made.diagnose(batch, Values(q, q))["intrinsic_slope"], slope.norm(dim=-1).mean()
    )


def test_networks_that_each_term_moves():
    """The pull moves the agents' values alone, the regression the intrinsic value alone."""
    for term, reached in (
        ("classifier", {"classifier"}),
        ("intrinsic_value", {"value"}),
        ("pull", {"q"}),
    ):
        made, batch, given = pull(), random_batch(), values()
        made.losses(batch, given, NOW).terms[term].backward()
        got = {
            name.split(".")[0]
            for name, p in made.named_parameters()
            if p.grad is not None and p.grad.abs().sum() > 0
        }
        assert got | ({"q"} if given.q.grad is not None else set()) == reached


def test_normalised_values_carry_no_magnitude_and_no_unavailable_action():
    avail = torch.tensor([[[True, True, False, True]]])
    q = torch.tensor([[[1.0, 2.0, 99.0, 3.0]]])
    out = normalised(q, avail)
    torch.testing.assert_close(out, normalised(7 * q + 5, avail))
    assert out.flatten().tolist() == pytest.approx([-1.2247, 0, 0, 1.2247], abs=1e-4)
    alone = normalised(q, torch.tensor([[[False, True, False, False]]]))
    assert alone.abs().sum() == 0


def constant(net: torch.nn.Module, value: float) -> None:
    """Makes a per-agent MLP say `value` whatever it sees."""
    for p in net.parameters():
        torch.nn.init.zeros_(p)
    torch.nn.init.constant_(
        [p for name, p in net.named_parameters() if name.endswith("bias")][-1], value
    )


def test_sizes_of_values_leave_out_unavailable_actions():
    """Available: (1, -3) and, of an agent with one action, (-2)."""
    spec = EnvSpec(2, 3, 4, 5, 7, True, torch.float32, ())
    q = torch.tensor([[[1.0, -3, 500], [-700, -2, 900]]])
    avail = torch.tensor([[[True, True, False], [False, True, False]]])
    batch = random_batch(spec, 1, avail=avail, next_avail=avail)
    stats = pull(spec).losses(batch, Values(q.requires_grad_(), q), NOW).stats
    assert stats["q_abs_mean"].item() == pytest.approx((2 + 2) / 2)
    assert stats["q_spread"].item() == pytest.approx((4 + 0) / 2)


@pytest.mark.parametrize(("p", "value"), [(1.0, 50.0), (0.25, 12.5)])
def test_the_intrinsic_value_of_being_recognised_for_ever(p, value):
    """The loss is 0 at p / (1 - 0.98), and at p in an episode's last step."""
    made, batch = pull(FOUR), random_batch(FOUR, 2, terminated=torch.zeros(2))
    made.classify = lambda batch: (Losses({}, {}), torch.full((2, 4), p))
    constant(made.value, value)
    constant(made.target_value, value)
    assert made.losses(batch, values(FOUR, 2), NOW).terms[
        "intrinsic_value"
    ].item() == pytest.approx(0, abs=1e-6)
    last = random_batch(FOUR, 2, terminated=torch.ones(2))
    constant(made.value, p)
    assert made.losses(last, values(FOUR, 2), NOW).terms["intrinsic_value"].item() == pytest.approx(
        0, abs=1e-6
    )


def explore(**changes) -> Explore:
    torch.manual_seed(0)
    return Explore(IntrinsicQConfig(**{**EXPLORE, **changes}), context(FOUR))


@pytest.mark.parametrize(("p", "value"), [(1.0, 125.0), (0.25, 31.25)])
def test_the_intrinsic_q_of_the_exploration_form(p, value):
    """10 / (1 - 0.92) = 125, and a quarter of it."""
    made = explore()
    batch = random_batch(FOUR, terminated=torch.zeros(5))
    made.classify = lambda batch: (Losses({}, {}), torch.full((5, 4), p))
    constant(made.value, value)
    constant(made.target_value, value)
    assert made.losses(batch, values(FOUR), NOW).terms["intrinsic_value"].item() == pytest.approx(
        0, abs=1e-5
    )


def test_exploring_episodes_follow_the_intrinsic_q():
    made, obs = explore(), torch.randn(2000, 4, 25)
    avail, greedy = torch.rand(2000, 4, 5) < 0.5, torch.full((2000, 4), -1)
    avail[..., 1] = True
    draws = step_keys(2000, 4)
    chosen = made.choose(greedy, obs, avail, draws, NOW)
    followed = chosen >= 0
    assert torch.equal(followed.any(1), followed.all(1))
    assert followed.all(1).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert torch.equal(
        chosen[followed], made.value(obs).masked_fill(~avail, -torch.inf).argmax(-1)[followed]
    )
    rare = explore(explore_ratio=0.05).choose(greedy, obs, avail, draws, NOW) >= 0
    assert rare.float().mean().item() == pytest.approx(0.02, abs=0.006)


def test_the_next_action_of_the_intrinsic_q_is_an_available_one():
    made = explore()
    batch = random_batch(
        FOUR,
        next_avail=torch.zeros(5, 4, 5, dtype=torch.bool).index_fill(-1, torch.tensor([3]), True),
        terminated=torch.zeros(5),
    )
    made.classify = lambda batch: (Losses({}, {}), torch.zeros(5, 4))
    target = 0.92 * made.target_value(batch.next_obs)[..., 3]
    value = made.value(batch.obs).gather(-1, batch.actions[..., None]).squeeze(-1)
    loss = made.losses(batch, values(FOUR), NOW).terms["intrinsic_value"]
    assert loss.item() == pytest.approx((value - target).square().mean(0).sum().item(), rel=1e-5)


# The second reading of eq. 6-7: intrinsic action values, and a cross-entropy of two softmaxes.


POLICY = {
    **EXPLORE,
    **{name: PULL[name] for name in PULL if name not in ("q_source", "q_input")},
    "reward_scale": 1.0,
    "chooser": "agents",
    "temperature": 1.0,
}


def policy(spec: EnvSpec = SPEC, gamma: float = 0.98, **changes) -> IntrinsicPolicy:
    torch.manual_seed(0)
    cfg = IntrinsicPolicyConfig(**{**POLICY, "gamma": gamma, **changes})
    made = IntrinsicPolicy(cfg, context(spec))
    for p in made.target_value.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return made


def test_a_hand_worked_cross_entropy():
    q, target = torch.zeros(1, 2, requires_grad=True), torch.tensor([[1.0, 0.0]])
    loss = cross_entropy(q, target, torch.ones(1, 2, dtype=torch.bool), torch.tensor(1.0))
    assert loss.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(loss.sum(), q)
    assert gradient.flatten().tolist() == pytest.approx([0.5 - 0.731059, 0.5 - 0.268941], abs=1e-6)


def test_the_cross_entropy_knows_no_offset_and_no_unavailable_action():
    g = torch.Generator().manual_seed(0)
    q, target = (5 * torch.randn(7, 3, 4, generator=g) for _ in range(2))
    avail = torch.rand(7, 3, 4, generator=g) < 0.6
    avail[..., 0] = True
    one = torch.tensor(0.5)
    loss = cross_entropy(q, target, avail, one)
    assert torch.allclose(loss, cross_entropy(q + 100, target, avail, one), atol=1e-4)
    elsewhere = q.masked_fill(~avail, 1e6)
    assert torch.equal(loss, cross_entropy(elsewhere, target, avail, one))

    def gradient(q: Tensor) -> Tensor:
        q = q.clone().requires_grad_()
        return torch.autograd.grad(cross_entropy(q, target, avail, one).sum(), q)[0]

    assert torch.allclose(gradient(q), gradient(q + 100), atol=1e-4)
    assert (gradient(q)[~avail] == 0).all()


@pytest.mark.parametrize("size", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_policy_forms_gradient_is_bounded_by_alpha_for_any_q(size, temperature):
    extra, batch = policy(temperature=temperature), masked(random_batch())
    q = (size * torch.randn_like(batch.kept["q"])).requires_grad_()
    pull = extra.losses(batch, Values(q, q.detach()), NOW).terms["pull"]
    (gradient,) = torch.autograd.grad(pull, q)
    bound = 0.05 / temperature / len(batch.obs)  # the loss is a mean over the batch
    assert 0 < gradient.abs().max() <= bound * (1 + 1e-5)


def test_the_intrinsic_action_values_equal_a_slow_computation():
    extra, batch = policy(), masked(random_batch())
    torch.manual_seed(1)
    q, next_q = torch.randn_like(batch.kept["q"]), torch.randn_like(batch.kept["q"])
    losses = extra.losses(batch, Values(q.requires_grad_(), next_q), NOW)
    value, following = extra.value(batch.obs), extra.target_value(batch.next_obs)
    p, total, pull = extra.recognised(batch.obs), 0.0, 0.0
    for b in range(len(batch.obs)):
        for i in range(3):
            open_actions = [u for u in range(4) if batch.next_avail[b, i, u]]
            best = max(open_actions, key=lambda u, b=b, i=i: next_q[b, i, u].item())
            target = p[b, i] + 0.98 * (1 - batch.terminated[b]) * following[b, i, best]
            total += (value[b, i, batch.actions[b, i]] - target.detach()) ** 2 / len(batch.obs)
            now = batch.avail[b, i]
            wanted = value[b, i][now].detach().softmax(-1)
            pull += -(wanted * q[b, i][now].log_softmax(-1)).sum() / len(batch.obs)
    assert losses.terms["intrinsic_value"].item() == pytest.approx(total.item(), rel=1e-5)
    assert losses.terms["pull"].item() == pytest.approx(0.05 * pull.item(), rel=1e-5)


def test_the_policy_form_moves_the_agents_by_its_pull_alone():
    extra, batch = policy(), random_batch()
    q = batch.kept["q"].clone().requires_grad_()
    terms = extra.losses(batch, Values(q, q.detach()), NOW).terms
    assert torch.autograd.grad(terms["pull"], q, retain_graph=True)[0].abs().sum() > 0
    for name in ("intrinsic_value", "classifier"):
        assert torch.autograd.grad(terms[name], q, retain_graph=True, allow_unused=True)[0] is None
    values = list(extra.value.parameters())
    found = torch.autograd.grad(terms["pull"], values, allow_unused=True)
    assert all(g is None for g in found)


# The invariant form.


def test_invariant_values_are_centred_and_of_unit_deviation_over_the_batch():
    batch = masked(random_batch(count=50))
    q = invariant(batch.kept["q"] * 30 + 7, batch.avail, batch)
    assert (q[~batch.avail] == 0).all()
    assert torch.allclose(q.sum(-1), torch.zeros(50, 3), atol=1e-4)
    for i in range(3):
        own = q[:, i][batch.avail[:, i]]
        assert own.square().mean().item() == pytest.approx(1, rel=1e-4)


def directions(q: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Direction, for the first agent's values, of the gradient of two forms."""
    kept = {name: PULL[name] for name in PULL if name != "q_input"}
    torch.manual_seed(0)
    forms = {"pull": pull(), "invariant": Invariant(InvariantConfig(**kept), context(SPEC))}
    q, found = q.clone().requires_grad_(), {}
    for name, form in forms.items():
        term = form.losses(batch, Values(q, q.detach()), NOW).terms["pull"]
        gradient = torch.autograd.grad(term, q)[0][:, 0]
        found[name] = gradient / gradient.norm()
    return found


MIXING = MixerConfig(
    mixer="qmix",
    mixing_embed_dim=32,
    mixing_activation="elu",
    mixing_bias="mlp",
    hypernet_layers=1,
    hypernet_embed=64,
)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_a_scale_that_the_mixer_takes_back_turns_the_pull_and_not_the_invariant_form(scale):
    batch = random_batch(count=20)
    q = batch.kept["q"]
    changed = q.clone()
    changed[:, 0] *= scale
    mixer = QMixer(SPEC, MIXING)
    against = copy.deepcopy(mixer)
    with torch.no_grad():  # the first agent's rows of W1
        against.first.weight[: MIXING.mixing_embed_dim] /= scale
        against.first.bias[: MIXING.mixing_embed_dim] /= scale
        totals = [
            net(of_actions(values, batch.actions), batch.state)
            for net, values in ((mixer, q), (against, changed))
        ]
    assert torch.allclose(*totals, atol=1e-5)
    before, after = directions(q, batch), directions(changed, batch)
    assert float((before["invariant"] * after["invariant"]).sum()) == pytest.approx(1, abs=1e-4)
    assert float((before["pull"] * after["pull"]).sum()) < 0.99


def test_an_offset_that_another_agents_takes_back_turns_the_pull_and_not_the_invariant_form():
    batch = random_batch(count=20)
    q = batch.kept["q"]
    changed = q + torch.tensor([3.0, -3.0, 0.0])[:, None]
    taken, after = (of_actions(values, batch.actions) for values in (q, changed))
    assert torch.allclose(taken.sum(-1), after.sum(-1), atol=1e-5)  # VDN's total
    before, after = directions(q, batch), directions(changed, batch)
    assert float((before["invariant"] * after["invariant"]).sum()) == pytest.approx(1, abs=1e-4)
    assert float((before["pull"] * after["pull"]).sum()) < 0.99


def test_one_agent_explores_and_the_share_falls():
    made = explore(
        explorers="one", episode_ratio=0.8, explore_hold=100, explore_anneal=200, explore_floor=0.25
    )
    obs, avail = torch.randn(4000, 4, 25), torch.ones(4000, 4, 5, dtype=torch.bool)
    best = torch.full((4000, 4), -1)
    for t, share in ((0, 0.8), (100, 0.8), (200, 0.5), (300, 0.2), (900, 0.2)):
        chosen = made.choose(best, obs, avail, step_keys(4000, 4), torch.tensor(float(t)))
        explorers = (chosen >= 0).sum(1)
        assert explorers.max() == 1
        assert explorers.float().mean().item() == pytest.approx(share, abs=0.03)
        each = (chosen >= 0).float().mean(0) / share
        assert each.tolist() == pytest.approx([0.25] * 4, abs=0.05)


def test_own_log_odds():
    """log(p / (1 - p)) of the diagonal of p."""
    p = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]])
    expected = [0.0, math.log(4), 0.0]
    assert own_log_odds(p.log() + 7).tolist() == [pytest.approx(expected, abs=1e-5)]


@pytest.mark.parametrize(
    ("step", "cost"), [(0.0, 0.0), (1.0, (3 * math.log(3) - 1) ** 2), (9.0, 0.0)]
)
def test_a_penalty_bounds_the_change_of_log_odds_in_one_step(step, cost):
    """p goes from 0.1 to 0.75: log-odds from -2 log 3 to log 3. The loss has the penalty added."""
    before, after = ([p, *[(1 - p) / 3] * 3] for p in (0.1, 0.75))
    made = fixed(own_first(before), own_first(after), log_odds_step=step)
    bare = fixed(own_first(before), own_first(after))
    batch = random_batch(FOUR, 1, has_earlier=torch.ones(1))
    ours, theirs = (each.classify(batch)[0].terms["classifier"].item() for each in (made, bare))
    assert ours - theirs == pytest.approx(cost, rel=1e-4, abs=1e-5)


def test_agents_take_turns_to_explore():
    made = explore(explorers="one", episode_ratio=1.0, explore_turn=100)
    obs, avail = torch.randn(9, 4, 25), torch.ones(9, 4, 5, dtype=torch.bool)
    best = torch.full((9, 4), -1)
    for t, agent in ((0, 0), (99, 0), (100, 1), (399, 3), (450, 0)):
        chosen = made.choose(best, obs, avail, step_keys(9, 4), torch.tensor(float(t)))
        assert (chosen >= 0).int().tolist() == [[int(k == agent) for k in range(4)]] * 9


def test_log_odds_are_0_at_chance_and_grow_without_bound():
    made = explore(intrinsic="log_odds")
    p = torch.tensor([[0.25, 0.5, 0.75, 0.999]])
    expected = [0, math.log(3), math.log(9), math.log(999) + math.log(3)]
    assert made.intrinsic(p).flatten().tolist() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_log_p_is_0_at_chance_and_at_most_log_n():
    p = torch.tensor([[0.25, 0.5, 1.0, 0.0]])
    expected = [0, math.log(2), math.log(4), math.log(4e-6)]
    assert explore(intrinsic="log").intrinsic(p).flatten().tolist() == pytest.approx(expected)


# The strength: a constraint on the return, and a trust region around the values that acted.


def test_a_hand_worked_multiplier():
    """With slack 0.2: up by the shortfall, in shares of the best return, down while it is met."""
    held = Constraint(IntrinsicPolicyConfig(**POLICY | {"constraint_lr": 0.1}))
    # The first 200 episodes set the best: J = J* = 2, so lambda = max(0, -200 * 0.1 * 0.2) = 0.
    held.see(torch.full((200,), 2.0))
    assert held(torch.tensor(0.6)).item() == pytest.approx(0.6)
    # 100 of 200 episodes without return: J = 1. (2 - 0.4 - 1) / 2 = 0.3, times 100 * 0.1.
    held.see(torch.zeros(100))
    assert held.multiplier.item() == pytest.approx(3.0)
    assert held(torch.tensor(0.6)).item() == pytest.approx(0.15)
    # J = 3, a new best. -0.2 an episode: 3 - 100 * 0.1 * 0.2.
    held.see(torch.full((100,), 5.0))
    assert (held.recent.item(), held.best.item()) == (pytest.approx(3.0), pytest.approx(3.0))
    assert held.multiplier.item() == pytest.approx(1.0)


def test_the_best_return_may_be_negative():
    held = Constraint(IntrinsicPolicyConfig(**POLICY | {"constraint_lr": 0.1}))
    held.see(torch.full((200,), -2.0))
    held.see(torch.full((200,), -2.3))  # above -2 - 0.2 * 2
    assert held.multiplier.item() == 0
    held.see(torch.full((200,), -3.0))  # (-2 + 3 - 0.4) / 2 = 0.3, times 200 * 0.1
    assert held.multiplier.item() == pytest.approx(6.0)


@pytest.mark.parametrize("made", [lambda **c: policy(**c), lambda **c: pull(**c)])
def test_the_multiplier_divides_the_weight_of_the_pull(made):
    extra, plain, batch = made(constraint_lr=0.1), made(), masked(random_batch())
    assert extra.strength.constraint is not None
    extra.strength.constraint.multiplier += 3
    q = batch.kept["q"].clone().requires_grad_()
    ours, theirs = (e.losses(batch, Values(q, q.detach()), NOW) for e in (extra, plain))
    assert torch.allclose(ours.terms["pull"], theirs.terms["pull"] / 4)
    assert ours.stats["alpha"].item() == pytest.approx(0.05 / 4)


def test_training_returns_reach_the_constraint():
    extra = policy(constraint_lr=0.1)
    episodes = Episodes.allocate(SPEC, 2, torch.device("cpu"))
    episodes.reward[0] = 1.0
    extra.observe(episodes)
    assert extra.strength.constraint is not None
    assert extra.strength.constraint.recent.item() == pytest.approx(SPEC.episode_limit / 2)
    saved = {name.rpartition(".")[2] for name in extra.strength.constraint.state_dict()}
    assert saved == {"multiplier", "seen", "recent", "best"}  # a resumed run goes on with them


@pytest.mark.parametrize("form", ["policy", "pull"])
def test_no_gradient_beyond_the_trust_region(form):
    """Entries are trusted that lie within half a deviation of the agent's stored values."""
    extra = (policy if form == "policy" else pull)(trust_region=0.5)
    assert extra.keeps == {"q"}
    batch = random_batch()
    acted = batch.kept["q"]
    moved = torch.randn(acted.shape, generator=torch.Generator().manual_seed(2))
    q = (acted + moved).requires_grad_()
    pulled = extra.losses(batch, Values(q, q.detach()), NOW).terms["pull"]
    (gradient,) = torch.autograd.grad(pulled, q)
    own = acted - acted.mean(-1, keepdim=True)
    reach = 0.5 * own.square().mean((0, 2)).sqrt()  # of each agent
    inside = moved.abs() < reach[:, None]
    assert 0 < inside.float().mean() < 1
    assert torch.equal(gradient != 0, inside)
