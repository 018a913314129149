"""What was trained, used: evaluate.py and load_policy."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import torch

from eoi import evaluate, saved
from eoi import main as program
from eoi.records import reader
from eoi.saved import load, load_policy
from eoi.utils import checkpoints
from eoi.utils.errors import UserError
from test_resume import LONG


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert (
        program.main(["--config=eoi_qmix", *LONG, "t_max=300", f"local_results_path={folder}"]) == 0
    )
    return folder / "sacred" / "1"


def test_every_episode_is_another_and_the_seed_decides_them(run, tmp_path, capsys):
    out = [tmp_path / f"{name}.json" for name in "abc"]
    for path, seed in zip(out, (0, 0, 1), strict=True):
        assert evaluate.main([str(run), "--episodes=70", f"--seed={seed}", f"--out={path}"]) == 0
    first, again, other = (json.loads(path.read_text())["episodes"] for path in out)
    assert first == again != other
    assert {len(values) for values in first.values()} == {70} and set(first["ep_length"]) == {30.0}
    assert {"return", "dots_eaten", "rooms_visited"} <= set(first)
    printed = capsys.readouterr().out
    assert "70 episodes" in printed and "± 95 %" in printed


def test_it_says_which_networks_play(run, tmp_path, capsys):
    models = tmp_path / "run" / "models"
    shutil.copytree(run, models.parent)
    best, last = (checkpoints.load(models / f"{name}.pt") for name in ("best", "last"))

    def said(model: str) -> str:
        assert evaluate.main([str(models.parent), "--episodes=1", f"--model={model}"]) == 0
        return capsys.readouterr().out.splitlines()[0]

    checkpoints.save(models / "best.pt", best | {"t": 1200})
    checkpoints.save(models / "last.pt", last | {"t": 34567})
    assert said("best").endswith(", best networks (step 1,200 of 34,567), 1 episodes")
    assert said("last").endswith(", last networks (step 34,567), 1 episodes")
    (models / "last.pt").unlink()
    assert said("best").endswith(", best networks (step 1,200), 1 episodes")


def test_more_copies_at_once_play_the_same_episodes(run, monkeypatch):
    many, few = ((load(run, n), n) for n in (8, 3))
    (env, learner, settings), _ = many
    whole = evaluate.evaluate(env, learner, settings, 8, 0)
    (env, learner, settings), _ = few
    assert evaluate.evaluate(env, learner, settings, 8, 0) == whole


def test_in_another_world(run, capsys):
    assert evaluate.main([str(run), "--episodes=2", "--env-config=pac_men_easy"]) == 0
    assert evaluate.main([str(run), "--episodes=2", "--set", "dots_per_room=5"]) == 0
    assert evaluate.main([str(run), "--episodes=2", "--set", "n_agents=3"]) == 2
    assert "n_agents is 3 there, and 4" in capsys.readouterr().err
    assert evaluate.main([str(run), "--env-config=nowhere"]) == 2
    assert evaluate.main([str(run), "--set", "dots=3"]) == 2
    assert "dots" in capsys.readouterr().err


def test_a_film(run, tmp_path, monkeypatch):
    assert evaluate.main([str(run), "--episodes=1", f"--render={tmp_path / 'a.gif'}"]) == 0
    assert (tmp_path / "a.gif").read_bytes()[:3] == b"GIF"
    monkeypatch.setattr(saved, "FIGURES", tmp_path / "figures")
    assert (
        evaluate.main([str(run), "--episodes=1", "--env-config=pac_men_easy", "--render", "gif"])
        == 0
    )
    (film,) = (tmp_path / "figures").iterdir()
    assert (
        film.name == "evaluate_pac_men_easy_eoi_qmix_run1_seed0.gif"
        and film.read_bytes()[:3] == b"GIF"
    )
    page = tmp_path / "a.html"
    assert evaluate.main([str(run), "--episodes=1", f"--render={page}"]) == 0
    assert '"episodes": [[{"picture"' in page.read_text()
    assert evaluate.main([str(run), f"--render={tmp_path / 'a.mov'}"]) == 2


def test_a_policy_acts_as_the_learner_does(run):
    policy = load_policy(run)
    obs = torch.rand(5, 4, policy.spec.obs_size)
    avail = torch.rand(5, 4, 5) < 0.5
    avail[..., 0] = True
    with torch.no_grad():
        q = policy.learner.controller(obs)
    expected = q.masked_fill(~avail, -torch.inf).argmax(-1)
    assert torch.equal(policy.act(obs, avail), expected)
    assert torch.equal(policy.act(obs[0], avail[0]), expected[0])
    plain = policy.act(obs.numpy().astype(np.float64), avail.numpy().astype(int))
    assert isinstance(plain, np.ndarray) and np.array_equal(plain, expected.numpy())
    assert torch.equal(policy.act(obs), q.argmax(-1))
    assert np.array_equal(policy.act(obs[0].tolist()), q[0].argmax(-1).numpy())
    recognised = policy.recognised(obs)
    assert recognised.shape == (5, 4)
    for given in (obs.numpy().astype(np.float64), obs.tolist()):
        assert isinstance(policy.recognised(given), np.ndarray) and np.array_equal(
            policy.recognised(given), recognised.numpy()
        )
    policy.learner.extras = torch.nn.ModuleList()
    assert policy.recognised(obs) is None


def test_the_readmes_program_runs(run, monkeypatch):
    monkeypatch.setattr(reader, "SACRED", run.parent)
    (program,) = re.findall(
        r"```python\n(.*?)```",
        (pathlib.Path(__file__).parent.parent / "README.md").read_text(),
        re.DOTALL,
    )
    names = {"obs": np.zeros((4, 75)), "avail": np.eye(4, 5)}
    exec(program, names)
    assert names["actions"].tolist() == [0, 1, 2, 3] and names["p"].shape == (4,)


def test_a_policy_refuses_other_shapes(run):
    policy = load_policy(str(run), "last")
    with pytest.raises(ValueError, match=r"obs: expected \[agents, size\] = \[4, 75\]"):
        policy.act(torch.zeros(3, 75))
    for ask in (policy.act, policy.recognised):
        with pytest.raises(ValueError, match=r"obs: .* = \[4, 75\].* got \[75\]"):
            ask(np.zeros(75))
    with pytest.raises(ValueError, match="at most one axis in front"):
        policy.act(np.zeros((2, 5, 4, 75)))
    for shape in ((4, 9), (4, 1), (20,), (1, 4, 5)):
        with pytest.raises(ValueError, match=r"avail: expected \[4, 5\]"):
            policy.act(np.zeros((4, 75)), np.ones(shape))
    with pytest.raises(ValueError, match=r"avail: expected \[2, 4, 5\].* got \[4, 5\]"):
        policy.act(np.zeros((2, 4, 75)), np.ones((4, 5)))
    with pytest.raises(ValueError, match="no action"):
        policy.act(torch.zeros(4, 75), torch.zeros(4, 5))
    with pytest.raises(UserError, match="no such run"):
        load_policy("nowhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "dots=5"], "--set dots: there is no such setting. Did you mean 'dots_per_room'"),
        (["--set", "dots_per_room=x"], "--set dots_per_room: expected an integer, got 'x'"),
        (["--set", "dots_per_room=5", "--set", "easy=True"], "--set: given twice"),
        (["--out", "x.txt"], "--out: the name of the file ends with .json, got x.txt"),
        (["--episodes", "ten"], "--episodes: expected an integer, got 'ten'"),
    ],
)
def test_words_that_are_refused(words, message, run, capsys):
    assert evaluate.main([str(run), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
