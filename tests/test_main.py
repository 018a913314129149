"""The command line, Sacred's record, and bad input."""

import json
import pathlib
import signal
import subprocess
import sys

import pytest
import torch

from eoi.envs.workers import WorkerError
from eoi.main import Program, _terminated, main, parse_command
from eoi.records import reader
from eoi.utils import checkpoints

TINY = [
    "with",
    "seed=3",
    "hidden_dim=8",
    "batch_size=16",
    "batch_size_run=2",
    "buffer_size=200",
    "learning_starts=0",
    "t_max=120",
    "test_nepisode=2",
    "test_interval=60",
    "log_interval=60",
    "update_interval=10",
]
SRC = pathlib.Path(__file__).parent.parent / "src"


@pytest.fixture
def results(tmp_path):
    return f"local_results_path={tmp_path}"


def test_a_run_leaves_a_whole_record(results, tmp_path, capsys):
    assert main(["--config=eoi_qmix", "--env-config=pac_men", *TINY, results]) == 0
    folder = tmp_path / "sacred" / "1"
    run, config, metrics = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("run", "config", "metrics")
    )
    assert run["status"] == "COMPLETED" and run["experiment"]["name"] == "eoi_qmix"
    assert (
        config["seed"] == 3
        and config["eoi"]["alpha"] == 0.01
        and config["env_args"]["dots_per_room"] == 10
    )
    assert metrics["test_return_mean"]["steps"] == [0, 60, 120]
    assert {
        "test_return_mean",
        "epsilon",
        "classifier_accuracy",
        "individuality_mean",
        "pull_td_cosine",
    } <= set(metrics)
    assert set(checkpoints.load(folder / "models" / "last.pt")) == {"t", "updates", "learner"}
    assert "steps/s" in capsys.readouterr().out


def test_evaluate_a_saved_run(results, tmp_path, capsys, caplog):
    assert main(["--config=qmix", *TINY, results]) == 0
    saved = f"checkpoint_path={tmp_path / 'sacred' / '1'}"
    assert main(["--config=qmix", *TINY, results, saved, "evaluate=True"]) == 0
    assert "test_return_mean" in capsys.readouterr().out
    assert main(["--config=vdn", *TINY, results, saved]) == 2
    assert (
        main(["--config=qmix", *TINY, results, f"checkpoint_path={tmp_path}", "evaluate=True"]) == 2
    )
    errors = capsys.readouterr()
    assert "networks" in errors.out + errors.err
    assert "not the world" not in caplog.text
    assert (
        main(["--config=qmix", *TINY, results, saved, "evaluate=True", "env_args.dots_per_room=3"])
        == 0
    )
    assert "env_args.dots_per_room=3 (trained with 10)" in caplog.text


def test_a_run_starts_from_the_networks_of_the_latest(results, tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "SACRED", tmp_path / "sacred")
    assert main(["--config=qmix", *TINY, results]) == 0
    assert main(["--config=qmix", *TINY, results, "checkpoint_path=latest"]) == 0
    config = json.loads((tmp_path / "sacred" / "2" / "config.json").read_text())
    assert config["checkpoint_path"] == str((tmp_path / "sacred" / "1").resolve())


def test_a_bad_setting_of_a_resumed_run_is_not_blamed_on_its_record(results, tmp_path, capsys):
    assert main(["--config=qmix", *TINY, results]) == 0
    capsys.readouterr()
    folder = tmp_path / "sacred" / "1"
    assert main(["--resume", str(folder), "with", "t_max=abc"]) == 2
    assert capsys.readouterr().err == "error: t_max: expected an integer, got 'abc'\n"
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"gamma": 0.98', '"gamma": 98'))
    assert main(["--resume", str(folder), "with", "t_max=abc"]) == 2
    assert f"{path}: gamma: " in capsys.readouterr().err


def test_more_copies_than_the_replay_holds_are_refused(results, capsys):
    assert main(["--config=qmix", *TINY, results, "batch_size_run=100", "buffer_size=60"]) == 2
    assert (
        "batch_size_run=100: 100 episodes at once do not fit a replay of 60 transitions"
        in capsys.readouterr().err
    )


def test_print_config_creates_nothing(results, tmp_path, capsys):
    assert main(["print_config", "--config=eoi_qmix", *TINY, results]) == 0
    assert "alpha" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--config=qmx"], ["--config=qmx", "Did you mean 'qmix'?", "FILE.yaml"]),
        (["--config=examples/maps/pac_men.txt"], ["a map is env_args.layout=examples/maps/"]),
        (["--config=pac_men"], ["pac_men: an environment, not", "--env-config=pac_men"]),
        (["--env-config=qmix"], ["qmix: an algorithm, not", "write --config=qmix"]),
        (["--config=vdn", "--config=qmix"], ["--config: given twice"]),
        (["--foo"], ["--foo: there is no such option.\n"]),
        (["with", "t_max=abc"], ["t_max: expected an integer, got 'abc'"]),
        (["with", "t_max="], ["t_max: expected an integer, got nothing"]),
        (
            ["with", "plugins=[mine/curiosity.py]"],
            ["is a module's name; write PYTHONPATH=mine in front, and 'plugins=[curiosity]'\n"],
        ),
        (["with", "mixer=mine"], ["mixer: expected one of", "plugins=[MODULE]"]),
        (["with", "agent=mine"], ["agent: expected one of", "plugins=[MODULE]"]),
        (["with", "mine.weight=1"], ["with mine: there is no such setting", "plugins=[MODULE]"]),
        (["with", "eoi.form=mine"], ["eoi.form: expected one of", "plugins=[MODULE]"]),
        (["with", "seed=1", "print_config"], ["print_config, stands before `with`"]),
        (["--resume", "1", "t_max=240"], ["t_max=240: a setting; settings stand behind"]),
        (["--env-config=pacmen"], ["--env-config=pacmen", "pac_men"]),
        (["with", "gama=0.9"], ["gama", "gamma"]),
        (["with", "batch_size=-3"], ["batch_size", "at least 1"]),
        (["with", "lr=fast"], ["lr", "expected a number"]),
        (["with", "gamma", "0.9"], ["gamma", "key=value"]),
        (["with", "env_args.dots=3"], ["env_args.dots", "dots_per_room"]),
        (["--config"], ["--config="]),
        (["--confg=qmix"], ["--confg", "Did you mean '--config'"]),
        (["--seed=3"], ["--seed", "with seed=3"]),
        (["t_max=2000"], ["t_max=2000", "with t_max=2000"]),
        (["print_confg"], ["print_confg", "Did you mean 'print_config'"]),
        (["-z"], ["error: -z: there is no such option; --help shows them\n"]),
        (["with", "checkpoint_path=/nowhere", "evaluate=True"], ["/nowhere", "networks"]),
        (["with", "checkpoint_path=987654", "evaluate=True"], ["987654", "no such run"]),
        (["with", "checkpoint_path=~nobody-here/x"], ["~nobody-here/x: there is no such user"]),
        (["with", "eoi=3", "fleet.vary={'eoi.alpha': [0, 0.1]}"], ["with eoi: a section"]),
        (["with", "fleet.vary={'seed': [1, 2]}"], ["fleet.seeds=[1,2]"]),
        (["--mongo"], ["--mongo", "HOST:PORT:DATABASE"]),
        (["with", "fleet=3"], ["with fleet: a section, set fleet.NAME=..."]),
        (["with", "name="], ["name: empty"]),
        (["with", "threads=100000"], ["threads: must be at most 1024"]),
        (["with", ".a=3"], ["with .a=3: expected key=value"]),
        (["with", "env_args.corridors=[1,2]"], ["env_args.corridors: expected a list of 4"]),
        (["with", "env_args.n_agents=300"], ["env_args.n_agents: must be at most 255"]),
        (["with", "env=pettingzoo", "env_args.key="], ["key: expected a module or MODULE:"]),
        (["with", "env=pettingzoo", "env_args.key=.x"], ["key: expected a module or MODULE:"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, words, results, tmp_path, capsys):
    extra = [results] if "with" in argv else ["with", results]
    assert main([*argv, *extra]) == 2
    _, err = capsys.readouterr()
    assert (
        err.count("\n") == 1 and err.startswith("error: ") and all(word in err for word in words)
    ), err
    assert not any(tmp_path.iterdir())


def test_sigterm_ends_a_program_that_ignores_ctrl_c(monkeypatch):
    """As a shell makes it where it is started with &."""
    raised = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.default_int_handler)
    _terminated()
    assert raised == [signal.SIGINT]
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt):
        _terminated()
    assert len(raised) == 1


def test_results_that_cannot_be_written_are_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*TINY, f"local_results_path={tmp_path / 'file'}"]) == 2
    assert "local_results_path" in capsys.readouterr().err


def test_sacreds_options_pass_through():
    command = parse_command(
        [
            "print_config",
            "--config=vdn",
            "with",
            "seed=1",
            "-c",
            "a note",
            "--env-config",
            "pac_men_easy",
        ]
    )
    assert command.rest == ["print_config", "-c", "a note"]
    assert command.settings.run.name == "vdn" and command.settings.env.easy


def test_a_seed_is_drawn_and_recorded():
    assert isinstance(parse_command([]).config["seed"], int)


def test_a_call_without_words_shows_how(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert not out and "--config=ALG --env-config=ENV" in err
    assert "The default of ALG is qmix, and that of ENV\nis pac_men" in err


def test_networks_that_do_not_fit_leave_no_record(results, tmp_path, capsys):
    models = tmp_path / "old" / "models"
    words = ["with", "seed=1", results, f"checkpoint_path={models.parent}"]
    other = {"t": 1, "learner": {"agents.weight": torch.zeros(2)}}
    for content, said in ((other, "not those of this configuration"), ([1], "not a readable")):
        checkpoints.save(models / "last.pt", content)
        assert main(["--config=qmix", *words]) == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and f"{models / 'last.pt'}: " in err
        assert said in err and not (tmp_path / "sacred").exists()


def test_an_environment_of_ones_own_names_its_world(results, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("env_args: {dots_per_room: 5}\n")
    assert main([f"--env-config={path}", *TINY, results]) == 2
    err = capsys.readouterr().err
    assert f"{path}: no world in it; add `env: pac_men`" in err and err.count("\n") == 1
    path.write_text("base: pac_men\nenv_args: {dots_per_room: 5}\n")
    assert parse_command([f"--env-config={path}"]).settings.env.dots_per_room == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = x / 0\n", ":2: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('x')\n", ":2: JSONDecodeError: Expecting value"),
        ("import no_such_package\n", ":1: ModuleNotFoundError: No module named"),
        ("x = 1\ny = (\n", ":2: '(' was never closed"),
    ],
)
def test_a_plugin_that_fails_is_named_with_its_line(
    text, said, results, tmp_path, monkeypatch, capsys
):
    (tmp_path / "breaks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["--config=qmix", *TINY, results, "plugins=[breaks]"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: plugins: breaks: {tmp_path}/breaks.py{said}")
    assert err.count("\n") == 1


def test_help_lists_algorithms_and_environments(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "eoi_explore_qmix" in out and "pac_men_easy" in out


@pytest.mark.parametrize(("runs", "more"), [(1, ()), (2, ("fleet.seeds=[3,4]",))])
def test_an_interrupted_run_says_so_and_keeps_its_networks(runs, more, tmp_path):
    """A real process, a real signal, once the run, or every run of the fleet, has started."""
    words = [w for w in TINY if not (more and w.startswith("seed"))]
    command = [
        sys.executable,
        str(SRC / "main.py"),
        "--config=qmix",
        *words,
        *more,
        "t_max=10000000",
        f"local_results_path={tmp_path}",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "steps/s" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert f"--resume {tmp_path / 'sacred' / '1'}`" in rest
    folders = sorted((tmp_path / "sacred").glob("[0-9]*"))
    assert len(folders) == runs
    for folder in folders:
        assert json.loads((folder / "run.json").read_text())["status"] == "INTERRUPTED"
        found = checkpoints.Checkpoints(folder / "checkpoints").newest()
        assert (
            found is not None
            and found[1]["counters"]["t"] == checkpoints.load(folder / "models" / "last.pt")["t"]
        )
        assert not list(folder.glob("*/*.part"))


def test_an_interrupted_run_without_checkpoints_promises_none(results, tmp_path):
    program = Program(parse_command(["--config=qmix", *TINY, results, "save_interval=0"]))
    assert program.interrupted() == "interrupted"  # before there is a folder
    program.records[0].folder.dir = str(tmp_path)
    assert (
        str(tmp_path) in program.interrupted()
        and "no checkpoint" in program.interrupted()
        and "--resume" not in program.interrupted()
    )


def test_a_game_out_of_memory_is_not_told_as_the_networks(results, monkeypatch, capsys):
    def fails(*_):
        raise WorkerError("worker 0: MemoryError: Unable to allocate 3 GiB")

    monkeypatch.setattr("eoi.main.Trainer.train", fails)
    assert main(["--config=qmix", *TINY, results]) == 1
    err = capsys.readouterr().err
    assert "Unable to allocate 3 GiB" in err and "hidden_dim" not in err


def test_a_full_disk_is_one_line_and_status_1(results, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "last.pt")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    assert main(["--config=qmix", *TINY, results]) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err and "Traceback" not in err
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "FAILED"
    assert not list((tmp_path / "sacred" / "1" / "models").iterdir())
