"""docs/own-world.md: its file is examples/own_world.py, its map can be played, its programs run."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

pytest.importorskip("pettingzoo")

from eoi import main
from eoi.config import loader
from eoi.envs import REGISTRY, configured
from eoi.records import reader
from helpers import keys, trained

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "own-world.md").read_text()


def test_ones_own_world_trains(settings, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    updates = {
        "t_max": 6000,
        "hidden_dim": 32,
        "lr": 1e-3,
        "epsilon_anneal_time": 3000,
        "batch_size": 64,
        "buffer_size": 4000,
    }
    chosen = settings(
        "vdn",
        "pettingzoo",
        env_args={"key": "own_world", "workers": 0},
        test_interval=6000,
        log_interval=6000,
        test_nepisode=32,
        **updates,
    )
    trainer, _ = trained(chosen)
    assert trainer.log.latest["test_return_mean"] > 6  # of 8; guessing returns 2.7


def test_it_passes_pettingzoos_own_check():
    """As printed."""
    (program,) = re.findall(r"^    PYTHONPATH=examples bash run.sh python -c '(.*)'$", PAGE, re.M)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Passed Parallel API test"


def test_the_page_tells_how_to_watch_it(tmp_path, monkeypatch):
    """As printed, but for the run and the film."""
    with monkeypatch.context() as here:
        here.syspath_prepend(str(ROOT / "examples"))
        keys = "env_args.key=own_world env_args.workers=0 t_max=8 batch_size_run=1"
        keys += " test_nepisode=1 hidden_dim=8"
        command = [
            "--config=qmix",
            "--env-config=pettingzoo",
            "with",
            *keys.split(),
            f"local_results_path={tmp_path}",
        ]
        assert main.main(command) == 0
    ((path, program),) = re.findall(
        r"^    (?:PYTHONPATH=(\S+) )?bash run.sh python (src/watch.py latest --out film.html)$",
        PAGE,
        re.MULTILINE,
    )
    argv = (
        program.replace("latest", str(tmp_path / "sacred" / "1"))
        .replace("film", str(tmp_path / "film"))
        .split()
    )
    environment = {**os.environ, "PYTHONPATH": path}
    seen = subprocess.run(
        [sys.executable, *argv],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert seen.returncode == 0, seen.stderr
    assert (tmp_path / "film.html").exists()


def test_the_page_shows_the_files_that_are_trained():
    shown = re.findall(r"```\w+ title=(\S+)\n(.*?)```", PAGE, re.DOTALL)
    names = ["own_world.py", "own_grid.py", "lamps.yaml"]
    assert shown == [(f"examples/{name}", (ROOT / "examples" / name).read_text()) for name in names]


def test_ones_own_grid_world_trains(tmp_path):
    """As printed, but short; in a process of its own, because it registers a world."""
    ((path, words),) = re.findall(
        r"^    PYTHONPATH=(\S+) bash run.sh python (src/main.py .*lamps.yaml with .*)$", PAGE, re.M
    )
    short = "t_max=24 test_nepisode=2 batch_size_run=2 hidden_dim=8 learning_starts=0"
    done = subprocess.run(
        [sys.executable, *words.split(), *short.split(), f"local_results_path={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (run,) = reader.find_runs([tmp_path])
    assert run.config["world"] == "lamps" and run.config["plugins"] == ["own_grid"]
    assert 0 <= run.metrics["test_return_mean"].values[-1] <= 4


def test_the_map_it_draws_is_a_new_world(tmp_path, monkeypatch):
    """As a user's file in config/envs."""
    (drawn,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    shutil.copytree(loader.FOLDER, tmp_path / "config")
    monkeypatch.setattr(loader, "FOLDER", tmp_path / "config")
    (tmp_path / "config" / "envs" / "drawn.yaml").write_text(drawn)
    assert "drawn" in loader.names("envs")
    config = loader.load("qmix", "drawn", {})
    world = REGISTRY[config["env"]](configured(config["env"], config["env_args"]), 2)
    lines = yaml.safe_load(drawn)["env_args"]["layout"].split()
    assert ["".join(row) for row in world.map.grid] == lines and "#AA..#..WW#" in lines
    now = world.reset(keys(2))
    assert set(world.position.flatten().tolist()) <= set(world.map.region("A").tolist())
    while not now.done.all():
        now = world.step(torch.randint(0, 6, (2, 2)))
    assert (
        now.info["areas_visited"].min() >= 1
        and world.spec.reward_max == sum(line.count("A") + line.count("B") for line in lines) == 6
    )


@pytest.mark.parametrize(
    "program",
    re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL),
    ids=lambda program: program.split()[1],
)
def test_its_programs_run(program, capsys):
    names: dict = {}
    exec(program, names)
    if "reward" in names:  # the program that names its arrays
        assert names["obs"].shape == (64, 4, 101) and names["reward"].shape == (64,)
    if "print" in program:
        collected, rooms = (
            float(number) for number in re.findall(r"tensor\((.*?)\)", capsys.readouterr().out)
        )
        assert 0 < collected < 20 and 0 < rooms < 4


def test_it_has_three_programs():
    assert len(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)) == 3
