"""The studies' scripts, with a run.sh that stands in for training."""

import os
import pathlib
import subprocess

import pytest

from eoi.records import reader

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"
STAND_IN = """
echo "$@" >>called
folder=$(printf '%s\\n' "$@" | sed -n 's/^local_results_path=//p')
[ -n "$folder" ] || exit 0
mkdir -p "$folder/sacred/1"
echo '{}' | tee "$folder/sacred/1/run.json" >"$folder/sacred/1/config.json"
[ ! -e cut ]
"""


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "scripts").mkdir()
    for name in ("studies.sh", "study_worlds.sh"):
        (tmp_path / "scripts" / name).write_bytes((SCRIPTS / name).read_bytes())
    (tmp_path / "run.sh").write_text(STAND_IN)
    return tmp_path


def study(tree: pathlib.Path) -> int:
    """Exit status of the study with one of its fleets."""
    call = ["bash", tree / "scripts" / "study_worlds.sh", "qmix-firefighters"]
    return subprocess.run(call, capture_output=True, env=os.environ | {"SEEDS": "1 2"}).returncode


def called(tree: pathlib.Path, program: str) -> list[str]:
    """Calls of a program through run.sh."""
    return [line for line in (tree / "called").read_text().splitlines() if program in line]


def test_an_interrupted_fleet_starts_again_and_a_finished_one_does_not(tree):
    results = tree / "results" / "studies" / "worlds" / "qmix-firefighters"
    (tree / "cut").touch()
    for number in "12":
        assert study(tree) == 1
        (results / "seeds-1-2" / "number").write_text(number)
    (tree / "cut").unlink()
    assert study(tree) == 0 and study(tree) == 0
    assert len(called(tree, "src/main.py")) == 3
    kept, again = (results / f"_seeds-1-2.{name}" for name in ("cut", "cut-2"))
    assert set(results.iterdir()) == {results / "seeds-1-2", kept, again}
    assert [(folder / "number").read_text() for folder in (kept, again)] == ["1", "2"]
    assert [folder for folder in results.iterdir() if (folder / "finished").exists()] == [
        results / "seeds-1-2"
    ]
    assert reader.locate([tree / "results"]) == [results / "seeds-1-2" / "sacred" / "1"]
    assert reader.locate([kept]) == [kept / "sacred" / "1"]


def test_a_study_ends_with_a_table_of_its_runs(tree):
    (tree / "cut").touch()
    assert study(tree) == 1 and called(tree, "src/export.py") == []
    (tree / "cut").unlink()
    assert study(tree) == 0
    (call,) = called(tree, "src/export.py")
    assert call.split() == [
        *("python", "src/export.py", "results/studies/worlds"),
        *("--out", "results/studies/worlds.csv.gz"),
    ]


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("study_*.sh")), ids=lambda path: path.stem)
def test_every_study_exports_last(script):
    assert script.read_text().splitlines()[-1] == "export_table"
