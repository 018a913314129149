"""A fleet's runs equal the runs alone: term by term, parameter by parameter, and on disk."""

import copy
import json
import logging
import pathlib
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from eoi.components.action_selection import Keys
from eoi.components.batch import Batch
from eoi.config import loader
from eoi.config.schema import varying
from eoi.fleet import given_fleet, refuse_unstackable
from eoi.learners.descent import Descent
from eoi.learners.eoi import Constraint
from eoi.learners.experience import OnPolicy
from eoi.learners.extras import REGISTRY
from eoi.learners.stack import Stack, StackDescent, lifted
from eoi.main import main, parse_command
from eoi.pictures.panels import panels, remarks
from eoi.records import reader
from eoi.run import Run, Trainer
from eoi.settings import Settings
from eoi.utils.checkpoints import Checkpoints
from eoi.utils.errors import Failure, UserError
from eoi.utils.trees import map_tensors, member, stacked
from helpers import make_trainer, random_batch, trained
from test_config import eoi_of
from test_main import SRC
from test_main import TINY as TINY_WORDS

ALGORITHMS = loader.names("algs")
NOW = torch.tensor(30.0, dtype=torch.float64)
# Every setting in which runs may differ, with an algorithm that reads it and two values.
VARIED = [
    ("qmix", "gamma", (0.9, 0.99)),
    ("qmix", "lr", (1e-4, 1e-3)),
    ("qmix", "epsilon_start", (0.2, 1.0)),
    ("qmix", "epsilon_finish", (0.0, 0.9)),
    ("qmix", "epsilon_anneal_time", (0, 90)),
    ("qmix", "env_args.dots_per_room", (1, 9)),
    ("maac", "actor_lr", (1e-4, 1e-3)),
    ("maac", "critic_lr", (1e-4, 1e-3)),
    ("maac", "reward_scale", (1.0, 100.0)),
    ("maac", "logit_decay", (0.0, 0.1)),
    ("mappo", "gae_lambda", (0.0, 0.95)),
    ("mappo", "eps_clip", (0.01, 0.2)),
    ("mappo", "entropy_coef", (0.0, 0.5)),
    ("eoi_qmix", "eoi.alpha", (0.0, 0.5)),
    ("eoi_qmix", "eoi.alpha_warmup", (0, 300)),
    ("eoi_qmix", "eoi.alpha_anneal", (0, 40)),
    ("eoi_qmix", "eoi.temperature", (0.1, 1.0)),
    ("eoi_qmix", "eoi.alpha_floor", (0.0, 1.0)),
    ("eoi_qmix_literal", "eoi.alpha", (0.0, 0.5)),
    ("eoi_qmix", "eoi.trust_region", (1e-4, 1.0)),
    ("eoi_qmix", "eoi.constraint_lr", (0.01, 1.0)),
    ("eoi_qmix", "eoi.constraint_slack", (0.0, 0.5)),
    ("eoi_qmix", "eoi.beta1", (0.0, 1.0)),
    ("eoi_qmix", "eoi.beta2", (0.0, 1.0)),
    ("eoi_qmix", "eoi.delta_t", (1, 20)),
    ("eoi_qmix", "eoi.classifier_lr", (1e-4, 1e-2)),
    ("eoi_qmix", "eoi.value_lr", (1e-4, 1e-2)),
    ("eoi_explore_qmix", "eoi.reward_scale", (1.0, 10.0)),
    ("eoi_explore_qmix", "eoi.gamma", (0.1, 0.9)),
    ("eoi_explore_qmix", "eoi.episode_ratio", (0.0, 1.0)),
    ("eoi_explore_qmix", "eoi.explore_ratio", (0.1, 1.0)),
    ("eoi_qmix", "eoi.explore_hold", (0, 300)),
    ("eoi_qmix", "eoi.explore_turn", (20, 90)),
    ("eoi_qmix", "eoi.explore_anneal", (0, 20)),
    ("eoi_qmix", "eoi.explore_floor", (0.0, 1.0)),
    ("hc", "skill_entropy", (0.01, 1.0)),
    ("hsd", "decoder_lr", (1e-4, 1e-1)),
    ("hsd", "skills_threshold", (0.0, 1.0)),
    ("hsd", "task_weight_start", (0.0, 1.0)),
    ("hsd", "task_weight_finish", (0.0, 1.0)),
    ("hsd", "task_weight_episodes", (1, 100)),
    ("kl_maac", "kl.weight", (0.1, 0.5)),
    ("roma", "roma.entropy_weight", (0.0, 0.1)),
    ("roma", "roma.kl_weight", (0.0, 0.1)),
    ("roma", "roma.dissimilarity_weight", (0.0, 0.1)),
    ("roma", "roma.soft_constraint", (0.5, 1.0)),
    ("roma", "roma.lr", (1e-4, 1e-3)),
    ("edti", "edti.eta", (0.1, 10.0)),
    ("edti", "edti.reward_weight", (0.0, 1.0)),
    ("edti", "edti.value_weight", (0.0, 1.0)),
    ("edti", "edti.reward_ext", (0.0, 1.0)),
    ("edti", "edti.reward_int", (0.0, 1.0)),
    ("edti", "edti.value_ext", (0.0, 1.0)),
    ("edti", "edti.value_int", (0.0, 1.0)),
    ("edti", "edti.gae_lambda", (0.0, 0.95)),
    ("edti", "edti.value_lr", (1e-4, 1e-3)),
    ("eoi_qmix", "lfo.omega", (0.2, 0.9)),
    ("eoi_qmix", "lfo.anneal_time", (10, 1000)),
]


def updates(key, value):
    return loader.parse_updates([f"{key}={value}", "seed=4"])


def doubled(tree):
    return map_tensors(lambda x: x.double() if x.is_floating_point() else x, tree)


def assert_near(ours, theirs, tolerance=1e-4):
    ours, theirs = dict(ours.named_parameters()), dict(theirs.named_parameters())
    for name, p in ours.items():
        assert (p - theirs[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize(
    "algorithm", ["qmix", "eoi_qmix", "eoi_explore_qmix", "eoi_maac", "eoi_ippo"]
)
def test_200_updates_are_those_of_the_runs_alone(algorithm, settings):
    """The same batches to R learners alone and to a stack of them.

    In double precision, where only the order of a sum differs.
    """
    chosen = [settings(algorithm, seed=seed, update_interval=2) for seed in (1, 2)]
    trainers = [make_trainer(each) for each in chosen]
    players = [make_trainer(each) for each in chosen]
    runs = [trainer.runs[0] for trainer in trainers]
    for run in runs:
        run.learner.double()
    alone = [copy.deepcopy(run.learner) for run in runs]
    descents = [Descent(learner) for learner in alone]
    descent = StackDescent(Stack([run.learner for run in runs]))
    count = 0
    while count < 200:
        for run, player in zip(runs, players, strict=True):
            play(run, player)
        for batches in zip(*(run.batches() for run in runs), strict=True):
            batches = [doubled(batch) for batch in batches]
            together = descent.update(stacked(batches), NOW, 0)["loss"]
            apart = [d.update(b, NOW, 0)["loss"] for d, b in zip(descents, batches, strict=True)]
            assert (together - torch.stack(apart)).abs().max() <= 1e-4
            count += 1
            for run in runs:
                run.at.updates += 1
    for run, learner in zip(runs, alone, strict=True):
        assert_near(run.learner, learner)


def play(run: Run, player: Trainer) -> None:
    """New episodes for `run`, played and studied in single precision, as they are stored."""
    learner = player.runs[0].learner
    learner.load_state_dict(run.learner.state_dict())
    count = player.rollout.env.n_envs
    keys = run.episode_keys("train", run.at.episodes, count)
    episodes = player.rollout.run(learner, keys, run.now)
    if isinstance(run.experience, OnPolicy):
        run.experience = learner.experience(run.replay)
    run.take(episodes, count, player.rollout.steps(episodes))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_can_be_stacked(algorithm, settings):
    """From play to checkpoint. In single precision, rounding has no time to grow."""
    chosen = [settings(algorithm, seed=seed, t_max=120, hidden_dim=16) for seed in (1, 2)]
    alone = [trained(each)[0].runs[0] for each in chosen]
    for ours, theirs in zip(trained_fleet(chosen), alone, strict=True):
        assert (ours.at.t, ours.at.episodes, ours.at.updates) == (
            theirs.at.t,
            theirs.at.episodes,
            theirs.at.updates,
        )
        assert_near(ours.learner, theirs.learner, 1e-3)
        assert ours.log.series.keys() == theirs.log.series.keys()
        for name in ("loss", "return_mean", "test_return_mean", "test_ep_length_mean"):
            assert ours.log.latest[name] == pytest.approx(theirs.log.latest[name], abs=1e-3), name


def trained_fleet(chosen: list[Settings]) -> list[Run]:
    trainer = make_trainer(*chosen)
    trainer.train()
    return trainer.runs


@pytest.mark.parametrize("form", ["policy", "pull", "invariant"])
def test_strengths_as_shares_of_the_td_gradient_stack(form, settings):
    def chosen(alpha: float) -> Settings:
        eoi = {"form": form, "strength": "share", "alpha": alpha}
        return settings("eoi_qmix", t_max=60, eoi=eoi)

    every = [chosen(alpha) for alpha in (0.0, 0.3, 1.0)]
    alone, together = [trained(each)[0].runs[0] for each in every], trained_fleet(every)
    for ours, theirs in zip(together, alone, strict=True):
        assert_near(ours.learner, theirs.learner, 1e-4)


@pytest.mark.parametrize(("algorithm", "key", "values"), VARIED)
def test_runs_may_differ_in(algorithm, key, values, settings, monkeypatch):
    lfo = {"lfo": {"omega": 0.3, "schedule": "decay"}} if key.startswith("lfo") else {}
    falling = {"eoi": {"alpha_anneal": 20}} if key == "eoi.alpha_floor" else {}
    # One skill is in use at first, and in the next rollout two, where the threshold is low.
    growing = {"skills_start": 1, "t_max": 120} if key == "skills_threshold" else {}
    fixed = {"t_max": 60, **lfo, **falling, **growing}
    if key.startswith("eoi.constraint"):
        # The multiplier moves once the best return is older than the horizon.
        monkeypatch.setattr(Constraint, "HORIZON", 2)
        fixed |= {"t_max": 240, "eoi": {"constraint_lr": 1.0}}
    if "explore" in f"{algorithm} {key}":
        # Settings of exploration have an effect where some actions are not random.
        falls = {"explore_hold": 0, "explore_anneal": 40} if algorithm == "eoi_qmix" else {}
        falls = {} if key == "eoi.explore_turn" else falls
        # The share of exploring episodes falls after the first rollout, which begins at step 0.
        fixed |= {"t_max": 120, "epsilon_start": 0.1, "eoi": {"episode_ratio": 1.0, **falls}}
    chosen = [settings(algorithm, **loader.merged(fixed, updates(key, value))) for value in values]
    refuse_unstackable(given_fleet({"fleet": {"vary": {key: list(values)}}}), chosen)
    alone, together = [trained(each)[0].runs[0] for each in chosen], trained_fleet(chosen)
    for ours, theirs in zip(together, alone, strict=True):
        assert_near(ours.learner, theirs.learner, 1e-4)
        assert logged(ours).keys() == logged(theirs).keys()
        for name in logged(ours).keys() & {"return_mean", "q_offset", "q_std", "mixing_weight"}:
            assert logged(ours)[name] == pytest.approx(logged(theirs)[name], rel=1e-3)
    first, second = together
    moved = zip(first.learner.parameters(), second.learner.parameters(), strict=True)
    assert logged(first) != logged(second) or any(not torch.equal(x, y) for x, y in moved), (
        "the setting does nothing"
    )


@pytest.mark.parametrize("key", ["eoi.trust_region", "eoi.constraint_lr"])
def test_a_value_that_switches_a_part_off_needs_its_own_fleet(key, settings):
    chosen = [settings("eoi_qmix", **updates(key, value)) for value in (0.5, 1.0, 0.0)]
    with pytest.raises(UserError, match=f"^fleet.vary: {key}: one of its values switches a part"):
        refuse_unstackable(given_fleet({"fleet": {"vary": {key: [0.5, 1.0, 0.0]}}}), chosen)


def logged(run: Run) -> dict[str, list[float]]:
    """Values of every metric, without the times at which they were logged."""
    return {name: list(series["values"]) for name, series in run.log.series.items()}


def test_every_setting_that_may_differ_is_tried(settings):
    tried = {key for _, key, _ in VARIED}
    for algorithm in ALGORITHMS:
        s = settings(algorithm)
        kinds = {"": (s.run, s.controller, s.learner, s.replay), "env_args.": (s.env,)}
        kinds |= {f"{each.section}.": (each.cfg,) for each in s.extras}
        for prefix, parts in kinds.items():
            for part in parts:
                assert {prefix + name for name in varying(type(part))} <= tried
    for name, kind in REGISTRY.items():
        section = name.partition(".")[0]
        assert {f"{section}.{key}" for key in varying(kind.Config)} <= tried


def test_a_run_that_breaks_breaks_alone(settings):
    trainer = make_trainer(*(settings("qmix", seed=seed) for seed in (1, 2)))
    broken, sound = trainer.runs
    with torch.no_grad():
        next(broken.learner.parameters()).fill_(torch.nan)
    trainer.train()
    assert "nan or infinite" in str(trainer.failures[0]) and trainer.failures[1] is None
    assert "test_return_mean" in sound.log.latest
    alone, _ = trained(settings("qmix", seed=2))
    assert_near(sound.learner, alone.runs[0].learner, 1e-3)


def test_when_all_break_the_fleet_ends(settings):
    trainer = make_trainer(*(settings("qmix", seed=seed) for seed in (1, 2)))
    for run in trainer.runs:
        with torch.no_grad():
            next(run.learner.parameters()).fill_(torch.nan)
    with pytest.raises(Failure):
        trainer.train()
    assert trainer.at.t < trainer.cfg.t_max


@pytest.mark.parametrize("rates", [(1e-3, 1e-3), (1e-3, 1e-4)])
def test_a_run_goes_on_alone_from_its_checkpoint(rates, settings, tmp_path):
    """A fleet saves for each run the state of that run alone."""
    made = [settings("eoi_qmix", seed=seed, lr=lr) for seed, lr in zip((1, 2), rates, strict=True)]
    fleet = make_trainer(*made, folder=tmp_path)
    fleet.train()
    member = fleet.runs[1]
    content = Checkpoints(tmp_path / "1" / "checkpoints").newest()
    assert content is not None
    longer = settings("eoi_qmix", seed=2, lr=rates[1], t_max=180)
    continued = make_trainer(longer)
    continued.runs[0].resume(*content)
    assert continued.at == member.at
    for name, p in continued.runs[0].learner.named_parameters():
        assert torch.equal(p, member.learner.get_parameter(name))
    continued.train()
    alone, _ = trained(longer)
    assert_near(continued.runs[0].learner, alone.runs[0].learner, 1e-3)
    steps = [each.descent.optimiser.state_dict()["state"][0]["step"] for each in (continued, alone)]
    assert steps[0] == steps[1]


COMPILED = """
import sys, torch
compiled, original = [], torch.compile
torch.compile = lambda f: compiled.append(f) or original(f, backend="aot_eager")
from eoi.main import main
status = main(sys.argv[1:])
assert len(compiled) == 1
sys.exit(status)
"""


def test_compiled_losses_are_the_same(tmp_path):
    """Without code generation, which takes a minute.

    In a process of its own: checked shapes cannot be compiled.
    """
    words = [w for w in TINY_WORDS if not w.startswith("seed")]
    argv = [
        "--config=qmix",
        *words,
        f"local_results_path={tmp_path}",
        "fleet.seeds=[3,4]",
        "fleet.compile=True",
    ]
    subprocess.run(
        [sys.executable, "-c", COMPILED, *argv], check=True, cwd=SRC, capture_output=True
    )
    assert main(["--config=qmix", *TINY_WORDS, f"local_results_path={tmp_path}"]) == 0
    ours, alone = (
        json.loads((tmp_path / "sacred" / k / "metrics.json").read_text())["loss"]["values"]
        for k in ("1", "3")
    )
    assert ours == pytest.approx(alone, abs=1e-4)


def test_lifting_goes_through_trees():
    x = torch.arange(6.0).view(3, 2)
    batch = replace(random_batch(), kept={"q": torch.ones(5, 2)})
    keys = Keys(x[:, None], x.long(), x.long() + 1)
    tree = {"keys": keys, "batches": (stacked([batch] * 3), None)}

    def scaled(tree, by):
        assert isinstance(tree["batches"][0], Batch) and tree["batches"][1] is None
        return {"sum": tree["keys"].episode.sum() * by, "state": (tree["batches"][0].state,)}

    once = lifted(scaled, (tree, torch.tensor(2.0)), (0, None))
    assert once["sum"].tolist() == [6, 14, 22] and once["state"][0].shape == (3, *batch.state.shape)
    second = member(tree, 1)
    assert torch.equal(second["keys"].step, x[1].long())
    assert second["batches"][0].obs.shape == batch.obs.shape
    assert second["batches"][0].kept["q"].shape == (5, 2)


def test_a_stack_restores_its_tensors_when_a_call_fails(settings):
    trainer = make_trainer(*(settings("qmix", seed=seed) for seed in (1, 2)))
    stack = trainer.team
    assert isinstance(stack, Stack)
    before = [*stack.whole.named_parameters(), *stack.whole.named_buffers()]
    with pytest.raises(TypeCheckError):
        stack(None, NOW)
    after = [*stack.whole.named_parameters(), *stack.whole.named_buffers()]
    assert [name for name, _ in before] == [name for name, _ in after]
    assert all(x is y for (_, x), (_, y) in zip(before, after, strict=True))


def commands(*words):
    return parse_command(["--config=eoi_qmix", "with", *words])


def test_seeds_and_values_multiply():
    command = commands(
        "fleet.seeds=[1,2]", 'fleet.vary={"eoi.alpha": [0, 0.05], "lr": [1e-3, 1e-4]}', "t_max=60"
    )
    runs = [command, *command.others]
    assert len(runs) == 8
    assert {
        (r.settings.run.seed, eoi_of(r.settings).alpha, r.settings.learner.lr) for r in runs
    } == {(seed, alpha, lr) for seed in (1, 2) for alpha in (0.0, 0.05) for lr in (1e-3, 1e-4)}
    assert (
        runs[-1].config["eoi"]["alpha"] == 0.05
        and runs[-1].settings.run.label == "eoi.alpha=0.05 lr=0.0001"
    )
    assert runs[0].config["fleet"] == loader.defaults()["fleet"]


def test_arms_without_a_seed_share_the_drawn_one():
    words = ["--config=eoi_qmix", "with", 'fleet.vary={"eoi.alpha": [0.01, 0.05]}']
    seeds = [
        {run.settings.run.seed for run in (first, *first.others)}
        for first in (parse_command(words) for _ in range(2))
    ]
    assert [len(own) for own in seeds] == [1, 1] and seeds[0] != seeds[1]


def test_a_fleet_of_one_is_the_run_itself():
    assert commands("fleet.seeds=[7]", "t_max=60").others == []
    assert commands("fleet.seeds=[7]", "t_max=60").config == commands("seed=7", "t_max=60").config


def test_runs_of_a_fleet_are_recorded_as_they_would_be_alone():
    whole = commands("fleet.seeds=[7]", 'fleet.vary={"eoi.alpha": [0.5, 0.05]}', "t_max=60")
    alone = commands("seed=7", "eoi.alpha=0.05", "t_max=60")
    assert [each.config for each in whole.others] == [alone.config]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fleet.seeds=[1,1]"], "fleet.seeds names a value twice"),
        (["fleet.seeds=[1,x]"], "fleet.seeds"),
        (["fleet.seeds=[1,2]", "seed=3"], "with seed"),
        (['fleet.vary={"eoi.alpha": 0.1}'], "eoi.alpha needs a list"),
        (['fleet.vary={"eoi.alpha": [0.1, 0.1]}'], "names a value twice"),
        (["fleet.vary={1: [2]}"], "fleet.vary: 1 is not the name of a setting"),
        (
            ['fleet.vary={"eoi.alhpa": [0.1, 0.2]}'],
            "eoi.alhpa: there is no such setting. Did you mean 'eoi.alpha'?",
        ),
        (['fleet.vary={"eoi.alpha": [0.1, 0.2]}', "eoi.alpha=0.3"], "with eoi.alpha"),
        (['fleet.vary={"hidden_dim": [32, 64]}'], "hidden_dim"),
        (['fleet.vary={"eoi.alpha": [0.1, "x"]}'], "eoi.alpha"),
        (["fleet.sedes=[1]"], "fleet.sedes: there is no such setting. Did you mean 'seeds'?"),
        (
            ['fleet.vary={"lfo.omega": [0, 0.2]}'],
            "with lfo.omega=0 that part is not in the program",
        ),
        (["fleet.seeds=[1,2]", "evaluate=True", "checkpoint_path=x"], "evaluate"),
    ],
)
def test_runs_that_are_not_one_program_are_refused(words, expected):
    with pytest.raises(UserError, match=re.escape(expected)):
        commands(*words)


def test_a_fleet_in_a_file_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: qmix\nfleet: {seeds: [1, 2]}\n")
    with pytest.raises(UserError, match=r"mine.yaml: fleet: .* on the command line alone"):
        parse_command([f"--config={path}"])


def test_worlds_whose_episodes_differ_in_length_are_refused(tmp_path, capsys):
    """Before anything is begun."""
    argv = [
        "--config=qmix",
        "--env-config=sc2",
        "with",
        "fleet.seeds=[1,2]",
        f"local_results_path={tmp_path}",
    ]
    assert main(argv) == 2
    assert "differ in length" in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_learners_with_and_without_a_part_are_not_stacked(settings):
    """Their parameters are the same; what the part reads are numbers."""
    with pytest.raises(ValueError, match="structures"):
        make_trainer(*(settings("eoi_qmix", lfo={"omega": omega}) for omega in (0.0, 0.3)))


def test_each_run_has_a_record_of_its_own(tmp_path, caplog):
    words = [w for w in TINY_WORDS if not w.startswith("seed")]
    argv = [
        "--config=eoi_qmix",
        *words,
        f"local_results_path={tmp_path}",
        "fleet.seeds=[3,4]",
        'fleet.vary={"eoi.alpha": [0, 0.5]}',
    ]
    with caplog.at_level(logging.INFO):
        assert main(argv) == 0
    assert sum("replay: 4 times" in message for message in caplog.messages) == 1
    found = {}
    for folder in sorted((tmp_path / "sacred").glob("[0-9]*")):
        run, config, metrics = (
            json.loads((folder / f"{name}.json").read_text())
            for name in ("run", "config", "metrics")
        )
        assert run["status"] == "COMPLETED" and (folder / "models" / "last.pt").exists()
        assert metrics["test_return_mean"]["steps"] == [0, 60, 120]
        found[config["seed"], config["eoi"]["alpha"]] = metrics
    assert set(found) == {(seed, alpha) for seed in (3, 4) for alpha in (0, 0.5)}
    assert found[3, 0]["loss"]["values"] != found[4, 0]["loss"]["values"]
    assert sum("seed 4 eoi.alpha=0.5" in message for message in caplog.messages) == 1
    runs = reader.find_runs([tmp_path])
    ((panel, _),) = panels(runs, None, None, ["name"])
    assert any(
        "differ in eoi.alpha; --by name,eoi.alpha tells them apart" in remark
        for remark in remarks(panel)
    )
    ((panel, _),) = panels(runs, None, None, ["name", "eoi.alpha"])
    assert {arm: len(members) for arm, members in panel.groups.items()} == {
        "eoi_qmix, eoi.alpha=0": 2,
        "eoi_qmix, eoi.alpha=0.5": 2,
    }
    assert remarks(panel) == []
    assert (
        main(["--config=eoi_qmix", *TINY_WORDS, "eoi.alpha=0.5", f"local_results_path={tmp_path}"])
        == 0
    )
    alone = json.loads((tmp_path / "sacred" / "5" / "metrics.json").read_text())
    assert alone.keys() == found[3, 0.5].keys()
    assert found[3, 0.5]["loss"]["values"] == pytest.approx(alone["loss"]["values"], abs=1e-4)


def test_a_run_that_fails_is_marked_and_the_rest_complete(tmp_path, caplog):
    """A huge learning rate breaks the one run whose it is."""
    words = [w for w in TINY_WORDS if not w.startswith("t_max")]
    argv = [
        "--config=qmix",
        *words,
        f"local_results_path={tmp_path}",
        'fleet.vary={"lr": [1e-4, 1e38]}',
        "t_max=600",
    ]
    assert main(argv) == 1
    states = [
        json.loads((tmp_path / "sacred" / str(k) / "run.json").read_text())["status"]
        for k in (1, 2)
    ]
    assert states == ["COMPLETED", "FAILED"]
    assert any(
        "lr=1e+38" in message and "the other runs go on" in message for message in caplog.messages
    )


def recorded(results: pathlib.Path, run: int) -> tuple[dict, dict, dict]:
    """The record of a run, its settings and its metrics."""
    folder = results / "sacred" / str(run)
    names = ("run", "config", "metrics")
    run_, config, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in names)
    return run_, config, metrics


def test_128_runs_begin_and_end_well(tmp_path):
    """Records are begun and ended one after the other, so that a fleet may be large."""
    words = [
        "with",
        f"fleet.seeds={list(range(128))}",
        f"local_results_path={tmp_path}",
        "hidden_dim=4",
        "mixing_embed_dim=2",
        "batch_size=4",
        "batch_size_run=8",
        "buffer_size=150",
        "learning_starts=0",
        "update_interval=500",
        "t_max=2000",
        "test_interval=1000",
        "log_interval=1000",
        "test_nepisode=2",
        "save_interval=0",
        "save_model=False",
    ]
    assert main(["--config=qmix", "--env-config=windy_maze", *words]) == 0
    assert len(list((tmp_path / "sacred").glob("[0-9]*"))) == 128
    curves = set()
    for k in range(1, 129):
        run, config, metrics = recorded(tmp_path, k)
        assert run["status"] == "COMPLETED" and config["seed"] == k - 1
        assert config["fleet"]["seeds"] == []  # the record of a single run
        assert metrics["test_return_mean"]["steps"][0] == 0
        assert metrics["test_return_mean"]["steps"][-1] >= 2000
        assert metrics["updates"]["values"][-1] >= 4
        curves.add(tuple(metrics["loss"]["values"]))
    assert len(curves) == 128


def test_an_interrupted_fleet_resumes_run_by_run(tmp_path, monkeypatch, capsys):
    words = [w for w in TINY_WORDS if not w.startswith("seed")]
    fleet = ["--config=qmix", *words, f"local_results_path={tmp_path}", "fleet.seeds=[3,4,5]"]
    real = Trainer.play

    def play(self: Trainer) -> None:
        if self.at.t == 60:
            signal.raise_signal(signal.SIGINT)
        real(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "play", play)
        assert main([*fleet, "t_max=240"]) == 130
    assert "continues the run where it was, and so on" in capsys.readouterr().err
    assert main(["--config=qmix", *TINY_WORDS, "t_max=240", f"local_results_path={tmp_path}"]) == 0
    _, _, alone = recorded(tmp_path, 4)
    for k in (1, 2, 3):
        run, config, metrics = recorded(tmp_path, k)
        assert run["status"] == "INTERRUPTED" and metrics["test_return_mean"]["steps"][-1] == 120
        assert main(["--resume", str(tmp_path / "sacred" / str(k))]) == 0
        run, again, metrics = recorded(tmp_path, k)
        assert run["status"] == "COMPLETED" and again == config and config["seed"] == k + 2
        assert metrics["test_return_mean"]["steps"] == alone["test_return_mean"]["steps"]
    _, _, first = recorded(tmp_path, 1)
    assert first["loss"]["values"] == pytest.approx(alone["loss"]["values"], abs=1e-4)


def test_one_failing_run_of_three_fails_alone(tmp_path, capsys):
    """The first run fails, whose record Sacred itself keeps; the status is 1."""
    words = [w for w in TINY_WORDS if not w.startswith("t_max")]
    vary = 'fleet.vary={"lr": [1e38, 1e-4, 1e-3]}'
    argv = ["--config=qmix", *words, f"local_results_path={tmp_path}", vary, "t_max=300"]
    assert main(argv) == 1
    records = [recorded(tmp_path, k) for k in (1, 2, 3)]
    assert [run["status"] for run, *_ in records] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert "nan or infinite" in "".join(records[0][0]["fail_trace"])
    for _, _, metrics in records[1:]:
        assert metrics["test_return_mean"]["steps"] == [0, 60, 120, 180, 240, 300]
    assert "nan or infinite" in capsys.readouterr().err
