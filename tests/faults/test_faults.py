"""What goes wrong around a run, and what is left of it. The table is docs/reliability.md."""

import datetime
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import pytest
import torch
from sacred.utils import SacredError

from eoi import batch, evaluate
from eoi import main as program
from eoi.batches.jobs import find
from eoi.components.replay import Replay, ReplayConfig
from eoi.config import loader
from eoi.learners.finite import Finite
from eoi.records.folder import Folder
from eoi.run import Trainer
from eoi.settings import configure
from eoi.utils import checkpoints, memory
from eoi.utils.checkpoints import Checkpoints
from eoi.utils.errors import Failure, UserError
from helpers import SPEC, make_trainer
from test_resume import LONG, assert_same, final, in_a_child

CPU = torch.device("cpu")
SHORT = [*LONG, "t_max=180", "log_interval=60", "test_interval=60", "save_interval=0.00001"]


def test_a_full_disk_ends_with_status_1_and_a_resumable_run(tmp_path):
    """A limit on the size of files refuses a checkpoint, as a full disk does."""
    arguments = ["--config=qmix", *SHORT, f"local_results_path={tmp_path}"]
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        os._exit(program.main(arguments))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    folder = tmp_path / "sacred" / "1"
    assert json.loads((folder / "run.json").read_text())["status"] == "FAILED"
    assert not list(tmp_path.rglob("*.part"))
    assert program.main(["--resume", str(folder)]) == 0
    assert final(folder)["counters"]["t"] == 180


def test_a_disk_that_is_really_full(tmp_path):
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", tmp_path], capture_output=True
        ).returncode
    ):
        pytest.skip("this machine lets nobody mount")
    try:
        assert in_a_child(["--config=qmix", *SHORT, f"local_results_path={tmp_path}"]) == 1
        assert not list(tmp_path.rglob("*.part"))
        assert subprocess.run(["mount", "-o", "remount,size=50m", tmp_path]).returncode == 0
        folder = tmp_path / "sacred" / "1"
        assert in_a_child(["--resume", str(folder)]) == 0
        assert json.loads((folder / "metrics.json").read_text())["test_return_mean"]["steps"] == [
            0,
            60,
            120,
            180,
        ]
    finally:
        subprocess.run(["umount", tmp_path])


def test_a_read_only_disk(tmp_path, capsys):
    """What is on it can be used, and nothing is begun."""
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True
        ).returncode
    ):
        pytest.skip("this machine lets nobody mount")
    try:
        arguments = ["--config=qmix", *SHORT, f"local_results_path={tmp_path}"]
        assert in_a_child(arguments) == 0
        assert subprocess.run(["mount", "-o", "remount,ro", tmp_path]).returncode == 0
        folder, seen = tmp_path / "sacred" / "1", sorted(tmp_path.rglob("*"))
        for refused in (arguments, ["--resume", str(folder), "with", "t_max=360"]):
            assert program.main(refused) in (1, 2)
            err = capsys.readouterr().err
            assert err.count("\n") == 1 and str(tmp_path) in err
        assert evaluate.main([str(folder), "--episodes=1"]) == 0
        assert sorted(tmp_path.rglob("*")) == seen
    finally:
        subprocess.run(["umount", tmp_path])


@pytest.mark.parametrize("where", ["a full disk", "a closed pipe"])
def test_a_run_goes_on_when_its_output_cannot_be_written(where, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open("/dev/full" if where == "a full disk" else writer, "w")  # noqa: SIM115
        os._exit(program.main(["--config=qmix", *SHORT, f"local_results_path={tmp_path}"]))
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run = json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())
    assert run["status"] == "COMPLETED"


def test_a_full_disk_in_the_middle_is_a_warning_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    real, calls = checkpoints.torch.save, []

    def sometimes_full(*arguments):
        calls.append(1)
        if len(calls) % 2:
            raise OSError(28, "No space left on device", "x.pt")
        real(*arguments)

    monkeypatch.setattr(checkpoints.torch, "save", sometimes_full)
    status = program.main(["--config=qmix", *SHORT, f"local_results_path={tmp_path}"])
    assert "the run goes on" in caplog.text and status in (0, 1)
    monkeypatch.undo()
    assert program.main(["--resume", str(tmp_path / "sacred" / "1")]) == 0


def test_results_that_cannot_be_written_are_one_line(tmp_path, capsys):
    """A file where the folder should be: also root cannot write there."""
    (tmp_path / "results").write_text("")
    assert (
        program.main(["--config=qmix", *SHORT, f"local_results_path={tmp_path / 'results'}"]) == 2
    )
    err = capsys.readouterr().err
    assert "Traceback" not in err and str(tmp_path / "results") in err


def test_a_record_that_could_not_begin_has_no_end(tmp_path):
    """Sacred tells its observers how a run ended whose folder could not be made, too."""
    place = tmp_path / "file"
    place.write_text("")
    folder = Folder(place / "sacred")
    with pytest.raises(SacredError, match="nothing was begun"):
        folder.started_event({}, "run", {}, None, {}, {}, None)
    folder.failed_event(None, [])
    assert place.read_text() == ""


def test_metrics_that_could_not_be_written_are_written_at_the_end(tmp_path, monkeypatch):
    """Another file of the record was written in between."""
    folder, full = Folder(tmp_path / "sacred"), True
    when = datetime.datetime.now()
    about = {"base_dir": str(tmp_path), "sources": [], "repositories": [], "name": "x"}
    folder.started_event(about, "run", {}, when, {}, {}, None)
    write = Folder._write

    def writes(self: Folder, filename: str, text: str) -> None:
        if full and filename == "metrics.json":
            raise OSError(28, "No space left on device")
        write(self, filename, text)

    monkeypatch.setattr(Folder, "_write", writes)
    entry = {"steps": [30], "values": [1.5], "timestamps": [when]}
    folder.log_metrics({"loss": entry}, {})
    folder.heartbeat_event({}, "", when, None)
    assert folder.trouble is not None
    full = False
    folder.completed_event(when, 1.0)
    assert folder.trouble is None
    saved = json.loads((tmp_path / "sacred" / "1" / "metrics.json").read_text())
    assert saved["loss"]["values"] == [1.5]


def test_a_corrupted_yaml_is_named_with_its_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "default.yaml").write_text("t_max: 3\nlr: [1e-4\n")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    assert program.main(["--config=qmix"]) == 2
    err = capsys.readouterr().err
    assert "default.yaml line" in err and "not valid YAML" in err


def test_a_corrupted_record_is_named(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"t_max": ')
    (tmp_path / "run.json").write_text("{}")
    assert program.main(["--resume", str(tmp_path)]) == 2
    assert "config.json: damaged" in capsys.readouterr().err


def test_a_corrupted_run_json_is_named(tmp_path, capsys):
    assert program.main(["--config=qmix", *SHORT, f"local_results_path={tmp_path}"]) == 0
    record = tmp_path / "sacred" / "1" / "run.json"
    record.write_text(record.read_text()[:-20])
    assert program.main(["--resume", str(record.parent)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "run.json: damaged" in err
    cells = batch.grid(
        batch.parser().parse_args(["--config=qmix", "--seeds=3-5"]),
        [*SHORT[2:], f"local_results_path={tmp_path}"],
    )
    find(cells)
    assert [cell.state for cell in cells] == ["new"] * 3


def test_a_corrupted_checkpoint_costs_the_time_since_the_one_before(tmp_path, caplog, monkeypatch):
    """Of a run that was killed at its end, before it was recorded as complete."""
    monkeypatch.setattr("eoi.utils.checkpoints.KEEP_FINISHED", 2)
    whole, cut = (f"local_results_path={tmp_path / name}" for name in ("whole", "cut"))
    assert program.main(["--config=qmix", *SHORT, whole]) == 0
    assert program.main(["--config=qmix", *SHORT, cut]) == 0
    folder = tmp_path / "cut" / "sacred" / "1"
    newest = Checkpoints(folder / "checkpoints").paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    record = folder / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "RUNNING"}))
    assert program.main(["--resume", str(folder)]) == 0
    assert newest.name in caplog.text and "damaged" in caplog.text
    assert_same(final(folder), final(tmp_path / "whole" / "sacred" / "1"))


@pytest.mark.parametrize(
    ("part", "term"),
    [
        ("controller", "td"),
        ("extras.0.classifier", "classifier"),
        ("extras.0.value", "intrinsic_value"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_says_which_term(
    part, term, settings, tmp_path
):
    trainer = make_trainer(settings("eoi_qmix", t_max=600, save_interval=1e-5), folder=tmp_path)
    (run,) = trainer.runs
    real = trainer.learn

    def learn() -> None:
        if run.at.t == 180:
            next(run.learner.get_submodule(part).parameters()).data.fill_(torch.nan)
        real()

    trainer.learn = learn
    with pytest.raises(
        Failure, match=rf"loss term .*{term}.*since update 13; the state of t = 120"
    ):
        trainer.train()
    found = Checkpoints(tmp_path / "checkpoints").newest()
    assert found is not None and found[1]["counters"]["t"] == 120
    assert all(x.isfinite().all() for x in found[1]["learner"].values())
    assert all(
        x.isfinite().all()
        for x in checkpoints.load(tmp_path / "models" / "best.pt")["learner"].values()
    )


def test_networks_that_are_not_finite_are_never_the_best(settings, tmp_path):
    """Also where a test comes before the next report."""
    chosen = settings("qmix", t_max=600, log_interval=600, test_interval=60)
    trainer = make_trainer(chosen, folder=tmp_path)
    (run,) = trainer.runs
    real = trainer.learn

    def learn() -> None:
        real()
        if run.at.t == 120:  # a test has saved networks before
            next(iter(run.learner.parameters())).data.fill_(torch.nan)
            run.at.best = float("-inf")  # whatever they do is better

    trainer.learn = learn
    with pytest.raises(Failure, match="nan or infinite"):
        trainer.train()
    assert all(
        x.isfinite().all()
        for x in checkpoints.load(tmp_path / "models" / "best.pt")["learner"].values()
    )


def test_a_world_whose_worker_is_killed_ends_the_run_which_can_be_resumed(tmp_path, monkeypatch):
    shorter = [
        "t_max=100",
        "test_interval=100",
        "batch_size_run=1",
        "test_nepisode=1",
        "env_args.workers=1",
        "update_interval=25",
    ]
    arguments = [
        "--config=qmix",
        "--env-config=pettingzoo",
        *SHORT,
        *shorter,
        f"local_results_path={tmp_path}",
    ]
    real = Trainer.play

    def play(self: Trainer) -> None:
        if self.at.t == 50:
            os.kill(self.rollout.env._groups[0]._process.pid, signal.SIGKILL)
        real(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "play", play)
        assert program.main(arguments) == 1
    folder = tmp_path / "sacred" / "1"
    run = json.loads((folder / "run.json").read_text())
    assert run["status"] == "FAILED" and "a worker process died (exit status -9)" in "".join(
        run["fail_trace"]
    )
    assert final(folder)["counters"]["t"] == 50
    assert program.main(["--resume", str(folder)]) == 0
    assert final(folder)["counters"]["t"] == 100


def test_a_failure_is_status_1_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Finite, "broken", lambda self, *_: (["td"], 1))
    assert program.main(["--config=qmix", *SHORT, f"local_results_path={tmp_path}"]) == 1
    err = capsys.readouterr().err
    assert "loss term td" in err and "Traceback" not in err
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "FAILED"


def test_the_term_that_broke_first_is_named():
    watch = Finite()
    assert watch.broken() == ([], 0)
    one, broken = torch.tensor(1.0), torch.tensor(torch.inf)
    watch.see({"td": one, "pull": one})
    assert watch.broken() == ([], 0)
    watch.see({"td": one, "pull": broken})
    watch.see({"td": broken, "pull": broken})
    assert watch.broken() == (["pull"], 2)


def test_a_replay_larger_than_free_memory_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 50_000)
    with pytest.raises(
        UserError,
        match=r"buffer_size: .* MB, but 0 MB are free on cpu; with buffer_size=(\d+) it fits",
    ) as refused:
        Replay(SPEC, ReplayConfig(buffer_size=10_000), CPU)
    fits = int(str(refused.value).split("buffer_size=")[1].split()[0])
    Replay(SPEC, ReplayConfig(buffer_size=fits), CPU)


def test_free_memory_is_known_here():
    free = memory.free_bytes(CPU)
    assert free is not None and 10**7 < free < 10**14
    assert memory.free_bytes(torch.device("meta")) is None


def test_a_container_counts_where_it_is_smaller(tmp_path, monkeypatch):
    for name, text in {
        "max": "3000000",
        "current": "1000000",
        "stat": "anon 5\ninactive_file 500000\n",
    }.items():
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.free_bytes(CPU) == 2_500_000
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "absent")
    (tmp_path / "memory.max").write_text("max")
    assert (memory.free_bytes(CPU) or 0) > 10**7


def resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_does_not_grow_over_3000_episodes():
    rooms = "\n".join(["####", "#ST#", "#BL#", "#RS#", "####"])
    updates = {
        "seed": 1,
        "env_args": {"layout": rooms, "n_agents": 2, "dots_per_room": 1, "episode_limit": 2},
        "t_max": 6000,
        "hidden_dim": 4,
        "batch_size_run": 10,
        "update_interval": 200,
        "learning_starts": 0,
        "test_interval": 2000,
        "log_interval": 200,
        "buffer_size": 400,
        "batch_size": 8,
        "test_nepisode": 2,
    }
    trainer = make_trainer(configure(loader.load("eoi_qmix", "pac_men", updates)))
    sizes, real = [], trainer.play

    def play() -> None:
        real()
        sizes.append(resident())

    trainer.play = play
    trainer.train()
    assert trainer.at.episodes == 3000
    assert sizes[-1] - sizes[len(sizes) // 3] < 4_000_000
