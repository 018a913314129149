"""HC: skills by DIAYN and soft actor-critic, then PPO over frozen skills, as one run."""

import json
import math
import pathlib
from dataclasses import replace

import pytest
import torch

from eoi import evaluate, watch
from eoi.batches.jobs import plan
from eoi.build import restore
from eoi.components.action_selection import Keys
from eoi.components.episodes import Episodes
from eoi.components.replay import Replay, ReplayConfig
from eoi.controllers.controller import ControllerConfig
from eoi.learners.base import Progress
from eoi.learners.descent import Descent
from eoi.learners.hc import CHOICE, HC, SKILLS, HCConfig, diversity_reward, policy_loss, soft_value
from eoi.main import main
from eoi.saved import load_policy
from eoi.settings import Settings
from helpers import CONTROLLER, SPEC, keys, make_trainer, random_batch, step_keys, tiny, trained
from test_main import TINY as TINY_WORDS
from test_ppo import CONFIG as PPO
from test_resume import assert_same, final, resumed
from test_skills import lived

NOW, CPU = torch.tensor(0.0), torch.device("cpu")
CONFIG = {
    **PPO,
    "critic_input": "obs",
    "update_interval": 1,
    "update_interval_episodes": 0,
    "learning_starts": 0,
    "n_skills": 5,
    "hold": 3,
    "lr": 1e-2,
    "target_update_tau": 0.01,
    "skill_entropy": 0.1,
    "skill_episodes": 4,
    "skills_from": "",
    "rollout_episodes": 3,
    "batch_size_run": 1,
}


def learner(choosing: bool = False, **changes) -> HC:
    torch.manual_seed(0)
    cfg = HCConfig(**{**CONFIG, **changes})
    made = HC(SPEC, cfg, HC.make_controller(SPEC, ControllerConfig(**CONTROLLER), None, cfg))
    made.lived.fill_(10**6 if choosing else 0)
    for p in made.target_twins.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return made


def moved(made: HC, before: dict[str, torch.Tensor]) -> set[str]:
    """First parts of the names of all tensors that changed."""
    now = made.state_dict()
    changed = {name for name, x in before.items() if not torch.equal(x, now[name])}
    return {name.removeprefix("controller.").partition(".")[0] for name in changed}


def state(made: HC) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in made.state_dict().items()}


# --- the first stage


@pytest.mark.parametrize(("n_skills", "most"), [(5, 1.609438), (8, 2.079442), (1, 0.0)])
def test_the_reward_of_being_told(n_skills, most):
    prior, g = -math.log(n_skills), torch.Generator().manual_seed(0)
    assert diversity_reward(torch.tensor(prior), prior).item() == 0
    assert diversity_reward(torch.tensor(0.0), prior).item() == pytest.approx(most, abs=1e-6)
    guesses = (9 * torch.randn(500, n_skills, generator=g)).log_softmax(-1)
    reward = diversity_reward(guesses, prior)
    assert reward.max() <= most + 1e-6 and reward.min() >= -20 - prior


def test_the_authors_continuous_skills_are_paid_nothing_at_the_prior():
    normal = torch.distributions.Normal(0.0, 1.0)
    z = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    log_p = normal.log_prob(z).sum(-1)
    assert diversity_reward(log_p, log_p).abs().max() == 0


def test_the_soft_policy_is_the_softmax_of_scaled_values():
    """Q = (1, 0) at a temperature of 0.1: the better action has 1 / (1 + e^-10)."""
    q, entropy = torch.tensor([[1.0, 0.0]]), torch.tensor(0.1)
    logits = (q / entropy).requires_grad_()
    assert logits.softmax(-1)[0, 0].item() == pytest.approx(0.9999546, abs=1e-7)
    loss = policy_loss(logits.log_softmax(-1), q, entropy)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    assert slope.abs().max() < 1e-7
    for other in ([[9.0, 0.0]], [[11.0, 0.0]], [[0.0, 0.0]]):
        assert policy_loss(torch.tensor(other).log_softmax(-1), q, entropy) > loss
    # There the soft value is the log-sum-exp.
    value = soft_value(logits.log_softmax(-1), q, entropy)
    assert value.item() == pytest.approx(0.1 * math.log(math.exp(10) + 1), abs=1e-5)


def transitions(n_skills: int = 5, **fields):
    g = torch.Generator().manual_seed(1)
    skill = torch.randint(0, n_skills, (5, 3), generator=g)
    return random_batch(kept={"skill": skill}, key=None, **fields)


@torch.no_grad()
def slow_skills(made: HC, batch) -> tuple[float, float, float]:
    """Losses of critics, policies and discriminators, one transition and agent at a time."""
    critic = actor = guess = 0.0
    for b in range(5):
        skill = batch.kept["skill"][b][None]
        now, then = (
            made.controller.with_skill(x[b][None], skill) for x in (batch.obs, batch.next_obs)
        )
        q, next_q = made.twins(now)[:, 0], made.target_twins(then)[:, 0]
        p, next_p = (
            made.controller.low(x)[0].masked_fill(~avail[b], -1e9).softmax(-1)
            for x, avail in ((now, batch.avail), (then, batch.next_avail))
        )
        told = made.discriminator(batch.next_obs[b][None])[0].softmax(-1)
        for i in range(3):
            own = float(told[i, skill[0, i]])
            value = sum(
                float(x * (min(next_q[:, i, a]) - 0.1 * x.log()))
                for a, x in enumerate(next_p[i])
                if x > 0
            )
            goal = math.log(own) + math.log(5) + 0.98 * (1 - float(batch.terminated[b])) * value
            critic += sum(float(q[k, i, batch.actions[b, i]] - goal) ** 2 for k in (0, 1)) / 5
            actor += (
                sum(
                    float(x * (0.1 * x.log() - min(q[:, i, a])))
                    for a, x in enumerate(p[i])
                    if x > 0
                )
                / 5
            )
            guess -= math.log(own) / 5
    return critic, actor, guess


@pytest.mark.parametrize("some", [False, True])
def test_the_losses_of_the_skills_equal_a_slow_computation(some):
    made, batch = learner(), transitions()
    if some:  # some actions are not available
        allowed = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(2)) < 0.5
        allowed[..., 1] = True
        now = allowed[0].scatter(-1, batch.actions[..., None], True)
        batch = replace(batch, avail=now, next_avail=allowed[1])
    terms = made(batch, NOW, SKILLS).terms
    found = [terms[name].item() for name in ("skill_critic", "skill", "discriminator")]
    assert found == pytest.approx(list(slow_skills(made, batch)), rel=1e-4)


def test_each_term_of_the_skills_moves_its_own_networks():
    made = learner()
    terms = made(transitions(), NOW, SKILLS).terms
    parts = (made.twins, made.controller.low, made.discriminator)
    online = [p for p in made.parameters() if p.requires_grad]
    for name, part in zip(("skill_critic", "skill", "discriminator"), parts, strict=True):
        slopes = torch.autograd.grad(terms[name], online, retain_graph=True, allow_unused=True)
        reached = {id(p) for p, g in zip(online, slopes, strict=True) if g is not None}
        assert reached == {id(p) for p in part.parameters()}, name


def test_one_skill_is_paid_nothing_and_leaves_nothing_to_choose():
    made = learner(n_skills=1)
    _, stats, _ = made(transitions(1), NOW, SKILLS)
    assert stats["skill_reward"] == 0
    lesson = made.study(rolled(made, 1), NOW)
    terms = made(lesson, NOW).terms
    assert terms["entropy"] == 0
    (slope,) = torch.autograd.grad(terms["policy"], made.controller.agents.net[-1].weight)
    assert slope.abs().max() == 0


def test_skills_come_apart():
    """Two actions lead to observations of their own: each skill takes another one."""
    spec = replace(SPEC, n_agents=1, n_actions=2, obs_size=2, episode_limit=1, fixed_length=True)
    cfg = HCConfig(**{**CONFIG, "n_skills": 2, "hold": 1, "lr": 4e-2, "target_update_tau": 0.5})
    torch.manual_seed(1)
    hidden = ControllerConfig(**{**CONTROLLER, "hidden_dim": 16})
    made = HC(spec, cfg, HC.make_controller(spec, hidden, None, cfg))
    descent, g = Descent(made), torch.Generator().manual_seed(0)
    for _ in range(120):
        skill = torch.randint(0, 2, (64, 1), generator=g)
        obs = torch.zeros(64, 1, 2)
        with torch.no_grad():
            p = made.controller.low(made.controller.with_skill(obs, skill)).softmax(-1)
        actions = (torch.rand(64, 1, generator=g) > p[..., 0]).long()
        following = torch.nn.functional.one_hot(actions, 2).float()
        batch = random_batch(spec, 64, obs=obs, actions=actions, next_obs=following, key=None)
        batch = replace(batch, terminated=torch.ones(64), kept={"skill": skill}, phases=(SKILLS,))
        descent.update(batch, NOW, 0)
    both = torch.tensor([[0], [1]])
    logits = made.controller.low(made.controller.with_skill(torch.zeros(2, 1, 2), both))
    assert sorted(logits.argmax(-1).flatten().tolist()) == [0, 1]
    _, stats, _ = made(batch, NOW, SKILLS)
    assert stats["skill_reward"] > 0.9 * math.log(2)


# --- the second stage


def rolled(made: HC, skills: int = 5, lengths: tuple[int, ...] = (7, 4, 2)):
    batch = lived(lengths, skills)
    chosen = torch.ones(batch.reward.shape, dtype=torch.bool)
    return replace(batch, kept={**batch.kept, "chosen": chosen})


@pytest.mark.parametrize("critic_input", ["obs", "state", "both"])
def test_advantages_of_segments_equal_a_slow_computation(critic_input):
    """A reward sum of its own discount, and gamma^L for what follows a segment of L steps."""
    made = learner(critic_input=critic_input, gamma=0.9)
    batch = rolled(made)
    lesson = made.study(batch, NOW)
    assert lesson.valid is not None and lesson.kept["returns"].shape == (3, 3, 1)
    raw, places = [], []
    with torch.no_grad():
        for b, length in enumerate((7, 4, 2)):
            advantage, ends = 0.0, [min(first + 3, length) for first in range(0, length, 3)]
            for s in reversed(range(len(ends))):
                first, end = 3 * s, ends[s]
                now = made.critic(batch.obs[b, first][None], batch.state[b, first][None])
                then = made.critic(
                    batch.next_obs[b, end - 1][None], batch.next_state[b, end - 1][None]
                )
                going = 0.9 ** (end - first) * (1 - float(batch.terminated[b, end - 1]))
                reward = sum(0.9**k * float(batch.reward[b, first + k]) for k in range(end - first))
                delta = reward + going * then.item() - now.item()
                advantage = delta + 0.95 * going * advantage
                raw.append(advantage)
                places.append((b, s))
                returns = lesson.kept["returns"][b, s].item()
                assert returns == pytest.approx(advantage + now.item(), abs=1e-4)
                log_p = made.controller(batch.obs[b, first][None])[0].log_softmax(-1)
                own = log_p.gather(1, batch.kept["skill"][b, first][:, None]).sum()
                assert lesson.kept["log_p"][b, s].item() == pytest.approx(own.item(), abs=1e-5)
    scaled = (torch.tensor(raw) - torch.tensor(raw).mean()) / torch.tensor(raw).std(correction=0)
    for (b, s), expected in zip(places, scaled.tolist(), strict=True):
        assert lesson.kept["advantage"][b, s].item() == pytest.approx(expected, abs=1e-4)
    assert lesson.valid.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]


def test_the_team_chooses_as_one():
    """One ratio for the whole team, and entropy is added."""
    made = learner(entropy_coef=0.1)
    lesson = made.study(rolled(made), NOW)
    half = math.log(2)
    lesson.kept["log_p"].sub_(half)  # every ratio is 2, clipped at 1.2
    lesson.kept["advantage"].fill_(1.0)
    terms, stats, _ = made(lesson, NOW)
    assert terms["policy"].item() == pytest.approx(-1.2, abs=1e-4)
    assert stats["ratio_clipped"] == 1
    logits = made.controller.agents.net[-1].bias
    (slope,) = torch.autograd.grad(terms["entropy"], logits)
    p = made.controller(lesson.obs).softmax(-1)
    assert terms["entropy"].item() == pytest.approx(
        -0.1 * lesson.mean(-(p * p.log()).sum(-1)).sum().item(), rel=1e-4
    )
    with torch.no_grad():
        logits -= 0.5 * slope / slope.norm()
    assert made(lesson, NOW).terms["entropy"] < terms["entropy"]


def test_episodes_with_drawn_skills_are_left_out():
    made = learner()
    batch = rolled(made)
    batch.kept["chosen"][1] = False
    lesson = made.study(batch, NOW)
    assert lesson.valid is not None
    assert lesson.valid.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert lesson.kept["advantage"][1].abs().max() == 0


@pytest.mark.parametrize("phase", [CHOICE, SKILLS])
def test_a_stage_moves_its_own_networks(phase):
    made = learner()
    before, descent = state(made), Descent(made)
    lesson = made.study(rolled(made), NOW) if phase == CHOICE else transitions()
    for _ in range(3):
        descent.update(replace(lesson, phases=(phase,)), NOW, 0)
    mine = {"agents", "critic"} if phase == CHOICE else {"low", "twins", "target_twins"}
    assert moved(made, before) == (mine if phase == CHOICE else mine | {"discriminator"})


def test_skills_are_drawn_then_chosen():
    obs, avail = torch.randn(9, 300, 3, 6), torch.ones(300, 3, 4, dtype=torch.bool)
    drawn, chosen = learner(), learner(choosing=True)
    for made in (drawn, chosen):
        carry, held, actions = made.start(300, CPU), [], []
        for step in range(7):
            keys = step_keys(300, 3)
            keys = Keys(keys.draws, keys.step + step, keys.episode)
            choice = made.act(obs[step], avail, carry, keys, NOW, greedy=False)
            carry = choice.carry
            held.append(choice.keep["skill"])
            actions.append(choice.actions)
        q = made.controller.low(made.controller.with_skill(obs[6], held[6])).argmax(-1)
        assert bool(choice.keep["chosen"].all()) is (made is chosen)
        if made is drawn:
            assert all(torch.equal(x, held[0]) for x in held)
            shares = torch.nn.functional.one_hot(held[0], 5).float().mean((0, 1))
            assert (shares - 0.2).abs().max() < 0.06
            assert not torch.equal(actions[6], q)
        else:
            assert all(torch.equal(held[t], held[t - t % 3]) for t in range(7))
            assert not torch.equal(held[0], held[3])
            assert torch.equal(actions[6], q)
    greedy = chosen.act(obs[0], avail, chosen.start(300, CPU), step_keys(300, 3), NOW, True)
    assert torch.equal(greedy.keep["skill"], chosen.controller(obs[0]).argmax(-1))


@pytest.mark.parametrize("choosing", [False, True])
def test_a_policy_is_summed_over_skills(choosing):
    made, obs = learner(choosing), torch.randn(20, 3, 6)
    avail = torch.rand(20, 3, 4) < 0.5
    avail[..., 2] = True
    p = made.policy(obs, avail)
    torch.testing.assert_close(p.sum(-1), torch.ones(20, 3))
    assert (p[~avail] == 0).all()
    share = made.controller(obs).softmax(-1) if choosing else torch.full((20, 3, 5), 0.2)
    expected = torch.zeros(20, 3, 4)
    for z in range(5):
        told = made.controller.with_skill(obs, torch.full((20, 3), z))
        logits = made.controller.low(told).masked_fill(~avail, -1e9)
        one = torch.nn.functional.one_hot(logits.argmax(-1), 4) if choosing else logits.softmax(-1)
        expected += share[..., z, None] * one
    torch.testing.assert_close(p, expected)


# --- one run of both


STAGES = {"skill_episodes": 3, "rollout_episodes": 4, "epochs": 2, "update_interval": 15}


def short(**updates) -> Settings:
    """Windy Maze, two episodes of 15 steps at once."""
    return tiny(
        "hc", "windy_maze", **{**STAGES, "test_interval": 90, "log_interval": 30, **updates}
    )


def test_the_skills_stay_as_they_are_in_the_second_stage():
    trainer = make_trainer(short(t_max=240))
    made = trainer.runs[0].learner
    assert isinstance(made, HC)
    seen = []
    while trainer.at.t < 240:
        before = state(made)
        trainer.play()
        trainer.learn()
        seen.append((bool(made.choosing()), moved(made, before) - {"lived"}))
    skills = {"low", "twins", "target_twins", "discriminator"}
    # Three episodes of skills end within the second rollout of two.
    assert [stage for stage, _ in seen] == [False, True, True, True, True, True, True, True]
    assert [each for _, each in seen[:2]] == [skills, skills]
    for (_, each), updated in zip(seen[2:], [False, True] * 3, strict=True):
        assert each == ({"agents", "critic"} if updated else set())


@pytest.mark.parametrize("stop", [31, 61, 106])
def test_a_run_stopped_in_either_stage_goes_on_bit_for_bit(stop, tmp_path):
    full = short(t_max=150)
    trained(full, tmp_path / "whole")
    trained(short(t_max=stop), tmp_path / "parts")
    resumed(full, tmp_path / "parts").train()
    assert_same(final(tmp_path / "parts"), final(tmp_path / "whole"))


def test_a_fleet_goes_through_both_stages():
    chosen = [short(t_max=120, seed=seed) for seed in (1, 2)]
    fleet = make_trainer(*chosen)
    fleet.train()
    for ours, settings in zip(fleet.runs, chosen, strict=True):
        theirs = trained(settings)[0].runs[0]
        assert ours.at == theirs.at and ours.learner.lived == 120
        for name, p in ours.learner.named_parameters():
            assert (p - theirs.learner.get_parameter(name)).abs().max() <= 1e-3, name


def test_an_update_learns_from_episodes_that_none_has_learned_from(monkeypatch):
    """Two episodes at once: a rollout of three would take one of them twice."""
    taken, newest = [], Replay.newest
    trainer = make_trainer(short(t_max=240, rollout_episodes=3))

    def recorded(replay: Replay, count: int, but: int = 0):
        taken.append((trainer.at.episodes, count))
        return newest(replay, count, but)

    monkeypatch.setattr(Replay, "newest", recorded)
    trainer.train()
    ends = [0, *(end for end, _ in taken)]
    assert [count for _, count in taken] == [4, 4, 4]
    assert all(count <= end - last for last, (end, count) in zip(ends, taken, strict=False))


@pytest.mark.parametrize("length", [7, 2])
def test_every_third_episode_ends_a_rollout_of_three(length):
    """Whatever the episodes' length."""
    made, taken = learner(skill_episodes=0, epochs=1), []
    keeps = made.keeps(SPEC)
    experience = made.experience(Replay(SPEC, ReplayConfig(buffer_size=90), CPU, keeps))
    for number in range(7):
        out = Episodes.allocate(SPEC, 1, CPU, keeps)
        out.obs.fill_(number)
        out.kept["chosen"].fill_(True)
        out.length.fill_(length)
        made.observe(out)
        experience.insert(out)
        at = Progress((number + 1) * length, number + 1, 0, length, 1)
        seen = [batch.obs.unique() for batch in experience.batches(keys(1)[0], NOW, at)]
        taken.append(sorted(set(torch.cat(seen).tolist())) if seen else [])
    assert taken == [[], [], [0, 1, 2], [], [], [3, 4, 5], []]


def test_a_run_from_anothers_networks_goes_on_from_their_stage():
    made = make_trainer(short()).runs[0].learner
    made.lived.fill_(30)
    assert made.ahead(0) == 3 * 15 - 30
    made.lived.fill_(30 + 20)
    assert made.ahead(20) == 3 * 15 - 30


START = ["--config=hc", "--env-config=windy_maze"]
WORDS = [w for w in TINY_WORDS if not w.startswith(("t_max", "update"))]
WORDS += ["t_max=120", "update_interval=60", "skill_episodes=2", "rollout_episodes=2", "epochs=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A saved run of both stages."""
    results = tmp_path_factory.mktemp("hc")
    assert main([*START, *WORDS, f"local_results_path={results}"]) == 0
    return results / "sacred" / "1"


def low_of(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "models" / "last.pt", weights_only=True)["learner"]
    return {name: x for name, x in saved.items() if name.startswith("controller.low.")}


def test_skills_are_taken_from_a_run(run, tmp_path):
    argv = [*START, *WORDS, f"skills_from={run}", "seed=5", f"local_results_path={tmp_path}"]
    assert main(argv) == 0
    folder = tmp_path / "sacred" / "1"
    assert_same(low_of(folder), low_of(run))
    metrics, config = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "config")
    )
    assert "skill_reward" not in metrics and "policy_loss" in metrics
    assert config["skills_from"] == str(run)
    assert main(["--resume", str(folder), "with", "t_max=240"]) == 0
    assert_same(low_of(folder), low_of(run))


def test_a_run_that_began_from_another_runs_networks_goes_on_bit_for_bit(tmp_path):
    longer = [w for w in WORDS if not w.startswith(("t_max", "skill_episodes"))]
    argv = [*START, *longer, "skill_episodes=8", f"local_results_path={tmp_path}"]
    first, whole, parts = (tmp_path / "sacred" / number for number in "123")
    assert main([*argv, "t_max=120"]) == 0  # ends with the first stage
    assert main([*argv, "t_max=120", f"checkpoint_path={first}"]) == 0
    assert main([*argv, "t_max=60", f"checkpoint_path={first}"]) == 0
    assert main(["--resume", str(parts), "with", "t_max=120"]) == 0
    assert_same(final(parts), final(whole))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--env-config=pac_men"], "env is windy_maze there, and pac_men here"),
        (["env_args.wind=0.2"], "env_args.wind is 0.4 there, and 0.2 here"),
        (["n_skills=4"], "n_skills is 8 there, and 4 here"),
        (["hidden_dim=16"], "hidden_dim is 8 there, and 16 here"),
        (["skills_from=nowhere"], "nowhere: there is no such run"),
        (["hold=16"], "hold=16: longer than an episode"),
        (["n_skills=0"], "n_skills: must be at least 1, got 0"),
        (["n_skills=1.5"], "n_skills: expected an integer, got 1.5"),
        (["decoder_batch=3"], "decoder_batch: has no effect with --config=hc"),
    ],
)
def test_skills_that_do_not_fit_are_refused(run, words, expected, tmp_path, capsys):
    flags = dict(w.split("=") for w in (*START, *words) if w.startswith("--"))
    given = [*(f"{flag}={name}" for flag, name in flags.items()), *WORDS]
    given += [f"skills_from={run}", f"local_results_path={tmp_path}"]
    assert main([*given, *(w for w in words if not w.startswith("--"))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and expected in error, error
    assert not any(tmp_path.iterdir())


def test_a_batch_knows_the_run_that_skills_come_from(run, monkeypatch):
    monkeypatch.chdir(run.parent.parent)
    given = [word for word in WORDS[1:] if not word.startswith("seed")]
    job = plan("hc", "windy_maze", 3, [], [*given, "skills_from=sacred/1"])
    assert job.config["skills_from"] == str(run.resolve())
    # Its own start must find the same run, when others have begun.
    assert f"skills_from={run.resolve()}" in job.command()


def test_skills_of_another_learner_are_refused(run, tmp_path, capsys):
    place = f"local_results_path={tmp_path}"
    assert main(["--config=hsd", START[1], *TINY_WORDS, "batch_size=2", "t_max=30", place]) == 0
    other, nothing = tmp_path / "sacred" / "1", tmp_path / "nothing"
    argv = [*START, *WORDS, f"skills_from={other}", f"local_results_path={nothing}"]
    assert main(argv) == 2
    assert "learner is hsd there, and hc here" in capsys.readouterr().err
    assert not nothing.exists()


def test_a_rollout_that_the_replay_cannot_hold_is_refused(run, tmp_path, capsys):
    argv = [*START, *WORDS, "rollout_episodes=99", f"local_results_path={tmp_path}"]
    assert main(argv) == 2
    assert "rollout_episodes=99: that many episodes do not fit" in capsys.readouterr().err


def test_a_loaded_team_holds_its_skills(run):
    team = load_policy(run, "last")
    obs = torch.rand(7, 2, team.spec.obs_size, generator=torch.Generator().manual_seed(0))
    skills, actions = [], []
    for x in obs:
        actions.append(team.act(x))
        assert team._carry is not None
        skills.append(team._carry["skill"][0])
    assert all(torch.equal(skills[t], skills[t - t % 5]) for t in range(7))
    controller = team.learner.controller
    with torch.no_grad():
        assert torch.equal(skills[5], controller(obs[5][None]).argmax(-1)[0])
        told = controller.with_skill(obs[6][None], skills[6][None])
        assert torch.equal(actions[6], controller.low(told).argmax(-1)[0])


def test_networks_of_the_first_stage_act_as_they_did_there(tmp_path):
    """The best test may have been one of drawn skills."""
    trainer = make_trainer(short(), folder=tmp_path)
    made, (later,) = trainer.runs[0], make_trainer(short()).runs
    made.save("first")
    for _ in range(2):
        trainer.play()
    assert made.learner.choosing() and made.learner.lived == 60
    later.learner.load_state_dict(made.learner.state_dict())
    assert later.learner.choosing()
    restore(later.learner, tmp_path, "first")
    assert not later.learner.choosing()


def test_a_saved_run_is_evaluated_with_the_skills_that_it_chooses(run, tmp_path, capsys):
    out = tmp_path / "found.json"
    assert evaluate.main([str(run), "--episodes=2", "--model=last", f"--out={out}"]) == 0
    assert len(json.loads(out.read_text())["episodes"]["return"]) == 2
    saved = [f"checkpoint_path={run}", "evaluate=True", f"local_results_path={tmp_path}"]
    assert main([*START, *WORDS, *saved]) == 0
    assert "test_return_mean" in capsys.readouterr().out


def test_its_films_show_skills_and_a_page_has_strips_of_all(run, tmp_path, capsys):
    picture, page = tmp_path / "skills.png", tmp_path / "film.html"
    assert watch.main([str(run), "--skills", "--out", str(picture)]) == 0
    assert capsys.readouterr().out == f"{picture}\n" and picture.stat().st_size > 10_000
    assert watch.main([str(run), "--out", str(page), "--quiet"]) == 0
    assert '"marks": {"skill"' in page.read_text()
    assert watch.main([str(run), "--skills", "--out", str(page)]) == 2
    assert "ends with .png" in capsys.readouterr().err
