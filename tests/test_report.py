"""The report: its numbers, its parts, what it refuses, and the page in a browser."""

import base64
import gzip
import html
import io
import json
import pathlib
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eoi import main as train
from eoi import plot, report
from eoi.pictures.curves import Curve, summarise
from eoi.pictures.film import Shot
from eoi.pictures.png import png
from eoi.records import labels, reader, table
from eoi.records.groups import identity
from eoi.records.record import Record, Series
from eoi.records.record import recorded as present
from eoi.reports import curves, figures
from eoi.reports.commands import training_command
from eoi.reports.played import play
from eoi.reports.replays import fitted
from eoi.reports.runs import lasting, origin, usable
from test_pictures import fake, recorded, refused

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Five runs of two arms in one world, one of them in another, and one without test returns."""
    place = tmp_path_factory.mktemp("runs")
    for seed, end in ((1, 4.0), (2, 6.0), (3, 8.0)):
        fake(place / f"e{seed}", seed, [0, 2, 4, end], name="eoi_qmix")
    for seed, end in ((1, 1.0), (2, 3.0)):
        fake(place / f"q{seed}", seed, [0, 1, 1, end])
    fake(place / "other", 1, [5, 5], env="windy_maze", env_args={"n_agents": 2})
    return place


@pytest.fixture(scope="module")
def page(folder: pathlib.Path) -> pathlib.Path:
    path = folder.parent / "report.html"
    assert report.main([str(folder), "--out", str(path)]) == 0
    return path


def parts(path: pathlib.Path) -> dict[str, Any]:
    """The packed parts of a page by name, all but the library as JSON."""
    found = re.findall(r'<script type="application/gzip" id="([^"]*)">([^<]*)<', path.read_text())
    texts = {
        html.unescape(name): gzip.decompress(base64.b64decode(x)).decode() for name, x in found
    }
    return {name: text if name == "library" else json.loads(text) for name, text in texts.items()}


def traces(figure: dict[str, Any], **meta: object) -> list[dict[str, Any]]:
    return [
        trace
        for trace in figure["data"]
        if all(trace["meta"].get(key) == value for key, value in meta.items())
    ]


# Numbers


def test_a_long_curve_is_drawn_as_means_of_its_parts():
    long = Curve(np.arange(6.0), np.array([0.0, 2, 4, 6, 8, 100]))
    assert curves.thinned(long, 6) is long
    x, y = curves.thinned(long, 3)
    assert x.tolist() == [0.5, 2.5, 4.5] and y.tolist() == [1, 5, 54]
    assert curves.points(10) == 200 and curves.points(5000) == 80 and curves.points(10**6) == 40


def test_runs_with_other_steps_share_a_grid():
    first, second = (
        Curve(np.array([0.0, 10, 20]), np.array([0.0, 10, 20])),
        Curve(np.array([5.0, 15]), np.array([1.0, 3])),
    )
    x, y = curves.on_grid([first, second])
    assert x.tolist() == [5, 10, 15] and y.tolist() == [[5, 10, 15], [1, 2, 3]]


@pytest.mark.parametrize("band", curves.BANDS)
def test_runs_that_share_no_step_have_no_middle(band):
    alone = Curve(np.ones(1), np.ones(1)), Curve(np.zeros(1), np.ones(1))
    assert [len(part) for part in curves.middle(alone, band)] == [0, 0, 0, 0]
    assert not len(summarise(alone, band).x)


def test_an_arm_whose_runs_share_no_step_is_named(tmp_path, capsys):
    """As the absolute metric where episodes differ in length."""
    for seed, first in ((1, 3000), (2, 3030)):
        fake(tmp_path / "runs" / str(seed), seed, [0, 1], steps=[first, first + 15])
    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "page.html")]) == 0
    message = "its runs share no step of test_return_mean; no mean is drawn"
    assert message in capsys.readouterr().err
    assert plot.main([str(tmp_path / "runs"), "--out", str(tmp_path / "all.png")]) == 0
    assert message in capsys.readouterr().err


def test_the_middle_of_three_runs():
    runs = [Curve(np.array([0.0, 1]), np.array([0.0, end])) for end in (1.0, 2, 9)]
    mean = curves.middle(runs, "std")
    assert mean.mean.tolist() == [0, 4] and mean.high[1] - 4 == pytest.approx(np.sqrt(19))
    lowest = curves.middle(runs, "minmax")
    assert (lowest.low[1], lowest.high[1]) == (1, 9)
    middle = curves.middle(runs, "iqm")
    assert (middle.mean[1], middle.low[1], middle.high[1]) == (4, 1, 9)  # all three of one run
    for few, end in ((1, 1), (2, 1.5)):
        found = curves.middle(runs[:few], "iqm")
        assert found.mean.tolist() == found.low.tolist() == found.high.tolist() == [0, end]


@pytest.mark.parametrize("band", curves.BANDS)
def test_a_run_without_a_value_leaves_a_gap(band):
    x, good = np.arange(3.0), np.ones(3)
    found = curves.middle([*[Curve(x, good)] * 4, Curve(x, np.array([1, np.nan, np.nan]))], band)
    assert found.mean[0] == 1 and np.isnan(found.mean[1:]).all() and np.isnan(found.high[1:]).all()
    assert np.isnan(curves.centre(np.array([1, 1, 1, 1, np.nan]), band)).all()


def test_final_values_of_each_band():
    values = np.array([1.0, 2, 9])
    assert curves.centre(values, "minmax") == (4, 1, 9)
    assert curves.centre(values, "std")[1] == pytest.approx(4 - np.sqrt(19))
    assert curves.centre(values, "iqm") == (4, 1, 9)
    two = curves.centre(values[:2], "iqm")
    assert two[0] == 1.5 and np.isnan(two[1:]).all()  # as in the tables


def test_numbers_of_the_page_are_json():
    assert figures.rounded([1 / 3, np.nan, 123456.7]) == [0.33333, None, 123460.0]


def test_the_page_has_the_numbers_of_the_runs(page):
    data = parts(page)
    assert [world["name"] for world in data["data"]["worlds"]] == ["pac_men", "windy_maze"]
    arms = {arm["name"]: number for number, arm in enumerate(data["data"]["arms"])}
    found = data["0 test_return_mean"]
    runs = traces(found["curves"], arm=arms["eoi_qmix"], run=True)
    assert [trace["y"] for trace in runs] == [[0, 2, 4, end] for end in (4, 6, 8)]
    assert runs[0]["x"] == [0, 10, 20, 30]  # episodes of 30 steps
    area, line = traces(found["curves"], arm=arms["eoi_qmix"], band="minmax")
    assert line["y"] == [0, 2, 4, 6] and area["y"] == [0, 2, 4, 8, 4, 4, 2, 0]
    dots, *_ = traces(found["finals"], arm=arms["qmix"])
    assert dots["x"] == [1, 3] and dots["text"][1] == "run q2, seed 2"
    (diamond,) = traces(found["finals"], arm=arms["qmix"], band="std")
    assert diamond["x"] == [2] and diamond["error_x"]["array"] == pytest.approx(
        [np.sqrt(2)], abs=1e-4
    )
    (share,) = (t for t in traces(found["profiles"], arm=arms["eoi_qmix"]) if "fill" not in t)
    assert dict(zip(share["x"], share["y"], strict=True))[6] == pytest.approx(1 / 3, abs=1e-4)
    phase = traces(data["0 against individuality_mean"], arm=arms["eoi_qmix"])[-1]
    assert phase["x"][-1] == pytest.approx(0.34) and phase["y"][-1] == pytest.approx(6)


def test_worlds_and_arms_look_the_same_in_all_figures(page):
    data = parts(page)
    drawn = [
        (trace["meta"]["arm"], trace["line"]["color"])
        for name in ("0 test_return_mean", "1 test_return_mean")
        for figure in (data[name]["curves"], data[name]["profiles"])
        for trace in figure["data"]
        if "color" in trace["line"]
    ]
    assert set(drawn) == {(0, "#0072B2"), (1, "#D55E00")}
    assert traces(data["1 test_return_mean"]["curves"], run=True)[0]["y"] == [5, 5]


def test_stairs_of_a_profile_hold_until_the_next_level():
    x, y = figures._steps(np.array([0.0, 1, 2]), np.array([1.0, 0.5, 0]))
    assert x.tolist() == [0, 1, 1, 2, 2] and y.tolist() == [1, 1, 0.5, 0.5, 0]
    assert figures._levels(np.array([2.0, np.nan, 1])).tolist() == [0, 1, 2, 2.06]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119.0, "119 s"), (150.0, "2.5 min"), (9000.0, "2.5 h")]
)
def test_how_long_a_run_lasted(seconds, text):
    assert lasting(seconds) == text


# Text and tables


def test_the_page_needs_no_network_and_has_an_anchor_for_each_section(page):
    text = re.sub(r'<script type="application/gzip".*?</script>', "", page.read_text())
    assert not re.findall(r'(?:src|href)="(?!#)', text) and "@import" not in text
    anchors = re.findall(r'<a href="#(\w+)">', text)
    assert len(anchors) == 7 and set(anchors) <= set(re.findall(r'<section id="(\w+)"', text))
    assert page.stat().st_size < 3e6


def test_names_that_hold_letters_of_tex_are_whole():
    assert labels.plain("my_index") == "my_index"
    assert labels.plain("mixing_weight") == "Mixing weight: mean |dQₜₒₜ/dQᵃ|"


def test_the_page_of_three_hundred_runs_is_small(tmp_path):
    """Sixty runs of five arms, each with a hundred tests of four metrics that do not repeat."""
    steps, draws = np.arange(100) * 3000, np.random.default_rng(0)
    model = reader.find_runs([str(fake(tmp_path / "one", 1, [0.0, 1.0]))])[0]
    metrics = ("test_return_mean", "individuality_mean", "td_error_abs", "q_abs_mean")
    runs = [
        replace(
            model,
            folder=tmp_path / f"{arm}-{seed}",
            config=model.config | {"name": f"arm{arm}", "seed": seed},
            metrics={name: Series(steps, draws.random(100)) for name in metrics},
        )
        for arm in range(5)
        for seed in range(60)
    ]
    table.write(tmp_path / "runs.csv.gz", runs)
    path = tmp_path / "page.html"
    assert report.main([str(tmp_path / "runs.csv.gz"), "--out", str(path)]) == 0
    assert path.stat().st_size < 10e6


def test_tables_are_there_without_a_script(page):
    text = page.read_text()
    assert "<td>6.00 ± 2.00</td>" in text and "1: 4.00, 2: 6.00, 3: 8.00" in text
    assert '<th scope="col">eoi.alpha</th>' not in text  # the same in all runs
    assert "These runs have no networks here" in text and "src/report.py results/sacred" in text


def test_settings_that_differ_are_side_by_side(tmp_path):
    for alpha in (0.1, 0.2):
        fake(tmp_path / str(alpha), 1, [1, 2], eoi={"alpha": alpha}, gamma=0.9)
    out = tmp_path / "report.html"
    assert report.main([str(tmp_path), "--out", str(out)]) == 0
    head = '<tr><th scope="col"></th><th scope="col">eoi.alpha</th></tr>'
    row = '<tr><th scope="row">qmix, eoi.alpha=0.2</th><td>0.2</td></tr>'
    assert head in out.read_text() and row in out.read_text()
    assert '<th scope="row">gamma</th><td>0.9</td>' in out.read_text()


def test_settings_that_are_not_the_shipped_ones_are_named(tmp_path):
    fake(tmp_path / "1", 1, [1.0], update_interval=5, eoi={"form": "none"})
    assert report.main([str(tmp_path), "--out", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "<p>Not the shipped settings: qmix with update_interval=5.</p>" in text


def test_a_table_gives_the_same_figures_as_its_runs(folder, page, tmp_path):
    study, out = tmp_path / "study.csv.gz", tmp_path / "report.html"
    table.write(study, reader.find_runs([folder]))
    assert report.main([str(study), "--out", str(out)]) == 0
    name = "0 test_return_mean"
    assert parts(out)[name] == parts(page)[name]
    assert "A table of runs has no times" in out.read_text()


def test_a_run_with_a_name_of_html_does_not_break_the_page(tmp_path):
    fake(tmp_path / "1", 1, [1, 2], name="</script><b>")
    out = tmp_path / "report.html"
    assert report.main([str(tmp_path), "--out", str(out)]) == 0
    assert "</script><b>" not in out.read_text()
    assert parts(out)["data"]["arms"][0]["name"] == "</script><b>"


# Bad input


def test_a_truncated_file_is_named_and_left_out(folder, tmp_path, capsys):
    place, out = shutil.copytree(folder, tmp_path / "runs"), tmp_path / "report.html"
    cut = place / "q1" / "metrics.json"
    cut.write_text(cut.read_text()[:50])
    assert report.main([str(place), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert f"note: {cut}: damaged" in captured.err and "5 runs" in captured.out
    assert f"<li>{cut}: damaged" in out.read_text()
    alone = refused(report, [place / "q1", "--out", tmp_path / "none.html"], capsys)
    assert f"{cut}: damaged" in alone and not (tmp_path / "none.html").exists()


def test_values_that_are_not_finite_are_named_and_leave_gaps(tmp_path, capsys):
    fake(tmp_path / "1", 1, [1, 2, float("inf"), float("nan")])
    fake(tmp_path / "2", 2, [1, 2, 3, 4])
    out = tmp_path / "report.html"
    assert report.main([str(tmp_path), "--out", str(out)]) == 0
    error = capsys.readouterr().err
    assert error == "note: run 1: test_return_mean not finite from step 600; gaps in its curves\n"
    found = parts(out)["0 test_return_mean"]
    assert traces(found["curves"], run=True)[0]["y"] == [1, 2, None, None]
    assert traces(found["curves"], band="std")[-1]["y"] == [1, 2, None, None]
    assert traces(found["finals"], band="iqm")[0]["x"] == [None]


def test_a_single_run_has_a_page(tmp_path, capsys):
    fake(tmp_path / "1", 1, [1.0])
    assert report.main([str(tmp_path / "1"), "--out", str(tmp_path / "report.html")]) == 0
    (line,) = traces(parts(tmp_path / "report.html")["0 test_return_mean"]["curves"], band="iqm")
    assert line["y"] == [1] and line["mode"] == "markers"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no such run or folder of runs"),
        (["nowhere", "--out", "/proc/x.html"], "argument --out: cannot write in /proc"),
        ([".", "--out", "page.pdf"], "--out page.pdf: the name of a page ends with .html"),
        ([".", "--metric", "test_retrun_mean"], "Did you mean 'test_return_mean'?"),
        ([".", "--by", "eoi.alhpa"], "--by eoi.alhpa: there is no such setting"),
        ([".", "--play", "q9"], "--play q9: none of these runs"),
        ([".", "--play", "q1"], "--play q1: has no networks (models/best.pt)"),
        ([".", "--where", "seed=77"], "--where seed=77: no run meets it"),
    ],
)
def test_bad_input_is_refused_in_a_line(words, message, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert message in refused(report, words, capsys)
    assert not list(folder.glob("*.html"))


def test_a_run_to_play_is_named_by_as_much_of_its_path_as_needed(folder, tmp_path, capsys):
    for place in ("a", "b"):
        shutil.copytree(folder / "q1", tmp_path / place / "q1")
    assert "2 runs" in refused(report, [tmp_path, "--play", "q1"], capsys)
    assert "--play b/q1: has no networks" in refused(report, [tmp_path, "--play", "b/q1"], capsys)


def test_a_world_without_the_metric_is_left_out(folder, tmp_path):
    out = tmp_path / "report.html"
    assert report.main([str(folder), "--metric", "individuality_mean", "--out", str(out)]) == 0
    (world,) = parts(out)["data"]["worlds"]
    assert world["name"] == "pac_men" and world["metrics"] == ["individuality_mean"]
    assert [arm["name"] for arm in parts(out)["data"]["arms"]] == ["eoi_qmix"]


def test_runs_that_logged_nothing_are_named(folder):
    first, *_ = reader.find_runs([folder])
    silent = replace(first, metrics={}, run="silent")
    evaluation = replace(first, config=first.config | {"evaluate": True})
    kept, remarks = usable([silent, first, evaluation])
    assert kept == [first]
    assert remarks[0] == f"left out, an evaluation, which has no curves: {first.folder}"
    assert remarks[1] == f"left out, nothing logged yet: {first.folder}"


# Runs that were really made


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return recorded(tmp_path_factory.mktemp("results"), "pac_men", 60)


def test_the_command_asks_for_the_same_run(real):
    record = reader.read(real)
    words = shlex.split(training_command(record))
    start = ["bash", "run.sh", "python", "src/main.py"]
    assert words[:6] == [*start, "--config=eoi_qmix", "--env-config=pac_men"]
    assert identity(train.parse_command(words[4:]).config) == identity(record.config)
    assert "checkpoint_path" not in words and "eoi.form" not in " ".join(words)


@pytest.mark.parametrize(
    "words",
    [
        ["--config=qmix", "with", "name=my qmix", "env_args.dots_per_room=3"],
        ["--config=eoi_maac", "--env-config=windy_maze_tall", "with", "eoi.alpha=1e-3"],
        ["--config=eoi_qmix_literal", "with", "eoi.q_source=stored", "lfo.omega=0.2"],
    ],
)
def test_the_command_of_other_runs(words):
    config = train.parse_command([*words, "seed=5"]).config
    command = training_command(Record(pathlib.Path("x"), config, "COMPLETED", {}, "x"))
    asked = train.parse_command(shlex.split(command)[4:]).config
    assert identity(asked) == identity(config) and len(command.split(" with ")[1]) < 70


@pytest.mark.parametrize(
    ("words", "lacks", "had"),
    [
        (["eoi_qmix", "with", "eoi.form=pull", "eoi.intrinsic=p"], "intrinsic", {"centred": False}),
        (["eoi_maac", "with", "eoi.intrinsic=centred"], "intrinsic", {"centred": True}),
        (["eoi_qmix", "with", "eoi.explore_turn=0"], "explore_turn", {}),
        (["eoi_explore_qmix", "with"], "chooser", {}),
    ],
)
def test_the_command_of_a_run_that_is_older_than_a_setting(words, lacks, had):
    config = train.parse_command(["--config", *words, "seed=5"]).config
    eoi = {key: value for key, value in config["eoi"].items() if key != lacks}
    older = present(config | {"eoi": eoi | had})
    command = training_command(Record(pathlib.Path("x"), older, "COMPLETED", {}, "x"))
    assert identity(train.parse_command(shlex.split(command)[4:]).config) == identity(config)


def test_where_a_run_came_from(real, tmp_path):
    record = reader.read(real)
    content = json.loads((real / "run.json").read_text())
    (repository,) = content["experiment"]["repositories"] or [{"commit": "", "dirty": False}]
    found = origin(record)
    assert found.commit.startswith((repository["commit"] or "")[:12])
    assert found.steps == "60" and found.lasted.endswith("s") and found.engine == ""
    nowhere = Record(tmp_path, {}, "", {"a": Series(np.array([1200]), np.zeros(1))}, "x")
    assert origin(nowhere) == ("", "", "", "", "1,200")


@pytest.fixture(scope="module")
def played(real: pathlib.Path) -> pathlib.Path:
    path = real.parent / "played.html"
    assert report.main([str(real), "--out", str(path)]) == 0
    return path


def test_saved_runs_are_played(played):
    data = parts(played)
    (run,) = data["data"]["replays"]
    assert run["key"] == "1" and '"episodes": [[{"picture"' in data["player 1"]
    square = np.array(data["data"]["figures"]["matrices"]["1 policies"]["data"][0]["z"], float)
    assert square.shape == (4, 4) and (square == square.T).all() and (square.diagonal() == 0).all()
    shares = [
        np.array(data["data"]["figures"]["maps"][f"1 {i}"]["data"][1]["customdata"], float)
        for i in range(4)
    ]
    assert [np.nansum(share) for share in shares] == pytest.approx([1] * 4, abs=1e-3)
    assert "most alike" in played.read_text()


def test_a_world_without_positions_has_no_maps(real, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "play", lambda *words: replace(play(*words), shares=None))
    path = tmp_path / "page.html"
    assert report.main([str(real), "--out", str(path)]) == 0
    text = path.read_text()
    assert 'id="alike"' in text and "Position maps" not in text and 'href="#positions"' not in text


def test_a_title_of_many_names_is_short():
    assert report.named(["a/1", "b/2", "b/2", "3", "4"]) == "1, 2, 3, 4"
    assert report.named(list("abcdefg")) == "a, b, c and 4 more"


def test_pictures_of_replays_have_a_budget(real, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "_PICTURES", 8000)
    path = tmp_path / "report.html"
    assert report.main([str(real), "--out", str(path)]) == 0
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "note: " in each]
    assert re.fullmatch(r"note: run 1: the replay shows one in \d+ moments, .* page small", line)
    assert f"<li>{line.removeprefix('note: ')}</li>" in path.read_text()


def noise(side: int, step: int) -> Shot:
    """A moment with a picture that cannot be compressed."""
    picture = np.random.default_rng(step).integers(256, size=(side, 2 * side, 3), dtype=np.uint8)
    return Shot(picture, "", step, 0.0, ["up"], [], {})


def test_large_films_lose_pixels_then_moments():
    film = [noise(300, step) for step in range(6)]
    assert fitted([film], 10**7) == ([film], "")
    (smaller,), remark = fitted([film], 10**6)  # a moment has some 90 KB with 480 x 240 pixels
    assert [shot.step for shot in smaller] == list(range(6)) and "shows every moment" in remark
    assert smaller[0].picture.shape == (240, 480, 3)
    assert len(np.unique(smaller[0].picture.reshape(-1, 3), axis=0)) <= 64
    (fewer,), remark = fitted([film], 400_000)
    assert [shot.step for shot in fewer] == [0, 2, 4, 5] and "one in 2 moments" in remark
    assert sum(len(shot.png) for shot in fewer) <= 400_000
    assert [shot.step for shot in fitted([film], 1)[0][0]] == [0, 5]


@pytest.mark.parametrize("colours", [2, 256, 257])
def test_a_picture_is_the_same_with_a_palette(colours):
    grey = np.arange(32 * 32).reshape(32, 32) % colours
    picture = np.stack([grey % 256, grey // 256, 255 - grey % 256], 2).astype(np.uint8)
    with Image.open(io.BytesIO(png(picture))) as found:
        assert found.mode == ("P" if colours <= 256 else "RGB")
        assert (np.asarray(found.convert("RGB")) == picture).all()


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    drivers = pytest.importorskip("playwright.sync_api")
    with drivers.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def opened(browser: Any, page: pathlib.Path) -> Iterator[Any]:
    """The page of the made-up runs."""
    yield from tab(browser, page)


@pytest.fixture(scope="module")
def stage(browser: Any, played: pathlib.Path) -> Iterator[Any]:
    """The page of the run that was played."""
    yield from tab(browser, played)


def tab(browser: Any, path: pathlib.Path, width: int = 1400) -> Iterator[Any]:
    """A page without a network, which reports nothing on its console."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    found = context.new_page()
    troubles: list[str] = []
    found.on("console", lambda said: troubles.append(said.text))
    found.on("pageerror", lambda error: troubles.append(str(error)))
    found.on("requestfailed", lambda asked: troubles.append(asked.url))
    found.goto(path.as_uri())
    settled(found)
    yield found
    context.close()
    assert troubles == []


def settled(tab: Any) -> None:
    tab.wait_for_selector("html[data-ready]", state="attached")


def chart(tab: Any, kind: str) -> list[dict[str, Any]]:
    """Traces that are drawn now."""
    tab.locator(f'[data-kind="{kind}"]').first.scroll_into_view_if_needed()
    tab.wait_for_selector(f'[data-kind="{kind}"][data-drawn]')
    found = f"document.querySelector('[data-kind={kind}]')"
    return tab.evaluate(f"({found}.data ?? []).map(t => ({{meta: t.meta, y: [...(t.y ?? [])]}}))")


CLIPPED = """[...document.querySelectorAll(".js-plotly-plot")].flatMap((plot) => {
  const room = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].filter((text) => {
    const own = text.getBoundingClientRect();
    return own.width && (own.left < room.left - 1 || own.right > room.right + 1
      || own.top < room.top - 1 || own.bottom > room.bottom + 1);
  }).map((text) => plot.dataset.kind + ": " + text.textContent);
})"""


def begin(tab: Any) -> None:
    """Chooses what a page shows at first."""
    tab.get_by_label("Metric").select_option("test_return_mean")
    tab.get_by_label("World").select_option("0")
    tab.get_by_label("Band").select_option("iqm")
    tab.get_by_label("every run").check()
    settled(tab)


def test_choices_change_all_figures(opened):
    begin(opened)
    assert {t["meta"]["arm"] for t in chart(opened, "curves")} == {0, 1}
    assert len(chart(opened, "curves")) == 5 + 2 * 2
    opened.get_by_label("every run").uncheck()
    settled(opened)
    assert len(chart(opened, "curves")) == 4
    opened.get_by_role("button", name="eoi_qmix").click()
    settled(opened)
    for kind in ("curves", "finals", "profiles"):
        assert {t["meta"]["arm"] for t in chart(opened, kind)} == {1}, kind
    assert opened.locator("#count").inner_text() == "1 of 2 arms"
    opened.get_by_label("Band").select_option("minmax")
    settled(opened)
    assert {t["meta"]["band"] for t in chart(opened, "curves")} == {"minmax"}
    opened.get_by_label("Metric").select_option("individuality_mean")
    settled(opened)
    assert opened.locator("[data-kind=curves]").inner_text() == "No arm is chosen."
    opened.get_by_role("button", name="all", exact=True).click()
    settled(opened)
    assert chart(opened, "curves")[-1]["y"] == pytest.approx([0.28, 0.31, 0.34])
    opened.get_by_label("World").select_option("1")
    settled(opened)
    assert opened.locator("[data-what]").first.inner_text() == "Test return · windy_maze"
    assert not opened.locator('[data-world="0"]').first.is_visible()
    assert chart(opened, "finals") and opened.evaluate(CLIPPED) == []


def test_figures_zoom_and_tell_values(opened):
    begin(opened)
    opened.evaluate("scrollTo(0, 0)")
    place, reach = "[data-kind=curves]", "document.querySelector('[data-kind=curves]')"
    box = opened.locator(f"{place} .nsewdrag").bounding_box()
    opened.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] * 0.28)
    opened.wait_for_selector(f"{place} .hovertext")
    assert "eoi_qmix" in opened.locator(f"{place} .hoverlayer").text_content()
    before = opened.evaluate(f"{reach}.layout.xaxis.range")
    opened.mouse.move(box["x"] + 100, box["y"] + 100)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 400, box["y"] + 200, steps=4)
    opened.mouse.up()
    opened.wait_for_function(f"{reach}.layout.xaxis.range[1] < {before[1]} / 2")


def test_the_page_can_be_used_by_keys(opened):
    begin(opened)
    seen = set()
    opened.locator(".skip").focus()
    for _ in range(20):
        opened.keyboard.press("Tab")
        seen.add(opened.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"world", "metric", "band", "runs", "eoi_qmix", "qmix"} <= seen
    opened.get_by_role("button", name="eoi_qmix").focus()
    opened.keyboard.press("Space")
    settled(opened)
    assert {t["meta"]["arm"] for t in chart(opened, "curves")} == {1}


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_screen_in_both_schemes(width, scheme, stage):
    stage.set_viewport_size({"width": width, "height": 900})
    stage.emulate_media(color_scheme=scheme)
    settled(stage)
    for kind in ("curves", "finals", "profiles", "phases", "matrices", "maps"):
        assert chart(stage, kind), kind
    across = stage.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert across[0] <= across[1] == width
    assert stage.evaluate(CLIPPED) == []
    paper = stage.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 28)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_long_names_are_whole_on_a_phone(browser, tmp_path):
    for seed in (1, 2):
        name = ", ".join(f"a.setting.of.the.algorithm={k}" for k in range(9))
        fake(tmp_path / str(seed), seed, [1, 2], name=name)
    path = tmp_path / f"{'long_' * 12}report.html"
    assert report.main([str(tmp_path), "--out", str(path)]) == 0
    for found in tab(browser, path, 390):
        assert chart(found, "finals") and found.evaluate(CLIPPED) == []
        assert found.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_replay_has_a_slider(stage):
    stage.locator("#player").scroll_into_view_if_needed()
    film = stage.frame_locator("#player")
    film.locator("#time").focus()
    assert (film.locator("#when").text_content() or "").startswith("t = 0")
    stage.keyboard.press("ArrowRight")
    assert (film.locator("#when").text_content() or "").startswith("t = 1")
    size = stage.evaluate("[player.clientHeight, player.contentDocument.body.scrollHeight]")
    assert size[0] >= size[1]
