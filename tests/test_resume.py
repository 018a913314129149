"""A resumed run equals the uninterrupted one, bit for bit, and after kill -9 too."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import zlib
from types import SimpleNamespace

import pytest
import torch

from eoi import envs, learners
from eoi import main as program
from eoi.build import make_env
from eoi.components.replay import Replay, ReplayConfig
from eoi.config import loader
from eoi.records.reader import is_run
from eoi.run import Trainer
from eoi.settings import RunConfig, configure
from eoi.utils import checkpoints
from eoi.utils.checkpoints import Checkpoints
from eoi.utils.errors import UserError
from eoi.utils.locks import Lock
from helpers import SPEC, make_run, make_trainer, trained, worlds
from test_replay import Q, numbered

CPU = torch.device("cpu")
# Every algorithm and every world, but not every pair, which would take minutes.
PAIRS = [(algorithm, "pac_men") for algorithm in loader.names("algs")] + [
    ("eoi_qmix", world) for world in worlds() if world != "pac_men"
]


IN_THIS_PROCESS = {
    "env_args": {"workers": 0}
}  # what workers play is the same (tests/envs/test_pettingzoo.py), and starting them takes long


def test_these_are_all_that_the_registries_have():
    used = [configure(loader.load(algorithm, world, {"seed": 1})).run for algorithm, world in PAIRS]
    assert {run.learner for run in used} == set(learners.REGISTRY) and {
        run.env for run in used
    } == set(envs.REGISTRY)


def flat(content, prefix=""):
    """Everything in a checkpoint but its clock, as (name, value)."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, (list, tuple))
        else None
    )
    if items is None:
        yield prefix, content
        return
    for key, value in items:
        if key not in ("seconds", "timestamps"):
            yield from flat(value, f"{prefix}/{key}")


def assert_same(ours, theirs):
    ours, theirs = dict(flat(ours)), dict(flat(theirs))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        other = theirs[name]
        same = (
            torch.equal(value, other)
            if isinstance(value, torch.Tensor)
            else value == other or value != value
        )
        assert same, name


def final(folder: pathlib.Path):
    found = Checkpoints(folder / "checkpoints").newest()
    assert found is not None
    return found[1]


def resumed(settings, folder: pathlib.Path) -> Trainer:
    """A trainer whose run continues from its newest checkpoint."""
    trainer = make_trainer(settings, folder=folder)
    found = Checkpoints(folder / "checkpoints").newest()
    assert found is not None
    trainer.runs[0].resume(*found)
    return trainer


@pytest.mark.parametrize(("algorithm", "world"), PAIRS)
def test_stopped_and_continued_is_uninterrupted(algorithm, world, settings, tmp_path):
    """The first part stops between two reports, so what the next one needs is carried over too."""
    place = IN_THIS_PROCESS if world == "pettingzoo" else {}
    with contextlib.closing(make_env(settings(algorithm, world, **place), 1)) as env:
        limit = env.spec.episode_limit
    whole = place | {
        "buffer_size": max(200, 3 * limit),
        "t_max": 8 * limit,
        "log_interval": 4 * limit,
        "test_interval": 4 * limit,
        "update_interval": limit,
    }
    uninterrupted, _ = trained(settings(algorithm, world, **whole), tmp_path / "whole")
    first = whole | {"t_max": 5 * limit}
    trained(settings(algorithm, world, **first), tmp_path / "parts")
    continued = resumed(settings(algorithm, world, **whole), tmp_path / "parts")
    assert 0 < continued.at.t < continued.cfg.t_max
    continued.train()
    assert continued.at == uninterrupted.at
    assert_same(final(tmp_path / "parts"), final(tmp_path / "whole"))
    assert continued.log.series.keys() == uninterrupted.log.series.keys()


def test_the_test_at_the_end_of_a_short_run_is_no_part_of_a_longer_one(settings, tmp_path):
    """The short run ends before its first test of trained networks; its last ones are tested."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted, _ = trained(settings("qmix", t_max=240, test_interval=120), whole)
    short, _ = trained(settings("qmix", t_max=60, test_interval=120), parts)
    assert short.log.series["test_return_mean"]["steps"] == [0, 60] and short.at.best_t == 60
    continued = resumed(settings("qmix", t_max=240, test_interval=120), parts)
    continued.train()
    assert continued.at == uninterrupted.at
    assert_same(final(parts), final(whole))
    best = (checkpoints.load(folder / "models" / "best.pt") for folder in (parts, whole))
    assert_same(*best)


@pytest.mark.parametrize(
    "updates",
    [
        {"eoi": {"form": "pull", "q_source": "stored"}, "update_interval": 30},
        {"target_update_interval": 3},
        {"buffer_size": 60, "batch_size_run": 1},  # the ring has turned
        {"learning_starts": 100},  # no batch yet when it stops
    ],
)
def test_so_it_is_with_other_settings(updates, settings, tmp_path):
    full = settings("eoi_qmix", **updates)
    trained(full, tmp_path / "whole")
    trained(settings("eoi_qmix", **updates, t_max=61), tmp_path / "parts")
    resumed(full, tmp_path / "parts").train()
    assert_same(final(tmp_path / "parts"), final(tmp_path / "whole"))


def test_a_ring_comes_back_as_it_was_at_every_turn():
    """Also where what was never written is left out of the file."""
    cfg = ReplayConfig(buffer_size=50)
    lived = Replay(SPEC, cfg, CPU, Q)
    for first in range(0, 40, 2):
        lived.insert(numbered(SPEC, [1 + (5 * k) % 7 for k in (first, first + 1)], first))
        reborn = Replay(SPEC, cfg, CPU, Q)
        reborn.load_state(lived.state())
        assert_same(reborn.state(), lived.state())
        again = numbered(SPEC, [4, 6], 60)
        reborn.insert(again)
        other = Replay(SPEC, cfg, CPU, Q)
        other.load_state(lived.state())
        other.insert(again)
        assert_same(reborn.state(), other.state())


def test_the_newest_two_are_kept_and_one_of_a_finished_run(tmp_path):
    kept = Checkpoints(tmp_path)
    paths = [kept.write(t, {"x": torch.arange(t)}) for t in (9, 10, 100, 1000)]
    paths.append(kept.write(1_000_000, {"x": torch.zeros(1)}))
    assert kept.paths() == paths[-2:]
    assert sorted(tmp_path.iterdir()) == sorted(paths[-2:])
    last = kept.write(1_000_001, {}, checkpoints.KEEP_FINISHED)
    assert list(tmp_path.iterdir()) == [last]


def test_a_checkpoint_is_compressed_without_loss(tmp_path):
    """Half of a replay's bytes are zeros; floats that are no numbers keep their bits."""
    bits = torch.randint(0, 2**31 - 1, (1000,), dtype=torch.int32)
    x = {"replay": torch.zeros(250_000), "odd": bits.view(torch.float32), "t": 3, "none": None}
    path = Checkpoints(tmp_path).write(1, x)
    assert path.stat().st_size < 20_000
    found = Checkpoints(tmp_path).newest()
    assert found is not None
    assert torch.equal(found[1]["odd"].view(torch.int32), bits)
    assert torch.equal(found[1]["replay"], x["replay"]) and found[1]["t"] == 3


def test_a_checkpoint_that_was_not_compressed_is_read(tmp_path):
    """Versions that did not compress wrote the same content."""
    packed = Checkpoints(tmp_path).write(7, {"x": torch.arange(3)})
    plain = checkpoints._unpacked(packed).getvalue()
    packed.unlink()
    (tmp_path / f"000000000007-{zlib.crc32(plain):08x}.pt").write_bytes(plain)
    found = Checkpoints(tmp_path).newest()
    assert found is not None and found[1]["x"].tolist() == [0, 1, 2]
    assert checkpoints.step(found[0]) == 7


def damage(path: pathlib.Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "a flipped bit":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "cut short":
        path.write_bytes(content[:middle])
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["a flipped bit", "cut short", "empty"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(how, tmp_path, caplog):
    kept = Checkpoints(tmp_path)
    before, newest = kept.write(1, {"x": torch.ones(1000)}), kept.write(2, {"x": torch.zeros(1000)})
    damage(newest, how)
    with caplog.at_level("WARNING"):
        found = kept.newest()
    assert found and found[0] == before and found[1]["x"].sum() == 1000
    assert str(newest) in caplog.text and "damaged" in caplog.text
    again = kept.write(1, {"x": torch.zeros(1000)})  # the run goes on from before the damage
    assert kept.paths() == sorted([before, again])
    damage(before, "empty")
    damage(again, "empty")
    with pytest.raises(UserError, match="none of its 2 checkpoints"):
        kept.newest()


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path, monkeypatch, caplog):
    kept = Checkpoints(tmp_path)
    before = kept.write(1, {})
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    newest = kept.write(2, {})
    monkeypatch.undo()
    with caplog.at_level("WARNING"):
        assert (kept.newest() or [None])[0] == before
    assert str(newest) in caplog.text and "version" in caplog.text


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_no_code_in_a_checkpoint_is_executed(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    Checkpoints(tmp_path / "c").write(1, {"x": Bomb()})
    with pytest.raises(UserError, match="none of its 1"):
        Checkpoints(tmp_path / "c").newest()
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_other_settings_is_refused_by_name(settings, tmp_path):
    trained(settings("qmix"), tmp_path)
    found = Checkpoints(tmp_path / "checkpoints").newest()
    assert found is not None
    with pytest.raises(UserError, match=found[0].name):
        make_run(settings("vdn"), tmp_path).resume(*found)


def test_every_few_minutes_and_never_before(settings, tmp_path, monkeypatch):
    """A jump of the wall clock changes nothing: the interval is measured on the monotonic one."""
    chosen = settings("qmix", t_max=600, save_interval=5, update_interval=600, test_interval=600)
    written, clock = [], iter(range(0, 10**6, 100))
    own = SimpleNamespace(
        monotonic=lambda: float(next(clock)), time=lambda: random.uniform(-1e9, 1e9)
    )
    monkeypatch.setattr(
        "eoi.run.time", own
    )  # of this module alone: threads elsewhere look at the clock too
    monkeypatch.setattr(Checkpoints, "write", lambda self, t, content, keep: written.append(t))
    trained(chosen, tmp_path)
    assert written[-1] == 600 and written[:3] == [180, 360, 540]


def test_episodes_lost_to_faults_are_counted_across_a_resume(settings, monkeypatch):
    trainer = make_trainer(settings("qmix"))
    (run,) = trainer.runs
    play = trainer.rollout.run

    def losing(*args):
        trainer.rollout.dropped += 2
        return play(*args)

    monkeypatch.setattr(trainer.rollout, "run", losing)
    trainer.play()
    trainer.play()
    resumed_run = make_run(settings("qmix"))
    resumed_run.load_state(run.state())
    assert run.at.dropped == resumed_run.at.dropped == 4


def test_zero_writes_none(settings, tmp_path):
    trained(settings("qmix", save_interval=0), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_old_records_have_no_save_interval(settings):
    config = {
        key: value
        for key, value in loader.load("qmix", "pac_men", {"seed": 1}).items()
        if key != "save_interval"
    }
    assert configure(config).run.save_interval == 5.0
    assert RunConfig.__dataclass_fields__["save_interval"].default == 5.0


# --- the whole program

LONG = [
    "with",
    "seed=3",
    "hidden_dim=8",
    "batch_size=16",
    "batch_size_run=2",
    "buffer_size=400",
    "learning_starts=0",
    "t_max=1800",
    "test_nepisode=2",
    "test_interval=300",
    "log_interval=180",
    "update_interval=60",
]
START = ["--config=eoi_qmix", "--env-config=pac_men"]


def in_a_child(arguments: list[str], killed_after: int | None = None) -> int:
    """main() in a forked process, killed at a function call with this number."""
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            status = 99
            try:
                if killed_after is not None:
                    sys.setprofile(countdown(killed_after))
                status = program.main(arguments)
            finally:
                os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def countdown(calls: int):
    """For sys.setprofile: kill -9 after so many calls, at any moment of the program."""
    left = iter(range(calls))

    def count(*_) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def calls_of(arguments: list[str], monkeypatch) -> tuple[int, int]:
    """How many function calls main() makes before its first iteration, and in all."""
    begun, made, real = [], itertools.count(), Trainer.play

    def play(self: Trainer) -> None:
        begun.append(next(made))
        real(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "play", play)
        sys.setprofile(lambda *_: next(made) and None)
        try:
            assert program.main(arguments) == 0
        finally:
            sys.setprofile(None)
    return begun[0], next(made)


KILLS = int(os.environ.get("EOI_KILLS", "20"))  # tests/faults/run.sh makes more


def test_kill_9_at_random_moments_loses_nothing(tmp_path, monkeypatch):
    """Kills lie closer together than a start and a KILLS-th of all other calls."""
    whole, cut = (f"local_results_path={tmp_path / name}" for name in ("whole", "cut"))
    length = f"t_max={180 * KILLS}"
    assert (
        program.main([*START, *LONG, "t_max=60", f"local_results_path={tmp_path / 'warm'}"]) == 0
    )  # the first run of a process imports
    start, total = calls_of([*START, *LONG, length, whole], monkeypatch)
    moments = random.Random(1)
    at, lives = [-1], 0
    for _ in range(KILLS):
        runs = [folder for folder in (tmp_path / "cut" / "sacred").glob("[0-9]*") if is_run(folder)]
        assert len(runs) <= 1
        again = (
            ["--resume", str(runs[0])]
            if runs
            else [*START, *LONG, length, cut, "save_interval=0.00001"]
        )
        assert (
            in_a_child(again, moments.randrange(start + (total - start) // KILLS))
            == -signal.SIGKILL
        )
        found = Checkpoints(runs[0] / "checkpoints").newest() if runs else None
        at.append(found[1]["counters"]["t"] if found else -1)
        lives += at[-1] > at[-2]
    assert at == sorted(at) and lives > KILLS // 4  # never back, and now and then some way on
    assert in_a_child(["--resume", str(runs[0])]) == 0
    ours, theirs = runs[0], tmp_path / "whole" / "sacred" / "1"
    assert_same(final(ours), final(theirs))
    for model in ("best.pt", "last.pt"):
        assert_same(
            checkpoints.load(ours / "models" / model), checkpoints.load(theirs / "models" / model)
        )
    assert_same(*(json.loads((run / "metrics.json").read_text()) for run in (ours, theirs)))
    run = json.loads((ours / "run.json").read_text())
    assert run["status"] == "COMPLETED" and len(run["resumed"]) >= 1
    assert len(list((ours / "checkpoints").iterdir())) == 1 and not list(ours.rglob("*.part"))


@pytest.fixture
def finished(tmp_path) -> pathlib.Path:
    assert (
        program.main(["--config=qmix", *LONG, "t_max=120", f"local_results_path={tmp_path}"]) == 0
    )
    return tmp_path / "sacred" / "1"


def test_a_finished_run_can_be_made_longer_and_nothing_else(finished, capsys):
    before = json.loads((finished / "run.json").read_text())
    assert program.main(["--resume", str(finished)]) == 2
    error = capsys.readouterr().err
    assert f"finished at step 120; `bash run.sh python src/main.py --resume {finished}" in error
    assert error.count("\n") == 1 and "with t_max=240` trains it for longer" in error
    assert json.loads((finished / "run.json").read_text()) == before
    assert program.main(["--resume", str(finished), "with", "t_max=600"]) == 0
    metrics, config, run = (
        json.loads((finished / f"{name}.json").read_text()) for name in ("metrics", "config", "run")
    )
    assert metrics["test_return_mean"]["steps"] == [0, 300, 600]  # none twice
    assert config["t_max"] == 600 and run["start_time"] == before["start_time"]
    assert run["meta"]["number"] == before["meta"]["number"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["with", "lr=0.1"], ["lr", "keeps its settings"]),
        (["with", "t_max=60"], ["t_max", "not shorter"]),
        (["--config=vdn"], ["--config", "no effect"]),
    ],
)
def test_settings_of_a_resumed_run_stay(more, words, finished, capsys):
    assert program.main(["--resume", str(finished), *more]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(word in err for word in words)


def test_a_second_process_is_refused(finished, capsys):
    lock = Lock(finished)
    child = os.fork()
    if child == 0:  # the lock is the parent's alone
        os._exit(program.main(["--resume", str(finished), "with", "t_max=180"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    lock.release()
    assert program.main(["--resume", str(finished), "with", "t_max=180"]) == 0


def test_one_without_a_checkpoint_begins_again(finished, capsys):
    """Unless it has finished: its record would be lost."""
    metrics = json.loads((finished / "metrics.json").read_text())
    for path in (finished / "checkpoints").iterdir():
        path.unlink()
    for words in ([], ["with", "t_max=240"]):
        assert program.main(["--resume", str(finished), *words]) == 2
        assert "finished, without a checkpoint to go on from" in capsys.readouterr().err
    record = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(record | {"status": "INTERRUPTED"}))
    assert program.main(["--resume", str(finished)]) == 0
    assert_same(json.loads((finished / "metrics.json").read_text()), metrics)


def test_a_run_stopped_in_its_first_test_has_it_once(settings, tmp_path):
    whole, _ = trained(settings("qmix"), tmp_path / "whole")
    first = make_trainer(settings("qmix"), folder=tmp_path / "parts")
    first.test()
    first.checkpoint()
    again = resumed(settings("qmix"), tmp_path / "parts")
    again.train()
    assert again.at == whole.at
    for part in ("steps", "values"):
        ours, theirs = (t.log.series["test_return_mean"][part] for t in (again, whole))
        assert ours == theirs


def test_networks_taken_from_a_run_are_not_needed_again(finished, tmp_path):
    source = finished.rename(tmp_path / "source")
    place = f"local_results_path={tmp_path / 'more'}"
    argv = ["--config=qmix", *LONG, "t_max=60", place, f"checkpoint_path={source}"]
    assert program.main(argv) == 0
    shutil.rmtree(source)
    run = tmp_path / "more" / "sacred" / "1"
    assert program.main(["--resume", str(run), "with", "t_max=120"]) == 0


def test_a_test_whose_networks_could_not_be_saved_is_not_the_best(settings, tmp_path, monkeypatch):
    """A full disk at the first of three tests; the second has the best networks on disk."""
    run = make_run(settings("qmix"), tmp_path)
    run.at.updates, saved = 1, []

    def save(name: str) -> None:
        saved.append(name)
        if len(saved) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "save", save)
    monkeypatch.setattr("eoi.run.diversity", lambda *_: {})
    for value in (3.0, 2.0, 1.0):
        run.at.t += 10
        found = {"return_mean": torch.tensor(value)}
        monkeypatch.setattr("eoi.run.summary", lambda *_, found=found: found)
        run.tested([], SimpleNamespace())
    assert saved == ["best", "best"] and (run.at.best, run.at.best_t) == (2.0, 20)


@pytest.mark.parametrize("name", ["no-such-run", "999999"])
def test_a_run_that_does_not_exist(name, capsys):
    assert program.main(["--resume", name]) == 2
    assert name in capsys.readouterr().err
