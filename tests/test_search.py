"""A search of settings: its ranges, its study on disk, and what it prints and draws."""

import json
import math
import pathlib
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from eoi import batch
from eoi.batches import search
from eoi.batches.jobs import Job
from eoi.batches.search import Dimension, Question, Search, dimension, question
from eoi.config import loader
from eoi.pictures.searches import searches
from eoi.records.record import Config
from eoi.utils.errors import UserError

CONFIG = loader.load("maac", "pac_men", {"seed": 0}) | {"env_args": {"dots_per_room": 10}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "reward_scale=10..10000:log",
            Dimension("reward_scale", 10, 10000, log=True),
        ),
        ("gamma=0.9..0.99", Dimension("gamma", 0.9, 0.99)),
        ("lr=2.5e-4..1.5E-2:log", Dimension("lr", 2.5e-4, 1.5e-2, log=True)),
        ("eoi.alpha=1e-4..1e-1:log", Dimension("eoi.alpha", 1e-4, 0.1, log=True)),
        ("env_args.dots_per_room=2..8", Dimension("env_args.dots_per_room", 2, 8, integer=True)),
        ("hidden_dim=32..128:log", Dimension("hidden_dim", 32, 128, log=True, integer=True)),
        ("critic_input=obs,state", Dimension("critic_input", choices=("obs", "state"))),
    ],
)
def test_dimensions(text, expected) -> None:
    assert dimension(text, CONFIG) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma", "expected KEY=LOW..HIGH"),
        ("gamma=0.9", "one value is no search"),
        ("gamma=0.9..0.8", "goes down"),
        ("gamma=0..1:log", "begins above 0"),
        ("gamma=low..high", "low is no number"),
        ("gamma=0.9..0.99:lin", "expected numbers, as LOW..HIGH or LOW..HIGH:log"),
        ("gamma=0.9..0.99996", "a number has four digits; write 0.9..1$"),
        ("hidden_dim=64.5..128", "the setting is an integer; write 64..128$"),
        ("critic_input=obs,state,obs", "critic_input: obs is there twice"),
        ("hidden_dim=64,64.0", "hidden_dim: 64 is there twice"),
    ],
)
def test_dimensions_that_are_refused(text, message) -> None:
    with pytest.raises(UserError, match=message):
        dimension(text, CONFIG)


def test_numbers_are_typed_with_four_digits_and_integers_whole() -> None:
    assert Dimension("a", 0, 1).text(0.123456) == "a=0.1235"
    assert Dimension("a", 0, 1).text(1e-7) == "a=1e-07"
    assert Dimension("n", 1, 9, integer=True).text(12345) == "n=12345"
    assert Dimension("w", choices=("x", "y")).ends == ["w=x", "w=y"]
    assert Dimension("n", 1, 9, integer=True).ends == ["n=1", "n=9"]


def asked(folder: pathlib.Path, *texts: str, seeds: Sequence[int] = (0, 1)) -> Question:
    given = [f"local_results_path={folder}"]
    return question("maac", "windy_maze", seeds, texts or ("reward_scale=1..10000:log",), given)


def finish(job: Job, value: float, status: str = "COMPLETED") -> None:
    """Records the job's run as if it had trained."""
    base = pathlib.Path(str(job.config["local_results_path"])) / "sacred"
    folder = base / str(len(list(base.glob("[0-9]*"))) + 1)
    folder.mkdir(parents=True)
    metrics = {"test_return_mean": {"steps": [0, 100], "values": [0, value], "timestamps": []}}
    for name, content in (
        ("config", job.config),
        ("run", {"status": status}),
        ("metrics", metrics),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))


def quality(config: Config) -> float:
    """Highest, 5, at a reward_scale of 100; seed 1 has 1 more, seed 0 1 less."""
    return 5 - (math.log10(config["reward_scale"]) - 2) ** 2 + (1 if config["seed"] else -1)


def works(jobs: Sequence[Job]) -> bool:
    for job in jobs:
        finish(job, quality(job.config))
    return False


def test_a_search_finds_the_best_and_asks_for_no_more_than_it_was_told(tmp_path) -> None:
    study, told = Search(asked(tmp_path), tmp_path / "study.log"), []
    assert not study.run(15, 2, works, told.append)
    assert [trial.number for trial in told] == list(range(15))
    best = max(told, key=lambda trial: trial.value)
    assert 4.5 < best.value <= 5 and 20 < float(best.settings["reward_scale"]) < 500
    for trial in told:  # the mean over both seeds
        expected = 5 - (math.log10(float(trial.settings["reward_scale"])) - 2) ** 2
        assert math.isclose(trial.value, expected)
    lines = search.table(study).splitlines()
    assert lines[0].startswith("15 trials, 0 failed; test_return_mean")
    assert lines[2].split()[:2] == ["1", str(best.number)] and len(lines) == 2 + 10 + 1
    assert lines[-1].endswith(f"reward_scale={best.settings['reward_scale']}")
    assert not study.run(15, 2, lambda jobs: pytest.fail("nothing is left"), told.append)


def test_trials_of_equal_settings_share_their_runs(tmp_path) -> None:
    """Four trials at once, of two values: some are equal, in a round and between rounds."""
    rounds: list[int] = []

    def once(jobs: Sequence[Job]) -> bool:
        assert len({job.identity for job in jobs}) == len(jobs)
        rounds.append(len(jobs))
        return works(jobs)

    study, told = Search(asked(tmp_path, "reward_scale=10,1000"), tmp_path / "study.log"), []
    assert not study.run(8, 4, once, told.append)
    assert sum(rounds) <= 2 * 2 and len(told) == 8
    assert {trial.value for trial in told} == {4}


def test_a_stopped_search_continues_with_the_trials_it_had_begun(tmp_path) -> None:
    """The user stops the second round, in which one of two seeds has finished."""
    rounds: list[list[Job]] = []

    def stops(jobs: Sequence[Job]) -> bool:
        rounds.append(list(jobs))
        works(jobs if len(rounds) == 1 else jobs[:1])
        return len(rounds) == 2

    told: list[search.Trial] = []
    first = Search(asked(tmp_path), tmp_path / "study.log")
    assert first.run(4, 1, stops, told.append)
    assert len(told) == 1 and len(rounds) == 2

    def goes_on(jobs: Sequence[Job]) -> bool:
        rounds.append(list(jobs))
        return works(jobs)

    again = Search(asked(tmp_path), tmp_path / "study.log")
    assert not again.run(4, 1, goes_on, told.append)
    (left,) = rounds[2]  # the seed that had not finished, with the same settings
    assert left.config == rounds[1][1].config
    assert [trial.number for trial in told] == [0, 1, 2, 3]
    assert len({trial.settings["reward_scale"] for trial in told}) == 4


def test_runs_that_still_go_on_are_not_begun_again(tmp_path, monkeypatch) -> None:
    """As after kill -9 of the search."""

    def found(jobs: Sequence[Job]) -> None:
        jobs[0].state, jobs[0].folder = "running elsewhere", tmp_path / "sacred" / "7"

    monkeypatch.setattr(search, "find", found)
    study = Search(asked(tmp_path), tmp_path / "study.log")
    with pytest.raises(UserError, match=r"sacred/7: runs of this search still go on"):
        study.run(2, 1, lambda jobs: pytest.fail("begun"), lambda trial: None)


def test_a_failed_run_fails_its_trial_alone(tmp_path) -> None:
    def breaks(jobs: Sequence[Job]) -> bool:
        low = [job for job in jobs if job.config["reward_scale"] < 100]
        for job in low:
            finish(job, 0.0, "FAILED" if job.seed else "COMPLETED")
        return works([job for job in jobs if job not in low])

    study, told = Search(asked(tmp_path), tmp_path / "study.log"), []
    study.run(6, 3, breaks, told.append)
    for trial in told:
        assert (trial.value is None) == (float(trial.settings["reward_scale"]) < 100)
    failed = sum(trial.value is None for trial in told)
    assert 0 < failed < 6 and f"{6 - failed} trials, {failed} failed" in search.table(study)


def test_a_study_answers_one_question(tmp_path) -> None:
    Search(asked(tmp_path), tmp_path / "study.log")
    Search(asked(tmp_path), tmp_path / "study.log")
    with pytest.raises(UserError, match=r"study.log: a study of other settings.*--study"):
        Search(asked(tmp_path, "reward_scale=1..100"), tmp_path / "study.log")
    for text in ("# A page\n", '{"a": 1}\n'):
        (tmp_path / "other.md").write_text(text)
        with pytest.raises(UserError, match=r"other.md: not a study; .* --study"):
            Search(asked(tmp_path), tmp_path / "other.md")
        assert (tmp_path / "other.md").read_text() == text
    assert asked(tmp_path).name == "maac_windy_maze_reward_scale"
    own = tmp_path / "mine.yaml"
    own.write_text("base: maac\n")
    assert question(str(own), "pac_men", [0], ["gamma=0..1"], []).name == "mine_pac_men_gamma"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search", "gama=0..1"], "gama: there is no such setting"),
        (["--search", "gamma=0.5..2"], "gamma: must be at most 1"),
        (["--search", "mixer=qmix,vdn"], "mixer: has no effect with --config=maac"),
        (["--search", "gamma=0.5..0.9", "with", "gamma=0.8"], "gamma: the setting is given twice"),
        (["--trials", "3"], "--trials: has no effect without --search"),
        (["--study", "x"], "--study: has no effect without --search"),
        (["--search", "seed=1,2"], "--search seed: the seeds of a batch are those of --seeds"),
        (["--search", "t_max=1000..2000"], "--search t_max: trials of unequal length"),
        (["--search", "label=a,b"], "--search label: has no effect on what a run learns"),
        (["--search", "name=a,b"], "--search name: has no effect on what a run learns"),
        (["--search", "threads=1,2"], "--search threads: runs that differ in it alone are the"),
        (["--search", "gamma=0.5..0.9", "--vary", "gamma=1,2"], "--vary: has no effect"),
        (["--search", "gamma=0.5..0.9", "--on", "slurm"], "--on slurm: a search waits"),
        (
            ["--config", "maac,qmix", "--search", "gamma=0.5..0.9"],
            "--config maac,qmix: a search has",
        ),
    ],
)
def test_a_search_that_is_refused(words, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(batch, "STUDIES", tmp_path / "search")
    config = [] if "--config" in words else ["--config", "maac"]
    assert batch.main([*config, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not any(tmp_path.iterdir())


def test_the_best_command_finds_the_module_of_a_world(tmp_path, monkeypatch) -> None:
    """A game of the user's own, which lies in a folder of PYTHONPATH."""
    (tmp_path / "own_game.py").write_text("def parallel_env():\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    space = (Dimension("lr", 1e-4, 1e-2),)
    asked = Question("qmix", "pettingzoo", (1,), ("env_args.key=own_game",), space)
    trial = search.Trial(0, {"lr": "0.001"}, 1.0)
    study = SimpleNamespace(asked=asked, finished=lambda: [trial])
    last = search.table(study).splitlines()[-1]
    assert last.startswith(f"The best: PYTHONPATH={tmp_path} bash ")
    assert last.endswith("--env-config=pettingzoo with env_args.key=own_game lr=0.001")


def test_the_command(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(batch, "STUDIES", tmp_path / "search")
    monkeypatch.setattr(batch, "FIGURES", tmp_path / "figures")
    rooms: list[int] = []

    def engine(tasks, pace, screen) -> bool:
        jobs = [job for task in tasks for job in getattr(task, "jobs", [task])]
        rooms.append(len(jobs))
        return works(jobs)

    monkeypatch.setitem(batch.ENGINES, "local", engine)
    words = ["--config", "maac", "--env-config", "windy_maze", "--seeds", "2", "-j", "4"]
    words += ["--search", "reward_scale=1..10000:log", "--trials", "3"]
    given = ["with", f"local_results_path={tmp_path}"]
    assert batch.main([*words, "--dry-run", *given]) == 0
    study = tmp_path / "search" / "maac_windy_maze_reward_scale.log"
    assert capsys.readouterr().out == f"3 trials of 2 runs each; the study is {study}\n"
    assert not study.exists()
    assert batch.main([*words, *given]) == 0
    out = capsys.readouterr().out
    assert rooms == [4, 2] and study.is_file()  # two trials at once, then the third
    assert out.count("trial ") >= 3 and "The best: bash run.sh python src/main.py" in out
    picture = pathlib.Path(out.splitlines()[-1])
    assert picture.stem == "search_maac_windy_maze_reward_scale" and picture.is_file()


def test_without_optuna_it_says_how_to_get_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-search.txt"):
        Search(asked(tmp_path), tmp_path / "new" / "study.log")
    assert not (tmp_path / "new").exists()


def test_the_picture_has_a_panel_for_each_setting() -> None:
    settings = [{"lr": "0.1", "mixer": "vdn"}, {"lr": "0.001", "mixer": "qmix"}]
    figure = searches("maac on pac_men", settings, [0, 2], [1.0, 3.0], {"lr"})
    history, rate, mixer = figure.axes
    assert list(history.lines[0].get_xdata()) == [0, 2]  # trial 1 has failed
    assert list(history.lines[1].get_ydata()) == [1, 3]  # the best so far
    assert rate.get_xscale() == "log" and history.get_xscale() == "linear"
    assert [label.get_text() for label in mixer.get_xticklabels()] == ["qmix", "vdn"]
    assert mixer.collections[0].get_offsets().tolist() == [[1, 1], [0, 3]]
