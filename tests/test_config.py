import dataclasses
import pathlib
import re
from dataclasses import fields
from typing import Literal

import pytest
import torch

from eoi import envs, learners
from eoi.config import loader
from eoi.config.schema import parse, setting
from eoi.fleet import FleetConfig
from eoi.learners.extras import sections
from eoi.settings import Settings, configure, readers
from eoi.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sample:
    rate: float = setting(0, 1)
    count: int = setting(1)
    flag: bool
    pair: tuple[int, int] = (1, 2)
    note: str | None = None
    level: Literal["1", "7"] = "7"


GOOD = {"rate": 0.5, "count": 2, "flag": True}


def test_values_are_converted_and_defaults_kept():
    assert parse(Sample, {**GOOD, "rate": 1, "pair": [3, 4]}) == Sample(1.0, 2, True, (3, 4))


def test_a_whole_number_is_a_text_where_a_text_is_asked_for():
    found = parse(Sample, {**GOOD, "note": 12, "level": 1})
    assert (found.note, found.level) == ("12", "1")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**GOOD, "cuont": 3}, ["s.cuont", "'count'"]),
        ({"rate": 0.5, "flag": True}, ["s.count", "missing"]),
        ({**GOOD, "count": 2.5}, ["s.count", "expected an integer", "2.5"]),
        ({**GOOD, "count": True}, ["s.count", "True"]),
        ({**GOOD, "flag": 1}, ["s.flag", "expected True or False"]),
        ({**GOOD, "rate": "5e-4"}, ["s.rate", "expected a number", "'5e-4'"]),
        ({**GOOD, "rate": 1.5}, ["s.rate", "at most 1"]),
        ({**GOOD, "rate": float("nan")}, ["s.rate", "at least 0"]),
        ({**GOOD, "count": -1}, ["s.count", "at least 1", "-1"]),
        ({**GOOD, "pair": [1]}, ["s.pair"]),
        ({**GOOD, "note": 1.5}, ["s.note", "expected a text", "1.5"]),
        ({**GOOD, "level": 5}, ["s.level", "one of '1', '7'", "5"]),
    ],
)
def test_bad_values_are_refused_by_full_name(values, words):
    with pytest.raises(UserError) as refusal:
        parse(Sample, values, "s.")
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["gama=0.9"], ["gama", "'gamma'"]),
        (["eoi.aplha=1"], ["eoi.aplha", "'eoi.alpha'"]),
        (["eoi=3"], ["eoi", "section"]),
        (["rnn_hidden_dim=64"], ["rnn_hidden_dim", "hidden_dim"]),
        (["runner=parallel"], ["runner", "batch_size_run"]),
        (["gamma"], ["key=value"]),
        (["alpha=0.1"], ["with alpha", "Did you mean 'eoi.alpha'?"]),
        (["map_name=8M"], ["with map_name", "Did you mean 'env_args.map_name'?"]),
        (["plugins=mine"], ["plugins=mine", "such as 'plugins=[mine]'"]),
        (["plugins=3"], ["plugins=3", "such as 'plugins=[mine]'"]),
        (["dots_per_room=4"], ["Did you mean 'env_args.dots_per_room'?"]),
    ],
)
def test_unknown_keys_on_the_command_line_are_refused(pairs, words):
    with pytest.raises(UserError) as refusal:
        updates = loader.parse_updates(pairs)
        loader.load("eoi_qmix", "pac_men", updates, envs.setting_names())
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize(
    ("algorithm", "updates", "words"),
    [
        ("qmix", {"env_args": {"dots_per_rom": 4}}, ["env_args.dots_per_rom", "'dots_per_room'"]),
        ("qmix", {"env_args": {"dots_per_room": 99}}, ["env_args.dots_per_room", "99"]),
        ("qmix", {"eoi": {"alpha": 0.1}}, ["eoi.alpha", "no effect", "qmix"]),
        ("eoi_explore_qmix", {"eoi": {"q_input": "raw"}}, ["eoi.q_input", "no effect"]),
        ("eoi_qmix", {"eoi": {"form": "push"}}, ["eoi.form", "'pull'"]),
        ("qmix", {"mixer": "qmixx"}, ["mixer", "'vdn'"]),
        ("qmix", {"batch_size": -3}, ["batch_size", "at least 1"]),
        ("qmix", {"evaluate": True}, ["evaluate", "checkpoint_path"]),
        ("qmix", {"learner": "q_lerner"}, ["learner", "q_learner"]),
        ("maac", {"mixer": "vdn"}, ["mixer", "no effect", "maac"]),
        ("maac", {"epsilon_start": 0.5}, ["epsilon_start", "no effect"]),
        ("maac", {"epochs": 3}, ["epochs", "no effect"]),
        ("maac", {"hidden_dim": 30}, ["attend_heads", "30"]),
        ("ippo", {"update_interval": 5}, ["update_interval", "no effect", "ippo"]),
        ("ippo", {"lfo": {"omega": 0.2}}, ["lfo", "no effect"]),
        ("ippo", {"kl": {"weight": 0.1}}, ["kl", "no effect"]),
        ("qmix", {"update_interval": 5, "update_interval_episodes": 1}, ["give one of them"]),
        ("qmix_rnn", {"update_interval": 5}, ["qmix_rnn has 1; add update_interval_episodes=0"]),
        ("qmix_rnn", {"target_update_tau": 0.1}, ["has 200; add target_update_interval=0"]),
        ("qmix", {"actor_lr": 0.1}, ["actor_lr", "no effect"]),
        ("qmix", {"kl": {"weight": 0.1}}, ["kl", "no effect"]),
        ("qmix", {"lfo": {"omega": 1.5}}, ["lfo.omega", "at most 1"]),
        ("qmix", {"lfo": {"omga": 0.5}}, ["lfo.omga", "'lfo.omega'"]),
        ("qmix", {"lfo": {"schedule": "decay"}}, ["lfo.schedule", "set lfo.omega too"]),
        (
            "maac",
            {"eoi": {"form": "pull"}},
            ["eoi.form", "learner=maac takes one of classifier, reward"],
        ),
        (
            "ippo",
            {"eoi": {"form": "explore"}},
            ["eoi.form", "learner=ppo takes one of classifier, reward"],
        ),
        ("qmix", {"lfo": {"omega": 0.2}, "eoi": {"alpha": 0.1}}, ["eoi.alpha", "no effect"]),
    ],
)
def test_nonsense_is_refused_before_anything_is_built(algorithm, updates, words):
    with pytest.raises(UserError) as refusal:
        configure(loader.load(algorithm, "pac_men", loader.merged({"seed": 1}, updates)), updates)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_an_extra_may_be_switched_off_by_a_typed_setting():
    given = {"lfo": {"omega": 0.0, "schedule": "decay"}}
    assert not configure(loader.load("qmix", "pac_men", {"seed": 1, **given}), given).extras


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("qmx", "pac_men"), "--config=qmx: .* Did you mean 'qmix'?"),
        (("mine", "pac_men"), "--config=mine: .* There are: edti, .*, vdn"),
        (("qmix", "pacmen"), "--env-config=pacmen: .* Did you mean 'pac_men'?"),
        (("qmix", "mine"), "--env-config=mine: .* There are: firefighters, .*, windy_maze_tall"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(args, message):
    with pytest.raises(UserError, match=message):
        loader.load(*args, {})


def test_updates_read_python_and_yaml_literals():
    pairs = [
        "lr=5e-4",
        "use_cuda=true",
        "double_q=False",
        "label=a b",
        "name=2024-13-01",
        "env_args.easy=True",
        "seed=null",
        "eoi.alpha=[1, 2]",
    ]
    assert loader.parse_updates(pairs) == {
        "lr": 5e-4,
        "use_cuda": True,
        "double_q": False,
        "label": "a b",
        "name": "2024-13-01",
        "env_args": {"easy": True},
        "seed": None,
        "eoi": {"alpha": [1, 2]},
    }


def test_layers_override_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    for name, text in {
        "default.yaml": "a: 1\nb: 1\nc: 1\nd: 1\neoi: {x: 1, y: 1}\nenv_args: {}",
        "envs/e.yaml": "b: 2\nc: 2\nd: 2\neoi: {y: 2}\nenv_args: {z: 1}",
        "algs/base.yaml": "c: 3\nd: 3",
        "algs/child.yaml": "base: base\nd: 4\neoi: {x: 4}",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    expected = {"a": 1, "b": 2, "c": 3, "d": 5, "eoi": {"x": 4, "y": 2}, "env_args": {"z": 1}}
    # Sections of extras are there besides; the files lie over them.
    assert loader.load("child", "e", {"d": 5}) == loader.merged(loader.defaults(), expected)


def test_broken_yaml_names_file_and_line(tmp_path):
    (tmp_path / "x.yaml").write_text("a: 1\nb: [1\n")
    with pytest.raises(UserError, match=r"x\.yaml line \d: not valid YAML"):
        loader.read_yaml(tmp_path / "x.yaml")


def test_scientific_notation_is_a_number(tmp_path):
    (tmp_path / "x.yaml").write_text("lr: 5e-4\nbig: 1e6\nname: e5")
    assert loader.read_yaml(tmp_path / "x.yaml") == {"lr": 5e-4, "big": 1e6, "name": "e5"}


def test_every_default_is_read_by_some_part():
    defaults = loader.read_yaml(loader.FOLDER / "default.yaml")
    top, sections = readers()
    sections["fleet"] = {f.name for f in fields(FleetConfig)}
    assert set(defaults) - set(sections) == top
    for name, section in sections.items():
        assert set(defaults[name]) == section


def eoi_of(settings: Settings):
    """Settings of the section `eoi`, where it is switched on."""
    chosen = settings.extra("eoi")
    assert chosen is not None
    return chosen.cfg


@pytest.mark.parametrize(
    ("world", "shape", "t_max", "replay", "hidden", "betas"),
    [
        ("pac_men", (4, 5, 30), 300_000, (128, 20_000), 128, (0.04, 0.1)),
        ("windy_maze", (2, 5, 15), 150_000, (128, 20_000), 128, (0.04, 0.1)),
        ("firefighters", (4, 6, 20), 200_000, (128, 20_000), 128, (0.04, 0.1)),
        ("sc2", (8, 14, 120), 2_000_000, (64, 200_000), 64, (0.01, 0.01)),
    ],
)
def test_the_defaults_are_the_papers(world, shape, t_max, replay, hidden, betas):
    """Table 1; n, |A| and T; 10,000 episodes in the grid worlds (figures 4, 9 and 10)."""
    qmix, maac = (
        configure(loader.load(algorithm, world, {"seed": 1}))
        for algorithm in ("eoi_qmix_literal", "eoi_maac")
    )
    spec = envs.REGISTRY[world](qmix.env, 1, torch.device("cpu")).spec
    assert (spec.n_agents, spec.n_actions, spec.episode_limit) == shape
    for chosen in (qmix, maac):
        assert chosen.run.t_max == t_max
        assert (chosen.learner.batch_size, chosen.replay.buffer_size) == replay
        assert chosen.controller.hidden == (hidden, hidden) and not chosen.controller.share_params
        assert chosen.learner.gamma == 0.98
        assert (eoi_of(chosen).beta1, eoi_of(chosen).beta2) == betas
        assert (eoi_of(chosen).delta_t, eoi_of(chosen).classifier_lr) == (4, 1e-3)
    assert (qmix.learner.lr, eoi_of(qmix).alpha) == (1e-4, 0.05)
    assert (maac.learner.actor_lr, maac.learner.critic_lr) == (1e-3, 1e-4)
    assert eoi_of(maac).alpha == 0.02  # Table 1 has 0.2 (docs/algorithms/maac.md)


def test_learners_do_not_name_their_extras():
    known = {name for section in sections() for name in (section, *sections()[section])} - {""}
    names = known - {"reward", "classifier", "policy", "eoi"} | {"individuality"}
    assert {"pull", "explore", "lfo", "kl"} <= names
    folder = pathlib.Path(learners.__file__).parent
    for name in ("base", "q_learner", "maac", "ppo", "policy_learner", "experience", "stack"):
        text = (folder / f"{name}.py").read_text().lower()
        code = re.sub(r'""".*?"""|#[^\n]*', "", text.replace("from eoi.", "from "), flags=re.DOTALL)
        found = [word for word in (*names, "eoi") if re.search(rf"\b{word}\b", code)]
        assert not found, name


def test_a_file_lies_over_its_base(tmp_path, monkeypatch):
    (tmp_path / "envs").mkdir()
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    files = {
        "envs/tall": "base: plain\nenv_args: {stem: 3}",
        "envs/plain": "t_max: 7\nenv_args: {stem: 1, arm: 2}",
        "envs/a": "base: b",
        "envs/b": "base: a",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    assert loader._read_named("envs", "--env-config", "tall") == {
        "t_max": 7,
        "env_args": {"stem": 3, "arm": 2},
    }
    with pytest.raises(UserError, match=r"envs/a\.yaml: its `base` leads back"):
        loader._read_named("envs", "--env-config", "a")


def test_eoi_has_one_setting_on_all_value_learners():
    names = ("eoi_qmix", "eoi_vdn", "eoi_qmix_rnn")
    qmix, vdn, rnn = (loader.load(name, "pac_men", {})["eoi"] for name in names)
    assert qmix == vdn == rnn
