"""Games in worker processes: equal to games in this process, no hang, no process left behind."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch
from games import Dice

from eoi.envs.base import VecEnv
from eoi.envs.workers import GameEnv, WorkerError, in_workers
from helpers import keys

ROOT = pathlib.Path(__file__).parent.parent.parent
FIELDS = ("obs", "state", "avail", "reward", "terminated", "truncated")


def played(env: GameEnv, n: int, seed: int = 0):
    generator = torch.Generator().manual_seed(1)
    moments = [env.reset(keys(n, seed=seed))]
    while not moments[-1].done.all():
        moments.append(env.step(torch.randint(0, 2, (1, 2), generator=generator).expand(n, -1)))
    return moments


def alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, "a worker is left behind"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_play_what_this_process_plays(workers, tmp_path):
    here, there = (
        GameEnv(Dice, 5),
        GameEnv(functools.partial(Dice, folder=str(tmp_path)), 5, workers),
    )
    assert isinstance(there, VecEnv) and there.spec == here.spec
    for seed in (0, 1):
        ours, theirs = played(here, 5, seed), played(there, 5, seed)
        for a, b in zip(ours, theirs, strict=True):
            assert all(torch.equal(getattr(a, field), getattr(b, field)) for field in FIELDS)
            assert torch.equal(a.info["sum"], b.info["sum"])
    assert there.text(4) == here.text(4) and (there.render(3) == here.render(3)).all()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == min(workers, 5) and all(alive(pid) for pid in pids)
    there.close()
    there.close()
    wait_until_gone(pids)


def test_each_copy_has_its_own_seed_whatever_stands_beside_it():
    many = played(GameEnv(Dice, 32), 32)[0]
    assert len(set(many.state[:, 0].tolist())) > 25  # of 32 in a thousand
    alone = GameEnv(Dice, 1).reset(keys(32)[7:8])
    assert torch.equal(alone.obs[0], many.obs[7])


def test_copies_are_shared_out_evenly():
    assert (
        in_workers(3, 8) == [3, 3, 2] and in_workers(8, 3) == [1, 1, 1] and in_workers(1, 4) == [4]
    )


def test_time_outs_are_no_terminations():
    moments = played(GameEnv(Dice, 32), 32)
    assert (
        moments[-1].terminated.any()
        and moments[-1].truncated.any()
        and not (moments[-1].terminated & moments[-1].truncated).any()
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_unavailable_actions_are_refused(workers):
    env = GameEnv(Dice, 2, workers)
    env.reset(keys(2))
    for action in (2, 3, -1):
        with pytest.raises(
            ValueError, match=f"copy 0: action {action} is not available to agent 1"
        ):
            env.step(torch.tensor([[0, action], [0, 0]]))
    env.close()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "the dice fell off the table"),
        ("die", r"exit status 7"),
        ("building", "no game here"),
    ],
)
def test_a_failure_ends_it_with_its_traceback_and_leaves_nobody(fault, words, tmp_path):
    with pytest.raises(WorkerError, match=words) as caught:
        env = GameEnv(functools.partial(Dice, fault, str(tmp_path)), 4, 2)
        played(env, 4)
    assert fault == "die" or ("Traceback" in str(caught.value) and "games.py" in str(caught.value))
    wait_until_gone([int(path.name) for path in tmp_path.iterdir()])


def test_a_killed_worker_is_noticed(tmp_path):
    env = GameEnv(functools.partial(Dice, folder=str(tmp_path)), 2, 2)
    env.reset(keys(2))
    pids = [int(path.name) for path in tmp_path.iterdir()]
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(WorkerError, match="exit status -9"):
        for _ in range(6):
            env.step(torch.zeros(2, 2, dtype=torch.int64))
    wait_until_gone(pids)


def test_a_worker_leaves_sigterm_to_its_program(tmp_path):
    env = GameEnv(functools.partial(Dice, folder=str(tmp_path)), 2, 2)
    env.reset(keys(2))
    pids = [int(path.name) for path in tmp_path.iterdir()]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    env.step(torch.zeros(2, 2, dtype=torch.int64))
    env.close()
    wait_until_gone(pids)


PROGRAM = """
import functools, pathlib, signal, sys
sys.path[:0] = ["src", "tests/envs"]
import torch
from eoi.envs.workers import GameEnv
from games import Dice
from eoi.utils.seeding import fold, root_key
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background program ignores SIGINT
    env = GameEnv(functools.partial(Dice, "{fault}", sys.argv[1]), 2, 2)
    env.reset(fold(root_key(0, "x"), torch.arange(2)))
    pathlib.Path(sys.argv[1], "ready").touch()
    for _ in range(2):
        env.step(torch.zeros(2, 2, dtype=torch.int64))
    {end}
"""


@pytest.mark.parametrize("how", ["forgotten", "exception", "SIGINT", "SIGKILL"])
def test_no_worker_outlives_its_program(how, tmp_path):
    program, notes = tmp_path / "program.py", tmp_path / "notes"
    notes.mkdir()
    program.write_text(
        PROGRAM.format(
            fault="sleep" if how.startswith("SIG") else "",
            end="1 / 0" if how == "exception" else "pass",
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(program), str(notes)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if how.startswith("SIG"):
        while not (notes / "ready").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.3)
        (os.killpg if how == "SIGINT" else os.kill)(process.pid, getattr(signal, how))
    try:
        assert (process.wait(30) != 0) == (how != "forgotten")
    finally:
        process.kill()
    wait_until_gone([int(path.name) for path in notes.iterdir() if path.name != "ready"])
