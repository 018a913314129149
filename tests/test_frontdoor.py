"""run.sh with stand-ins for Python and pip: when it installs, and its messages."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from eoi import cli

ROOT = pathlib.Path(__file__).parent.parent

# Stands for Python, and for the one in .venv. Every installation is noted in `calls`. It fails as
# pip does if there is a file `fail`.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2 $3" in
"-c "*) [ -z "$TOO_OLD" ] && echo "$0" ;;
"-V "*) echo "Python ${VERSION:-3.11.0}" ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip --version") ;;
"-m pip install")
    echo "$@" >>"$NOTES/calls"
    while [ -e "$NOTES/hang" ]; do sleep 0.1; done
    if [ -e "$NOTES/fail" ]; then cat "$NOTES/fail"; exit 1; fi
    sleep "${SECONDS_TO_INSTALL:-0}" ;;
*) echo "ran $*" ;;
esac
"""


class Tree:
    """A folder with a copy of run.sh, as after a clone."""

    def __init__(self, folder: pathlib.Path):
        self.root, self.notes, self.bin = folder / "a clone", folder / "notes", folder / "bin"
        for new in (self.root, self.notes, self.bin):
            new.mkdir()
        shutil.copy(ROOT / "run.sh", self.root)
        (self.root / "requirements.txt").write_text("torch==1\n")
        (self.root / "requirements-dev.txt").write_text("-r requirements.txt\npytest==1\n")
        self.fake("python3.11", FAKE_PYTHON)

    def fake(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def start(
        self, *words: str, cwd: pathlib.Path | None = None, **env: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", self.root / "run.sh", *words],
            cwd=cwd or self.root,
            env=self.env() | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "NOTES": str(self.notes)}

    def call(
        self, *words: str, cwd: pathlib.Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, cwd=cwd, **env)
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def installed(self) -> list[str]:
        """The requirements file of every installation so far."""
        calls = self.notes / "calls"
        return (
            [pathlib.Path(line).name for line in calls.read_text().splitlines()]
            if calls.exists()
            else []
        )


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    return Tree(tmp_path)


def test_the_first_call_installs_and_the_second_does_not(tree: Tree) -> None:
    first = tree.call("python", "src/main.py", "with", "name=two words")
    assert (
        first.stdout == "ran src/main.py with name=two words\n"
        and len(first.stderr.splitlines()) == 1
    )
    assert f"tail -f {tree.root}/.venv/.log" in first.stderr
    second = tree.call("python", "src/main.py")
    assert second.returncode == 0 and second.stderr == ""
    assert tree.installed() == ["requirements.txt"]


def test_changed_requirements_are_installed(tree: Tree) -> None:
    tree.call("true")
    (tree.root / "requirements.txt").write_text("torch==2\n")
    tree.call("true")
    tree.call("true")
    assert len(tree.installed()) == 2


def test_tools_bring_their_own_requirements_and_running_needs_none_of_them(tree: Tree) -> None:
    tree.fake("pytest", "#!/bin/sh\n")
    tree.call("true")
    tree.call("pytest", "-q")
    tree.call("python", "-m", "pytest")
    tree.call("true")
    assert tree.installed() == ["requirements.txt", "requirements-dev.txt"]
    (tree.root / "requirements-dev.txt").write_text("-r requirements.txt\npytest==2\n")
    tree.call("true")
    assert len(tree.installed()) == 2


def test_the_documentation_brings_its_own_requirements(tree: Tree) -> None:
    (tree.root / "requirements-docs.txt").write_text("-r requirements.txt\nzensical==1\n")
    made = tree.call("docs", "--out", "x")
    assert made.stdout == f"ran {tree.root}/scripts/site.py --out x\n"
    assert tree.installed() == ["requirements-docs.txt"]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_projects_commands_are_its_programs(name: str, tree: Tree) -> None:
    """Not the system's: `sync` and `watch` are programs of many systems as well."""
    program = f"{tree.root}/src/{cli.COMMANDS[name][0]}.py"
    assert tree.call(name, "a  b").stdout == f"ran {program} a  b\n"
    assert f"\n    {name} " in tree.call("--help").stdout


def test_an_unknown_command_is_refused_in_a_line_that_lists_the_known_ones(tree: Tree) -> None:
    tree.call("setup")
    result = tree.call("plto", "latest")
    (line,) = result.stderr.splitlines()
    assert result.returncode == 127 and "plto: no such command" in line
    assert all(name in line.split("there are")[1] for name in (*cli.COMMANDS, "setup", "docs"))


def test_setup_installs_and_runs_nothing(tree: Tree) -> None:
    result = tree.call("setup")
    assert result.returncode == 0 and result.stdout == ""
    assert result.stderr.endswith("run.sh: .venv is ready\n")
    assert tree.installed() == ["requirements.txt"]


def test_requirements_that_went_and_came_back_are_installed_again(tree: Tree) -> None:
    """The tools' stamp must not outlive an installation of other versions underneath."""
    tree.call("ruff")
    old = (tree.root / "requirements.txt").read_text()
    (tree.root / "requirements.txt").write_text("torch==2\n")
    tree.call("true")
    (tree.root / "requirements.txt").write_text(old)
    tree.call("ruff")
    assert len(tree.installed()) == 3


def test_a_failed_installation_says_so_in_one_line_and_the_next_call_continues(tree: Tree) -> None:
    (tree.notes / "fail").write_text(
        "WARNING: Retrying (Retry(total=0))\nERROR: No matching distribution found for torch==1\n"
    )
    failed = tree.call("python", "x.py")
    assert failed.returncode == 1 and failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 2  # progress and reason
    reason = failed.stderr.splitlines()[1]
    assert (
        "cannot be reached" in reason and "torch==1" in reason and "next call continues" in reason
    )
    (tree.notes / "fail").unlink()
    (tree.root / ".venv" / "kept").touch()
    assert tree.call("python", "x.py").stdout == "ran x.py\n"
    assert len(tree.installed()) == 2 and (tree.root / ".venv" / "kept").exists()


@pytest.mark.parametrize("how", ["killed", "interrupted", "no space"])
def test_half_an_installation_is_thrown_away(tree: Tree, how: str) -> None:
    if how == "interrupted" and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("started in the background, where nothing can be interrupted")
    if how != "no space":
        (tree.notes / "hang").touch()
        process = tree.start("true")
        while not tree.installed():
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL if how == "killed" else signal.SIGINT)
        said = process.communicate()[1]
        assert how == "killed" or (
            process.returncode == 130 and "interrupted; the next call" in said
        )
        (tree.notes / "hang").unlink()
    else:
        (tree.notes / "fail").write_text(
            "Installing collected packages: torch\nERROR: [Errno 28] No space left on device\n"
        )
        assert "No space left" in tree.call("true").stderr
        (tree.notes / "fail").unlink()
    (tree.root / ".venv" / "half").touch()
    assert tree.call("true").returncode == 0
    assert not (tree.root / ".venv" / "half").exists()
    assert tree.call("true").stderr == ""


def test_an_environment_that_moved_with_its_folder_is_made_anew(tree: Tree) -> None:
    tree.call("true")
    tree.root = tree.root.rename(tree.root.with_name("moved"))
    (tree.root / ".venv" / "old").touch()
    tree.call("true")
    assert len(tree.installed()) == 2 and not (tree.root / ".venv" / "old").exists()


def test_an_environment_whose_python_changed_is_made_anew(tree: Tree) -> None:
    tree.call("true")
    assert "setting up" in tree.call("true", VERSION="3.12.0").stderr
    assert tree.call("true", VERSION="3.12.0").stderr == ""


@pytest.mark.skipif(not shutil.which("flock"), reason="this system has no flock")
def test_of_two_first_calls_one_installs_and_the_other_waits(tree: Tree) -> None:
    both = [tree.start("python", "x.py", SECONDS_TO_INSTALL="1") for _ in range(2)]
    said = [process.communicate(timeout=30) for process in both]
    assert [out for out, _ in said] == ["ran x.py\n"] * 2
    assert sorted("waiting" in err for _, err in said) == [False, True]
    assert len(tree.installed()) == 1


def test_exit_status_arguments_and_folder_are_the_users(tree: Tree, tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = tree.call(
        "sh", "-c", 'pwd; echo "$1"; command -v python; exit 7', "sh", "a  b", cwd=elsewhere
    )
    assert result.returncode == 7
    assert result.stdout.splitlines() == [
        str(elsewhere),
        "a  b",
        str(tree.root / ".venv/bin/python"),
    ]
    assert tree.call("no-such-command").returncode == 127


def test_the_lock_is_not_held_while_the_command_runs(tree: Tree) -> None:
    tree.fake("pytest", "#!/bin/sh\n")
    long = tree.start("sleep", "30")
    while (
        not (tree.root / ".venv" / ".stamp-requirements.txt").exists()
        or (tree.root / ".venv" / ".unfinished").exists()
    ):
        time.sleep(0.01)
    assert tree.call("pytest").returncode == 0
    os.killpg(long.pid, signal.SIGKILL)
    long.communicate()


def test_without_a_command_it_shows_how(tree: Tree) -> None:
    result = tree.call()
    assert result.returncode == 2 and result.stderr.startswith("usage: bash run.sh COMMAND")
    assert tree.call("--help").returncode == 0
    assert not (tree.root / ".venv").exists()


def test_a_python_that_is_too_old_is_refused_in_one_line(tree: Tree) -> None:
    for name in ("python3", "python3.12", "python3.13", "python3.14", "python"):
        tree.fake(name, "#!/bin/sh\nexit 1\n")
    result = tree.call("true", TOO_OLD="yes")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "run.sh: Python 3.11 or newer is needed, and PATH has none: install it and call again"
    ]


@pytest.mark.parametrize(
    ("ruff", "tests", "status"),
    [(0, 0, 0), (0, 1, 1), (0, 5, 1), (1, 0, 1)],  # pytest answers 5 when it found no test
)
def test_the_checks_fail_when_one_fails_and_end_with_the_tests_summary(
    tree: Tree, ruff: int, tests: int, status: int
) -> None:
    (tree.root / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tree.root / ".ci")
    for name, code in {"ruff": ruff, "pyright": 0, "lint-imports": 0, "pytest": tests}.items():
        tree.fake(name, f"#!/bin/sh\necho {name} has spoken\nexit {code}\n")
    result = subprocess.run(
        ["bash", tree.root / ".ci" / "run"],
        env=tree.env(),
        cwd="/",
        text=True,
        capture_output=True,
        timeout=30,
    )
    assert result.returncode == status
    assert (
        result.stdout.endswith("pytest has spoken\n") and "lint-imports has spoken" in result.stdout
    )
    assert ("FAILED" in result.stdout) == bool(ruff)
