"""MongoDB through pymongo and a real socket, and a server that is down, slow, full or faulty."""

import functools
import json
import os
import pathlib
import shutil
import threading

import pymongo
import pytest

from eoi import main as program
from eoi import sync
from eoi.records import mongo
from eoi.records.folder import OUTPUT, capped, number
from eoi.records.mongo import CHUNK, Database, Push, Pushed, address
from eoi.utils.errors import UserError
from mongo_server import Server
from test_resume import LONG

SHORT = [*LONG, "t_max=180", "log_interval=60", "test_interval=60"]


@pytest.fixture
def server():
    running = Server()
    yield running
    running.mode = "well"
    with running.asked:
        running.asked.notify_all()
    running.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("made")
    assert program.main(["--config=qmix", *SHORT, f"local_results_path={folder}"]) == 0
    return folder / "sacred" / "1"


@pytest.fixture
def run(made, tmp_path) -> pathlib.Path:
    return shutil.copytree(made, tmp_path / "1")


def database(server: Server, patience: int = 150) -> Database:
    return Database(f"127.0.0.1:{server.port}:sacred", patience)


def assert_has(server: Server, run: pathlib.Path) -> None:
    (document,) = server.documents("sacred.runs")
    metrics = json.loads((run / "metrics.json").read_text())
    stored = {each["name"]: each for each in server.documents("sacred.metrics")}
    assert stored.keys() == metrics.keys() and document["status"] == "COMPLETED"
    for name, entry in metrics.items():
        assert stored[name]["steps"] == entry["steps"] and stored[name]["values"] == entry["values"]
        assert stored[name]["run_id"] == document["_id"]


def test_the_documents_are_those_of_sacreds_own_observer(server, tmp_path, monkeypatch):
    clients = []  # Sacred closes none of its own

    class Client(pymongo.MongoClient):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            clients.append(self)

    monkeypatch.setattr(pymongo, "MongoClient", Client)
    ours, theirs = f"127.0.0.1:{server.port}:ours", f"127.0.0.1:{server.port}:theirs"
    assert (
        program.main(
            [
                "--config=qmix",
                "--mongo",
                ours,
                *SHORT,
                f"local_results_path={tmp_path}",
                "-m",
                theirs,
            ]
        )
        == 0
    )
    for client in clients:
        client.close()
    (our,), (their,) = server.documents("ours.runs"), server.documents("theirs.runs")
    assert (
        their.keys() - our.keys() <= {"resources"}
        and our["status"] == their["status"] == "COMPLETED"
    )
    assert isinstance(our["_id"], int) and our["_id"] < 2**53  # what Omniboard reads
    for key in ("command", "host", "result", "config", "format"):
        assert our[key] == their[key], key
    for key in ("start_time", "stop_time"):
        assert type(our[key]) is type(their[key])
    columns = [
        {m["name"]: (m["steps"], m["values"]) for m in server.documents(f"{db}.metrics")}
        for db in ("ours", "theirs")
    ]
    assert columns[0] == columns[1] and len(columns[0]) > 10
    assert {m["name"] for m in our["info"]["metrics"]} == set(columns[0])


def test_a_run_with_the_server_down_is_pushed_later_and_twice_is_once(
    server, tmp_path, capsys, caplog
):
    where = f"127.0.0.1:{server.port}:sacred"
    server.stop()
    assert (
        program.main(
            [
                "--config=qmix",
                "--mongo",
                f"mongodb://{where[:-7]}/sacred",
                *SHORT,
                f"local_results_path={tmp_path}",
            ]
        )
        == 0
    )
    assert "metrics wait on disk" in caplog.text and "sync.py" in caplog.text
    folder = tmp_path / "sacred" / "1"
    assert not server.documents("sacred.runs")
    server.start()
    assert sync.main([str(folder), "--mongo", where]) == 0
    assert_has(server, folder)
    before = [server.documents(f"sacred.{name}") for name in ("runs", "metrics")]
    assert sync.main([str(tmp_path), "--mongo", where]) == 0
    assert before == [server.documents(f"sacred.{name}") for name in ("runs", "metrics")]


def test_a_damaged_record_keeps_no_other_from_the_database(server, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "0")
    (tmp_path / "0" / "run.json").write_text("{")
    assert sync.main([str(tmp_path), "--mongo", f"127.0.0.1:{server.port}:sacred"]) == 2
    assert str(tmp_path / "0" / "run.json") in capsys.readouterr().err
    assert_has(server, run)


@pytest.mark.parametrize("mode", ["full", "slow", "deaf", "mute"])
def test_a_whole_run_beside_an_ill_server(mode, server, tmp_path, monkeypatch, caplog):
    """It ends as it would alone; what could not be pushed can be, later."""
    server.mode = mode
    impatient = functools.partial(Push, interval=0.01, last=0.3)
    monkeypatch.setattr(mongo, "Push", impatient)
    monkeypatch.setattr(mongo, "Database", functools.partial(Database, patience=100))
    where = f"127.0.0.1:{server.port}:sacred"
    assert (
        program.main(["--config=qmix", "--mongo", where, *SHORT, f"local_results_path={tmp_path}"])
        == 0
    )
    assert "metrics wait on disk" in caplog.text and "sync.py" in caplog.text
    server.mode = "well"
    with server.asked:
        server.asked.notify_all()
    monkeypatch.undo()
    folder = tmp_path / "sacred" / "1"
    assert sync.main([str(folder), "--mongo", where]) == 0
    assert_has(server, folder)


@pytest.mark.parametrize("mode", ["full", "slow", "deaf", "mute", "down", "restarted"])
def test_an_ill_server_delays_a_push_and_loses_nothing(mode, server, run, caplog):
    if mode in ("down", "restarted"):
        server.stop()
    else:
        server.mode = mode
    push = Push(database(server), interval=0.01, last=30)
    failed, succeeded = threading.Event(), threading.Event()
    attempt = push._try

    def tried() -> bool:
        worked = attempt()
        (succeeded if worked else failed).set()
        return worked

    push._try = tried
    push.observe(run)
    assert failed.wait(20)
    if mode in ("down", "restarted"):
        server.start()
    server.mode = "well"
    with server.asked:
        server.asked.notify_all()
    if mode == "restarted":
        server.wait_for_command()
        server.stop()
        server.start()
    assert succeeded.wait(20)
    push.completed_event(None, None)
    assert push.complete
    assert_has(server, run)
    assert caplog.text.count("metrics wait on disk") >= 1


def test_the_end_of_a_run_waits_for_a_dead_server_only_so_long(server, run, caplog):
    server.mode = "slow"
    push = Push(database(server, 60_000), interval=0.01, last=0.05)
    push.observe(run)
    push.interrupted_event(None, "INTERRUPTED")
    assert not push.complete and "sync.py" in caplog.text


def test_only_what_is_new_is_sent_and_no_document_is_large(server, run):
    entries = 2 * CHUNK + 5

    def write(count: int) -> None:
        columns = {
            "steps": list(range(count)),
            "values": [0.5] * count,
            "timestamps": ["2026-01-01T00:00:00"] * count,
        }
        (run / "metrics.json").write_text(json.dumps({"loss": columns}))

    write(entries)
    (run / "cout.txt").write_text("x" * 20_000_000)
    db, pushed = database(server, 20_000), Pushed(run)
    pushed.push(db)
    chunks = sorted(server.documents("sacred.metrics"), key=lambda d: d["chunk"])
    assert [len(chunk["values"]) for chunk in chunks] == [CHUNK, CHUNK, 5]
    assert [step for chunk in chunks for step in chunk["steps"]] == list(range(entries))
    assert server.largest < 3_000_000
    write(entries + 1)
    before = server.writes
    pushed.push(db)
    assert server.writes == before + 1
    pushed.push(db)
    assert server.writes == before + 1
    write(10)  # the run was cut and began again at an earlier checkpoint
    Pushed(run).push(db)
    assert [len(chunk["values"]) for chunk in server.documents("sacred.metrics")] == [10]
    db.close()


def test_output_is_capped():
    text = "x" * (OUTPUT + 5)
    assert len(capped(text)) < OUTPUT + 100 and "not kept" in capped(text)
    assert capped(capped(text) + "more") == capped(text)
    assert capped("short") == "short"


def test_eight_runs_that_start_at_once_have_ids_of_their_own(server, tmp_path):
    where = f"127.0.0.1:{server.port}:sacred"
    tiny = [
        *SHORT,
        "t_max=1",
        "batch_size_run=1",
        "test_nepisode=1",
        "learning_starts=100",
        f"local_results_path={tmp_path}",
    ]
    ready, go = os.pipe(), os.pipe()
    children = []
    for seed in range(8):
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.write(ready[1], b"x")
                os.close(go[1])
                os.read(go[0], 1)  # all at the same moment
                status = program.main(["--config=qmix", "--mongo", where, *tiny, f"seed={seed}"])
            finally:
                os._exit(status)
        children.append(child)
    for _ in children:
        os.read(ready[0], 1)
    os.close(go[1])
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    folders = [path for path in (tmp_path / "sacred").iterdir() if path.name.isdigit()]
    seeds = {json.loads((folder / "config.json").read_text())["seed"] for folder in folders}
    assert len(folders) == 8 and seeds == set(range(8))
    documents = server.documents("sacred.runs")
    assert {document["config"]["seed"] for document in documents} == set(range(8)) and len(
        documents
    ) == 8


def test_numbers_differ():
    assert len({number() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pc7", ("mongodb://pc7:27017/", "sacred")),
        ("pc7:eoi", ("mongodb://pc7:27017/", "eoi")),
        ("pc7:1234", ("mongodb://pc7:1234/", "sacred")),
        ("pc7:1234:eoi", ("mongodb://pc7:1234/", "eoi")),
        (
            "mongodb://me:word@pc7/eoi?authSource=admin",
            ("mongodb://me:word@pc7/?authSource=admin", "eoi"),
        ),
        ("mongodb://pc7", ("mongodb://pc7/", "sacred")),
    ],
)
def test_addresses(text, expected):
    assert address(text) == expected


def test_bad_addresses_are_refused_and_passwords_are_not_shown(capsys, tmp_path, monkeypatch):
    for bad in ("a b", "mongodb://", "pc7:1:db:more"):
        assert program.main(["--mongo", bad, "with", f"local_results_path={tmp_path}"]) == 2
    secret = Database("mongodb://me:word@pc7/eoi")
    assert "word" not in secret.shown
    secret.close()
    monkeypatch.delenv("EOI_MONGO", raising=False)
    assert sync.main([str(tmp_path)]) == 2
    assert "EOI_MONGO" in capsys.readouterr().err


def test_the_environment_variable_counts(monkeypatch):
    monkeypatch.setenv("EOI_MONGO", "a b")
    with pytest.raises(UserError, match="--mongo"):
        program.parse_command(["--config=qmix"])


def test_boards(tmp_path, monkeypatch, capsys):
    class Board:
        def __init__(self, **given):
            self.given, self.logged, self.finished = given, [], False
            boards.append(self)

        def define_metric(self, name, step_metric):
            assert (name, step_metric) == ("*", "t")

        def log(self, values):
            self.logged.append(values)

        def finish(self):
            self.finished = True

    boards: list[Board] = []
    fake = type("wandb", (), {"init": staticmethod(lambda **given: Board(**given))})
    monkeypatch.setitem(__import__("sys").modules, "wandb", fake)
    assert (
        program.main(["--config=qmix", "--wandb", "eoi", *SHORT, f"local_results_path={tmp_path}"])
        == 0
    )
    (board,) = boards
    assert board.finished and board.given["project"] == "eoi" and board.given["config"]["seed"] == 3
    assert {"test_return_mean", "loss"} <= {name for values in board.logged for name in values}
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    assert (
        program.main(["--config=qmix", "--wandb", "eoi", *SHORT, f"local_results_path={tmp_path}"])
        == 2
    )
    assert (
        program.main(["--config=qmix", "--tensorboard", *SHORT, f"local_results_path={tmp_path}"])
        == 2
    )
    assert "`bash run.sh pip install tensorboard`" in capsys.readouterr().err


class Rude:
    """Weights & Biases without an account, or one that breaks later."""

    def __init__(self, at: str):
        self.at = at

    def __getattr__(self, name):
        def call(*_, **__):
            if name == self.at:
                raise RuntimeError("no account")
            return self

        return call


@pytest.mark.parametrize("at", ["init", "log", "finish"])
def test_a_board_that_fails_does_not_end_the_run(at, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "wandb", Rude(at))
    assert (
        program.main(["--config=qmix", "--wandb", "eoi", *SHORT, f"local_results_path={tmp_path}"])
        == 0
    )
    assert caplog.text.count("no account") == 1
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "COMPLETED"


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    assert (
        program.main(["--config=qmix", "--tensorboard", *SHORT, f"local_results_path={tmp_path}"])
        == 0
    )
    assert list((tmp_path / "sacred" / "1" / "tensorboard").iterdir())
