"""The page about algorithms of one's own shows the example file, and its commands train."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from eoi.records import reader

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "own-algorithm.md").read_text()
EXAMPLE = (ROOT / "examples" / "own_algorithm.py").read_text()
(MY_YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
COMMANDS = re.findall(r"^PYTHONPATH=examples bash run\.sh (python src/main\.py .*)$", PAGE, re.M)
BATCHES = re.findall(r"^PYTHONPATH=examples bash run\.sh batch (.*)$", PAGE, re.M)
SHORT = "seed=1 t_max=60 test_nepisode=2 batch_size_run=2 hidden_dim=8 learning_starts=0"


def test_the_page_shows_the_example():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 9
    assert all(block.strip() in EXAMPLE for block in blocks)
    shown = sum(len(block.strip().split("\n")) for block in blocks)
    assert shown > 0.85 * len([line for line in EXAMPLE.split("\n") if line])


def train(words, folder):
    program = [
        sys.executable,
        "src/main.py",
        *words,
        *SHORT.split(),
        f"local_results_path={folder}",
    ]
    environment = {"PYTHONPATH": "examples", "PATH": "/usr/bin:/bin"}
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(command, tmp_path):
    done = train(shlex.split(command)[2:], tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = reader.find_runs([tmp_path])
    assert run.status == "COMPLETED" and run.config["plugins"] == ["own_algorithm"]


def test_a_settings_file_of_ones_own(tmp_path):
    (tmp_path / "my.yaml").write_text(MY_YAML)
    done = train([f"--config={tmp_path / 'my.yaml'}", "--env-config=pac_men", "with"], tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = reader.find_runs([tmp_path / "sacred"])
    assert run.config["name"] == "novelty_iql" and run.config["novelty"]["weight"] == 0.1


COUNTS = """
import torch
from own_algorithm import Novelty, NoveltyConfig
from types import SimpleNamespace as Names
torch.manual_seed(0)
obs = torch.randn(1, 3, 2, 5)  # two steps of two agents
novelty = Novelty(NoveltyConfig(weight=1.0), Names(spec=Names(obs_size=5)))
novelty.observe(Names(obs=obs, valid=lambda: torch.ones(1, 2, dtype=torch.bool)))
reward = novelty.rewards(Names(obs=0 * obs[:, 1:], next_obs=obs[:, 1:]), 0)["novelty"]
assert reward.shape == (1, 2, 2) and (reward <= 0.5**0.5 + 1e-6).all(), reward
"""


def test_novelty_counts_and_rewards_the_observation_after_an_action():
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}", "PATH": "/usr/bin:/bin"}
    program = [sys.executable, "-c", COUNTS]
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    list(zip(BATCHES, ["pac_men my seed 4", "20 trials of 3 runs each"], strict=True)),
)
def test_batches_of_the_page(command, expected, tmp_path):
    (tmp_path / "my.yaml").write_text(MY_YAML)
    done = subprocess.run(
        [sys.executable, ROOT / "src" / "batch.py", *command.split(), "--dry-run"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "examples"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("plugins=[no_such_module]", "plugins: no_such_module"),
        ("plugins=[own_algorithm] novelty.wieght=1", "Did you mean 'novelty.weight'?"),
        ("plugins=[own_algorithm] mixer=weigthed", "'weighted'"),
    ],
)
def test_bad_input(words, expected, tmp_path):
    done = train(["--config=qmix", "with", *words.split()], tmp_path)
    assert done.returncode == 2 and expected in done.stderr
    assert len(done.stderr.strip().split("\n")) == 1 and not (tmp_path / "sacred").exists()
