"""Whole runs: every algorithm's file, equivalences, and one that learns."""

import math

import pytest
import torch

from config import loader
from run import Training, build, build_learner, configure
from utils.logging import RunLog


def trained(parts, settings, folder=None):
    seen = []
    log = RunLog(lambda name, value, t: seen.append((name, value, t)), "test", settings.run.t_max)
    training = Training(parts, settings, log, folder)
    training.train()
    return training, seen


@pytest.mark.parametrize("algorithm", loader.names("algs"))
@pytest.mark.parametrize("shared", [False, True])
def test_every_algorithm_trains_with_finite_numbers(algorithm, shared, settings, tmp_path):
    chosen = settings(algorithm, share_params=shared, obs_agent_id=shared)
    training, seen = trained(build(chosen), chosen, tmp_path)
    assert training.at.t == 120 and training.at.updates == 12
    assert all(math.isfinite(value) for _, value, _ in seen)
    names = {name for name, _, _ in seen}
    assert {"return_mean", "test_return_mean", "ep_length_mean", "epsilon", "loss", "td_error_abs"} <= names
    assert {"q_taken_mean", "target_mean", "grad_norm"} <= names
    if chosen.eoi.form != "none":
        assert {"classifier_loss", "classifier_ce", "classifier_pd", "classifier_mi", "classifier_accuracy", "individuality_mean"} <= names
        assert "intrinsic_value_loss" in names
    if chosen.eoi.form == "pull":
        assert {"pull_grad_norm", "pull_td_cosine", "intrinsic_slope"} <= names
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"best.pt", "last.pt"}


@pytest.mark.parametrize("name", loader.names("envs"))
def test_every_environments_file_trains(name, settings):
    chosen = settings("eoi_qmix", name, t_max=1)
    assert trained(build(chosen), chosen)[0].at.episodes == 2


def weights(training, part: str):
    return {k: v for k, v in training.parts.learner.state_dict().items() if k.startswith(part)}


def equal(ours, theirs, parts=("controller", "mixer", "target")) -> bool:
    return all(torch.equal(v, weights(theirs, part)[k]) for part in parts for k, v in weights(ours, part).items())


@pytest.mark.parametrize(
    ("algorithm", "base", "off"),
    [
        ("eoi_qmix", "qmix", {"alpha": 0}),
        ("eoi_vdn", "vdn", {"alpha": 0}),
        ("eoi_explore_qmix", "qmix", {"episode_ratio": 0}),
        ("qmix", "qmix", {"form": "reward", "alpha": 0}),
        ("iql", "iql", {"form": "reward", "alpha": 0}),
    ],
)
def test_without_its_weight_eoi_is_the_base_learner_bit_for_bit(algorithm, base, off, settings):
    ours, theirs = settings(algorithm, eoi=off), settings(base)
    ours, theirs = (trained(build(chosen), chosen)[0] for chosen in (ours, theirs))
    assert equal(ours, theirs)


@pytest.mark.parametrize("algorithm", ["eoi_qmix", "eoi_explore_qmix"])
def test_with_its_weight_it_is_not(algorithm, settings):
    ours, theirs = (
        trained(build(chosen), chosen)[0] for chosen in (settings(algorithm, epsilon_start=0.1), settings("qmix", epsilon_start=0.1))
    )
    assert not equal(ours, theirs)


@pytest.mark.parametrize(
    "eoi", [{"q_source": "stored"}, {"q_input": "normalised"}, {"project": True}, {"centred": True}, {"alpha_warmup": 100}]
)
def test_settings_of_the_pull_change_the_run_and_nothing_breaks(eoi, settings):
    ours, theirs = (trained(build(chosen), chosen)[0] for chosen in (settings("eoi_qmix", eoi=eoi), settings("eoi_qmix")))
    assert not equal(ours, theirs)
    assert all(torch.isfinite(v).all() for v in ours.parts.learner.state_dict().values())


def test_a_run_is_a_function_of_its_seed(settings):
    first, again, other = (
        trained(build(chosen), chosen)[0] for chosen in (settings("eoi_qmix"), settings("eoi_qmix"), settings("eoi_qmix", seed=4))
    )
    assert equal(first, again, ("",))
    assert not equal(first, other)


def test_same_init(settings):
    learner = build_learner(chosen := settings("eoi_qmix", same_init=True), build(chosen).train.env.spec)
    weight = learner.controller.agents.layers[0].weight
    assert torch.equal(weight[0], weight[3])
    value = learner.extras[0].value.first.weight
    assert not torch.equal(value[0], value[3])


@pytest.mark.parametrize(("interval", "start", "updates"), [(10, 0, 12), (40, 0, 3), (10, 100, 12), (10, 121, 0)])
def test_cadence(interval, start, updates, settings):
    chosen = settings("qmix", update_interval=interval, learning_starts=start)
    assert trained(build(chosen), chosen)[0].at.updates == updates


def test_tests_do_not_change_the_training(settings):
    often, seldom = (
        trained(build(chosen), chosen)[0] for chosen in (settings("qmix", test_interval=30), settings("qmix", test_interval=120))
    )
    assert equal(often, seldom)


@pytest.mark.parametrize("algorithm", ["qmix", "vdn", "iql"])
def test_it_learns_a_tiny_game(algorithm):
    """One step, two agents in rooms full of dots: eat at once. A policy that does so returns 2; a random one 0.4."""
    rooms = "\n".join(["####", "#ST#", "#BL#", "#RS#", "####"])
    updates = {
        "seed": 1,
        "env_args": {"layout": rooms, "n_agents": 2, "dots_per_room": 1, "episode_limit": 3},
        "t_max": 3000,
        "hidden_dim": 32,
        "lr": 1e-3,
        "epsilon_anneal_time": 1500,
        "update_interval": 6,
        "learning_starts": 200,
        "test_interval": 3000,
        "log_interval": 3000,
        "buffer_size": 2000,
        "batch_size": 64,
    }
    chosen = configure(loader.load(algorithm, "pac_men", updates))
    training, _ = trained(build(chosen), chosen)
    assert training.log.latest["test_return_mean"] > 1.7
