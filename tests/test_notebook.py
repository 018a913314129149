"""examples/first_steps.ipynb: its cells, executed in order in a small form."""

import json
import pathlib
import re
import sys
from types import ModuleType

import matplotlib
import pytest

from eoi import cli

NOTEBOOK = pathlib.Path(__file__).parent.parent / "examples" / "first_steps.ipynb"
SMALL = [
    *("hidden_dim=8", "batch_size=30", "batch_size_run=2", "epochs=1", "buffer_size=200"),
    *("test_nepisode=2", "test_interval=60", "log_interval=60"),
]


def cells() -> list[tuple[str, list[str]]]:
    """Source and tags of the code cells."""
    content = json.loads(NOTEBOOK.read_text())
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in content["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.fixture
def shown(monkeypatch) -> list[pathlib.Path]:
    """Files of the pictures that the notebook shows, by a stand-in for IPython."""
    found: list[pathlib.Path] = []
    package, display = ModuleType("IPython"), ModuleType("IPython.display")
    package.__dict__["version_info"] = (9, 0)  # matplotlib asks
    display.__dict__["Image"] = lambda filename: found.append(filename)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return found


def test_the_cells_run_in_order(shown, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    real = cli.main
    monkeypatch.setattr(cli, "main", lambda w: real([*w, *(SMALL if w[0] == "train" else [])]))
    names: dict[str, object] = {}
    with matplotlib.rc_context({"savefig.dpi": 40}):
        for source, tags in cells():
            exec(compile(source, "cell", "exec"), names)
            if "parameters" in tags:
                names |= {"STEPS": 120, "EPISODES": 2, "RESULTS": tmp_path}
    assert [path.name for path in shown] == ["first_steps.png", "first_steps.gif"]
    assert all(path.is_file() for path in shown)
    printed = capsys.readouterr().out
    assert "test_snd" in printed and re.search(r"^return \d+\.0$", printed, re.MULTILINE)
    assert "2 episodes" in printed


def test_it_is_kept_without_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text())
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
