"""Batches: what is skipped, resumed and survived; Ctrl-C and a second call; Ray and Slurm."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from dataclasses import replace

import pytest

from eoi import batch, figure
from eoi import main as program
from eoi.batches import engines, jobs
from eoi.batches.jobs import find
from eoi.utils.locks import Lock
from test_resume import LONG

ROOT = pathlib.Path(__file__).parent.parent
TINY = [*[word for word in LONG[1:] if not word.startswith(("seed", "t_max"))], "t_max=120"]


@pytest.fixture
def where(tmp_path):
    return [*TINY, f"local_results_path={tmp_path}"]


def make(where, *words: str) -> int:
    return program.main([*words, "with", *where])


def planned(where, *words: str):
    return batch.grid(batch.parser().parse_args(words), where)


def test_the_grid_in_its_order(where):
    cells = planned(
        where,
        "--config",
        "qmix,vdn",
        "--env-config",
        "pac_men",
        "--seeds",
        "3,5",
        "--vary",
        "gamma=0.9,0.5",
    )
    assert [job.title for job in cells[:3]] == [
        "pac_men qmix gamma=0.9 seed 3",
        "pac_men qmix gamma=0.9 seed 5",
        "pac_men qmix gamma=0.5 seed 3",
    ]
    assert cells[0].title == replace(cells[0], algorithm="/path/qmix.yaml").title
    assert len(cells) == 8 and cells[-1].config["gamma"] == 0.5 and cells[-1].config["seed"] == 5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--seeds", "0"],
            "--seeds: there is none, so nothing would run;"
            " a number alone counts them, so seed 0 is --seeds 1",
        ),
        (["--seeds", "5-3"], "--seeds: 5-3 goes down, so no seed is in it; write 3-5"),
        (["--seeds", "7,5-3"], "--seeds: 5-3 goes down"),
        (["--seeds", "1-99999999999"], "--seeds: 1-99999999999 has more than 10,000 seeds"),
        (
            ["--seeds", "20240601"],
            "--seeds: 20240601 counts the seeds, 10,000 at most; one seed is 20240601-20240601",
        ),
        (["--env-config", ","], "--env-config: there is none"),
        (
            ["--seeds", "2", "with", "seed=3"],
            "with seed: the runs of this batch have values of their own;"
            " give them by --seeds alone",
        ),
        (
            ["--vary", "gamma=0.9,0.5", "with", "gamma=0.8"],
            "with gamma: the runs of this batch have values of their own",
        ),
        (["--vary", "seed=1,2"], "--vary seed: the seeds of a batch are those of --seeds"),
        (["--vary", "threads=1,2"], "--vary threads: runs that differ in it alone are the same"),
        (
            ["--seeds", "1,1"],
            "--seeds: 1 is there twice, which would be the same run; name it once",
        ),
        (["--seeds", "a"], "--seeds: expected how many, as 5, or which, as 3,4,7 or 2-6; got 'a'"),
        (["--config", "vdn"], "--config: given twice"),
        (["--vary", "gamma=0.9,0.5", "lr=3"], "lr=3: a setting; settings stand behind the word"),
        (["--seeds", "1,0-2"], "--seeds: 1 is there twice"),
        (["--env-config", "pac_men,pac_men"], "--env-config: pac_men is there twice"),
        (["--vary", "gamma=0.9,0.90"], "--vary gamma: 0.9 is there twice"),
        (
            ["--vary", "gamma=0.9", "--vary", "gamma=0.5"],
            "--vary gamma: given twice; name all its values at once, --vary gamma=0.9,0.5",
        ),
    ],
)
def test_a_grid_that_is_empty_or_doubled_or_overrides_what_was_given_is_refused(
    words, expected, capsys
):
    assert batch.main(["--config", "qmix", "--dry-run", *words]) == 2
    out, err = capsys.readouterr()
    assert not out and expected in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [0, 1, 2]),
        ("3,7", [3, 7]),
        ("2-4", [2, 3, 4]),
        ("1,4-5", [1, 4, 5]),
        ("20240601-20240601", [20240601]),
        ("20240601,3", [20240601, 3]),
        ("7,", None),
    ],
)
def test_seeds(text, expected):
    if expected is None:
        with pytest.raises(ArgumentTypeError):
            batch.seeds(text)
    else:
        assert batch.seeds(text) == expected


def test_a_run_is_recognised_by_its_settings_and_its_state_is_seen(where, tmp_path):
    for seed in (0, 1, 2):
        assert make([*where, f"seed={seed}"], "--config=qmix") == 0
    one, two = (tmp_path / "sacred" / str(k) / "run.json" for k in (2, 3))
    for path, status in ((one, "RUNNING"), (two, "FAILED")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))
    cells = planned([*where, "threads=2"], "--config", "qmix", "--seeds", "4")
    find(cells)
    assert [job.state for job in cells] == ["finished", "cut", "failed", "new"]
    assert (
        cells[1].command()[-2:] == ["--resume", str(tmp_path / "sacred" / "2")]
        and "--resume" in cells[2].command()
    )
    assert cells[3].command()[-1] == "threads=1"
    lock = Lock(one.parent)
    child = os.fork()
    if child == 0:  # a lock is seen by other processes
        find(cells)
        os._exit(cells[1].state != "running elsewhere")
    assert os.waitpid(child, 0)[1] == 0
    lock.release()
    others = planned([*where, "label=again"], "--config", "qmix", "--seeds", "1")
    find(others)
    assert others[0].state == "new"


def test_a_list_of_no_finished_runs_is_empty(where, capsys):
    assert batch.main(["--config", "qmix", "--list", "with", *where]) == 0
    assert capsys.readouterr().out == ""


def test_runs_of_a_fleet_are_recognised(where):
    assert (
        make(
            [
                *where,
                "fleet.seeds=[1,2]",
                'fleet.vary={"eoi.alpha": [0, 0.05], "lr": [1e-4, 1e-3]}',
            ],
            "--config=eoi_qmix",
        )
        == 0
    )
    cells = planned(
        where,
        "--config",
        "eoi_qmix",
        "--seeds",
        "1-3",
        "--vary",
        "eoi.alpha=0,0.05",
        "--vary",
        "lr=0.0001,1e-3",
    )
    find(cells)
    assert [job.state for job in cells] == ["finished", "finished", "new"] * 4
    assert len({job.folder for job in cells}) == 9


def fake_program(tmp_path, monkeypatch, body: str) -> None:
    """A run that does as `body` says instead of training."""
    script = tmp_path / "fake.py"
    script.write_text(body)
    monkeypatch.setattr(
        jobs.Job,
        "command",
        lambda self, mongo="": [sys.executable, "-S", str(script), str(self.seed)],
    )


def test_one_failure_does_not_stop_the_others(where, tmp_path, monkeypatch, capsys):
    note = (
        "import sys, os; print('OMP', os.environ['OMP_NUM_THREADS'])\n"
        "open(sys.argv[1] + '.seen', 'w')\n"
        "sys.exit('bad luck' if sys.argv[1] == '1' else 0)"
    )
    fake_program(tmp_path, monkeypatch, note)
    monkeypatch.chdir(tmp_path)
    assert batch.main(["--config", "qmix", "--seeds", "3", "-j", "2", "with", *where]) == 1
    out = capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("*.seen")} == {"0.seen", "1.seen", "2.seen"}
    assert "seed 1  failed (1): bad luck" in out and "0/3" in out


def test_progress_is_a_line_a_run(where, tmp_path, monkeypatch, capsys):
    line = (
        "pac_men qmix seed 0   12.5%  15/120 steps  3 episodes  7 steps/s  1 updates/s  left 0:09"
        "  return 0.5"
    )
    fake_program(tmp_path, monkeypatch, f"print({line!r})")
    batch.main(["--config", "qmix", "-j", "1", "with", *where])
    assert (
        "pac_men qmix seed 0   12.5%  7 steps/s  1 updates/s  left 0:09  return 0.5"
        in capsys.readouterr().out
    )


def test_real_runs_then_nothing_left_to_do(where, tmp_path, capsys):
    words = ["--config", "qmix", "--seeds", "2", "-j", "2", "with", *where]
    assert batch.main(words) == 0
    out = capsys.readouterr().out
    assert "2/2" in out and out.count("finished") >= 3
    assert batch.main(words) == 0
    assert (
        "finished, run" in capsys.readouterr().out
        and len(list((tmp_path / "sacred").glob("[0-9]*"))) == 2
    )
    assert batch.main(["--list", *words]) == 0
    assert sorted(capsys.readouterr().out.split()) == [str(tmp_path / "sacred" / k) for k in "12"]


def under_way(where, *words: str, **popen) -> subprocess.Popen:
    """A batch of long runs, in a process of its own."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "src" / "batch.py"),
        "--config",
        "qmix",
        *words,
        "with",
        *where,
        "t_max=900000",
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **popen
    )


def assert_stopped(process, rest: str, runs: int, where, folder: pathlib.Path) -> None:
    """Wholly: what it says last of its runs is said when they have ended."""
    assert process.returncode == 130, rest
    assert rest.count("the next call continues it") == runs
    assert rest.count(": cut: ") == runs and "running elsewhere" not in rest
    folders = sorted((folder / "sacred").glob("[0-9]*"))
    assert [json.loads((each / "run.json").read_text())["status"] for each in folders] == [
        "INTERRUPTED"
    ] * runs
    assert all(list((each / "checkpoints").iterdir()) for each in folders)
    cells = planned([*where, "t_max=900000"], "--config", "qmix", "--seeds", str(runs))
    find(cells)
    assert [job.state for job in cells] == ["cut"] * runs and all(
        "--resume" in job.command() for job in cells
    )


def ignore_ctrl_c() -> None:
    """As the shell does for what a script starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("runs", "by", "before"),
    [(1, signal.SIGINT, None), (2, signal.SIGINT, None), (1, signal.SIGTERM, ignore_ctrl_c)],
)
def test_ctrl_c_stops_all_and_a_second_call_goes_on(runs, by, before, where, tmp_path):
    with under_way(where, "--seeds", str(runs), "-j", str(runs), preexec_fn=before) as process:
        assert process.stdout is not None
        seen = 0
        while seen < runs:  # each is under way
            line = process.stdout.readline()
            assert line, process.wait()
            seen += "%" in line
        process.send_signal(by)
        rest = process.stdout.read()
    assert_stopped(process, rest, runs, where, tmp_path)


def test_ctrl_c_again_and_again_kills_what_does_not_stop(where, tmp_path, monkeypatch, capsys):
    """In whatever moment of its stopping it comes."""
    deaf = (
        "import os, signal, time; signal.signal(2, signal.SIG_IGN)\n"
        "while True: os.kill(os.getppid(), 2); time.sleep(0.001)"
    )
    fake_program(tmp_path, monkeypatch, deaf)
    assert batch.main(["--config", "qmix", "--seeds", "3", "-j", "2", "with", *where]) == 130
    out = capsys.readouterr().out
    ended = out.count("failed (-9)") + out.count("stopped; the next")  # the latter: not yet deaf
    assert "failed (-9)" in out and ended == 2 and "0/3" in out


def test_bad_input_is_refused_before_anything_runs(where, capsys):
    for words in (
        ["--config", "qmx"],
        ["--config", "qmix", "--vary", "gama=1,2"],
        ["--config", "qmix", "--only", "9"],
        ["--config", "qmix", "-j", "0"],
    ):
        assert batch.main([*words, "with", *where]) == 2
    assert batch.main(["--config", "qmix", "with", "-j"]) == 2
    assert capsys.readouterr().err.count("error: ") == 5


def test_slurm_gets_an_array_job_of_what_is_left(where, tmp_path, monkeypatch, capsys):
    tmp_path /= "a folder"
    (tmp_path / "here").mkdir(parents=True)
    monkeypatch.setattr(engines, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    assert make([*where, "seed=0"], "--config=qmix") == 0
    assert (
        batch.main(["--config", "qmix", "--seeds", "3", "--on", "slurm", "-j", "4", "with", *where])
        == 0
    )
    text = (tmp_path / "results" / "batch.sbatch").read_text()
    assert f"--output='{tmp_path}/results/slurm-" in text
    assert (
        "--array=1,2%4" in text and "--signal=B:INT" in text and "sbatch" in capsys.readouterr().out
    )
    (tmp_path / "run.sh").write_text('printf "%s\\n" "$@" >called\n')
    subprocess.run(
        ["bash", tmp_path / "results" / "batch.sbatch"],
        check=True,
        cwd="/",
        env=os.environ | {"SLURM_ARRAY_TASK_ID": "2"},
    )
    called = (tmp_path / "here" / "called").read_text().splitlines()
    assert (
        called[0] == "batch" and called[called.index("--only") + 1] == "2" and "--on" not in called
    )
    assert (
        batch.main(
            [
                *called[1 : called.index("with")],
                "--dry-run",
                "with",
                *called[called.index("with") + 1 :],
            ]
        )
        == 0
    )
    assert "seed=2" in capsys.readouterr().out
    (tmp_path / "results" / "batch.sbatch").unlink()
    assert batch.main(["--config", "qmix", "--seeds", "1", "--on", "slurm", "with", *where]) == 0
    assert "1/1" in capsys.readouterr().out and not (tmp_path / "results" / "batch.sbatch").exists()


def test_one_task_of_an_array_is_no_array(capsys):
    words = ["--config", "qmix", "--seeds", "3", "--on", "slurm", "--only", "1"]
    assert batch.main(words) == 2 and "--only" in capsys.readouterr().err
    assert figure.main(["14b", "--on", "slurm", "--only", "1"]) == 2
    assert "--only" in capsys.readouterr().err


@pytest.mark.slow
def test_a_local_ray_cluster_of_two_workers(where, tmp_path):
    """In a process of its own: Ray leaves threads and warnings behind."""
    pytest.importorskip("ray")
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "src" / "batch.py"),
        "--config",
        "qmix",
        "--seeds",
        "2",
        "-j",
        "2",
        "--on",
        "ray",
    ]
    done = subprocess.run([*command, "with", *where], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2/2" in done.stdout


@pytest.mark.slow
def test_ctrl_c_stops_all_on_ray(where, tmp_path):
    pytest.importorskip("ray")
    with under_way(where, "--seeds", "2", "-j", "2", "--on", "ray") as process:
        assert process.stdout is not None
        while (
            len(list((tmp_path / "sacred").glob("*/models/best.pt"))) < 2
        ):  # Ray's own processes are silent
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert_stopped(process, rest, 2, where, tmp_path)


def test_without_ray_it_says_how_to_get_it(where, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert batch.main(["--config", "qmix", "--on", "ray", "with", *where]) == 2
    assert "pip install ray" in capsys.readouterr().err
