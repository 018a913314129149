"""The end of a run: result, folder, next commands; and the warning of a collapse on the way."""

import importlib
import json
import math
import pathlib
import re
import shlex
from types import SimpleNamespace

import pytest

from eoi import evaluate
from eoi import main as program
from eoi.build import find_folder
from eoi.config import loader
from eoi.records import closing as closing_module
from eoi.records import reader
from eoi.records.closing import SHOWN, Finished, closing
from eoi.records.collapse import collapse, described
from eoi.settings import configure
from eoi.utils import checkpoints, places
from eoi.utils.series import Entries
from helpers import make_run, make_trainer, trained

TINY = [
    *("with", "seed=3", "hidden_dim=8", "batch_size=16", "batch_size_run=2", "buffer_size=200"),
    *("learning_starts=0", "test_nepisode=2", "update_interval=10", "log_interval=60"),
]


def entries(*values: float, every: int = 100) -> Entries:
    steps = [every * k for k in range(len(values))]
    return Entries(steps=steps, values=list(values), timestamps=[""] * len(values))


# The highest return, 10, is that of the test at step 300, where q_abs_mean is 0.5. The last five
# tests have a mean of (0.5 + 0.5 + 0.5 + 1 + 0.5) / 5 = 0.6, below a tenth of 10.
GONE = {
    "test_return_mean": entries(0.2, 4, 8, 10, 2, 0.5, 0.5, 0.5, 1, 0.5),
    "return_mean": entries(1, 3, 7, 9, 3, 1, 1, 1, 1, 1),
    "q_abs_mean": entries(0.1, 0.2, 0.3, 0.5, 1, 2, 4, 8, 16, -32),
}


def test_a_collapse_by_hand() -> None:
    found = collapse(GONE)
    assert found is not None
    assert found[1:] == (10, 300, "q_abs_mean", 0.5, 32)
    assert math.isclose(found.left, 0.6)
    text = described(found, ["lower this", "lower that"])
    assert "0.6 over the last 5 tests, 10 at step 300" in text
    assert "q_abs_mean grew from 0.5 to 32" in text
    assert "lower this; lower that" in text
    assert "a smaller lr" in described(found) and "a smaller lr" not in text


@pytest.mark.parametrize(
    "changed",
    [
        # The last five tests have a mean of 1.02, above a tenth of 10.
        {"test_return_mean": entries(0.2, 4, 8, 10, 2, 1, 1, 1, 1.1, 1)},
        {"q_abs_mean": entries(0.1, 0.2, 0.3, 3.3, 4, 8, 16, 30, 31, 32)},  # 9.7 times 3.3
        {"q_abs_mean": entries(0.1, 0.2, 0.3, 0.5, 1, 2, 4, 8, 9, 9.9)},  # below the return of 10
        {"q_abs_mean": entries(0.1, 0.2, 0.3, 0.5, 1, 32, 32, 32, 32, 32)},  # no longer growing
        {"q_abs_mean": entries(0.5, 0.5, 16, 32)},  # four entries
        {"test_return_mean": entries(*[-1] * 10), "return_mean": entries(*[-1] * 10)},
    ],
)
def test_no_collapse_by_hand(changed) -> None:
    assert collapse(GONE | changed) is None


def test_the_highest_return_may_be_that_of_training() -> None:
    """6 at step 0, where q_abs_mean is 0.1; the tests never return anything."""
    changed = {"test_return_mean": entries(*[0] * 10), "return_mean": entries(6, *[0.5] * 9)}
    found = collapse(GONE | changed)
    assert found == (0, 6, 0, "q_abs_mean", 0.1, 32)


@pytest.mark.parametrize("missing", ["test_return_mean", "return_mean", "q_abs_mean"])
def test_a_series_that_was_not_logged_shows_nothing(missing) -> None:
    assert collapse({name: x for name, x in GONE.items() if name != missing}) is None


def test_five_tests_and_the_untrained_one_are_needed() -> None:
    short = {name: Entries(**{k: v[-5:] for k, v in x.items()}) for name, x in GONE.items()}
    assert collapse(short) is None


def test_a_run_warns_once(settings, caplog) -> None:
    run = make_run(settings("eoi_qmix_literal"))
    run.log.series = dict(GONE)
    for _ in range(2):
        run._warn_of_collapse()
    assert caplog.text.count("collapsed") == 1
    assert "pac_men eoi_qmix_literal seed 3" in caplog.text
    assert "eoi.alpha=0.05 may be too large" in caplog.text
    assert "docs/algorithms/eoi.md" in caplog.text


def test_a_resumed_run_does_not_warn_again(settings, caplog) -> None:
    first, second = (make_run(settings("eoi_qmix_literal")) for _ in range(2))
    first.log.series = dict(GONE)
    first._warn_of_collapse()
    second.load_state(first.state())
    second._warn_of_collapse()
    assert caplog.text.count("collapsed") == 1


@pytest.mark.parametrize(("algorithm", "warned"), [("eoi_qmix_literal", 1), ("eoi_qmix", 0)])
def test_the_literal_form_warns_at_its_start_and_names_the_page(
    algorithm, warned, settings, caplog
) -> None:
    make_run(settings(algorithm))
    assert caplog.text.count("rewards large Q-values") == warned
    assert caplog.text.count("docs/algorithms/eoi.md shows why") == warned


@pytest.mark.parametrize("algorithm", ["qmix", "eoi_explore_qmix"])
def test_advice_is_that_of_the_runs_own_parts(algorithm, settings, caplog) -> None:
    run = make_run(settings(algorithm))
    run.log.series = dict(GONE)
    run._warn_of_collapse()
    assert "a smaller lr" in caplog.text and "alpha" not in caplog.text
    assert "eoi.md" not in caplog.text


@pytest.mark.parametrize(
    ("algorithm", "changed", "warning"),
    [  # two copies play 30 steps each, so a run of 50 steps ends at 60
        ("qmix", {"learning_starts": 61}, "learning_starts=61 is more than its 60 steps"),
        ("qmix", {"learning_starts": 60}, ""),
        ("qmix", {"update_interval": 61}, "update_interval=61 is more than its 60 steps"),
        ("qmix", {"update_interval_episodes": 3, "update_interval": 1}, "more than its 2 episodes"),
        ("qmix_rnn", {"batch_size": 3}, "batch_size=3 is more than its 2 episodes"),
        ("qmix_rnn", {"batch_size": 2}, ""),
        ("qmix", {"learning_starts": 61, "evaluate": True, "checkpoint_path": "x"}, ""),
    ],
)
def test_a_run_too_short_for_an_update_warns_and_is_untrained(
    algorithm, changed, warning, settings, caplog, monkeypatch
) -> None:
    monkeypatch.setattr("eoi.run.restore", lambda *_: None)
    trainer = make_trainer(settings(algorithm, t_max=50, **changed))
    assert ("no update will be made" in caplog.text) == bool(warning)
    if trainer.cfg.evaluate:
        return
    trainer.train()
    assert trainer.at.t == 60 and bool(trainer.at.updates) == (not warning)
    assert warning in caplog.text and warning in trainer.runs[0].untrained
    assert ("the networks are untrained" in trainer.runs[0].untrained) == bool(warning)


def test_episodes_of_any_length_leave_room_for_a_last_long_rollout(settings, caplog) -> None:
    """A run of 50 steps may end at 49 + 2 x 4 there."""
    place = {"env_args": {"workers": 0}, "t_max": 50}
    make_run(settings("qmix", "pettingzoo", **place, learning_starts=57))
    assert "no update" not in caplog.text
    make_run(settings("qmix", "pettingzoo", **place, learning_starts=100000))
    assert "no update will be made: learning_starts=100000" in caplog.text


def test_the_untrained_networks_are_never_the_best(settings, tmp_path, monkeypatch) -> None:
    """The first test returns 100, later ones 1, 3 and 2."""
    returns = iter([100.0, 1.0, 3.0, 2.0])
    real = program.Run.tested

    def tested(self, outcomes, last):
        for outcome in outcomes:
            outcome.returns.fill_(0)
        outcomes[0].returns.fill_(next(returns))
        real(self, outcomes, last)

    monkeypatch.setattr(program.Run, "tested", tested)
    trainer, _ = trained(settings("qmix", t_max=180, test_interval=60), tmp_path)
    assert (trainer.at.best, trainer.at.best_t) == (3.0, 120)
    assert checkpoints.load(tmp_path / "models" / "best.pt")["t"] == 120


def test_a_run_without_a_later_test_is_tested_at_its_end(tmp_path, capsys) -> None:
    words = [*TINY, "t_max=60", "test_interval=600", f"local_results_path={tmp_path}"]
    assert program.main(["--config=qmix", *words]) == 0
    folder = tmp_path / "sacred" / "1"
    assert checkpoints.load(folder / "models" / "best.pt")["t"] == 60
    result = json.loads((folder / "run.json").read_text())["result"]
    line = f"best test return {result:.4g} at step 60, last {result:.4g} at step 60"
    assert f"Result: {line}" in capsys.readouterr().out
    tests = json.loads((folder / "metrics.json").read_text())["test_return_mean"]["steps"]
    assert tests == [0, 60]


def test_untrained_networks_are_never_called_the_best(tmp_path, capsys) -> None:
    words = [*TINY, "t_max=60", "learning_starts=61", f"local_results_path={tmp_path}"]
    assert program.main(["--config=qmix", *words]) == 0
    out = capsys.readouterr().out
    assert "Result: no update was made, because learning_starts=61 is more than its 60" in out
    assert "best" not in out
    assert evaluate.main([str(tmp_path / "sacred" / "1"), "--episodes=1e0"]) == 0
    out = capsys.readouterr().out.splitlines()[0]
    assert out.endswith("networks of a run that made no update (step 60), 1 episodes")


def test_the_commands_of_a_run_with_plugins_find_them(tmp_path, monkeypatch, capsys) -> None:
    """A plugin that lies elsewhere, as one that is installed does, needs no PYTHONPATH."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "found_by_path.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "a b")
    words = [*TINY, "t_max=60", f"local_results_path={tmp_path}", "plugins=[found_by_path]"]
    for number, path in enumerate(("", str(tmp_path / "a b")), 1):
        monkeypatch.setenv("PYTHONPATH", path)
        assert program.main(["--config=qmix", *words]) == 0
        out = capsys.readouterr().out
        prefix = f"PYTHONPATH='{path}' bash " if path else "bash "
        for verb in ("watch", "evaluate", "resume"):
            assert re.search(rf"^    {verb} +{re.escape(prefix)}", out, re.M)
        assert program.main(["--resume", str(tmp_path / "sacred" / str(number))]) == 2
        assert f"`{prefix}" in capsys.readouterr().err


def test_the_module_of_a_world_is_one_that_its_commands_need():
    updates = {"seed": 1, "plugins": ["json"], "env_args": {"key": "shlex:split"}}
    assert configure(loader.load("qmix", "pettingzoo", updates)).modules == ("json", "shlex")
    assert configure(loader.load("qmix", "pac_men", {"seed": 1})).modules == ()


def test_a_worlds_and_an_algorithms_modules_are_both_recorded(tmp_path):
    world, algorithm = tmp_path / "world.yaml", tmp_path / "mine.yaml"
    world.write_text("base: pac_men\nplugins: [json]\n")
    algorithm.write_text("base: qmix\nplugins: [shlex]\n")
    found = loader.load(str(algorithm), str(world), {"plugins": ["json", "ast"]})
    assert found["plugins"] == ["json", "shlex", "ast"]


def test_networks_of_the_latest_run(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "SACRED", tmp_path / "sacred")
    words = [*TINY, "t_max=60", f"local_results_path={tmp_path}"]
    assert program.main(["--config=vdn", *words]) == 0
    assert find_folder("latest") == tmp_path / "sacred" / "1"


def test_the_printed_commands_are_of_this_run(tmp_path, capsys) -> None:
    """The first three are parsed and find the run, the last one is carried out."""
    words = [*TINY, "t_max=60", "test_interval=60", f"local_results_path={tmp_path}"]
    assert program.main(["--config=vdn", *words]) == 0
    out, folder = capsys.readouterr().out, tmp_path / "sacred" / "1"
    result = json.loads((folder / "run.json").read_text())["result"]
    assert f"Result: best test return {result:.4g} at step 60, last {result:.4g}" in out
    assert out.count("Result") == 1
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("    ")]
    assert [verb for verb, _ in lines] == ["plot", "watch", "evaluate", "resume"]
    for verb, text in lines:
        *start, script = shlex.split(text)[:4]
        rest = shlex.split(text)[4:]
        assert start[1].endswith("run.sh") and start[2] == "python"
        assert (places.ROOT / script).is_file()
        if verb == "resume":
            assert program.main(rest) == 0
            assert "at step 120" in capsys.readouterr().out
        else:
            options = importlib.import_module(f"eoi.{verb}").parser().parse_args(rest)
            assert reader.locate(options.runs if verb == "plot" else [options.run]) == [folder]


def ended(number: int, **changed) -> Finished:
    values = {
        "folder": pathlib.Path(f"/results/{number}"),
        "seed": number,
        "label": "",
        "t": 300,
        "best": 2.0,
        "best_step": 200,
        "last": 1.0,
        "last_step": 300,
        "saved": True,
        "resumable": True,
    }
    return Finished(**values | changed)


def test_a_run_without_checkpoints_is_not_said_to_resume(tmp_path) -> None:
    assert "--resume" in closing([ended(1)])
    assert "--resume" not in closing([ended(1, resumable=False)])


def test_a_fleet_has_a_line_for_each_run_then_a_count(monkeypatch) -> None:
    monkeypatch.setattr(places, "IS_CHECKOUT", False)
    runs = [ended(k) for k in range(1, SHOWN + 4)]
    runs[1] = ended(2, failure="td: nan or infinite")
    lines = closing(runs).splitlines()
    assert lines[0].split() == ["run", "seed", "best", "test", "return", "at", "step", "last"]
    assert lines[1].split() == ["1", "1", "2", "200", "1"]
    assert lines[2].split(maxsplit=2)[2] == "failed: td: nan or infinite"
    assert lines[SHOWN + 1] == "... and 3 more runs"
    assert lines[SHOWN + 2] == "Folder: /results/1 to /results/23. To go on:"
    assert lines[SHOWN + 3].split() == ["plot", "eoi", "plot", "/results"]
    never = closing([ended(1, untrained="no update was made"), ended(2)]).splitlines()
    assert never[1].split() == ["1", "1", "no", "update", "200", "1"]
    few = closing([ended(1, label="lr=0.1"), ended(2, label="lr=0.2")]).splitlines()
    assert few[1].split() == ["1", "1", "lr=0.1", "2", "200", "1"]
    assert few[4].split() == ["plot", "eoi", "plot", "/results/1", "/results/2"]


def test_a_run_of_this_project_is_named_by_its_id(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "SACRED", tmp_path)
    assert closing_module.named(tmp_path / "3") == "3"
    assert closing_module.named(tmp_path / "a b" / "3") == f"'{tmp_path}/a b/3'"


def test_an_unrecorded_run_prints_its_result_alone() -> None:
    assert closing([ended(1, folder=None)]) == (
        "Result: best test return 2 at step 200, last 1 at step 300"
    )


def test_what_a_run_leaves_on_disk_is_said_before(tmp_path, caplog, monkeypatch) -> None:
    """With a replay that is full at the end: the rows of its fields, a sixth of them on disk."""
    words = [*TINY, "t_max=240", "test_interval=60", f"local_results_path={tmp_path}"]
    with caplog.at_level("INFO"):
        assert program.main(["--config=qmix", *words, "hidden_dim=128"]) == 0
    (end, most) = map(
        float, re.findall(r"disk: about (\d+) MB at the end, (\d+) MB", caplog.text)[0]
    )
    folder = tmp_path / "sacred" / "1"
    left = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    networks = (folder / "models" / "last.pt").stat().st_size / 1e6
    assert 0.8 * left < end < 1.5 * left and abs(most - (end + 2 * 2 * networks)) < 2
    caplog.clear()
    monkeypatch.setattr(program.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2e6))
    with caplog.at_level("INFO"):
        assert program.main(["--config=qmix", *words, "hidden_dim=128", "t_max=30"]) == 0
    assert "warning: 2 MB are free; save_interval=0 keeps no checkpoints" in caplog.text
