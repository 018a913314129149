"""EDTI against hand-worked numbers and a slow computation with dictionaries."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from eoi import main as program
from eoi.components.batch import Batch
from eoi.components.episodes import Episodes
from eoi.components.returns import gae
from eoi.config import loader
from eoi.envs.base import EnvSpec
from eoi.learners.base import Extra, Minibatch
from eoi.learners.edti import EDTI, EDTIConfig, influence
from eoi.modules.counts import PLACES, Counts, code, later
from eoi.settings import configure
from eoi.utils.errors import UserError
from helpers import SPEC, context, make_trainer, tiny, trained
from test_memory import episodes, with_garbage
from test_training import equal

NOW, CPU = torch.tensor(0.0), torch.device("cpu")
TWO = replace(SPEC, n_agents=2)
CONFIG = {
    "eta": 0.5,
    "reward_weight": 1.0,
    "value_weight": 1.0,
    "reward_ext": 0.1,
    "reward_int": 0.1,
    "value_ext": 0.1,
    "value_int": 1.0,
    "state": "observation",
    "buckets": 2**14,
    "gae_lambda": 0.95,
    "value_lr": 1e-3,
}


def edti(spec: EnvSpec = SPEC, **changes) -> EDTI:
    torch.manual_seed(0)
    return EDTI(EDTIConfig(**{**CONFIG, **changes}), context(spec, gamma=0.99))


def lived(states: list[list[int]], actions: list[list[int]], spec: EnvSpec = TWO) -> Episodes:
    """One episode of agents whose observations are numbers: [T1, A] and [T, A]."""
    steps = len(actions)
    out = Episodes.allocate(replace(spec, episode_limit=steps), 1, CPU)
    out.obs[0] = torch.tensor(states)[..., None].float()
    out.actions[0] = torch.tensor(actions)
    out.terminated[0, -1] = True
    return out


def few_states(seed: int, lengths: tuple[int, ...] = (7, 4, 2)) -> Episodes:
    """Random episodes in which everything happens many times."""
    out = episodes(lengths, seed)
    g = torch.Generator().manual_seed(seed + 100)
    out.obs.copy_(torch.randint(0, 3, out.obs.shape[:-1], generator=g)[..., None].float())
    out.actions.copy_(torch.randint(0, 2, out.actions.shape, generator=g))
    return out


# --- counting


def test_codes_tell_rows_apart():
    rows = torch.randint(0, 3, (2000, 6), generator=torch.Generator().manual_seed(0)).float()
    codes = code(rows)
    first = {tuple(row): number for row, number in zip(rows.tolist(), codes.tolist(), strict=True)}
    assert len(first) == len(set(codes.tolist())) > 500
    assert [first[tuple(row)] for row in rows.tolist()] == codes.tolist()
    assert code(torch.tensor([[1.0, 2.0]])) != code(torch.tensor([[2.0, 1.0]]))
    assert code(torch.tensor([[-0.0]])) == code(torch.tensor([[0.0]]))


def test_later_counts_the_equals_that_follow():
    codes = torch.randint(-3, 3, (200,), generator=torch.Generator().manual_seed(0))
    slow = [sum(int(other == x) for other in codes[i + 1 :]) for i, x in enumerate(codes)]
    assert later(codes).tolist() == slow
    assert later(codes[:0]).tolist() == [] and later(codes[:1]).tolist() == [0]


def test_counts_are_those_of_a_dictionary():
    counts, slow = Counts(2**10), Counter()
    g = torch.Generator().manual_seed(0)
    for _ in range(5):
        codes = torch.randint(0, 300, (40, 5), generator=g) * 0x9E3779B97F4A7C1
        amount = torch.randint(0, 3, (40, 5), generator=g)
        counts.add(codes, amount)
        for x, n in zip(codes.flatten().tolist(), amount.flatten().tolist(), strict=True):
            slow[x] += n
    keys = torch.tensor(sorted(slow))
    assert counts.of(keys).tolist() == [slow[x] for x in keys.tolist()]
    assert counts.filled().item() == pytest.approx(sum(n > 0 for n in slow.values()) / 2**10)
    assert counts.of(keys + 1).sum() == 0


def test_a_full_table_counts_what_it_knows_and_nothing_new():
    counts, slow = Counts(64), Counter()
    for first in range(0, 400, 20):
        codes = torch.arange(first, first + 20)
        counts.add(codes, torch.ones(20))
    assert counts.filled() > 0.95
    known = [x for x in range(400) if counts.of(torch.tensor([x])) > 0]
    assert 60 < len(known) <= 64 and counts.of(torch.tensor(known)).max() == 1
    assert set(range(20)) <= set(known)  # first come
    counts.add(torch.arange(400), torch.ones(400))
    slow.update(counts.of(torch.arange(400)).tolist())
    assert slow[2] == len(known) and slow[0] >= 400 - 64 and PLACES == 8


# --- curiosity


def test_curiosity_falls_with_the_visits():
    """The first visit earns eta, the fourth eta / 2; agents do not share their visits."""
    made = edti(TWO)
    seen = lived([[0, 0], [1, 1], [1, 2], [1, 3], [1, 4]], [[0, 0]] * 4)
    made.observe(seen)
    found = made.rewards(seen.batch(), NOW)["curiosity"][0]
    assert found[:, 0].tolist() == pytest.approx([0.5, 0.5 / 2**0.5, 0.5 / 3**0.5, 0.25])
    assert found[:, 1].tolist() == pytest.approx([0.5] * 4)


# --- influence


def test_influence_of_two_probabilities():
    alone, together = torch.tensor([0.25, 0.75]), torch.tensor([[0.9, 1.0], [0.5, 0.9]])
    assert influence(alone, together).tolist() == [[0.0, 0.75], [-0.5, 0.0]]


def one_in_four() -> Episodes:
    """Agent 0 leaves state 1 by action 0 four times: to 2, or to 3 where agent 1 was in state 9."""
    states = [[1, 0], [2, 0], [1, 0], [2, 0], [1, 0], [2, 0], [1, 9], [3, 0]]
    return lived(states, [[k % 2, 0] for k in range(7)])


def test_influence_by_counts():
    """An outcome 1 of 4 times, and 1 of 1 times together: F = 0.75."""
    made, seen = edti(TWO), one_in_four()
    made.observe(seen)
    found = made.influences(made._codes(seen.batch()))[0]  # [T, j, i]
    assert found[6, 0, 1].item() == pytest.approx(0.75)
    assert found[0, 0, 1].item() == pytest.approx(0.25)  # 3 of 4, and 3 of 3
    assert found[1, 0, 1].item() == 0 and (found[:, 0, 0] == 0).all()


def test_influence_on_values_is_a_reward():
    """gamma F (0.1 * 2 + 1 * 0.5) = 0.51975 with gamma = 0.99."""
    made, seen = edti(TWO, reward_weight=0.0), one_in_four()
    seen.terminated.zero_()
    made.observe(seen)
    worth = {"external": 2.0, "curious": 0.5}
    made._along = lambda batch, stream: torch.full((1, 8, 2), worth[stream])
    assert made.rewards(seen.batch(), NOW)["influence"][0, 6, 1].item() == pytest.approx(0.51975)
    seen.terminated[0, 6] = True  # nothing comes after the end
    assert made.rewards(seen.batch(), NOW)["influence"][0, 6, 1].item() == 0


def test_others_rewards_are_rewards():
    made, seen = edti(value_weight=0.0), few_states(0)
    made.observe(seen)
    found, earned = made.rewards(seen.batch(), NOW), seen.reward
    others = found["curiosity"].sum(-1, keepdim=True) - found["curiosity"]
    torch.testing.assert_close(found["influence"], 0.1 * 2 * earned[..., None] + 0.1 * others)


def test_estimated_probabilities_of_what_was_seen_sum_to_1():
    made, seen, total = edti(), few_states(0), {}
    made.observe(seen)
    batch = seen.batch()
    found = made._codes(batch)
    for then, context_ in ((found.alone_then, found.alone), (found.together_then, found.together)):
        share = made._share(then, context_)
        running = batch.valid.bool()
        for x, y, p in zip(context_[running], then[running], share[running], strict=True):
            for each in zip(x.flatten().tolist(), y.flatten().tolist(), p.flatten(), strict=True):
                if each[2] > 0:  # not of an agent with itself
                    total.setdefault(each[0], {})[each[1]] = float(each[2])
    assert len(total) > 20
    assert all(sum(shares.values()) == pytest.approx(1) for shares in total.values())


def slow_rewards(made: EDTI, rollouts: list[Episodes]) -> list[torch.Tensor]:
    """u + I of the last rollout, transition by transition, in the order of time."""
    visits, moves = Counter(), Counter()
    agents = range(3)
    for seen in rollouts:
        curiosity = torch.zeros_like(seen.actions, dtype=torch.float32)
        steps = [
            (t, n) for t in range(7) for n in range(len(seen.length)) if t < int(seen.length[n])
        ]
        for t, n in steps:
            s, then = (seen.obs[n, k, :, 0].tolist() for k in (t, t + 1))
            a = seen.actions[n, t].tolist()
            for j in agents:
                visits[j, then[j]] += 1
                curiosity[n, t, j] = 0.5 / visits[j, then[j]] ** 0.5
                for who in [(), *((i, s[i], a[i]) for i in agents if i != j)]:
                    moves[j, s[j], a[j], who] += 1
                    moves[j, s[j], a[j], who, then[j]] += 1
    influenced = torch.zeros_like(curiosity)
    for t, n in steps:
        s, then = (seen.obs[n, k, :, 0].tolist() for k in (t, t + 1))
        a = seen.actions[n, t].tolist()
        after = seen.obs[n, t + 1]
        worth = {k: made.values[k](after[None])[0, :, 0].tolist() for k in ("external", "curious")}
        for i in agents:
            for j in set(agents) - {i}:
                context_, who = (j, s[j], a[j]), (i, s[i], a[i])
                alone = moves[*context_, (), then[j]] / moves[*context_, ()]
                together = moves[*context_, who, then[j]] / moves[*context_, who]
                value = 0.1 * worth["external"][j] + worth["curious"][j]
                going = 1 - float(seen.terminated[n, t])
                influenced[n, t, i] += 0.99 * going * (1 - alone / together) * value
                influenced[n, t, i] += 0.1 * float(seen.reward[n, t]) + 0.1 * curiosity[n, t, j]
    return [curiosity, influenced]


@torch.no_grad()
def test_rewards_equal_a_slow_computation():
    """After a second rollout of episodes of different lengths."""
    made, rollouts = edti(), [few_states(0), few_states(1)]
    for seen in rollouts:
        made.observe(seen)
    found = made.rewards(rollouts[-1].batch(), NOW)
    running = rollouts[-1].valid()
    for ours, theirs in zip(found.values(), slow_rewards(made, rollouts), strict=True):
        torch.testing.assert_close(ours[running], theirs[running], rtol=1e-4, atol=1e-5)


def along(made: EDTI, batch: Batch) -> dict[str, torch.Tensor]:
    """What PPO keeps of a rollout: the rewards, and the returns of their values."""
    kept = {f"{name}_reward": x for name, x in made.rewards(batch, NOW).items()}
    return kept | made.study(replace(batch, kept=kept), NOW)


def test_padding_changes_nothing():
    plain, padded = edti(), edti()
    seen = few_states(0)
    plain.observe(seen)
    batch = seen.batch()
    longer = with_garbage(batch)
    running = batch.valid.bool()
    padded.load_state_dict(plain.state_dict())
    ours_all, theirs_all = along(plain, batch), along(padded, longer)
    assert ours_all.keys() == {
        *("curiosity_reward", "influence_reward", "external_returns", "curious_returns")
    }
    for name, ours in ours_all.items():
        theirs = theirs_all[name][:, :7]
        torch.testing.assert_close(ours[running], theirs[running], msg=name)


def test_values_learn_the_returns_of_their_own_rewards():
    made, seen = edti(), few_states(0)
    made.observe(seen)
    batch = seen.batch()
    found = along(made, batch)
    loss = made.losses(batch, Minibatch(replace(batch, kept=found)), NOW)
    assert batch.valid is not None
    for name, reward in (("external", batch.earned), ("curious", found["curiosity_reward"])):
        obs = torch.cat([batch.obs, batch.next_obs[:, -1:]], 1)
        value = made.values[name](obs).squeeze(-1)
        ends = (batch.terminated.bool(), batch.valid.bool())
        rates = torch.tensor(0.99), torch.tensor(0.95)
        advantage = gae(reward.expand(3, 7, 3), value, *ends, *rates)
        torch.testing.assert_close(found[f"{name}_returns"], advantage + value[:, :-1])
        error = (value[:, :-1] - found[f"{name}_returns"].detach()).square()
        expected = (error * batch.valid[..., None]).sum() / batch.valid.sum()
        torch.testing.assert_close(loss.terms[f"{name}_value"], expected)
    sum(loss.terms.values()).backward()
    assert all(p.grad is not None for p in made.values.parameters())


# --- an agent's state


def influences_in(settings: Callable, **updates) -> torch.Tensor:
    trainer = make_trainer(settings("edti", edti=updates))
    for _ in range(3):
        trainer.play()
    (run,) = trainer.runs
    (extra,) = run.learner.extras
    return extra.influences(extra._codes(run.experience._rollout))


def test_positions_have_no_influence_where_agents_pass_through_each_other(settings):
    """Moves are deterministic, so p = p' = 1: F is 0, exactly."""
    assert (influences_in(settings, state="position") == 0).all()
    assert (influences_in(settings, state="observation") != 0).any()


@pytest.mark.parametrize("env", ["sc2", "pettingzoo"])
def test_positions_need_cells(env, tmp_path, capsys):
    words = [f"--env-config={env}", "with", "edti.state=position", f"local_results_path={tmp_path}"]
    assert program.main(["--config=edti", *words]) == 2
    message = f"error: edti: env={env} has no cells for its agents' positions\n"
    assert capsys.readouterr().err == message and not any(tmp_path.iterdir())


def test_value_learners_refuse_it():
    with pytest.raises(UserError, match="edti: learner=q_learner does not call its hook study"):
        tiny("qmix", edti={"eta": 0.1})
    given = {"edti": {"eta": 0.1}, "seed": 1}
    with pytest.raises(UserError, match="edti: has no effect with --config=maac"):
        configure(loader.load("maac", "pac_men", given), given)


# --- whole runs


def test_without_weights_it_is_independent_ppo_bit_for_bit(settings):
    off = {"eta": 0.0, "reward_weight": 0.0, "value_weight": 0.0}
    base = trained(settings("ippo", t_max=60))[0]
    weightless = make_trainer(settings("edti", t_max=60))
    (run,) = weightless.runs
    for name in off:
        getattr(run.learner.extras[0], name).zero_()
    weightless.train()
    assert not run.learner.replays and equal(weightless, base)
    assert not equal(trained(settings("edti", t_max=60))[0], base)
    assert not make_trainer(settings("edti", edti=off)).runs[0].learner.extras


@pytest.mark.parametrize(
    "updates",
    [{"agent": "gru", "batch_size": 2}, {"eoi": {"form": "reward"}}, {"critic_input": "both"}],
)
def test_it_goes_with_other_settings(updates, settings):
    trainer, seen = trained(settings("edti", t_max=60, **updates))
    assert all(math.isfinite(value) for _, value, _ in seen)
    names = {name for name, _, _ in seen}
    assert {
        "curiosity_reward_mean",
        "influence_reward_mean",
        "external_value_loss",
        "curious_value_loss",
    } <= names
    assert {"visits_filled", "moves_filled"} <= names
    assert trainer.runs[0].learner.replays == ("eoi" in updates)


def test_an_extra_that_learns_from_transitions_gets_them(settings):
    """Beside one that learns from the rollout."""
    seen: dict[str, Batch] = {}

    class Reader(Extra[object]):
        def losses(self, batch, view, t):
            seen["given"], seen["rollout"] = batch, view.batch
            return super().losses(batch, view, t)

    trainer = make_trainer(settings("edti", eoi={"form": "classifier"}))
    learner = trainer.runs[0].learner
    learner.extras.append(Reader())
    learner._hooks["losses"].append(len(learner.extras) - 1)
    trainer.play()
    trainer.learn()
    assert "curious_returns" in seen["rollout"].kept and seen["given"].kept == {}
