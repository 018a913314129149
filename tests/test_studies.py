"""The studies' scripts, under a run.sh that only pretends to train."""

import os
import pathlib
import subprocess

import pytest

from eoi.records import reader

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"
PRETENDS = """
folder=$(printf '%s\\n' "$@" | sed -n 's/^local_results_path=//p')/sacred/1
mkdir -p "$folder"
echo '{}' | tee "$folder/run.json" >"$folder/config.json"
echo "$@" >>called
[ ! -e cut ]
"""


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "scripts").mkdir()
    for name in ("studies.sh", "study_worlds.sh"):
        (tmp_path / "scripts" / name).write_bytes((SCRIPTS / name).read_bytes())
    (tmp_path / "run.sh").write_text(PRETENDS)
    return tmp_path


def study(tree: pathlib.Path) -> int:
    """The status of the study with one of its fleets."""
    call = ["bash", tree / "scripts" / "study_worlds.sh", "qmix-firefighters"]
    return subprocess.run(call, capture_output=True, env=os.environ | {"SEEDS": "1 2"}).returncode


def test_a_cut_fleet_starts_again_beside_what_it_had_and_a_finished_one_is_not_run_again(tree):
    results = tree / "results" / "studies" / "worlds" / "qmix-firefighters"
    (tree / "cut").touch()
    for number in "12":
        assert study(tree) == 1
        (results / "seeds-1-2" / "number").write_text(number)
    (tree / "cut").unlink()
    assert study(tree) == 0 and study(tree) == 0
    assert len((tree / "called").read_text().splitlines()) == 3
    kept, again = (results / f"_seeds-1-2.{name}" for name in ("cut", "cut-2"))
    assert set(results.iterdir()) == {results / "seeds-1-2", kept, again}
    assert [(folder / "number").read_text() for folder in (kept, again)] == ["1", "2"]
    assert [folder for folder in results.iterdir() if (folder / "finished").exists()] == [
        results / "seeds-1-2"
    ]
    assert reader.locate([tree / "results"]) == [results / "seeds-1-2" / "sacred" / "1"]
    assert reader.locate([kept]) == [kept / "sacred" / "1"]
