"""LFO, learning from other agents' experience."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import one_hot

from eoi.components.batch import weighted
from eoi.learners.base import Values
from eoi.learners.eoi import Individuality
from eoi.learners.lfo import LFO, LFOConfig, cycle, permutation
from eoi.utils.errors import UserError
from helpers import SPEC, Bonus, context, random_batch
from test_eoi import BASE, FOUR, explore, pull, values
from test_maac import learner as maac
from test_q_learner import learner as qmix

NOW = torch.tensor(0.0)
CONFIG = {
    "omega": 1.0,
    "importance_weight": True,
    "schedule": "constant",
    "anneal_time": 100,
    "derangement": False,
}


def classifier(right: float, n: int = 4) -> Individuality:
    """Gives every agent's own name probability `right`, the others the rest evenly."""
    spec = replace(FOUR, n_agents=n)
    made = Individuality(Individuality.Config(**BASE), context(spec))
    p = torch.full((n, n), (1 - right) / (n - 1)).fill_diagonal_(right)
    made.posterior = lambda obs: p.expand(*obs.shape[:-2], n, n)
    return made


def lfo_of(eoi: Individuality, **changes) -> LFO:
    return LFO(LFOConfig(**{**CONFIG, **changes}), context(eoi=eoi))


def lfo(right: float = 0.25, **changes) -> LFO:
    return lfo_of(classifier(right), **changes)


def batch_of(count: int = 400, spec=FOUR):
    """Observations that tell whose they are."""
    owners = torch.arange(float(spec.n_agents))[:, None].expand(count, spec.n_agents, spec.obs_size)
    own = torch.eye(spec.n_agents, spec.n_actions, dtype=torch.bool).expand(count, -1, -1)
    fields = {
        "actions": owners[..., 0].long(),
        "avail": own,
        "next_avail": ~own,
        "rewards": owners[..., 0],
        "kept": {"q": own.float()},
    }
    return random_batch(spec, count, obs=owners, next_obs=owners + 10, **fields)


def test_triples_change_hands_together_and_the_rest_stays():
    batch = batch_of()
    handed, _ = lfo().rearrange(batch, NOW)
    source = handed.obs[..., 0].long()
    assert torch.equal(source.sort(-1).values, torch.arange(4).expand(400, 4))
    assert torch.equal(handed.actions, source)
    assert torch.equal(handed.next_obs[..., 0].long(), source + 10)
    own = one_hot(source, FOUR.n_actions).bool()
    assert torch.equal(handed.avail, own) and torch.equal(handed.next_avail, ~own)
    assert torch.equal(handed.rewards, source.float()) and torch.equal(
        handed.kept["q"], own.float()
    )
    assert batch.earlier is not None and handed.earlier is not None
    rows = torch.arange(400)[:, None]
    assert torch.equal(handed.earlier, batch.earlier[rows, source])
    assert torch.equal(handed.last_obs, batch.last_obs[rows, source])
    for name in ("reward", "state", "next_state", "terminated", "has_earlier"):
        assert torch.equal(getattr(handed, name), getattr(batch, name))
    assert handed.unswapped is batch


@pytest.mark.parametrize(("right", "mean"), [(0.25, 0.25), (1.0, 0.0), (0.7, 0.1)])
def test_the_mean_weight_of_others_experience(right, mean):
    _, stats = lfo(right).rearrange(batch_of(), NOW)
    assert stats["lfo_weight_mean"].item() == pytest.approx(mean, abs=1e-6)


def test_value_and_gradient_of_a_weighted_term():
    q, w = torch.tensor([[2.0, -3.0]], requires_grad=True), torch.tensor([[0.25, 1.0]])
    out = weighted(q, w)
    assert torch.equal(out, q)
    out.sum().backward()
    assert torch.equal(q.grad, w)
    assert weighted(q, None) is q


@pytest.mark.parametrize("derangement", [False, True])
def test_weights_are_of_the_new_owner(derangement):
    """With a perfect classifier only an agent's own experience has weight, 1/n on average."""
    handed, _ = lfo(1.0, derangement=derangement).rearrange(batch_of(4000), NOW)
    own = handed.obs[..., 0] == torch.arange(4)
    assert torch.equal(handed.weight, own.float())
    assert own.float().mean().item() == pytest.approx(0.0 if derangement else 0.25, abs=0.02)


def test_a_cycle_gives_every_agent_anothers_place():
    draw = torch.rand(30_000, 4, generator=torch.Generator().manual_seed(0))
    source = cycle(draw)
    assert torch.equal(source.sort(-1).values, torch.arange(4).expand_as(source))
    counts = torch.stack([(source[:, 0] == j).float().mean() for j in range(4)])
    assert counts.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3], abs=0.02)
    assert torch.equal(permutation(draw).sort(-1).values, torch.arange(4).expand_as(source))


def test_a_share_omega_of_the_batch_is_handed_over_and_weighed():
    handed, stats = lfo(0.25, omega=0.2, derangement=True).rearrange(batch_of(5000), NOW)
    moved = (handed.obs[..., 0] != torch.arange(4)).all(1)
    assert moved.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(handed.weight[~moved], torch.ones_like(handed.weight[~moved]))
    assert handed.weight[moved].flatten().tolist() == pytest.approx([0.25] * 4 * int(moved.sum()))
    assert stats["lfo_omega"].item() == pytest.approx(0.2)
    flat, _ = lfo(0.25, omega=0.2, importance_weight=False).rearrange(batch_of(), NOW)
    assert torch.equal(flat.weight, torch.ones(400, 4))


@pytest.mark.parametrize(
    ("schedule", "right", "t", "omega"),
    [
        ("constant", 0.7, 1e9, 0.2),
        ("decay", 0.7, 0, 0.2),
        ("decay", 0.7, 50, 0.1),
        ("decay", 0.7, 1e9, 0.0),
        ("adaptive", 0.25, 0, 0.2),
        ("adaptive", 0.7, 0, 0.08),
        ("adaptive", 1.0, 0, 0.0),
    ],
)
def test_schedules(schedule, right, t, omega):
    _, stats = lfo(right, omega=0.2, schedule=schedule).rearrange(
        batch_of(), torch.tensor(float(t))
    )
    assert stats["lfo_omega"].item() == pytest.approx(omega, abs=1e-6)


def test_nothing_handed_over_is_the_plain_update():
    """The same terms and gradients, for both kinds of learner."""
    nothing = lfo_of(classifier(0.6, 3), omega=0.0)
    for make in (qmix, maac):
        plain, ours = make(), make(extras=[nothing])
        batch = random_batch(SPEC)
        for phase in range(plain.phases):
            expected, found = (m(batch, NOW, phase).terms for m in (plain, ours))
            for name, term in expected.items():
                assert torch.equal(term, found[name])
                parameters = [p for p in plain.parameters() if p.requires_grad]
                ours_too = [p for p in ours.parameters() if p.requires_grad]
                gradients = torch.autograd.grad(
                    term, parameters, retain_graph=True, allow_unused=True
                )
                same = torch.autograd.grad(
                    found[name], ours_too, retain_graph=True, allow_unused=True
                )
                for a, b in zip(gradients, same, strict=True):
                    assert (a is None and b is None) or torch.equal(a, b)


def test_a_weight_scales_the_agents_gradient_and_not_the_mixers():
    made, half = qmix(), torch.full((5, 3), 0.5)
    batch = random_batch()
    plain, scaled = (
        made(type(batch)(**{**vars(batch), "weight": w}), NOW).terms["td"] for w in (None, half)
    )
    assert torch.equal(plain, scaled)
    for parameters, factor in ((made.shared(), 0.5), (list(made.mixer.parameters()), 1.0)):
        ours, theirs = (
            torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (scaled, plain)
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, factor * b)


def test_a_weight_scales_actors_critics_and_the_pull():
    batch = random_batch()
    other = type(batch)(**{**vars(batch), "weight": torch.full((5, 3), 0.5)})
    made = maac()
    for phase, term, parameters in (
        (0, "td", list(made.critic.parameters())),
        (1, "actor", made.shared()),
    ):
        plain, scaled = (
            torch.autograd.grad(made(b, NOW, phase).terms[term], parameters, allow_unused=True)
            for b in (batch, other)
        )
        for a, b in zip(plain, scaled, strict=True):
            torch.testing.assert_close(0.5 * a, b)
    extra, q = pull(), torch.randn(5, 3, 4, requires_grad=True)
    plain, scaled = (
        torch.autograd.grad(extra.losses(b, Values(q, q.detach()), NOW).terms["pull"], q)[0]
        for b in (
            random_batch(),
            type(batch)(**{**vars(random_batch()), "weight": torch.full((5, 3), 0.5)}),
        )
    )
    torch.testing.assert_close(0.5 * plain, scaled)


@pytest.mark.parametrize("make", [lambda: pull(FOUR), explore])
def test_a_weight_scales_the_gradient_of_the_intrinsic_value(make):
    extra, batch, weight = make(), random_batch(FOUR), torch.tensor([0.25, 1.0, 0.5, 0.0])
    plain, scaled = (
        extra.losses(type(batch)(**{**vars(batch), "weight": w}), values(FOUR), NOW).terms[
            "intrinsic_value"
        ]
        for w in (None, weight.expand(5, 4))
    )
    torch.testing.assert_close(plain, scaled)
    ours, theirs = (
        torch.autograd.grad(loss, list(extra.value.parameters())) for loss in (scaled, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b * weight[:, None, None])
    assert all(b.abs().amax((1, 2)).min() > 0 for b in theirs)


def test_a_form_of_eoi_without_a_classifier_is_refused():
    with pytest.raises(UserError, match=r"^lfo\.omega: Bonus in section eoi has no classifier; "):
        LFO(LFOConfig(**CONFIG), context(eoi=Bonus(torch.zeros(1))))


def test_the_classifier_learns_from_unswapped_observations():
    torch.manual_seed(0)
    made = Individuality(Individuality.Config(**BASE), context())
    batch = random_batch()
    handed, _ = lfo_of(made, derangement=True).rearrange(batch, NOW)
    (plain, *_), p = made.classify(batch)
    (shuffled, *_), p_new = made.classify(handed)
    assert torch.equal(plain["classifier"], shuffled["classifier"])
    torch.testing.assert_close(p_new, made.recognised(handed.obs).detach())
    torch.testing.assert_close(p_new, handed.weight)
    assert not torch.equal(p, p_new)
