"""The first second of every command: without the environment, with Ctrl-C, with bad words."""

import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys

import pytest

from eoi import cli, evaluate, figure, watch
from eoi import main as program
from eoi.build import refuse_large_networks, saved_networks
from eoi.config import loader
from eoi.records import reader
from eoi.utils import memory, start
from eoi.utils.errors import UserError
from eoi.utils.files import Unwritable, probe
from eoi.utils.script import guarded, output, write_text

ROOT = pathlib.Path(__file__).parent.parent
OWN_CHECKS = {"doctor"}  # works without the requirements: it lists what is missing
SCRIPTS = sorted({module for module, _ in cli.COMMANDS.values()} - OWN_CHECKS | {"cli"})
PROGRAMS = [
    *(f"src/{name}.py" for name in SCRIPTS),
    *("benchmarks/cost.py", "benchmarks/fleet.py", "benchmarks/speed.py"),
    *("benchmarks/sc2_server.py", "scripts/explorers.py", "scripts/fill_pages.py"),
    "docs/worlds/draw.py",
]


FAULTS = """
import resource, sys
sys.path.insert(0, "benchmarks")
from speed import updating
update = updating("maac", "pac_men")
update(), update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
done = sum(update() for _ in range(4))
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / done)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_updates_use_freed_memory_again() -> None:
    """Page faults of an update; hundreds where freed memory goes back to the system."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    words = [sys.executable, "-c", FAULTS]
    done = subprocess.run(words, env=plain, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert float(done.stdout) < 40, done.stderr


@pytest.mark.parametrize("file", PROGRAMS)
def test_a_plain_python_says_what_to_type(file, tmp_path) -> None:
    """-S: a Python without the packages of any environment."""
    words = [file, "3", "a b"]
    done = subprocess.run(
        [sys.executable, "-S", *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.endswith(f"; type `bash run.sh python {file} 3 'a b'`\n")
    assert done.stderr.count("\n") == 1
    assert f"has no torch and {len(start.NEEDED) - 1} more packages" in done.stderr


def test_load_policy_in_a_plain_python_names_the_environment() -> None:
    words = [sys.executable, "-S", "-c", "from eoi import load_policy"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert "has no torch and" in last and last.endswith("start the program by `bash run.sh python`")


def test_a_linked_environment_is_left_alone(tmp_path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    (theirs / "kept").touch()
    (ours / ".venv").symlink_to(theirs)
    for name in ("run.sh", "requirements.txt"):
        shutil.copy(ROOT / name, ours)
    words = ["bash", ours / "run.sh", "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert ".venv is a link" in done.stderr and (theirs / "kept").exists()


def test_from_another_folder_the_command_has_whole_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{ROOT}/src/plot.py", "3"])
    assert start.cure() == f"bash {ROOT}/run.sh python {ROOT}/src/plot.py 3"


def test_the_checked_packages_are_the_requirements() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {found[1].lower() for line in lines if (found := re.match(r"([\w-]+)==", line))}
    provided = importlib.metadata.packages_distributions()
    checked = {provider.lower() for name in start.NEEDED for provider in provided[name]}
    assert checked == required - {"setuptools"}


@pytest.mark.parametrize(("module", "options"), [("matplotlib", []), ("pathlib", ["-S"])])
def test_ctrl_c_while_importing_is_one_line(module, options, tmp_path) -> None:
    """The first package, or the first module of Python's own, interrupts its own process."""
    text = "import signal\nsignal.raise_signal(signal.SIGINT)\n"
    (tmp_path / f"{module}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, *options, "src/plot.py", "3"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.stderr == "interrupted\n" and done.returncode == -signal.SIGINT


def test_after_the_imports_ctrl_c_is_an_exception(monkeypatch) -> None:
    before = signal.signal(signal.SIGINT, start._interrupted)
    try:
        monkeypatch.setattr(sys, "argv", ["plot", "3"])
        with pytest.raises(SystemExit) as end:
            start.launch(lambda words: 7 if words == ["3"] else 8)
        assert end.value.code == 7
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("text", ["1e5", "100000", "1.0e5", "100000.0"])
def test_a_whole_number_may_be_written_with_an_exponent(text) -> None:
    updates = loader.parse_updates([f"t_max={text}", "seed=1", "env_args.dots_per_room=1e1"])
    config = loader.load("qmix", "pac_men", updates)
    assert config["t_max"] == 100000 and type(config["t_max"]) is int
    chosen = program.configure(config)
    assert chosen.run.t_max == 100000 and type(chosen.env.dots_per_room) is int


@pytest.mark.parametrize("text", ["1.5", "True", "1e-5", "inf"])
def test_other_numbers_are_no_whole_ones(text) -> None:
    updates = loader.parse_updates([f"t_max={text}", "seed=1"])
    with pytest.raises(UserError, match="t_max"):
        program.configure(loader.load("qmix", "pac_men", updates))


def test_networks_that_do_not_fit_are_refused_before_anything_is_made(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**9)
    words = ["with", "seed=1", "hidden_dim=1000000", f"local_results_path={tmp_path}"]
    assert program.main(["--config=qmix", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: hidden_dim=1000000: ") and error.count("\n") == 1
    fitting = int(re.findall(r"with hidden_dim=(\d+) it fits", error)[0])
    assert 1024 < fitting < 10000 and not any(tmp_path.iterdir())


def test_the_size_that_is_named_fits(settings, monkeypatch) -> None:
    """Four agents with a layer of 2,000 x 2,000 floats, and targets; four times that in memory."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**8)
    with pytest.raises(UserError) as refused:
        refuse_large_networks(settings("qmix", hidden_dim=2000), 1)
    size = int(re.findall(r"takes (\d+) MB", str(refused.value))[0])
    least = 4 * 2000**2 * 4 * 2 * 4 / 1e6
    assert least < size < 1.1 * least
    fitting = int(re.findall(r"hidden_dim=(\d+) it", str(refused.value))[0])
    refuse_large_networks(settings("qmix", hidden_dim=fitting), 1)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "film.gif")
    for body, words in ((watch, ["--out"]), (evaluate, ["--render"]), (figure, ["--out"])):
        assert body.main(["no-such-run", *words, place]) == 2
        error = capsys.readouterr().err
        assert f"cannot write in {tmp_path / 'file'}" in error and error.count("\n") == 1
    assert output(str(tmp_path / "new" / "film.gif")) == tmp_path / "new" / "film.gif"
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named_and_status_2(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "x.png", tmp_path / "folder.png"):
        assert guarded(lambda _, path=path: write_text(path, "x"), []) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: cannot write {tmp_path}") and ".part" not in error
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_probe_leaves_nothing(tmp_path) -> None:
    probe(tmp_path / "a" / "b")
    assert not any(tmp_path.iterdir())
    with pytest.raises(Unwritable) as refused:
        probe(pathlib.Path("/proc/here"))
    assert refused.value.filename == "/proc"


def test_results_that_cannot_be_written_are_refused(capsys) -> None:
    assert program.main(["with", "seed=1", "local_results_path=/proc/here"]) == 2
    assert capsys.readouterr().err.startswith("error: local_results_path: cannot write in /proc")


@pytest.mark.parametrize("command", [watch, evaluate])
def test_several_runs_where_one_is_wanted(command, capsys) -> None:
    assert command.main(["3", "4"]) == 2
    error = capsys.readouterr().err
    assert "one run at a time, got 3 4" in error and error.count("\n") == 1


def test_latest_before_the_first_run(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(reader, "SACRED", tmp_path / "sacred")
    monkeypatch.chdir(tmp_path)
    assert watch.main(["latest"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: latest: no run in {tmp_path / 'sacred'} yet; `bash ")
    assert error.endswith("src/main.py --config=qmix` trains one\n") and error.count("\n") == 1


def test_a_folder_of_runs_is_no_run_to_start_from(tmp_path) -> None:
    for name in "12":
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "models" / "last.pt").touch()
    with pytest.raises(UserError, match=rf"holds 2 runs, name one of them, as {tmp_path}/1$"):
        saved_networks(tmp_path)


def test_resume_without_a_run_and_with_two(tmp_path, capsys) -> None:
    assert program.main(["--resume"]) == 2
    assert "expected --resume RUN" in capsys.readouterr().err
