"""Statistics against worked examples; groups of runs; tables of runs; the tables on pages."""

import contextlib
import gzip
import importlib.util
import json
import pathlib
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from eoi import export, learners, plot
from eoi.config import loader
from eoi.config.schema import parse
from eoi.learners import extras
from eoi.pictures.panels import panels
from eoi.records import groups, reader, statistics, summary, table
from eoi.records.record import Record, Series
from eoi.settings import RunConfig
from eoi.utils.errors import UserError
from test_pictures import fake, refused

ROOT = pathlib.Path(__file__).parent.parent
EVIDENCE = ROOT / "results" / "evidence"


def record(run: str = "1", values: tuple[float, ...] = (0.0,), **config) -> Record:
    """A run with one metric, one entry a step."""
    settings = {"name": "qmix", "seed": 1, "env": "pac_men", "learner": "q_learner"} | config
    series = Series(np.arange(len(values)), np.array(values, float))
    folder = pathlib.Path("runs") / run
    return Record(folder, settings, "COMPLETED", {"test_return_mean": series}, run)


# Statistics


@pytest.mark.parametrize(
    ("entries", "kept"), [(1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3), (100, 10), (101, 11)]
)
def test_the_final_value_is_the_mean_of_the_last_tenth_rounded_up(entries, kept):
    values = np.arange(entries, dtype=float)
    assert statistics.final_value(values) == values[-kept:].mean()


def test_the_interquartile_mean():
    assert statistics.interquartile_mean(np.array([0.0, *range(1, 9), 100])) == 4.5
    assert statistics.interquartile_mean(np.arange(1.0, 16)) == 8  # 3 cut at each end
    assert statistics.interquartile_mean(np.array([1.0, 2, 6])) == 3  # a quarter of 3 is 0 runs
    diverged = np.array([[1.0, 2, 3, np.nan], [1, 2, 3, 4]])  # nan is not a highest value to cut
    assert np.array_equal(statistics.interquartile_mean(diverged), [np.nan, 2.5], equal_nan=True)


def test_the_interval_of_a_mean_is_students():
    low, high = statistics.mean_interval(np.array([1.0, 2, 3, 4, 5]))
    half = 2.7764 * 2.5**0.5 / 5**0.5  # t at 97.5 % with 4 degrees of freedom
    assert (low, high) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    assert np.isnan(statistics.mean_interval(np.array([1.0]))).all()


def test_the_bootstrap_has_its_own_seed_and_keeps_to_the_strata():
    values = np.random.default_rng(0).exponential(size=30)
    first = statistics.bootstrap_interval([values])
    np.random.seed(0)
    assert statistics.bootstrap_interval([values]) == first
    assert statistics.bootstrap_interval([values], seed=1) != first
    assert first.low < statistics.interquartile_mean(values) < first.high
    worlds = [np.full(4, 1.0), np.full(4, 3.0)]
    pooled = statistics.bootstrap_interval([np.concatenate(worlds)], lambda x: x.mean(-1))
    assert statistics.bootstrap_interval(worlds, lambda x: x.mean(-1)) == (2, 2) != pooled
    assert np.isnan(statistics.bootstrap_interval([values[:1]])).all()


def test_the_bootstrap_covers_the_mean_of_many_samples():
    draws = np.random.default_rng(0).normal(size=(200, 20))
    intervals = [
        statistics.bootstrap_interval([each], lambda x: x.mean(-1), draws=500) for each in draws
    ]
    assert 0.87 < np.mean([low < 0 < high for low, high in intervals]) < 0.99


def test_the_probability_of_improvement_and_the_optimality_gap():
    one, two, three = np.arange(1.0, 4), np.arange(3.0), np.ones(2)
    assert statistics.probability_of_improvement(one, two) == pytest.approx(7 / 9)
    assert statistics.probability_of_improvement(three, three) == 0.5
    assert statistics.optimality_gap(np.array([[0.5, 1.5], [0.0, 1.0]])).tolist() == [0.25, 0.5]


def test_a_difference_has_welchs_interval():
    found = statistics.difference(np.array([4.0, 5, 6]), np.array([1.0, 2, 3]))
    half = 2.7764 * (1 / 3 + 1 / 3) ** 0.5  # t at 97.5 % with 4 degrees of freedom
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-4)
    assert (found.mean, found.better) == (3, 1)
    assert np.isnan(statistics.difference(np.array([1.0]), np.array([1.0, 2])).low)
    assert statistics.difference(np.ones(3), np.ones(2))[:3] == (0, 0, 0)


def slow_comparison(first, second, seed=0, draws=400):
    """Differences and probabilities of improvement of drawn groups, one draw after the other."""
    generator = np.random.default_rng(seed)
    ours = first[generator.integers(len(first), size=(draws, len(first)))]
    theirs = second[generator.integers(len(second), size=(draws, len(second)))]
    gaps, better = [], []
    for one, other in zip(ours, theirs, strict=True):
        cut = [sorted(x)[len(x) // 4 : len(x) - len(x) // 4] for x in (one, other)]
        gaps.append(np.mean(cut[0]) - np.mean(cut[1]))
        better.append(np.mean([(a > b) + (a == b) / 2 for a in one for b in other]))
    return [np.percentile(x, end) for x in (gaps, better) for end in (2.5, 97.5)]


def test_two_groups_are_compared_as_by_a_slow_bootstrap():
    first, second = np.array([0.0, 3, 4, 5, 9]), np.array([1.0, 3, 3, 4])
    found = statistics.comparison([first], [second], draws=400)
    assert found.difference == pytest.approx(4 - 3)  # of 3, 4, 5 and of 3, 3
    wins = [0, 1 + 2 / 2, 3 + 1 / 2, 4, 4]  # of 0, 3, 4, 5, 9 over 1, 3, 3, 4; ties count a half
    assert found.better == pytest.approx(sum(wins) / 20)
    ends = (found.low, found.high, found.better_low, found.better_high)
    assert ends == pytest.approx(slow_comparison(first, second))
    alone = statistics.comparison([first], [second[:1]])
    assert alone.difference == pytest.approx(3) and np.isnan([alone.low, alone.better_high]).all()


def test_groups_are_compared_within_each_world():
    worlds = [np.full(3, 1.0), np.full(3, 10.0)], [np.full(3, 2.0), np.full(3, 9.0)]
    found = statistics.comparison(*worlds, draws=50)
    assert found == (0, 0, 0, 0.5, 0.5, 0.5)  # lost in one world, won in the other
    assert statistics.comparison(worlds[0][:1], worlds[1][:1]).better == 0


def test_a_performance_profile():
    scores, levels = np.array([0.2, 0.5, 0.5, 1.0]), np.array([0.0, 0.2, 0.5, 1.0])
    assert statistics.performance_profile(scores, levels).tolist() == [1, 0.75, 0.25, 0]
    assert np.isnan(statistics.performance_profile(np.array([0.2, np.nan]), levels)).all()
    low, high = statistics.profile_interval([scores, scores + 1], levels, draws=200)
    assert low.shape == high.shape == (4,) and (low <= high).all()
    # Each world keeps its own runs: those of the second all exceed 1.
    assert (low >= 0.5).all() and (high[0], low[0]) == (1, 1)


def test_a_sample_efficiency_curve_draws_whole_runs():
    curves = np.array([[0.0, 1, 2], [0, 3, 3], [0, 5, 4]])
    found = statistics.sample_efficiency([curves], draws=300)
    assert found.middle.tolist() == [0, 3, 3]
    assert (found.low[0], found.high[0]) == (0, 0) and found.low[1] == 1 and found.high[1] == 5
    last = statistics.bootstrap_interval([curves[:, 2]], draws=300)
    assert (found.low[2], found.high[2]) == (last.low, last.high)
    assert np.isnan(statistics.sample_efficiency([curves[:1]]).low).all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("final", 7.0),  # of 20 entries the last two
        ("initial", 1.0),
        ("first", 1.0),
        ("mean", (1 / 2 + 18 * 1 + 7 / 2 + 3 * 6) / 19),  # trapezoids
        ("half", 16 / 19),  # the mean of 1, 7, 7 is the first beyond 4
        ("swing", np.std([1] * 6 + [7] * 4)),
    ],
)
def test_a_score_is_one_number_for_a_run(kind, expected):
    steps, values = np.arange(20) * 100, np.array([1.0] * 16 + [7.0] * 4)
    assert statistics.score(kind, steps, values) == pytest.approx(expected)
    assert set(statistics.SCORES) >= {kind}


@pytest.mark.parametrize("kind", ["final", "mean", "half", "swing"])
def test_a_run_that_diverged_has_no_score(kind):
    assert np.isnan(statistics.score(kind, np.arange(4), np.array([0.0, 1.0, np.nan, np.nan])))


def test_equal_values_in_a_group_are_compared_without_a_warning(recwarn):
    statistics.difference(np.full(3, 1.0 + 1e-9), np.array([1.0, 2.0, 4.0]))
    assert not recwarn.list


def test_scores_of_a_level_metric():
    steps, values = np.arange(5), np.full(5, 2.0)
    found = [statistics.score(kind, steps, values) for kind in statistics.SCORES]
    assert found[:4] == [2, 2, 2, 2] and np.isnan(found[4]) and found[5] == 0
    assert statistics.score("mean", steps[:1], values[:1]) == 2


def test_half_of_the_way_is_not_told_of_a_curve_that_fell_back():
    steps, up = np.arange(1, 41), np.linspace(0, 5, 20)
    rises = np.concatenate([up, np.full(20, 5.0)])
    falls = np.concatenate([up, np.linspace(5, 0.2, 16), np.full(4, 0.2)])
    assert statistics.score("half", steps, rises) == pytest.approx(0.275, abs=0.03)
    assert np.isnan(statistics.score("half", steps, falls))


def test_a_printed_number_keeps_three_digits():
    generator = np.random.default_rng(0)
    for value in generator.normal(size=500) * 10 ** generator.uniform(-9, 9, 500):
        printed = float(summary.number(value).replace(",", ""))
        assert printed == pytest.approx(value, rel=0.0051)


def test_numbers_are_printed_without_exponents():
    examples = [0.0, 0.0123, 5.2, 21.345, 99.96, 1187.0, 586190000.0, -0.5, float("nan")]
    assert [summary.number(value) for value in examples] == [
        *("0", "0.0123", "5.20", "21.3", "100", "1,190", "586,000,000", "-0.500", "nan")
    ]


# Which runs belong together


def test_runs_of_one_name_and_other_settings_are_never_averaged():
    runs = [
        record("1", eoi={"form": "none", "alpha": 0.05}),
        record("2", seed=2, eoi={"form": "none", "alpha": 0.1}),  # alpha has no effect
        record("3", eoi={"form": "pull", "alpha": 0.05}),
    ]
    found = groups.grouped(runs, None)
    assert {name: [r.run for r in members] for name, members in found.items()} == {
        "qmix, eoi.form=none": ["1", "2"],
        "qmix, eoi.form=pull": ["3"],
    }
    assert list(groups.grouped(runs[:2], None)) == ["qmix"]
    assert list(groups.grouped(runs, ["name"])) == ["qmix"]


def test_a_label_means_the_same_in_all_worlds():
    one = [record(lr=lr, env_args={"dots": 1}, t_max=10) for lr in (0.1, 0.2)]
    other = [record(lr=0.1, env_args={"dots": 2}, t_max=20)]
    assert groups.apart_by_name([one, other]) == {"qmix": ["lr"]}
    rows = panels([*one, *other], None, "steps", None)
    assert [list(row[0].groups) for row in rows] == [
        ["qmix, lr=0.1", "qmix, lr=0.2"],
        ["qmix, lr=0.1"],
    ]


def test_settings_that_never_matter_set_no_runs_apart():
    ignored = {key: 1 for key in groups.IGNORED}
    other = {key: 2 for key in groups.IGNORED}
    runs = [record(**ignored, label="a"), record(**other, label="b", seed=2)]
    assert groups.setting_apart(runs) == [] and list(groups.grouped(runs, None)) == ["qmix"]
    first, second = (each.config for each in runs)
    assert groups.identity(first) != groups.identity(second)  # by label and seed
    assert groups.identity(first) == groups.identity(first | other)
    assert groups.identity({"a": 1, "b": (1, 2)}) == groups.identity(
        {"b": {"py/tuple": [1.0, 2]}, "a": 1.0}
    )
    assert groups.identity({"a": True}) != groups.identity({"a": 1})


def test_settings_that_a_learner_does_not_read_set_no_runs_apart():
    runs = [record(reward_scale=100), record(reward_scale=1000, seed=2)]
    assert groups.setting_apart(runs) == []
    runs = [record(learner="maac", reward_scale=scale) for scale in (100, 1000)]
    assert groups.setting_apart(runs) == ["reward_scale"]
    runs = [record(learner="new", reward_scale=scale) for scale in (100, 1000)]
    assert groups.setting_apart(runs) == ["reward_scale"]


def test_the_settings_that_a_learner_reads_are_those_of_its_classes():
    read = {name: set(kind.Config.__dataclass_fields__) for name, kind in learners.REGISTRY.items()}
    every = set().union(*read.values()) - set(RunConfig.__dataclass_fields__)  # read by every run
    for name, unread in groups.UNREAD.items():
        assert unread == every - read[name], name


def test_the_settings_that_a_form_reads_are_those_of_its_class():
    for section, forms in groups.READ.items():
        kinds = extras.sections()[section]
        assert {form: set(kind.Config.__dataclass_fields__) for form, kind in kinds.items()} == {
            form: set(read) for form, read in forms.items()
        }


def test_the_switches_of_a_section_are_those_of_its_class():
    forms = {name: kinds[""] for name, kinds in extras.sections().items() if "" in kinds}
    for section, switches in groups.SWITCHES.items():
        kind = forms[section]
        off = parse(kind.Config, loader.defaults()[section] | dict.fromkeys(switches, 0))
        assert not kind.active(off), section
        assert all(kind.active(replace(off, **{name: 1.0})) for name in switches), section
    assert {name for name in forms if name in loader.defaults()} == set(groups.SWITCHES)


def test_a_section_that_is_switched_off_sets_no_runs_apart():
    off = {"eta": 0, "reward_weight": 0, "value_weight": 0.0}
    runs = [record(edti=off | {"gae_lambda": x}, kl={"weight": 0}) for x in (0.5, 0.9)]
    assert groups.setting_apart(runs) == []
    runs = [record(edti=off | {"eta": 1, "gae_lambda": x}) for x in (0.5, 0.9)]
    assert groups.setting_apart(runs) == ["edti.gae_lambda"]
    runs = [record(edti=off), record(edti=off | {"eta": 1})]
    assert groups.setting_apart(runs) == ["edti.eta"]


def test_settings_without_effect_set_no_runs_apart():
    def differ(first, second, **shared):
        return groups.setting_apart([record(**first, **shared), record(**second, **shared)])

    reward, pull = ({"form": form, "alpha": 0.1} for form in ("reward", "pull"))
    assert differ({"eoi": reward | {"q_input": "raw"}}, {"eoi": reward | {"q_input": "x"}}) == []
    assert differ({"eoi": pull | {"q_input": "raw"}}, {"eoi": pull | {"q_input": "x"}}) == [
        "eoi.q_input"
    ]
    one, other = ({"form": "policy", "beta1": 0, "delta_t": steps} for steps in (1, 4))
    assert differ({"eoi": one}, {"eoi": other}) == []
    assert differ({"eoi": one | {"beta1": 1}}, {"eoi": other | {"beta1": 1}}) == ["eoi.delta_t"]
    assert differ({"optim_alpha": 0.9}, {"optim_alpha": 0.99}, optimizer="adam") == []
    assert differ({"optim_alpha": 0.9}, {"optim_alpha": 0.99}, optimizer="rmsprop") != []


def test_a_run_belongs_to_an_arm_if_it_asks_for_the_same():
    arm = {"name": "qmix", "seed": 0, "env": "pac_men", "learner": "q_learner", "lr": 1, "new": 5}
    assert groups.asks_for(record(lr=1.0, seed=9, label="x", threads=4), arm)
    assert not groups.asks_for(record(lr=2), arm)
    assert groups.asks_for(record(lr=1, removed=False), arm)
    assert not groups.asks_for(record(lr=1, removed=True), arm)
    assert groups.asks_for(record(lr=1, reward_scale=3), arm | {"reward_scale": 4})  # unread


def test_an_older_run_has_the_default_of_a_setting():
    older = record("1", eoi={"form": "pull", "alpha": 0.05})
    newer = [record(str(k), eoi={**older.config["eoi"], "trust_region": k}) for k in (0, 2)]
    assert groups.setting_apart([older, newer[0]]) == []
    assert groups.setting_apart([older, newer[1]]) == ["eoi.trust_region"]


def test_a_setting_that_an_older_run_lacks_sets_it_not_apart():
    runs = [record("1"), record("2", seed=2, new=1)]
    assert groups.setting_apart(runs) == []
    assert groups.setting_apart([*runs, record("3", new=2)]) == ["new"]


def test_settings_that_are_not_the_shipped_ones_stand_below_the_table(tmp_path, capsys):
    shipped = flat_shipped("eoi_qmix", "windy_maze")
    pull = shipped["eoi"] | {"form": "pull"}
    older = {key: found for key, found in shipped.items() if key != "gamma"} | {"removed": 3}
    measured = {"test_interval": 7, "t_max": 99, "local_results_path": "x", "label": "a"}
    runs = [
        record("1", **older | measured | {"eoi": pull, "seed": 5}),
        record("2", **flat_shipped("qmix", "windy_maze") | {"t_max": 99, "update_interval": 5}),
        record("3", **flat_shipped("qmix", "windy_maze") | {"t_max": 99, "name": "mine", "lr": 9}),
    ]
    ((panel,),) = panels(runs, None, "steps", None)
    found = {"eoi_qmix": ["eoi.form=pull"], "qmix": ["update_interval=5"]}
    assert list(panel.groups) == ["eoi_qmix", "mine", "qmix"] and panel.changed == found
    ((asked,),) = panels(runs, None, "steps", ["name", "update_interval"])
    assert asked.changed == {"eoi_qmix": ["eoi.form=pull"]}
    ((over,),) = panels(runs, None, "steps", None, ["eoi.form"])
    assert over.changed == {"qmix": ["update_interval=5"]}
    assert panels(runs[2:], None, "steps", None)[0][0].changed == {}
    longer = record("4", **flat_shipped("qmix", "windy_maze"))
    ((panel,),) = panels([runs[0], longer], None, "steps", None)
    assert panel.changed == {"eoi_qmix": ["eoi.form=pull", "t_max=99"]}


def test_a_setting_newer_than_a_run_is_compared_by_its_default():
    eoi = flat_shipped("eoi_qmix", "windy_maze")["eoi"]
    older = {key: found for key, found in eoi.items() if key not in ("explore_turn", "temperature")}
    run = record("1", **flat_shipped("eoi_qmix", "windy_maze") | {"eoi": older})
    ((panel,),) = panels([run], None, "steps", None)
    assert panel.changed == {"eoi_qmix": ["eoi.explore_turn=0"]}


def flat_shipped(algorithm: str, world: str) -> dict:
    return loader.load(algorithm, world, {}) | {"seed": 1}


def test_all_tables_name_the_settings_that_are_not_the_shipped_ones(tmp_path, capsys):
    fake(tmp_path / "runs" / "1", 1, [0.0, 1.0], "eoi_qmix", update_interval=20)
    own = "eoi_qmix with eoi.form=none learning_starts=2000 update_interval=20"
    line = f"Not the shipped settings: {{0}}{own}{{0}}."
    for name, quote in (("x.png", ""), ("x.md", "`"), ("x.csv", ""), ("x.tex", "")):
        program, out = (plot if name in ("x.png", "x.md") else export), tmp_path / name
        assert program.main([str(tmp_path / "runs"), "--out", str(out)]) == 0
        text = out.read_text() if name in ("x.md", "x.tex") else "".join(capsys.readouterr())
        assert line.format(quote) in text


def test_a_map_of_several_lines_is_short_in_titles_and_labels():
    maps = ["#####\n#0.1#\n#####", "#####\n#1.0#\n#####"]
    runs = [record(str(k), env_args={"layout": text}) for k, text in enumerate([*maps, "m.txt"])]
    names = list(groups.worlds(runs, []))
    assert names[0] == "pac_men (layout=m.txt)" or "pac_men (layout=m.txt)" in names
    assert len(names) == 3 and all("\n" not in name and len(name) < 32 for name in names)
    by = ["env_args.layout"]
    assert not any("\n" in name for name in groups.grouped(runs, by)) and len(names) == 3


def test_runs_are_selected_by_their_settings_and_names():
    runs = [record("a-1", lr=0.1), record("a-2", lr=1.0), record("b-1", lr=0.01, label="x")]

    def chosen(*conditions):
        return [each.run for each in groups.selected(runs, conditions)]

    assert chosen("run=a-*") == ["a-1", "a-2"] and chosen("run=a-*", "lr=1") == ["a-2"]
    assert chosen("lr=1e-1") == ["a-1"]
    assert chosen("lr=0.1,0.01") == ["a-1", "b-1"] and chosen() == ["a-1", "a-2", "b-1"]
    for condition, message in (
        ("lr", "expected KEY=VALUE"),
        ("rl=1", "there is no such setting"),
        ("lr=7", "no run meets it"),
    ):
        with pytest.raises(UserError, match=message):
            chosen(condition)


def test_a_groups_row_compares_it_with_the_baseline():
    runs = {
        "qmix": [record(values=(1.0,)), record(values=(3.0,), seed=2)],
        "vdn": [record(values=(5.0,)), record(values=(7.0,), seed=2)],
    }
    head, qmix, vdn = summary.final_values(runs, ["test_return_mean"], baseline="qmix")
    assert head[-2:] == ["against qmix", "seed: final value"] and qmix[-2] == ""
    assert vdn[:4] == ["vdn", "2", "6.00 ± 1.41", "6.00"]
    assert vdn[4].startswith("+4.00 [") and vdn[4].endswith("P 1.00")


def test_runs_without_the_first_metric_are_not_counted():
    other = Record(pathlib.Path("runs/3"), {"name": "qmix", "seed": 3}, "COMPLETED", {}, "3")
    rows = summary.final_values({"qmix": [record(), other]}, ["test_return_mean"])
    assert rows[1][:2] == ["qmix", "1 of 2"]


# Tables of runs


@pytest.fixture
def study(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of two runs."""
    fake(tmp_path / "study" / "qmix" / "1", 1, [0.0, 1 / 3, 2e6, float("nan")])
    fake(tmp_path / "study" / "eoi" / "1", 7, [1.0, 2.0], "eoi_qmix", layers=[8, 8], x=None)
    return tmp_path / "study"


def exported(folder: pathlib.Path, *words: str) -> pathlib.Path:
    path = folder.parent / "study.csv.gz"
    assert export.main([str(folder), "--out", str(path), *words]) == 0
    return path


def test_a_table_reads_like_the_folder_it_was_made_of(study):
    path = exported(study)
    for one, other in zip(reader.find_runs([study]), reader.find_runs([path]), strict=True):
        assert (one.config, one.status) == (other.config, other.status)
        assert other.folder == path / one.folder.relative_to(study) and other.run in (
            "eoi/1",
            "qmix/1",
        )
        assert one.metrics.keys() == other.metrics.keys()
        for name, series in one.metrics.items():
            assert series.steps.tolist() == other.metrics[name].steps.tolist()
            np.testing.assert_allclose(series.values, other.metrics[name].values, rtol=1e-5)


def test_a_table_keeps_the_commits_and_an_older_one_has_none(tmp_path):
    runs = [replace(record("1"), commit="0123456789ab + changes"), record("2", seed=2)]
    path = tmp_path / "study.csv.gz"
    table.write(path, runs)
    assert [r.commit for r in table.read(path)] == ["0123456789ab + changes", ""]
    rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    rows = [line.rpartition(",")[0] for line in rows]
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    older = table.read(path)
    assert [r.commit for r in older] == ["", ""] and older[0].config == runs[0].config


def test_a_folder_of_tables_is_all_of_its_tables(study, tmp_path, capsys):
    place = tmp_path / "tables"
    place.mkdir()
    for name, folder in (("a", "eoi"), ("b", "qmix")):
        table.write(place / f"{name}.csv.gz", reader.find_runs([study / folder]))
    assert len(reader.find_runs([place])) == 2
    with pytest.raises(UserError, match="only tables, which have no networks"):
        reader.locate([place])


def test_a_table_draws_the_picture_of_its_folder(study, tmp_path, capsys):
    path = exported(study)
    outputs = []
    for source in (study, path):
        capsys.readouterr()
        assert plot.main([str(source), "--out", str(tmp_path / f"{source.name}.png")]) == 0
        outputs.append(capsys.readouterr().out.splitlines()[1:])
    assert outputs[0] == outputs[1] and outputs[0]
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("study", "study.csv.gz")]
    assert pictures[0] == pictures[1]


def test_a_table_is_the_same_file_when_made_again_and_from_itself(study, tmp_path):
    content = exported(study).read_bytes()
    assert exported(study).read_bytes() == content
    again = tmp_path / "again.csv.gz"
    assert export.main([str(exported(study)), "--out", str(again)]) == 0
    assert again.read_bytes() == content


def test_a_table_does_not_contain_the_machines_folders(tmp_path):
    places = {"local_results_path": "/home/me/lab", "skills_from": "/home/me/lab/sacred/7"}
    fake(tmp_path / "runs" / "1", 1, [0.0], checkpoint_path="", **places)
    (found,) = table.read(exported(tmp_path / "runs"))
    assert "local_results_path" not in found.config
    assert found.config["skills_from"] == "lab/sacred/7" and found.config["checkpoint_path"] == ""


def test_tables_and_folders_are_read_together_and_each_run_once(study, tmp_path):
    fake(tmp_path / "more", 9, [0.0])
    path = exported(study)
    found = reader.find_runs([path, tmp_path / "more", path])
    assert sorted(each.config["seed"] for each in found) == [1, 7, 9]


def test_chosen_metrics_alone_are_kept(study, capsys):
    (first, _) = table.read(exported(study, "--metric", "episode"))
    assert list(first.metrics) == ["episode"]
    line = refused(export, [study, "--out", "x.csv.gz", "--metric", "episodes"], capsys)
    assert "Did you mean 'episode'" in line
    assert "a table ends with .csv.gz" in refused(export, [study, "--out", "x.xlsx"], capsys)


def test_of_many_metrics_the_tests_are_listed():
    run = record()
    run.metrics.update({f"metric_{k}": run.metrics["test_return_mean"] for k in range(40)})
    with pytest.raises(UserError, match=r"logged it\. Tests have logged: test_return_mean\.$"):
        groups.refuse_unlogged([run], ["foo"], "--metric")


def test_damaged_tables_are_refused_by_name(study, tmp_path, capsys):
    path = exported(study)
    text = gzip.decompress(path.read_bytes()).decode()
    for content, message in (
        (path.read_bytes()[:-40], "not a whole gzip file"),
        (b"run,seed", "not a whole gzip file"),
        (gzip.compress(b"a,b\n1,2\n"), "not a table of runs (expected the columns"),
        (gzip.compress(text.replace("0.333333", "third").encode()), "not a table of runs"),
        (gzip.compress(text[: text.rindex(",")].encode()), "not a table of runs"),
        (gzip.compress(text.replace("qmix/1,,,,", "gone,,,,").encode()), "not a table of runs"),
    ):
        path.write_bytes(content)
        assert f"{path}: damaged, {message}" in refused(plot, [path], capsys)


@pytest.mark.parametrize("name", ["metrics.json", "config.json"])
def test_a_damaged_run_is_named_and_left_out(name, study, tmp_path, capsys):
    cut = study / "eoi" / "1" / name
    cut.write_text(cut.read_text()[:40])
    for program, out in ((plot, "x.png"), (plot, "x.md"), (export, "x.csv"), (export, "x.csv.gz")):
        assert program.main([str(study), "--out", str(tmp_path / out)]) == 0
        assert f"note: {cut}: damaged, not valid JSON" in capsys.readouterr().err
        alone = refused(program, [cut.parent, "--out", tmp_path / f"alone-{out}"], capsys)
        assert str(cut) in alone and not (tmp_path / f"alone-{out}").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("seed", "x"), ("env_args", 5), ("t_max", None), ("t_max", "many")]
)
def test_settings_that_no_run_has_are_damage(key, value, study, tmp_path, capsys):
    path = study / "eoi" / "1" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    message = f"damaged, {key} is {value!r}"
    assert f"{path}: {message}" in refused(plot, [path.parent], capsys)
    content = "run,seed,status,settings,metric,step,value\n" + 'a,1,COMPLETED,"{}",,,\n'
    settings = json.dumps({key: value}).replace('"', '""')
    for cell, words in ((settings, f"{key} is {value!r}"), ("5", "the settings are 5")):
        file = tmp_path / "x.csv.gz"
        file.write_bytes(gzip.compress(content.replace("{}", cell).encode()))
        assert f"{file}: damaged, not a table of runs ({words})" in refused(plot, [file], capsys)


def test_a_metric_of_lists_of_lists_is_damage(study, capsys):
    path = study / "eoi" / "1" / "metrics.json"
    twice = {"steps": [[1, 2]], "values": [[1.0, 2.0]]}
    path.write_text(json.dumps({"test_return_mean": twice}))
    message = f"{path}: damaged, the steps of test_return_mean are no list of numbers"
    assert message in refused(plot, [path.parent], capsys)


def test_an_empty_word_is_no_metric(study, tmp_path, capsys):
    words = [study, "--out", tmp_path / "x.csv", "--metric", ","]
    assert "--metric ,: names no metric" in refused(export, words, capsys)
    words = [study, "--out", tmp_path / "x.csv.gz", "--by", "name"]
    assert "--by: has no effect on .csv.gz" in refused(export, words, capsys)


def test_runs_that_are_left_out_are_named(study, tmp_path, capsys):
    fake(tmp_path / "study" / "played", 1, [0.0], evaluate=True)
    (fake(tmp_path / "study" / "new", 1, [0.0]) / "metrics.json").unlink()
    for program, out in ((plot, "x.png"), (export, "x.csv")):
        assert program.main([str(study), "--out", str(tmp_path / out)]) == 0
        lines = capsys.readouterr().err.splitlines()
        played = f"note: left out, an evaluation, which has no curves: {study}/played"
        assert {played, f"note: left out, nothing logged yet: {study}/new"} <= set(lines)


def test_a_table_has_no_networks(study, capsys):
    path = exported(study)
    assert "has no networks" in refused(plot, ["--heatmap", path], capsys)
    line = refused(plot, ["--heatmap", _alone(path)], capsys)
    assert "only tables, which have no networks" in line


def _alone(path: pathlib.Path) -> pathlib.Path:
    """A folder that holds the table and no run."""
    folder = path.parent / "tables"
    folder.mkdir()
    path.rename(folder / path.name)
    return folder


def test_until_leaves_out_later_entries(study, tmp_path):
    path = tmp_path / "table.md"
    assert plot.main([str(study), "--until", "300", "--out", str(path), "--where", "seed=1"]) == 0
    assert "| qmix | 1 | 0.333 | 0.333 | 1: 0.333 |" in path.read_text()


# The evidence, and the pages that speak of it


def test_the_evidence_is_small():
    tables = sorted(EVIDENCE.rglob("*.csv.gz"))
    assert len(tables) >= 8 and sum(path.stat().st_size for path in tables) < 4e6
    assert not list(EVIDENCE.rglob("*.json"))


def _script():
    spec = importlib.util.spec_from_file_location("fill_pages", ROOT / "scripts" / "fill_pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fill_pages = _script()
PAGES = [page for page in fill_pages.PAGES if "<!-- python src/plot.py" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_what_plot_prints(page):
    assert fill_pages.filled(page.read_text()) == page.read_text()


def test_a_stale_page_is_noticed_and_filled(tmp_path, capsys):
    page = tmp_path / "page.md"
    shown = "<!-- python src/plot.py results/evidence/fleet.csv.gz -->\n9.99\n<!-- end -->\n"
    page.write_text(shown)
    assert fill_pages.main(["--check", str(page)]) == 1 and page.read_text() == shown
    assert fill_pages.main([str(page)]) == 0 and "| qmix | 20 | 3.64 ± 1.08 |" in page.read_text()
    assert fill_pages.main(["--check", str(page)]) == 0


def _plots(page: pathlib.Path) -> list[str]:
    """The page's own plot commands on evidence."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("python src/plot.py") and "evidence" in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_plot_commands_of_a_page_work(page, tmp_path, capsys):
    commands = [line for line in _plots(page) if "--heatmap" not in line]
    assert commands
    for line in commands:
        line = line.replace("$evidence", "results/evidence")
        if brace := re.search(r"(\S*)\{(\S+?)\}(\S*)", line.split("--where")[0]):
            paths = " ".join(f"{brace[1]}{name}{brace[3]}" for name in brace[2].split(","))
            line = line.replace(brace[0], paths)
        words = [
            *shlex.split(line.partition(" --out ")[0], comments=True)[2:],
            "--out",
            str(tmp_path / "t.md"),
        ]
        with contextlib.chdir(ROOT):
            assert plot.main(words) == 0, (line, capsys.readouterr().err)


def test_the_highest_q_of_the_collapse_on_8m():
    """Stated on the page, and no final value."""
    (run,) = groups.selected(reader.find_runs([EVIDENCE / "8m.csv.gz"]), ["run=eoi_qmix-1"])
    assert round(run.metrics["q_abs_mean"].values.max()) == 468
    assert json.dumps(run.config)
