"""Whole runs: every algorithm's file, equivalences, and one that learns."""

import math
import re

import pytest
import torch

from eoi.build import make_learner
from eoi.config import loader
from eoi.records.labels import known
from eoi.run import Trainer
from eoi.settings import configure
from eoi.utils.logging import RunLog
from helpers import SPEC, make_trainer, trained, worlds

OWN = {
    "q_learner": {"epsilon", "q_taken_mean"},
    "maac": {"q_taken_mean", "actor_loss", "entropy", "actor_grad_norm"},
    "ppo": {
        "policy_loss",
        "value_mean",
        "entropy",
        "ratio_clipped",
        "policy_change",
        "policy_grad_norm",
    },
    "hc": {"skill_reward", "skill_probability", "policy_loss", "value_mean"},
    "hsd": {"epsilon", "low_loss", "decoder_loss", "skill_probability", "task_weight"},
}


def form_of(algorithm: str) -> str:
    return loader.load(algorithm, "pac_men", {})["eoi"]["form"]


@pytest.mark.parametrize("algorithm", loader.names("algs"))
@pytest.mark.parametrize("shared", [False, True])
def test_every_algorithm_trains_with_finite_numbers(algorithm, shared, settings, tmp_path):
    chosen = settings(algorithm, share_params=shared, obs_agent_id=shared)
    trainer, seen = trained(chosen, tmp_path)
    # Every ten steps. PPO: two rollouts of 60 steps, ten epochs of three minibatches each. PyMARL's
    # QMIX: after each of four episodes, as soon as there are two. HC: six in the first rollout, and
    # ten epochs of three minibatches of the second one. HSD: the decoder's too, one an episode.
    updates = {"ppo": 60, "q_learner": 3 if algorithm.endswith("_rnn") else 12, "maac": 12}
    updates |= {"hc": 6 + 30, "hsd": 12 + 4}
    assert trainer.at.t == 120 and trainer.at.updates == updates[chosen.run.learner]
    assert all(math.isfinite(value) for _, value, _ in seen)
    names = {name for name, _, _ in seen}
    assert {
        "return_mean",
        "test_return_mean",
        "ep_length_mean",
        "loss",
        "td_error_abs",
        "target_mean",
        "grad_norm",
    } <= names
    assert {"test_snd", "test_position_overlap", "test_probe_accuracy"} <= names
    assert OWN[chosen.run.learner] <= names
    assert [name for name in sorted(names) if not known(name)] == []  # labels of pictures
    form = form_of(algorithm)
    if form != "none":
        assert {
            "classifier_loss",
            "classifier_ce",
            "classifier_pd",
            "classifier_mi",
            "classifier_accuracy",
            "individuality_mean",
        } <= names
    if form in ("policy", "pull", "explore"):
        assert "intrinsic_value_loss" in names
    if form in ("policy", "pull"):
        assert {"pull_grad_norm", "pull_td_cosine", "q_abs_mean"} <= names
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"best.pt", "last.pt"}


@pytest.mark.parametrize("name", worlds())
def test_every_environments_file_trains(name, settings):
    chosen = settings("eoi_qmix", name, t_max=1, buffer_size=400)
    trainer, seen = trained(chosen)
    assert trainer.at.episodes == 2
    assert [name for name, _, _ in seen if not known(name)] == []


def weights(trainer: Trainer, part: str) -> dict[str, torch.Tensor]:
    found = trainer.runs[0].learner.state_dict()
    return {k: v for k, v in found.items() if k.startswith(part)}


def equal(ours, theirs, parts=("controller", "mixer", "critic", "target")) -> bool:
    return all(
        torch.equal(v, weights(theirs, part)[k])
        for part in parts
        for k, v in weights(ours, part).items()
    )


@pytest.mark.parametrize(
    ("algorithm", "base", "off"),
    [
        ("eoi_qmix", "qmix", {"alpha": 0, "episode_ratio": 0}),
        ("eoi_qmix", "qmix", {"alpha": 0, "episode_ratio": 0, "strength": "share"}),
        ("eoi_qmix_literal", "qmix", {"alpha": 0}),
        ("eoi_qmix_literal", "qmix", {"alpha": 0, "strength": "share"}),
        ("eoi_qmix", "qmix", {"form": "invariant", "alpha": 0}),
        ("eoi_qmix", "qmix", {"form": "invariant", "alpha": 0, "strength": "share"}),
        ("eoi_qmix_rnn", "qmix_rnn", {"alpha": 0, "episode_ratio": 0}),
        ("eoi_vdn", "vdn", {"alpha": 0, "episode_ratio": 0}),
        ("eoi_explore_qmix", "qmix", {"episode_ratio": 0}),
        ("qmix", "qmix", {"form": "reward", "alpha": 0}),
        ("iql", "iql", {"form": "reward", "alpha": 0}),
        ("eoi_maac", "maac", {"alpha": 0}),
        ("eoi_ippo", "ippo", {"alpha": 0}),
        ("eoi_mappo", "mappo", {"alpha": 0}),
    ],
)
def test_without_its_weight_eoi_is_the_base_learner_bit_for_bit(algorithm, base, off, settings):
    ours, theirs = settings(algorithm, eoi=off), settings(base)
    ours, theirs = (trained(chosen)[0] for chosen in (ours, theirs))
    assert equal(ours, theirs)


@pytest.mark.parametrize(
    ("algorithm", "base"),
    [
        ("eoi_qmix", "qmix"),
        ("eoi_qmix_literal", "qmix"),
        ("eoi_qmix_rnn", "qmix_rnn"),
        ("eoi_explore_qmix", "qmix"),
        ("eoi_maac", "maac"),
        ("eoi_ippo", "ippo"),
        ("kl_maac", "maac"),
    ],
)
def test_with_its_weight_it_is_not(algorithm, base, settings):
    ours, theirs = (
        trained(chosen)[0]
        for chosen in (settings(algorithm, epsilon_start=0.1), settings(base, epsilon_start=0.1))
    )
    assert not equal(ours, theirs)


def trained_at_zero(settings, section: str, key: str, algorithm: str) -> Trainer:
    """A run whose `section` is switched on and then weighs nothing."""
    trainer = make_trainer(settings(algorithm, **{section: {key: 0.5}}))
    (extra,) = (
        extra for extra in trainer.runs[0].learner.extras if section in type(extra).__name__.lower()
    )
    getattr(extra, key).zero_()
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("section", "key", "algorithm"),
    [
        ("lfo", "omega", "qmix"),
        ("lfo", "omega", "maac"),
        ("lfo", "omega", "eoi_qmix"),
        ("lfo", "omega", "eoi_maac"),
        ("kl", "weight", "maac"),
    ],
)
def test_an_addition_of_no_weight_is_its_base_bit_for_bit(section, key, algorithm, settings):
    chosen = settings(algorithm)
    theirs = trained(chosen)[0]
    assert equal(trained_at_zero(settings, section, key, algorithm), theirs)
    switched = settings(algorithm, **{section: {key: 0.5}})
    assert not equal(trained(switched)[0], theirs)
    off = settings(algorithm, **{section: {key: 0.0}})
    assert equal(trained(off)[0], theirs)


@pytest.mark.parametrize(
    "algorithm", ["qmix", "eoi_qmix", "eoi_explore_qmix", "iql", "maac", "eoi_maac"]
)
@pytest.mark.parametrize(
    "lfo",
    [
        {},
        {"importance_weight": False},
        {"schedule": "decay", "derangement": True},
        {"schedule": "adaptive"},
    ],
)
def test_lfo_trains_with_every_off_policy_learner(algorithm, lfo, settings):
    chosen = settings(algorithm, lfo={"omega": 0.5, **lfo})
    trainer, seen = trained(chosen)
    assert all(math.isfinite(value) for _, value, _ in seen)
    assert {"lfo_weight_mean", "lfo_omega", "classifier_accuracy"} <= {name for name, _, _ in seen}
    assert trainer.at.updates == 12


@pytest.mark.parametrize(
    "eoi",
    [
        {"q_source": "stored"},
        {"q_input": "normalised"},
        {"project": True},
        {"intrinsic": "centred"},
        {"intrinsic": "log"},
        {"intrinsic": "log_odds"},
        {"trust_region": 0.5},
        {"alpha_warmup": 100},
        {"alpha_anneal": 30},
        {"strength": "share"},
        {"form": "invariant"},
        {"form": "policy"},
    ],
)
def test_settings_of_the_pull_change_the_run_and_nothing_breaks(eoi, settings):
    ours, theirs = (
        trained(chosen)[0]
        for chosen in (settings("eoi_qmix_literal", eoi=eoi), settings("eoi_qmix_literal"))
    )
    assert not equal(ours, theirs)
    assert all(torch.isfinite(v).all() for v in ours.runs[0].learner.state_dict().values())


def test_a_run_is_a_function_of_its_seed(settings):
    first, again, other = (
        trained(chosen)[0]
        for chosen in (settings("eoi_qmix"), settings("eoi_qmix"), settings("eoi_qmix", seed=4))
    )
    assert equal(first, again, ("",))
    assert not equal(first, other)


def test_same_init(settings):
    learner = make_learner(settings("eoi_qmix", same_init=True), SPEC)
    weight = learner.controller.agents.mlp.layers[0].weight
    assert torch.equal(weight[0], weight[2])
    value = learner.extras[0].value.layers[0].weight
    assert not torch.equal(value[0], value[2])


@pytest.mark.parametrize(
    ("interval", "start", "updates"),
    [(10, 0, 12), (40, 0, 3), (10, 100, 12), (10, 120, 12), (10, 121, 0)],
)
def test_cadence(interval, start, updates, settings):
    chosen = settings("qmix", update_interval=interval, learning_starts=start)
    assert trained(chosen)[0].at.updates == updates


def test_tests_do_not_change_the_training(settings):
    often, seldom = (
        trained(chosen)[0]
        for chosen in (settings("qmix", test_interval=30), settings("qmix", test_interval=120))
    )
    assert equal(often, seldom)


@pytest.mark.parametrize("algorithm", ["qmix", "vdn", "iql", "maac", "ippo", "mappo"])
def test_it_learns_a_tiny_game(algorithm):
    """Two agents in rooms full of dots: eating at once returns 2, random actions 0.4."""
    rooms = "\n".join(["####", "#ST#", "#BL#", "#RS#", "####"])
    updates = {
        "seed": 1,
        "env_args": {"layout": rooms, "n_agents": 2, "dots_per_room": 1, "episode_limit": 3},
        "t_max": 3000,
        "hidden_dim": 32,
        "test_interval": 3000,
        "log_interval": 3000,
        "buffer_size": 2000,
        "batch_size": 64,
        "update_interval": 6,
        "learning_starts": 200,
        "lr": 1e-3,
        "epsilon_anneal_time": 1500,
        "actor_lr": 3e-3,
        "critic_lr": 3e-3,
    }
    chosen = configure(loader.load(algorithm, "pac_men", updates))
    trainer, _ = trained(chosen)
    assert trainer.log.latest["test_return_mean"] > 1.7


def test_updates_that_are_due_at_once_show_progress(settings, monkeypatch, capsys):
    """The updates of the first 100 steps follow one rollout; a line before each of them."""
    monkeypatch.setattr(RunLog, "is_due", True)
    trainer = make_trainer(settings("qmix", learning_starts=100))
    while not trainer.at.updates:
        trainer.play()
        trainer.learn()
    assert len(capsys.readouterr().out.splitlines()) == trainer.at.updates > 1


def test_the_last_progress_line_is_printed_once(settings, monkeypatch, capsys):
    """However often a line is due."""
    monkeypatch.setattr(RunLog, "is_due", True)
    trainer = make_trainer(settings("qmix", t_max=60, update_interval=30, test_interval=600))
    trainer.train()
    lines = [re.split(r" {2,}", line)[2:4] for line in capsys.readouterr().out.splitlines()]
    counts = [line for line in lines if line[0].startswith("60/60")]
    assert trainer.at.updates == 2 and len(counts) == 3  # before each update, and at the end
