"""Reading runs, learning curves, position maps and films, against numbers worked by hand."""

import json
import pathlib
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from eoi import main as command
from eoi import plot, saved, watch
from eoi.pictures import curves, learning, positions
from eoi.pictures.curves import Curve
from eoi.pictures.film import shoot
from eoi.pictures.panels import curve, panels, remarks
from eoi.pictures.sweeps import sweeps
from eoi.records import reader
from eoi.runners.rollout import Rollout
from eoi.utils.errors import UserError
from eoi.utils.seeding import fold, root_key

STEPS = [0, 300, 600, 900]


def fake(
    folder: pathlib.Path,
    seed: int,
    values: list[float],
    name: str = "qmix",
    steps: list[int] | None = None,
    **config: Any,
) -> pathlib.Path:
    """A run as Sacred leaves it: episodes of 30 steps, one test at each of `steps`."""
    steps = steps or STEPS[: len(values)]
    folder.mkdir(parents=True)
    settings = {
        "name": name,
        "seed": seed,
        "env": "pac_men",
        "env_args": {"n_agents": 4},
        "eoi": {"alpha": 0.1},
    } | config
    metrics = {
        "test_return_mean": {"steps": steps, "values": values, "timestamps": []},
        "episode": {"steps": steps[1:], "values": [step / 30 for step in steps[1:]]},
        "test_ep_length_mean": {"steps": steps, "values": [30.0] * len(steps)},
    }
    if name != "qmix":
        metrics["individuality_mean"] = {
            "steps": steps[1:],
            "values": [0.25 + step / 10000 for step in steps[1:]],
        }
    for file, content in (
        ("config", settings),
        ("run", {"status": "COMPLETED"}),
        ("metrics", metrics),
    ):
        (folder / f"{file}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def sacred(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder that stands for results/sacred, and another one to be in."""
    monkeypatch.setattr(reader, "SACRED", tmp_path / "sacred")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "sacred"


def recorded(results: pathlib.Path, world: str, t_max: int) -> pathlib.Path:
    """The folder of a real run."""
    keys = f"seed=3 t_max={t_max} hidden_dim=8 batch_size=16 batch_size_run=2 buffer_size=200"
    more = "learning_starts=0 test_nepisode=2 test_interval=60 log_interval=60"
    assert (
        command.main(
            [
                "--config=eoi_qmix",
                f"--env-config={world}",
                "with",
                *keys.split(),
                *more.split(),
                f"local_results_path={results}",
            ]
        )
        == 0
    )
    return results / "sacred" / "1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return recorded(tmp_path_factory.mktemp("results"), "pac_men", 120)


class World(NamedTuple):
    """What a world's map and episodes measure."""

    folder: pathlib.Path  # of a run on it
    agents: int
    rim: tuple[int, int]  # rows and columns that can be walked, and one more on every side
    cells: int
    limit: int  # steps


WORLDS = {
    "pac_men": (4, (19, 19), 77, 30),
    "windy_maze": (2, (4, 15), 14, 15),
    "firefighters": (4, (15, 15), 53, 20),
}


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    name = request.param
    folder = (
        request.getfixturevalue("run")
        if name == "pac_men"
        else recorded(tmp_path_factory.mktemp(name), name, 30)
    )
    return World(folder, *WORLDS[name])


def refused(
    program: Any, argv: list[Any], capsys: pytest.CaptureFixture[str], status: int = 2
) -> str:
    """The one line that explains why nothing was done."""
    capsys.readouterr()
    assert program.main([str(word) for word in argv]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


# Reading runs


def test_runs_are_found_by_folder_number_and_name(sacred: pathlib.Path) -> None:
    for seed in (1, 2, 10):
        fake(sacred / str(seed), seed, [0.0])
    fake(sacred / "_sources" / "7", 7, [0.0])
    assert [record.config["seed"] for record in reader.find_runs([sacred.parent])] == [1, 2, 10]
    assert [folder.name for folder in reader.locate(["latest", "2", sacred / "2"])] == ["10", "2"]
    fake(sacred / "11", 11, [0.0], evaluate=True)
    assert [folder.name for folder in reader.locate(["latest"])] == ["10"]
    (record,) = reader.find_runs([sacred / "1"])
    assert record.status == "COMPLETED" and record.settings["eoi.alpha"] == 0.1
    assert record.metrics["test_return_mean"].steps.tolist() == [0]


def test_a_run_without_metrics_has_none_yet(sacred: pathlib.Path) -> None:
    (fake(sacred / "1", 1, [0.0]) / "metrics.json").unlink()
    assert reader.find_runs(["1"])[0].metrics == {}


def test_folders_that_are_no_runs_are_refused(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such run" in refused(plot, ["4"], capsys)
    assert "latest: no run in" in refused(watch, ["latest"], capsys)
    assert "no run in it" in refused(plot, [sacred.parent / "elsewhere"], capsys)
    folder = fake(sacred / "1", 1, [0.0])
    assert "name the run's folder" in refused(plot, [folder / "config.json"], capsys)
    fake(sacred / "2", 2, [0.0])
    assert "holds 2 runs" in refused(watch, [sacred], capsys)
    assert "was not saved" in refused(plot, ["--heatmap", "1"], capsys)


@pytest.mark.parametrize(
    "content",
    [
        '{"test_return_mean": {"steps": [0',
        "[]",
        '{"x": {"steps": [0]}}',
        '{"x": {"steps": [0], "values": []}}',
        "\xff",
    ],
)
def test_damaged_metrics_are_refused_by_file(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (fake(sacred / "1", 1, [0.0]) / "metrics.json").write_bytes(content.encode("latin-1"))
    assert "metrics.json: damaged" in refused(plot, ["1"], capsys)


# The arithmetic


def test_smoothing_is_a_mean_of_neighbours_with_fewer_at_the_ends() -> None:
    y = np.array([0.0, 3.0, 6.0, 0.0])
    assert curves.smoothed(y, 3).tolist() == [1.5, 3.0, 3.0, 3.0]
    assert curves.smoothed(y, 1).tolist() == y.tolist()
    assert curves.smoothed(y[:2], 9).tolist() == [1.5, 1.5]
    assert [curves.automatic_width(n) for n in (1, 20, 60, 100)] == [1, 1, 3, 5]


def test_runs_meet_on_the_range_they_share() -> None:
    one = Curve(np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0]))
    other = Curve(np.array([1.0, 3.0, 9.0]), np.array([3.0, 3.0, 3.0]))
    x, mean, _, high = curves.summarise([one, other], "std")
    assert x.tolist() == [1, 2, 3, 4]
    assert mean.tolist() == [2, 2.5, 3, 3.5]
    np.testing.assert_allclose(
        high - mean, [2**0.5, 0.5**0.5, 0, 0.5**0.5], atol=1e-12
    )  # of 1, 3; of 2, 3; ...
    assert curves.summarise([one, other], "minmax").low.tolist() == [1, 2, 3, 3]
    np.testing.assert_allclose(
        curves.summarise([one, other], "ci").high[0], 2 + 12.7062 * 2**0.5 / 2**0.5, rtol=1e-6
    )
    assert curves.summarise([one], "std").low.tolist() == one.y.tolist()


def test_steps_become_episodes_and_go_on_beyond_the_last_entry(sacred: pathlib.Path) -> None:
    (record,) = reader.find_runs([fake(sacred / "1", 1, [0.0, 1.0, 2.0])])
    assert curve(record, "test_return_mean", "episodes").x.tolist() == [0, 10, 20]
    record.metrics["test_return_mean"].steps[-1] = 900
    assert curve(record, "test_return_mean", "episodes").x.tolist() == [0, 10, 30]
    del record.metrics["episode"]
    with pytest.raises(UserError, match="--x steps"):
        curve(record, "test_return_mean", "episodes")


def test_the_table_holds_the_last_tenth(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [300 * k for k in range(20)]
    fake(sacred / "1", 1, [0.0] * 18 + [2.0, 4.0], steps=steps)
    fake(sacred / "2", 2, [9.0] * 18 + [5.0, 5.0], steps=steps)
    fake(sacred / "3", 1, [1.0] * 20, "eoi_qmix", steps=steps)
    assert plot.main([str(sacred), "--out", "table.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "table.png"
    assert lines[1] == "pac_men: test_return_mean, mean of the last 10 % of a run's entries"
    assert [" ".join(line.split()) for line in lines[2:5]] == [
        "runs mean ± sd IQM [95 % interval] seed: final value",
        "eoi_qmix 1 1.00 1.00 1: 1.00",
        "qmix 2 4.00 ± 1.41 4.00 1: 3.00, 2: 5.00",
    ]
    assert lines[5].startswith("pac_men: individuality_mean") and len(lines) == 9
    assert lines[8].startswith("  Not the shipped settings: eoi_qmix with eoi.form=none ")


# What goes into which panel


def test_worlds_and_groups_are_told_apart(sacred: pathlib.Path) -> None:
    fake(sacred / "1", 1, [0.0, 1.0], eoi={"form": "none", "alpha": 0.1})
    fake(sacred / "2", 1, [0.0, 1.0], "eoi_qmix", eoi={"form": "pull", "alpha": 0.5})
    fake(
        sacred / "3",
        1,
        [0.0, 1.0],
        "eoi_qmix",
        env_args={"n_agents": 3},
        eoi={"form": "pull", "alpha": 0.1},
    )
    runs = reader.find_runs([sacred])
    rows = panels(runs, None, None, ["name"])
    assert [
        (panel.world, panel.metric, list(panel.groups), panel.x) for row in rows for panel in row
    ] == [
        ("pac_men (n_agents=4)", "test_return_mean", ["eoi_qmix", "qmix"], "episodes"),
        ("pac_men (n_agents=4)", "individuality_mean", ["eoi_qmix"], "episodes"),
        ("pac_men (n_agents=3)", "test_return_mean", ["eoi_qmix"], "episodes"),
        ("pac_men (n_agents=3)", "individuality_mean", ["eoi_qmix"], "episodes"),
    ]
    (((panel,)),) = panels(
        runs, "test_return_mean", "steps", ["name", "eoi.alpha", "env_args.n_agents"]
    )
    assert list(panel.groups) == [
        "eoi_qmix, eoi.alpha=0.1, n_agents=3",
        "eoi_qmix, eoi.alpha=0.5, n_agents=4",
        "qmix, n_agents=4",
    ]


def test_a_world_of_varying_episodes_is_drawn_over_steps(sacred: pathlib.Path) -> None:
    (record,) = reader.find_runs([fake(sacred / "1", 1, [0.0, 1.0])])
    record.metrics["test_ep_length_mean"].values[0] = 29.5
    assert panels([record], None, None, ["name"])[0][0].x == "steps"


def test_pooled_runs_are_remarked_upon(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(sacred / "1", 1, [0.0, 1.0])
    fake(sacred / "2", 1, [0.0, 1.0, 2.0], eoi={"alpha": 0.5})
    ((panel,),) = panels(reader.find_runs([sacred]), None, None, ["name"])
    fake(sacred / "3", 1, [0.0, 1.0], lr=1000, gamma=0.9)
    fake(sacred / "4", 2, [0.0, 1.0], lr=1000.0, gamma=0.9)
    assert (
        remarks(panels(reader.find_runs([sacred / "3", sacred / "4"]), None, None, ["name"])[0][0])
        == []
    )
    fake(sacred / "5", 3, [0.0, 1.0], lr=1, gamma=0.5)
    (both,) = remarks(
        panels(reader.find_runs([sacred / "3", sacred / "5"]), None, None, ["name"])[0][0]
    )
    assert "differ in gamma, lr; --by name,gamma,lr tells them apart" in both
    assert plot.main([str(sacred), "--by", "env", "--out", "all.MD"]) == 0
    assert "--by env,eoi.alpha,gamma,lr tells them apart" in capsys.readouterr().err
    settings, seeds, ends = remarks(panel)
    assert (
        "differ in eoi.alpha; --by name,eoi.alpha tells" in settings
        and "more than once" in seeds
        and "ends at step 300" in ends
    )


def test_unknown_names_are_refused_with_the_nearest(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(sacred / "1", 1, [0.0, 1.0])
    fake(sacred / "2", 1, [0.0, 1.0], evaluate=True)
    assert "Did you mean 'test_return_mean'" in refused(
        plot, ["1", "--metric", "test_retrun_mean"], capsys
    )
    assert "Did you mean 'eoi.alpha'" in refused(plot, ["1", "--by", "eoi.alhpa"], capsys)
    assert "Did you mean 'eoi.alpha'" in refused(plot, ["1", "--over", "eoi.alhpa"], capsys)
    assert "nothing to show" in refused(plot, ["2"], capsys)
    assert "--out curve.txt" in refused(plot, ["1", "--out", "curve.txt"], capsys)
    assert "--out curve.pgf" in refused(plot, ["1", "--out", "curve.pgf"], capsys)
    assert "--out film.png" in refused(watch, ["1", "--out", "film.png"], capsys)
    for argv in ([], ["1", "--band", "wide"], ["1", "--smooth", "0"], ["1", "--colour"]):
        assert "--help" in refused(plot, argv, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "nosuch"], "--by nosuch: there is no such setting. These runs differ in: name."),
        (["--over", "nosuch"], "--over nosuch: there is no such setting. These runs differ in: "),
        (["--metric", "foo"], "--metric foo: no run has logged it. There are: episode, individ"),
        (["--metric", "test_return_mean,foo"], "--metric foo: no run has logged it"),
        (["--each", "episode"], "--each episode: not among the metrics of the table, test_ret"),
        (["--baseline", "foo"], "--baseline foo: the groups are eoi_qmix; qmix"),
        (["--out", "/proc/x.png"], "argument --out: cannot write in /proc"),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(
    words: list[str],
    message: str,
    sacred: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = {f"setting_{k}": 0 for k in range(40)}
    fake(sacred / "1", 1, [0.0, 1.0], **many)
    fake(sacred / "2", 1, [0.0, 1.0], "eoi_qmix", **many)
    for name in ("x.png", "x.md"):
        out = sacred.parent / name
        assert message in refused(plot, [sacred, "--out", out, *words], capsys)
        assert not out.exists()


# Pictures


def test_curves_are_drawn(sacred: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for seed in (1, 2, 3):
        fake(sacred / f"a{seed}", seed, [0.0, seed, 4.0, 2.0 * seed])
        fake(sacred / f"b{seed}", seed, [0.0, 1.0, 2.0, seed], "eoi_qmix")
    path = tmp_path / "new folder" / "curves.png"
    assert plot.main([str(sacred), "--out", str(path), "--smooth", "2", "--band", "ci"]) == 0
    picture = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        drawn = (np.abs(picture - colour).sum(2) < 6).any(0).nonzero()[0]
        assert drawn.max() - drawn.min() > picture.shape[1] / 5
    assert sorted(each.name for each in path.parent.iterdir()) == ["curves.png"]


def test_a_sweep_has_a_place_for_every_value_and_a_level_for_who_has_no_use_for_it(
    sacred: pathlib.Path,
) -> None:
    for folder, seed, value, alpha in (
        ("1", 1, 1.0, 0.01),
        ("2", 2, 3.0, 0.01),
        ("3", 1, 4.0, 0.5),
    ):
        fake(sacred / folder, seed, [0.0, value], "eoi_qmix", eoi={"form": "pull", "alpha": alpha})
    fake(sacred / "4", 1, [0.0, 2.5], eoi={"form": "none", "alpha": 0.1})
    runs = reader.find_runs([sacred])
    (axes,) = sweeps(
        panels(runs, "test_return_mean", None, ["name"], ["eoi.alpha"]), "eoi.alpha", "minmax"
    ).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.01", "0.5"]
    (means, _, _) = axes.containers[0]  # matplotlib's error bars: line, caps, bars
    assert means.get_ydata().tolist() == [2.0, 4.0]
    assert sorted(
        y for line in axes.lines if line.get_marker() == "o" for y in line.get_ydata()
    ) == [1.0, 3.0, 4.0]
    assert [2.5, 2.5] in [list(line.get_ydata()) for line in axes.lines]
    assert means.get_marker() == "D"  # so that a single value is seen
    with pytest.raises(UserError, match="no effect in any of these runs"):
        sweeps(
            panels([run for run in runs if run.config["name"] == "qmix"], None, None, ["name"]),
            "eoi.alpha",
            "std",
        )


def test_bars_of_equal_seeds_have_no_length(tmp_path):
    """The mean of three times 0.1 is 0.10000000000000002, above the largest of them."""
    for seed in (1, 2, 3):
        fake(tmp_path / str(seed), seed, [0.0, 0.1], "eoi_qmix", eoi={"form": "pull", "alpha": 0.1})
    rows = panels(reader.find_runs([tmp_path]), "test_return_mean", None, ["name"], ["eoi.alpha"])
    (axes,) = sweeps(rows, "eoi.alpha", "minmax").axes
    (means, _, _) = axes.containers[0]
    assert means.get_ydata().tolist() == pytest.approx([0.1])


def test_dollars_in_a_label_are_no_formula(tmp_path):
    for seed, label in ((1, "$\\foo$"), (2, "cost: 3$")):
        fake(tmp_path / str(seed), seed, [0.0, 1.0], label=label)
    out = tmp_path / "x.png"
    assert plot.main([str(tmp_path), "--by", "label", "--out", str(out)]) == 0 and out.exists()


def test_a_sweep_is_drawn_and_its_table_tells_values_apart(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k, dots in enumerate((3, 10)):
        fake(
            sacred / str(k), 1, [0.0, float(dots)], env_args={"n_agents": 4, "dots_per_room": dots}
        )
    assert plot.main([str(sacred), "--over", "env_args.dots_per_room", "--out", "sweep.png"]) == 0
    printed = capsys.readouterr().out
    assert (
        printed.startswith("sweep.png\npac_men: ")
        and "qmix, dots_per_room=3 " in printed
        and "qmix, dots_per_room=10 " in printed
    )
    assert np.asarray(Image.open("sweep.png")).std() > 0
    for folder, seeds in (("list", [1, 2]), ("longer", [1, 2, 3])):
        fake(sacred / folder, 1, [0.0, 1.0], fleet={"seeds": seeds})
    assert (
        plot.main(
            [
                str(sacred / "list"),
                str(sacred / "longer"),
                "--over",
                "fleet.seeds",
                "--out",
                "lists.png",
            ]
        )
        == 0
    )


def test_the_bars_of_a_sweep_are_not_cut_at_zero(sacred: pathlib.Path) -> None:
    for seed, value in ((1, 0.0), (2, 4.0)):  # mean 2, deviation 2.83
        fake(sacred / str(seed), seed, [0.0, value], "eoi_qmix", eoi={"form": "pull", "alpha": 1})
    fake(sacred / "3", 1, [0.0, 2.0], "eoi_qmix", eoi={"form": "pull", "alpha": 2})
    rows = panels(reader.find_runs([sacred]), "test_return_mean", None, ["name"], ["eoi.alpha"])
    (axes,) = sweeps(rows, "eoi.alpha", "std").axes
    assert axes.get_ylim()[0] < 2 - 8**0.5


def test_a_curve_far_from_zero_has_room_above(sacred: pathlib.Path) -> None:
    fake(sacred / "1", 1, [18.0, 19.5, 19.0])
    rows = panels(reader.find_runs([sacred]), "test_return_mean", None, ["name"])
    (axes,) = learning.learning_curves(rows, None, "std").axes
    low, high = axes.get_ylim()
    assert low < 0 and high == pytest.approx(1.05 * 19.5)


def test_values_that_are_not_finite_are_named(
    sacred: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fake(sacred / "1", 1, [0.0, 1.0, float("nan"), 2.0])
    assert plot.main([str(sacred), "--out", str(tmp_path / "curves.png")]) == 0
    line = f"note: pac_men, qmix: test_return_mean of {folder} is not finite at step 600"
    assert capsys.readouterr().err == f"{line}; its curve has a gap\n"


def test_long_names_stay_inside_the_picture(sacred: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for k in range(5):
        fake(sacred / str(k), 1, [0.0, 1.0, 2.0], f"a_name_that_takes_half_of_a_picture_{k}")
    path = tmp_path / "curves.png"
    assert plot.main([str(sacred), "--out", str(path)]) == 0
    picture = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    for name in learning._COLOURS[:4]:  # one curve lies on another, so only the legend shows them
        colour = [int(name[k : k + 2], 16) for k in (1, 3, 5)]
        assert (np.abs(picture - colour).sum(2) < 6).sum() > 30, name


def test_a_picture_that_cannot_be_written_is_refused_by_its_folder(
    sacred: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fake(sacred / "1", 1, [0.0, 1.0])
    error = refused(plot, ["1", "--out", folder / "config.json" / "x.png"], capsys)
    assert f"--out: cannot write in {folder / 'config.json'}" in error


def test_position_maps_share_out_each_agents_time(world: World, tmp_path: pathlib.Path) -> None:
    maps = positions.measure(world.folder, episodes=3, seed=0, model="last")
    assert maps.share.shape == (world.agents, *world.rim) and "eoi_qmix\nseed 3" in maps.title
    assert (np.isfinite(maps.share).sum((1, 2)) == world.cells).all()
    np.testing.assert_allclose(np.nansum(maps.share, (1, 2)), 1)
    visits = maps.share * 3 * (world.limit + 1)  # every moment of every episode
    np.testing.assert_allclose(visits, np.round(visits), atol=1e-4)
    path = tmp_path / "maps.png"
    assert (
        plot.main(
            [
                "--heatmap",
                str(world.folder),
                str(world.folder),
                "--episodes",
                "2",
                "--out",
                str(path),
            ]
        )
        == 0
    )
    assert np.asarray(Image.open(path).convert("RGB")).std() > 10


def test_places_in_a_plane_are_counted_from_the_top_left() -> None:
    places = torch.tensor(
        [[[0.1, 3.9], [7.9, 0.1]], [[0.1, 3.9], [0.1, 0.1]], [[torch.nan, torch.nan], [0.1, 0.1]]]
    )
    # Three copies of two agents, one of them gone; then the same 10 cells to the right and 5 up
    for corner in ((0.0, 0.0), (10.0, 5.0)):
        grid = positions._on_plane((4, 8), corner, places + torch.tensor(corner))
        assert grid.shape == (2, 4, 8) and grid.sum() == 5
        assert grid[0, 0, 0] == 2 and grid[1, -1, -1] == 1 and grid[1, -1, 0] == 2


def test_shares_have_a_rim_of_wall_and_show_visits_to_walls() -> None:
    walls = np.ones((4, 6), dtype=bool)
    walls[1, 1:4] = False
    visits = np.zeros((2, 4, 6))
    visits[0, 1, 1], visits[0, 1, 2], visits[1, 2, 3] = 3, 1, 2  # the last is inside of a wall
    x = np.nan
    expected = [
        [[x] * 5, [x, 0.75, 0.25, 0, x], [x, x, x, 0, x], [x] * 5],
        [[x] * 5, [x, 0, 0, 0, x], [x, x, x, 1, x], [x] * 5],
    ]
    np.testing.assert_array_equal(positions._shares(visits, walls), expected)


def test_shades_go_from_white_through_the_colour_into_the_dark() -> None:
    colour = np.array([0.8, 0.4, 0.0])
    shades = positions.shade(colour, np.array([0.0, 0.5, 1.0]))
    assert (
        shades[0].tolist() == [1, 1, 1]
        and shades[1].tolist() == colour.tolist()
        and (shades[2] <= colour).all()
    )


# Saved runs, played again


def test_a_played_run_earns_what_the_runner_says(run: pathlib.Path) -> None:
    env, learner, _ = saved.load(run, 3, "last")
    films = shoot(env, learner, seed=5, t=120)
    keys = fold(root_key(5, "watch"), torch.arange(3))
    outcome = (
        Rollout(env, torch.device("cpu"))
        .run(learner, keys, torch.tensor(120.0), greedy=True)
        .outcome()
    )
    assert [film[-1].total for film in films] == outcome.returns.tolist()
    assert [len(film) for film in films] == (outcome.length + 1).tolist()
    assert len(films[0][3].recognised) == 4 and films[0][-1].info["rooms_visited"] == [
        float(outcome.info["rooms_visited"][0])
    ]


def test_a_film_has_a_frame_for_every_moment(
    world: World, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "film.gif"
    assert watch.main([str(world.folder), "--episodes", "2", "--out", str(path), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 2 * (world.limit + 1)
        first = np.asarray(film.convert("RGB")).copy()
        film.seek(world.limit - 1)
        assert (np.asarray(film.convert("RGB")) != first).any() and film.info["duration"] == 250
        film.seek(world.limit)
        assert film.info["duration"] == 2000  # the last of the first episode is held


def test_the_terminal_shows_every_moment_and_a_pipe_the_last(
    run: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = [str(run), "--out", str(tmp_path / "film.gif")]
    assert watch.main(argv) == 0
    piped = capsys.readouterr().out
    assert (
        "\x1b" not in piped
        and "t = 30 " in piped
        and "t = 29 " not in piped
        and "p(i|o)" in piped
        and "episode 1: return" in piped
    )
    slept: list[float] = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(
        watch, "time", SimpleNamespace(sleep=slept.append)
    )  # not the module's own: other threads sleep too
    monkeypatch.setenv("LINES", "60")
    assert watch.main([*argv, "--fps", "8"]) == 0
    live = capsys.readouterr().out
    assert (
        slept == [0.125] * 31
        and "t = 29 " in live
        and live.count("\x1b[26A") == 30
        and "\x1b[1;38;2;214;39;40m0" in live
    )


def test_digits_are_agents_unless_they_count_something() -> None:
    zero, one = watch.painted("0", 0), watch.painted("1", 1)
    assert watch.marked("#01 #\n0:45 1:30") == f"#{zero}{one} #\n{zero}:45 {one}:30"


def test_runs_that_cannot_be_played_are_refused(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = fake(tmp_path / "1", 1, [0.0])
    (copy / "models").mkdir()
    (copy / "models" / "last.pt").write_bytes(b"not networks")
    assert "last.pt: not a readable checkpoint" in refused(watch, [copy, "--model", "last"], capsys)
    (copy / "config.json").write_text((run / "config.json").read_text())
    assert "there is --model last" in refused(watch, [copy], capsys)
    assert "not a readable checkpoint" in refused(watch, [copy, "--model", "last"], capsys)
    (copy / "config.json").write_text(
        (run / "config.json").read_text().replace('"hidden_dim": 8', '"hidden_dim": 9')
    )
    (copy / "models" / "last.pt").write_bytes((run / "models" / "last.pt").read_bytes())
    assert "not those of this configuration" in refused(watch, [copy, "--model", "last"], capsys)
