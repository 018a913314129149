"""docs/own-world.md: the file it shows is the file that is trained here."""

import pathlib
import re

import pytest

pytest.importorskip("pettingzoo")

from assembly import build
from test_training import trained

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_ones_own_world_trains(settings, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    updates = {"t_max": 6000, "hidden_dim": 32, "lr": 1e-3, "epsilon_anneal_time": 3000, "batch_size": 64, "buffer_size": 4000}
    chosen = settings(
        "vdn", "pettingzoo", env_args={"key": "own_world", "workers": 0}, test_interval=6000, log_interval=6000, test_nepisode=32, **updates
    )
    training, _ = trained(build(chosen), chosen)
    assert training.log.latest["test_return_mean"] > 6  # of 8; guessing returns 2.7


def test_the_page_shows_the_file_that_is_trained():
    text = (ROOT / "docs" / "own-world.md").read_text()
    (shown,) = re.findall(r"```python title=examples/own_world.py\n(.*?)```", text, re.DOTALL)
    assert shown == (ROOT / "examples" / "own_world.py").read_text()
