"""Stepping through a saved run, and the page."""

import html
import json
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from eoi import main as command
from eoi import watch
from eoi.components.action_selection import Choice
from eoi.learners.base import Extra
from eoi.pictures.film import frame
from eoi.pictures.marks import Marks, as_text, main_components
from eoi.pictures.page import page
from helpers import make_learner_of
from test_pictures import refused, run  # noqa: F401 - a fixture

SRC = pathlib.Path(__file__).parent.parent / "src"


@pytest.fixture(scope="module")
def fire(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    results = tmp_path_factory.mktemp("fire")
    keys = "seed=3 t_max=40 hidden_dim=8 batch_size=16 batch_size_run=2 buffer_size=200"
    keys += " learning_starts=0 test_nepisode=2"
    assert (
        command.main(
            [
                "--config=eoi_qmix",
                "--env-config=firefighters",
                "with",
                *keys.split(),
                f"local_results_path={results}",
            ]
        )
        == 0
    )
    return results / "sacred" / "1"


def data(path: pathlib.Path) -> dict:
    found = re.search(
        r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found
    return json.loads(found[1])


def test_a_page_holds_every_moment_and_needs_nothing_else(
    fire: pathlib.Path, tmp_path: pathlib.Path, capsys
) -> None:
    path = tmp_path / "film.html"
    assert watch.main([str(fire), "--episodes", "2", "--out", str(path), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    content = data(path)
    assert [len(episode) for episode in content["episodes"]] == [21, 21] and len(
        content["colours"]
    ) == 4
    first, last = content["episodes"][0][0], content["episodes"][0][-1]
    assert (
        first["history"] == {"water": 4.0, "fire": 18.0}
        and last["history"]["fire"] == 18 - last["total"]
    )
    assert len(last["recognised"]) == 4 and "water_pumped" in last["info"]
    assert not re.search(r"https?://|src=\"(?!data:)", path.read_text())


def test_nothing_in_the_data_ends_the_script() -> None:
    from eoi.pictures.film import Shot

    shot = Shot(watch_picture(), "", 0, 0.0, ["</script>"], [], {})
    assert page([[shot]], "a & b", 4.0).count("</script>") == 2 and "a &amp; b" in page(
        [[shot]], "a & b", 4.0
    )


def watch_picture():
    import numpy as np

    return np.zeros((4, 4, 3), dtype=np.uint8)


USER = """
function tell() {
  const found = (selector) => [...document.querySelectorAll(selector)];
  const texts = (selector) => found(selector).map((each) => each.textContent);
  const said = {when: at("when").textContent, picture: at("world").src,
    actions: texts(".agent > i + span + span"), chart: texts("#chart text").slice(2)};
  const told = document.createElement("pre");
  told.className = "told";
  told.textContent = JSON.stringify(said);
  document.body.append(told);
}
function set(id, value, event) {
  at(id).value = value;
  at(id).dispatchEvent(new Event(event));
  tell();
}
tell();
set("time", 7, "input");
set("episode", 1, "change");
set("time", 20, "input");
"""


def dumped(path: pathlib.Path, folder: pathlib.Path) -> str:
    """The document that a browser makes of the page."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    flags += [
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'browser'}",
        "--virtual-time-budget=2000",
    ]
    called = ["chromium", *flags, "--dump-dom", path.as_uri()]
    return subprocess.run(called, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser here")
def test_a_browser_shows_it(fire: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As it opens; with the slider at 7; in the second episode; there with the slider at 20."""
    path = tmp_path / "film.html"
    assert watch.main([str(fire), "--episodes", "2", "--out", str(path), "--quiet"]) == 0
    episodes = data(path)["episodes"]
    path.write_text(path.read_text().replace("</body>", f"<script>{USER}</script></body>"))
    seen = dumped(path, tmp_path)
    told = [
        json.loads(html.unescape(each))
        for each in re.findall(r'<pre class="told">(.*?)</pre>', seen)
    ]
    expected = [episodes[which][t] for which, t in ((0, 0), (0, 7), (1, 0), (1, 20))]
    assert [each["when"] for each in told] == [
        f"t = {shot['step']}    return {shot['total']:g}" for shot in expected
    ]
    assert [shot["step"] for shot in expected] == [0, 7, 0, 20]
    assert [each["picture"] for each in told] == [shot["picture"] for shot in expected] and len(
        {shot["picture"] for shot in expected}
    ) == 4
    assert [each["actions"] for each in told] == [shot["actions"] for shot in expected]
    assert [each["chart"] for each in told] == [
        [f"{name} {value:g}" for name, value in shot["history"].items()] for shot in expected
    ]
    assert len(re.findall(r'<polyline points="\d', seen)) == 2 and 'max="20"' in seen


def test_keys_lead_through_the_episodes(fire: pathlib.Path, capsys) -> None:
    env, learner, settings = watch.load(fire, 2)
    films = watch.shoot(env, learner, 0, settings.run.t_max)

    def times(keys: str) -> list[tuple[int, bool]]:
        watch.step_through(films, iter(re.findall(r"\x1b\[[A-D]|.", keys)))
        screens = capsys.readouterr().out.split("\x1b[H\x1b[J")[1:]
        return [
            (int(re.search(r"t = (\d+)", screen)[1]), "episode 2 of 2" in screen)
            for screen in screens
        ]  # type: ignore[index]

    assert [t for t, _ in times("nn\x1b[Cbx\x1b[D\x1b[Dbq")] == [0, 1, 2, 3, 2, 2, 1, 0, 0]
    assert times("Gn]G]gq")[1:] == [
        (20, False),
        (20, False),
        (0, False),
        (20, True),
        (0, False),
        (0, False),
    ]
    assert times("") == [(0, False)]


def test_stepping_reads_a_terminal(fire: pathlib.Path, capsys) -> None:
    ours, theirs = pty.openpty()
    program = [sys.executable, str(SRC / "watch.py"), str(fire), "--step"]
    process = subprocess.Popen(
        program, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    os.write(ours, b"n\x1b[CGq")
    said = process.communicate(timeout=120)[0]
    assert (
        process.returncode == 0
        and "t = 1 " in said
        and "t = 2 " in said
        and "t = 20 " in said
        and "episode 1 of 1: return" in said
    )
    assert "start it in a terminal" in refused(watch, [fire, "--step"], capsys)
    assert "ends with .gif" in refused(watch, [fire, "--out", "film.mov"], capsys)


# --- quantities beside each agent


def test_two_main_components_of_a_vector() -> None:
    """Points on a plane in three dimensions keep their distances; the longer axis comes first."""
    plane = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])
    flat = np.array([[[-3.0, 1.0], [3.0, 1.0]], [[-3.0, -1.0], [3.0, -1.0]]])  # [M, A, 2]
    moments: list[Marks] = [{}, *({"role": rows.tolist()} for rows in flat @ plane + 5)]
    none, *found = main_components(moments)
    assert none == {}
    np.testing.assert_allclose([marks["role"] for marks in found], flat, atol=1e-9)
    as_it_was: list[Marks] = [{"skill": [[3], [0]], "place": [[0.5, 2.0], [1.0, 1.0]]}]
    assert main_components(as_it_was) == as_it_was
    assert as_text(as_it_was[0], 0) == "skill 3  place 0.50 2.00"


def marked(choice) -> dict[str, torch.Tensor]:
    """The action as a skill's number, and a vector of four numbers."""
    actions = choice.actions
    return {"skill": actions, "role": actions[..., None] * torch.tensor([1.0, 0.0, 2.0, 0.0])}


def test_a_film_shows_what_a_learner_marks(fire: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env, learner, settings = watch.load(fire, 1)
    learner.marks = marked
    (film,) = watch.shoot(env, learner, 0, settings.run.t_max)
    assert film[0].marks == {} and all(len(shot.marks["role"]) == 4 for shot in film[1:])
    for shot in film[1:]:
        numbers = [env.action_names.index(name) for name in shot.actions]
        assert shot.marks["skill"] == [[number] for number in numbers]
        first, second = np.array(shot.marks["role"]).T
        # All vectors lie on one line, whose direction has the length sqrt(5).
        np.testing.assert_allclose(np.diff(first), 5**0.5 * np.diff(numbers), atol=1e-5)
        np.testing.assert_allclose(second, 0, atol=1e-5)
        lines = watch.screen(shot, coloured=False)
        assert f"skill {numbers[0]}  role {first[0]:.2f}" in next(
            x for x in lines if "agent 0" in x
        )
    plain = [replace(shot, marks={}) for shot in film]
    assert np.any(np.asarray(frame(film[5], [])) != np.asarray(frame(plain[5], [])))
    content = page([film], "marks", 4.0)
    path = tmp_path / "marks.html"
    path.write_text(content)
    shown = data(path)["episodes"][0]
    assert shown[0]["marks"] == {} and shown[5]["marks"]["skill"] == film[5].marks["skill"]


def test_extras_mark_what_they_know() -> None:
    class Named(Extra[object]):
        def marks(self, choice):
            return {"skill": choice.carry["skill"]}

    learner = make_learner_of("qmix")
    choice = Choice(torch.zeros(2, 4, dtype=torch.int64), {"skill": torch.ones(2, 4)}, {})
    assert learner.marks(choice) == {}
    learner.extras.append(Named())
    assert learner.marks(choice)["skill"].sum() == 8


@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser here")
def test_a_browser_plots_the_marks_over_time(fire: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env, learner, settings = watch.load(fire, 1)
    learner.marks = marked
    films = watch.shoot(env, learner, 0, settings.run.t_max)
    path = tmp_path / "film.html"
    path.write_text(page(films, "marks", 4.0))
    seen = dumped(path, tmp_path)
    strips = re.findall(r'<polyline points="(\d[^"]*)"', seen.partition('id="marks"')[2])
    assert len(strips) == 3 * 4 and all(len(points.split()) == 20 for points in strips)
    assert re.findall(r">(skill|role, \d)</text>", seen) == ["skill", "role, 1", "role, 2"]
