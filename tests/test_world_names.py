"""The name of an environment's file is the world's name everywhere."""

import json
import pathlib

import pytest

from eoi import evaluate
from eoi import main as program
from eoi.batches.jobs import find, plan
from eoi.config import loader
from eoi.pictures.panels import panels
from eoi.plot import default_name
from eoi.records import reader
from eoi.records.groups import identity, worlds
from eoi.saved import film_path, load
from eoi.settings import configure

MAP = """\
env: firefighters
env_args:
  n_agents: 2
  episode_limit: 5
  layout: |
    ###########
    #AA.....WW#
    #AA..#..WW#
    #....#..BB#
    ###########
"""
TINY = {
    "seed": 3,
    "hidden_dim": 4,
    "batch_size": 4,
    "batch_size_run": 1,
    "buffer_size": 50,
    "learning_starts": 0,
    "t_max": 10,
    "test_nepisode": 1,
    "test_interval": 5,
    "log_interval": 5,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """The file of a world, and a run in it."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "small_fire.yaml").write_text(MAP)
    words = [f"{key}={value}" for key, value in TINY.items()]
    words += [f"local_results_path={folder}"]
    own = str(folder / "small_fire.yaml")
    assert program.main(["--config=qmix", f"--env-config={own}", "with", *words]) == 0
    return folder / "small_fire.yaml", folder / "sacred" / "1"


def test_titles_and_files(made) -> None:
    _, run = made
    env, _, settings = load(run, 1)
    env.close()
    assert settings.title == "small_fire qmix seed 3"
    assert film_path("watch", run, settings, 0).name == "watch_small_fire_qmix_run1_seed0.gif"


def test_tables_and_figures(made) -> None:
    _, run = made
    record = reader.read(run)
    assert record.world == "small_fire" and list(worlds([record], [])) == ["small_fire"]
    rows = panels([record], None, None, None, [])
    assert default_name("curves", rows) == "curves_small_fire_qmix"


def test_an_evaluation_elsewhere_has_the_other_worlds_name(made, tmp_path, capsys) -> None:
    own, run = made
    (tmp_path / "wet.yaml").write_text(f"base: {own}\nenv_args: {{tank: 8}}\n")
    words = ["--episodes=1", f"--env-config={tmp_path / 'wet.yaml'}"]
    assert evaluate.main([str(run), *words, "--out", str(tmp_path / "all.json")]) == 0
    assert capsys.readouterr().out.startswith("wet qmix seed 3, ")
    assert json.loads((tmp_path / "all.json").read_text())["env"] == "wet"


def test_a_batch_names_it_and_finds_the_run_under_any_name(made, tmp_path) -> None:
    own, run = made
    other = tmp_path / "renamed.yaml"
    other.write_text(own.read_text())
    given = [f"{key}={value}" for key, value in TINY.items() if key != "seed"]
    given += [f"local_results_path={run.parent.parent}"]
    jobs = [plan("qmix", str(path), 3, [], given) for path in (own, other)]
    assert [job.title for job in jobs] == ["small_fire qmix seed 3", "renamed qmix seed 3"]
    assert jobs[0].identity == jobs[1].identity
    find(jobs[1:])
    assert jobs[1].folder == run and jobs[1].state == "finished"


@pytest.mark.parametrize(
    ("env", "updates", "name"),
    [
        ("pac_men_easy", {}, "pac_men_easy"),
        ("windy_maze_tall", {}, "windy_maze_tall"),
        ("pac_men", {"env_args": {"dots_per_room": 3}}, "pac_men"),
        ("pac_men", {"world": "mine"}, "mine"),
        ("sc2", {"env_args": {"engine": "lite"}}, "sc2_lite"),
        (
            "pac_men",
            {"env_args": {"layout": "examples/maps/pac_men.txt", "dots_per_room": 5}},
            "pac_men_pac_men",
        ),
    ],
)
def test_names(env, updates, name, monkeypatch) -> None:
    monkeypatch.chdir(pathlib.Path(__file__).parent.parent)
    assert configure(loader.load("qmix", env, {"seed": 1} | updates)).world == name


def test_records_from_before_the_setting_are_named_as_they_were() -> None:
    config = loader.load("qmix", "pac_men", {"seed": 1})
    old = {key: value for key, value in config.items() if key != "world"}
    assert configure(old).world == "pac_men" and identity(old) == identity(config)
