"""HSD: both levels, the reward between them, the decoder and its schedule."""

import math
from dataclasses import replace

import pytest
import torch

from eoi.components.batch import Batch
from eoi.components.replay import Replay, ReplayConfig
from eoi.config import loader
from eoi.controllers.controller import ControllerConfig
from eoi.learners.base import Progress
from eoi.learners.descent import Descent
from eoi.learners.hsd import DECODER, HSD, LEVELS, HSDConfig, grown, seen_by_decoder
from eoi.main import main
from eoi.settings import configure
from eoi.utils.errors import UserError
from helpers import CONTROLLER, SPEC, make_trainer, step_keys, tiny, trained
from test_q_learner import Q as VALUE
from test_replay import numbered
from test_skills import lived

NOW, CPU = torch.tensor(0.0), torch.device("cpu")
CONFIG = {
    **VALUE,
    "n_skills": 5,
    "hold": 3,
    "decoder_lr": 1e-2,
    "decoder_batch": 18,
    "decoder_skip": 1,
    "decoder_difference": False,
    "skills_start": 0,
    "skills_threshold": 0.86,
    "task_weight_start": 1.0,
    "task_weight_finish": 0.6,
    "task_weight_episodes": 4000,
}
LENGTHS = (7, 4, 2)


def learner(mixer: str = "qmix", **changes) -> HSD:
    torch.manual_seed(0)
    cfg = HSDConfig(**{**CONFIG, "mixer": mixer, **changes})
    made = HSD(SPEC, cfg, HSD.make_controller(SPEC, ControllerConfig(**CONTROLLER), None, cfg))
    for net in (made.target_controller, made.target_mixer):
        for p in net.parameters():
            p.data += 0.3 * torch.randn_like(p)
    return made


def undecided(made: HSD) -> HSD:
    """Its decoder gives every skill the same probability."""
    torch.nn.init.zeros_(made.decoder.head.weight)
    torch.nn.init.zeros_(made.decoder.head.bias)
    return made


@pytest.mark.parametrize(("n_skills", "p"), [(5, 0.2), (8, 0.125)])
def test_a_decoder_that_knows_nothing_pays_one_over_k(n_skills, p):
    made = undecided(
        learner(n_skills=n_skills, hold=4, task_weight_start=0.0, task_weight_finish=0.0)
    )
    reward, stats = made.low_reward(lived(LENGTHS, n_skills), NOW)
    expected = torch.tensor([0, 0, 0, p, 0, 0, p])[:, None].expand(7, 3)
    torch.testing.assert_close(reward[0], expected)
    assert stats["skill_probability"].item() == pytest.approx(p)


def test_the_authors_segment_reaches_the_decoder_with_four_steps():
    """Ten observations, every second one of them, and the differences of these."""
    cfg = HSDConfig(
        **{**CONFIG, "mixer": "qmix", "hold": 10, "decoder_skip": 2, "decoder_difference": True}
    )
    track = torch.arange(10.0).square().view(1, 1, 10, 1, 1)
    valid = (torch.arange(10) < 7).float().view(1, 1, 10)
    seen, there = seen_by_decoder(track, valid, cfg)
    assert seen.flatten().tolist() == [4, 12, 20, 28] and cfg.seen == 4
    assert there.flatten().tolist() == [1, 1, 1, 0]  # 0, 2, 4 and 6 were lived
    plain, _ = seen_by_decoder(track, valid, HSDConfig(**{**CONFIG, "mixer": "qmix"}))
    assert torch.equal(plain, track)


def test_skills_come_into_use():
    numbers = [torch.tensor(2.0)]
    for _ in range(3):
        numbers.append(grown(numbers[-1], 8))
    assert [int(x) for x in numbers] == [2, 4, 7, 8] and grown(numbers[-1], 8) == 8


def test_more_skills_are_in_use_once_they_are_told_apart():
    trainer = make_trainer(tiny("hsd", n_skills=8, skills_start=2, skills_threshold=0.1))
    made = trainer.runs[0].learner
    assert isinstance(made, HSD)
    held = []
    for expected in (2, 4, 7, 8, 8):
        assert made.in_use == expected and made.usable().sum() == expected
        episodes = trainer.rollout.run(made, torch.arange(2), NOW)
        held.append(int(episodes.kept["skill"].max()))
        undecided(made).observe(episodes)  # 1/8 is above the threshold
    assert held[0] == 1 and held[3] > 3 and max(held) <= 7
    made.in_use.fill_(2.0)
    made.skills_threshold.fill_(0.2)
    made.observe(episodes)
    assert made.in_use == 2
    made.in_use.fill_(8.0)
    fixed = make_trainer(tiny("hsd", n_skills=8)).runs[0].learner
    assert isinstance(fixed, HSD) and fixed.in_use == 8


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_low_reward_equals_a_slow_computation(own, weight):
    """Being told is paid at the end of the segment, for its own skill, the last one included."""
    made = learner(hold=3, task_weight_start=weight, task_weight_finish=weight)
    batch = lived(LENGTHS, own=own)
    found, _ = made.low_reward(batch, NOW)
    for b, length in enumerate(LENGTHS):
        expected = torch.zeros(7, 3)
        for first in range(0, length, 3):
            end = min(first + 3, length)
            for i in range(3):
                logits = made.decoder(
                    batch.next_obs[b, first:end, i][None], torch.ones(1, end - first)
                )
                p = logits.softmax(-1)[0, batch.kept["skill"][b, first, i]]
                expected[end - 1, i] = (1 - weight) * p
        task = batch.reward[b, :, None] if batch.rewards is None else batch.rewards[b]
        torch.testing.assert_close(found[b, :length], (expected + weight * task)[:length])


@torch.no_grad()
def slow_low(made: HSD, batch: Batch) -> float:
    reward, _ = made.low_reward(batch, NOW)
    online, target = made.controller.low, made.target_controller.low
    total, count = 0.0, 0
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            skill = batch.kept["skill"][b, t][None]
            now, then = (
                made.controller.with_skill(x[b, t][None], skill)
                for x in (batch.obs, batch.next_obs)
            )
            q, next_q = online(now)[0], target(then)[0]
            chooser = online(then)[0] if made.cfg.double_q else next_q
            best = chooser.masked_fill(~batch.next_avail[b, t], -1e9).argmax(-1)
            following = next_q.gather(1, best[:, None]).squeeze(1)
            goal = reward[b, t] + 0.9 * (1 - batch.terminated[b, t]) * following
            taken = q.gather(1, batch.actions[b, t][:, None]).squeeze(1)
            total, count = total + float((taken - goal).square().sum()), count + 1
    return total / count


@torch.no_grad()
def slow_high(made: HSD, batch: Batch) -> float:
    """Segment by segment: a discounted sum, and what follows discounted by the length."""
    total, count, hold = 0.0, 0, made.cfg.hold
    for b, length in enumerate(LENGTHS):
        for first in range(0, length, hold):
            end = min(first + hold, length)
            reward = sum(0.9 ** (t - first) * float(batch.reward[b, t]) for t in range(first, end))
            q = made.controller(batch.obs[b, first][None])[0]
            then = batch.next_obs[b, end - 1][None]
            next_q = made.target_controller(then)[0]
            chooser = made.controller(then)[0] if made.cfg.double_q else next_q
            best = next_q.gather(1, chooser.argmax(-1)[:, None]).T
            taken = q.gather(1, batch.kept["skill"][b, first][:, None]).T
            joint = made.mixer(taken, batch.state[b, first][None])
            after = made.target_mixer(best, batch.next_state[b, end - 1][None])
            going = 0.9 ** (end - first) * (1 - float(batch.terminated[b, end - 1]))
            total, count = total + float((joint - reward - going * after).square().sum()), count + 1
    return total / count


@pytest.mark.parametrize("mixer", ["qmix", "none"])
@pytest.mark.parametrize("double_q", [False, True])
def test_both_losses_equal_a_slow_computation(mixer, double_q):
    made = learner(mixer, double_q=double_q, task_weight_start=0.5, task_weight_finish=0.5)
    batch = lived(LENGTHS)
    terms = made(batch, NOW).terms
    assert terms["td"].item() == pytest.approx(slow_high(made, batch), rel=1e-4)
    assert terms["low_td"].item() == pytest.approx(slow_low(made, batch), rel=1e-4)


def test_each_term_moves_its_own_networks():
    made, batch = learner(task_weight_start=0.5), lived(LENGTHS)
    high = {id(p) for p in (*made.controller.agents.parameters(), *made.mixer.parameters())}
    low = {id(p) for p in made.controller.low.parameters()}
    decoder = {id(p) for p in made.decoder.parameters()}
    levels = made(batch, NOW, LEVELS).terms
    told = made(batch, NOW, DECODER).terms
    for term, reached in (
        (levels["td"], high),
        (levels["low_td"], low),
        (told["decoder"], decoder),
    ):
        online = [p for p in made.parameters() if p.requires_grad]
        slopes = torch.autograd.grad(term, online, allow_unused=True)
        assert {id(p) for p, g in zip(online, slopes, strict=True) if g is not None} == reached
    assert levels.keys() == {"td", "low_td"} and told.keys() == {"decoder"}


def test_a_step_of_the_decoder_moves_nothing_else():
    made = learner()
    before = {name: x.clone() for name, x in made.state_dict().items()}
    descent = Descent(made)
    for phase, mine in ((DECODER, ("decoder",)), (LEVELS, ("controller", "mixer", "target"))):
        descent.update(replace(lived(LENGTHS), phases=(phase,)), NOW, 0)
        for name, x in made.state_dict().items():
            still = torch.equal(x, before[name])
            assert still is not name.startswith(mine) or name == "in_use", (phase, name)
        before = {name: x.clone() for name, x in made.state_dict().items()}


def test_the_decoder_learns_to_tell():
    """Observations after the actions show the skill."""
    made, batch = learner(), lived((7,) * 6)
    batch.next_obs[..., 0] = 3.0 * batch.kept["skill"][:, torch.arange(7) // 3 * 3]
    descent = Descent(made)
    first = made(batch, NOW, DECODER).terms["decoder"].item()
    assert first == pytest.approx(math.log(5), abs=0.3)
    for _ in range(100):
        descent.update(replace(batch, phases=(DECODER,)), NOW, 0)
    assert made(batch, NOW, DECODER).terms["decoder"].item() < 0.3
    _, stats = made.low_reward(batch, NOW)
    assert stats["skill_accuracy"] == 1 and stats["skill_probability"] > 0.8


@pytest.mark.parametrize(("weight", "same"), [(1.0, True), (0.6, False)])
def test_at_a_task_weight_of_one_the_decoder_does_not_matter(weight, same):
    ours, theirs = (
        trained(tiny("hsd", task_weight_start=weight, task_weight_finish=weight, decoder_lr=lr))[
            0
        ].runs[0]
        for lr in (0.0, 0.1)
    )
    names = [name for name, _ in ours.learner.named_parameters() if "decoder" not in name]
    equal = [
        torch.equal(ours.learner.get_parameter(name), theirs.learner.get_parameter(name))
        for name in names
    ]
    assert all(equal) is same and len(names) > 10
    moved = zip(ours.learner.decoder.parameters(), theirs.learner.decoder.parameters(), strict=True)
    assert any(not torch.equal(x, y) for x, y in moved)


def test_the_task_weight_falls_over_its_episodes():
    made = learner(task_weight_episodes=100)
    steps = [0, 350, 700, 9999]  # of episodes of seven steps
    found = [made.task_weight(torch.tensor(float(t))).item() for t in steps]
    assert found == pytest.approx([1.0, 0.8, 0.6, 0.6])


@pytest.mark.parametrize(("epsilon", "greedy"), [(0.0, False), (1.0, True), (1.0, False)])
def test_skills_are_chosen_where_none_is_held(epsilon, greedy):
    made = learner(epsilon_start=epsilon, epsilon_finish=epsilon)
    obs, avail = torch.randn(7, 200, 3, 6), torch.ones(200, 3, 4, dtype=torch.bool)
    carry, held = made.start(200, CPU), []
    for step in range(7):
        choice = made.act(obs[step], avail, carry, step_keys(200, 3), NOW, greedy)
        carry = choice.carry
        assert torch.equal(choice.keep["skill"], carry["skill"])
        held.append(choice.keep["skill"])
    for step in range(7):
        assert torch.equal(held[step], held[step - step % 3])
        best = made.controller(obs[step - step % 3]).argmax(-1)
        if greedy or not epsilon:
            assert torch.equal(held[step], best)
        else:
            shares = torch.nn.functional.one_hot(held[step], 5).float().mean((0, 1))
            assert (shares - 0.2).abs().max() < 0.07
    q = made.controller.low(made.controller.with_skill(obs[6], held[6]))
    if greedy or not epsilon:
        assert torch.equal(choice.actions, q.argmax(-1))
    assert torch.equal(made.marks(choice)["skill"], held[6])


@pytest.mark.parametrize("length", [7, 2])
def test_every_new_episode_trains_the_decoder_once(length):
    """Two episodes of the longest length hold 18 segments: three of each of three agents."""
    made = learner(batch_size=1, update_interval=length)
    replay = Replay(replace(SPEC, fixed_length=length == 7), ReplayConfig(buffer_size=70), CPU)
    experience, updates, decoded, regular = made.experience(replay), 0, [], 0
    for first in range(0, 15, 3):
        experience.insert(numbered(SPEC, 3 * [length], first))
        at = Progress((first + 3) * length, first + 3, updates, 3 * length, 3)
        for batch in experience.batches(torch.tensor(1), NOW, at):
            updates += 1
            if batch.phases == (DECODER,):
                decoded += (batch.reward[:, 0] // 100).long().tolist()
                assert len(batch.reward) == 2
            else:
                assert batch.phases == (LEVELS,)
                regular += 1
    assert decoded == list(range(14)) and regular == 15


def test_a_runs_policy_is_the_greedy_one():
    made = learner()
    obs, avail = torch.randn(20, 3, 6), torch.rand(20, 3, 4) < 0.5
    avail[..., 2] = True
    choice = made.act(obs, avail, made.start(20, CPU), step_keys(20, 3), NOW, greedy=True)
    assert torch.equal(made.policy(obs, avail).argmax(-1), choice.actions)


@pytest.mark.parametrize(
    ("updates", "words"),
    [
        ({"n_skills": 0}, "n_skills: must be at least 1, got 0"),
        ({"n_skills": 2.5}, "n_skills: expected an integer, got 2.5"),
        ({"hold": 0}, "hold: must be at least 1, got 0"),
        ({"hold": 31}, "hold=31: longer than an episode, which has at most 30 steps"),
        ({"skills_start": 6}, "skills_start=6: there are n_skills=5"),
        ({"decoder_difference": True, "decoder_skip": 5}, "decoder_difference: segments of hold=5"),
        ({"skill_episodes": 5}, "skill_episodes: has no effect with --config=hsd"),
        ({"eoi": {"alpha": 0.1}}, "eoi: has no effect with --config=hsd"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_created(updates, words, tmp_path, capsys):
    pairs = [
        f"{key}={value}" if not isinstance(value, dict) else f"{key}.alpha=0.1"
        for key, value in updates.items()
    ]
    argv = ["--config=hsd", "--env-config=pac_men", "with", "seed=1", *pairs]
    assert main([*argv, f"local_results_path={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error, error
    assert not any(tmp_path.iterdir())


def test_an_extra_that_it_does_not_serve_is_refused():
    config = loader.load("hsd", "pac_men", {"seed": 1, "eoi": {"form": "reward"}})
    with pytest.raises(UserError, match=r"eoi.form=reward: learner=hsd does not call its hook"):
        configure(config)
