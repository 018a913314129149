"""Films as files: the kinds, what an mp4 contains, and what is refused."""

import importlib.machinery
import pathlib
import sys
from dataclasses import replace
from io import BytesIO
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from eoi import evaluate, watch
from eoi.pictures.film import Shot, agent_colour, frame
from eoi.pictures.film_files import film_argument, film_file
from eoi.pictures.mp4 import mp4
from eoi.pictures.page import page
from eoi.utils.errors import UserError

COLOURS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (240, 200, 40), (20, 20, 20)]
SIDE = 481  # pixels of the world in a frame: an odd number


def shot(step: int, colour: tuple[int, int, int]) -> Shot:
    picture = np.full((SIDE, SIDE, 3), colour, dtype=np.uint8)
    return Shot(picture, "", step, 0.0, ["left", "right"], [], {})


# Two episodes, of two steps and of one.
FILMS = [[shot(t, COLOURS[t]) for t in range(3)], [shot(t, COLOURS[3 + t]) for t in range(2)]]


def decoded(fps: float) -> tuple[list[np.ndarray], list[float], tuple[str, str, float]]:
    """Frames of the film as mp4, their seconds, and its codec, pixel format and rate."""
    av = pytest.importorskip("av")
    file = BytesIO()
    mp4(FILMS, "title", fps, file)
    with av.open(BytesIO(file.getvalue())) as container:
        (stream,) = container.streams
        found = list(container.decode(stream))
        context = stream.codec_context
        facts = context.codec.canonical_name, context.pix_fmt, float(stream.average_rate)
    return [each.to_ndarray(format="rgb24") for each in found], [x.time for x in found], facts


def test_an_mp4_has_every_frame_and_holds_the_last_of_an_episode() -> None:
    pictures, times, facts = decoded(4.0)
    assert facts == ("h264", "yuv420p", 4.0)
    shown = [0, 1, *[2] * 8, 3, *[4] * 8]  # two seconds are eight frames
    assert len(pictures) == len(shown) and times == [k / 4 for k in range(len(shown))]
    for picture, which in zip(pictures, shown, strict=True):
        np.testing.assert_allclose(picture[SIDE // 2, SIDE // 2], COLOURS[which], atol=8)


def test_an_mp4_has_even_sides_and_the_colours_of_the_frame() -> None:
    pictures, _, _ = decoded(4.0)
    drawn = np.asarray(frame(FILMS[0][0], ["title", "episode 1 of 2"])).astype(int)
    assert drawn.shape == (SIDE, SIDE + 280, 3)
    assert pictures[0].shape == (SIDE + 1, SIDE + 281, 3)
    found = pictures[0][:SIDE, : SIDE + 280].astype(int)
    assert np.abs(found - drawn).mean() < 1.5
    assert (pictures[0][-1, -100:] > 245).all()  # the added line is paper
    swatch = (drawn == agent_colour(1)).all(-1)
    assert swatch.sum() > 100
    np.testing.assert_allclose(np.median(found[swatch], 0), agent_colour(1), atol=8)


def test_a_picture_without_the_agents_colours_has_no_swatch_of_them() -> None:
    plain = replace(FILMS[0][0], coloured=False)
    assert not (np.asarray(frame(plain, [])) == agent_colour(1)).all(-1).any()
    assert '"coloured": false' in page([[plain]], "title", 4.0)
    assert '"coloured": true' in page(FILMS, "title", 4.0)


def test_a_slow_mp4_shows_every_frame_once() -> None:
    pictures, times, facts = decoded(0.25)
    assert facts[2] == 0.25 and len(pictures) == 5 and times[-1] == 16.0


@pytest.fixture
def with_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package av, as far as it can be looked for."""
    module = ModuleType("av")
    module.__spec__ = importlib.machinery.ModuleSpec("av", None)
    monkeypatch.setitem(sys.modules, "av", module)


@pytest.mark.parametrize(
    ("text", "kind"), [("a.gif", "gif"), ("b.MP4", "mp4"), ("c.d.html", "html"), ("mp4", "mp4")]
)
def test_the_ending_of_the_name_decides_the_kind(text: str, kind: str, with_av: None) -> None:
    found = film_file("--out", film_argument(text))
    assert found.kind == kind
    assert found.path == (None if text == kind else pathlib.Path(text))


def test_a_kind_alone_goes_where_the_command_says(tmp_path: pathlib.Path) -> None:
    default = tmp_path / "alpha0.5_seed0.gif"
    for kind, start in (("gif", b"GIF"), ("html", b"<!DOCTYPE html>")):
        path = film_file("--out", pathlib.Path(kind)).write(FILMS, "title", 4.0, default)
        assert path == tmp_path / f"alpha0.5_seed0.{kind}"
        assert path.read_bytes().startswith(start)
    with Image.open(default) as film:
        assert getattr(film, "n_frames", 1) == 5


@pytest.mark.parametrize("name", ["film.mov", "film", "folder/mp4", "mov"])
def test_other_files_are_refused_by_both_commands(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for program, option in ((watch, "--out"), (evaluate, "--render")):
        assert program.main(["no-such-run", option, name]) == 2
        error = capsys.readouterr().err
        assert (
            error == f"error: {option} {name}: the name of a film ends with .gif, .mp4 or .html\n"
        )


def test_without_av_it_says_how_to_get_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for program, option in ((watch, "--out"), (evaluate, "--render")):
        assert program.main(["no-such-run", option, str(tmp_path / "new" / "film.mp4")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"{option} {tmp_path}" in error
        assert "pip install -r requirements-video.txt" in error
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="requires the package av"):
        film_file("--out", pathlib.Path("mp4"))
