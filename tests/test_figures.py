"""Figures of the paper: their files, the runs they ask for, verdicts, pictures, and the page."""

import json
import pathlib
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from eoi import export, figure
from eoi import main as program
from eoi.batches import durations, engines, stacks
from eoi.batches.arms import jobs_of
from eoi.batches.jobs import find
from eoi.config import loader
from eoi.envs import REGISTRY, configured
from eoi.envs.pac_men import PacMen
from eoi.pictures import choices, curves, embedding, film, learning, paper, positions
from eoi.pictures.panels import panels, remarks
from eoi.records import exports, figures, labels, reader, statistics, summary, table, verdicts
from eoi.records.record import Record, Series
from eoi.records.verdicts import Claim, Side
from eoi.reports import results
from eoi.utils.errors import UserError
from helpers import make_trainer, tiny
from test_pictures import fake, refused

TINY = ["hidden_dim=8", "batch_size=16", "batch_size_run=2", "buffer_size=400"]
TINY += ["update_interval=30", "t_max=60", "test_interval=30", "log_interval=30"]
TINY += ["learning_starts=0", "test_nepisode=2", "save_interval=0"]


def run_of(values, seed: int = 0, metric: str = "test_return_mean", **config) -> Record:
    """A finished run with one metric, an entry every 300 steps."""
    settings = {"name": "qmix", "seed": seed, "env": "pac_men", "env_args": {"n_agents": 4}}
    series = Series(np.arange(len(values)) * 300, np.array(values, float))
    folder = pathlib.Path(f"runs/{seed}")
    return Record(folder, settings | config, "COMPLETED", {metric: series}, str(seed))


# The files


@pytest.mark.parametrize("name", figures.names())
def test_every_figure_asks_for_runs_that_can_start(name):
    found = figures.read(name)
    arms = jobs_of(found, [0, 1])
    assert arms.keys() | figures.unavailable(found).keys() == found.arms.keys() and arms
    assert len({job.identity for jobs in arms.values() for job in jobs}) == 2 * len(arms)
    assert found.title
    if figures.of_paper(name):
        assert found.claims and found.title.startswith(f"Figure {name[0]}")
    quick = jobs_of(found, [0], quick=True)
    for arm, (job,) in quick.items():
        assert job.t_max == max(1, arms[arm][0].t_max // 100)
        assert job.config["local_results_path"] == "results/quick"


def test_the_figures_are_those_of_the_paper():
    sides, letters = ("-left", "-right"), ("a", "b", "c")
    parts = {4: sides, 6: sides, 9: sides, 10: sides, 11: letters, 14: letters}
    expected = [f"{k}{part}" for k in range(4, 15) for part in parts.get(k, ("",))]
    assert (
        figures.names() == [*expected, "algorithms", "individuality", "marines", "runaway"]
        and len(expected) == 19
    )
    assert [name for name in figures.names() if figures.of_paper(name)] == expected


OWN = """
title: Mine
seeds: 2
settings: {t_max: 600}
arms:
  A: {config: qmix, lr: 5e-4}
  B: {config: nowhere}
panels: [{metric: test_snd, arms: [A]}]
claims:
  - {says: "A is good.", arm: A, above: [B, 3]}
"""


def own(tmp_path: pathlib.Path, text: str = OWN) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_figure_of_the_users_own(tmp_path):
    found = figures.read(own(tmp_path))
    assert (found.name, found.seeds) == ("mine", (0, 1))
    assert found.metrics == ["test_snd", "test_return_mean"]
    assert found.arms["A"].settings == ("t_max=600", "lr=0.0005")
    assert [claim.second for claim in found.claims] == [
        Side("B", "test_return_mean", "final"),
        3.0,
    ]
    assert (
        figures.unavailable(found) == {"B": figures.unavailable(found)["B"]}
        and "no algorithm 'nowhere'" in figures.unavailable(found)["B"]
    )
    (job,) = jobs_of(found, [7])["A"]
    assert (job.seed, job.config["seed"], job.config["lr"]) == (7, 7, 5e-4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Mine", "titel: Mine", "mine.yaml: titel: there is no such setting. Did you mean"),
        ("arms: [A]", "arms: [C]", "panels.1.arms: there is no arm 'C'"),
        ("metric: test_snd", "kind: curve", "panels.1.kind: expected one of 'curves'"),
        ("above: [B, 3]", "above: [C]", "claims.1.above: there is no arm 'C'"),
        ("above: [B, 3]", "level: B", "claims.1.margin: missing"),
        ("above: [B, 3]", "above: B, margin: 2", "claims.1.margin: has no effect with above"),
        ("above: [B, 3]", "above: B, below: B", "claims.1.expected one of above, below"),
        ("above: [B, 3]", "above: [[1]]", "expected an arm or a number"),
        ("arm: A,", "arm: A, score: finl,", "claims.1.score: expected one of 'final'"),
        ("{config: nowhere}", "qmix", "arms.B: expected its algorithm and settings"),
        (
            "{config: nowhere}",
            "{config: qmx}",
            "mine.yaml: arms.B.config: there is no algorithm 'qmx'. Did you mean 'qmix'?",
        ),
        ("above: [B, 3]", "less: C, above: B", "claims.1.above: there is no arm 'C'"),
        ("seeds: 2", "seeds: [1, 1]", "seeds: one is there twice"),
        ("seeds: 2", "seeds: []", "seeds: there is none; give a number such as 5"),
        ("metric: test_snd", "kind: worlds", "panels.1.kind: worlds needs the key worlds"),
        ("seeds: 2", "worlds: {w: 40}", "worlds.w: expected its environment, settings, and a best"),
        ("seeds: 2", "worlds: {w: {best: 0}}", "and a best return above 0, such as"),
    ],
)
def test_a_wrong_figure_is_refused_by_key(tmp_path, capsys, old, new, message):
    path = own(tmp_path, OWN.replace(old, new))
    assert message in refused(figure, [path], capsys)


FAMILY = """
title: A family
seeds: [7, 9]
settings: {t_max: 600, lr: 1e-3}
worlds:
  few: {env_args.dots_per_room: 1, best: 4}
  easy: {env: pac_men_easy, best: 6}
arms:
  A: {config: qmix, lr: 5e-4}
  B: {config: vdn}
panels:
  - {kind: worlds, metric: test_return_share, over: Dots, worlds: {4: few, 6: easy}}
  - {kind: worlds, metric: test_return_share, arms: [B]}
claims:
  - {says: "A is better.", arm: A, metric: test_return_share, above: [B, 0.5]}
  - says: It gains more on few dots.
    arm: A in few
    less: B in few
    metric: test_return_share
    above: A in easy
    other_less: B in easy
"""


def test_all_arms_of_a_figure_run_in_all_its_worlds(tmp_path):
    found = figures.read(own(tmp_path, FAMILY))
    assert found.seeds == (7, 9) and found.metrics == ["test_return_share"]
    assert [*found.arms] == ["A in few", "A in easy", "B in few", "B in easy"]
    arm = found.arms["A in few"]
    assert (arm.label, arm.world, arm.env, arm.best) == ("A", "few", "pac_men", 4)
    assert arm.settings == ("t_max=600", "lr=0.0005", "env_args.dots_per_room=1")
    assert found.arms["B in easy"].env == "pac_men_easy"
    assert [found.shown(part) for part in found.parts] == [
        [*found.arms],
        ["B in few", "B in easy"],
    ]
    assert [part.worlds for part in found.parts] == [
        {"4": "few", "6": "easy"},
        {"few": "few", "easy": "easy"},
    ]
    metric = "in Test return (share of best)"
    assert [claim.test for claim in found.claims] == [
        f"A in few above B in few {metric}",
        f"A in few above 0.500 {metric}",
        f"A in easy above B in easy {metric}",
        f"A in easy above 0.500 {metric}",
        f"A in few less B in few above A in easy less B in easy {metric}",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("6: easy", "6: esy", "panels.1.worlds: there is no world 'esy'. Did you mean 'easy'?"),
        (
            "arms: [B]",
            "arms: [B in few]",
            "panels.2.arms: there is no arm 'B in few'. There are: A, B",
        ),
        ("less: B in few", "less: B", "claims.2.above: there is no arm 'B'"),
    ],
)
def test_a_wrong_figure_over_worlds_is_refused_by_key(tmp_path, capsys, old, new, message):
    assert message in refused(figure, [own(tmp_path, FAMILY.replace(old, new))], capsys)


def test_the_family_of_the_study_of_individuality():
    found = figures.read("individuality")
    arms = jobs_of(found, found.seeds)
    assert found.seeds == tuple(range(71, 81)) and len(arms) == 6 * 6
    labels = dict.fromkeys(arm.label for arm in found.arms.values())
    forms = ["QMIX", "QMIX (every 5)", "EOI+QMIX", "EOI+QMIX (exploration)", "IPPO", "EOI+IPPO"]
    assert [*labels] == forms
    for name, (job, *_) in arms.items():
        world = configured(job.config["env"], job.config["env_args"])
        assert PacMen(world, 1).spec.reward_max == found.arms[name].best
        assert job.t_max == 10_000 * world.episode_limit
    every, own = (found.arms[f"{form} in default"] for form in ("QMIX (every 5)", "EOI+QMIX"))
    plain, eoi = (jobs_of(found, [0])[arm.name][0].config for arm in (every, own))
    assert all(plain[key] == eoi[key] for key in ("update_interval", "learning_starts"))


def test_bad_words_are_refused(tmp_path, capsys):
    assert "Did you mean '4-left'" in refused(figure, ["4-lft"], capsys)
    assert refused(figure, ["9"], capsys).endswith("Did you mean 9-left or 9-right?")
    assert refused(figure, ["11"], capsys).endswith("Did you mean 11a or 11b or 11c?")
    assert "there is no such file" in refused(figure, ["none.yaml"], capsys)
    assert "name one" in refused(figure, [], capsys)
    assert "has to end with" in refused(figure, ["7", "--out", "x.txt"], capsys)
    assert "names one picture" in refused(figure, ["7", "8", "--out", "x.png"], capsys)
    assert "eoi.alhpa" in refused(figure, ["8", "--dry-run", "with", "eoi.alhpa=1"], capsys)
    assert "no such run" in refused(figure, ["8", "--runs", "nothing"], capsys)
    for other in (["--quick"], ["--runs", "nothing"]):
        assert "goes with neither" in refused(figure, ["8", "--recorded", *other], capsys)
    fake(tmp_path / "1", 1, [0.0, 1.0], env="windy_maze")
    line = refused(figure, ["8", "--runs", tmp_path / "1"], capsys)
    assert "left out, of other worlds than pac_men: 1 of windy_maze" in line
    line = refused(figure, ["8", "--runs", tmp_path / "1", "--seeds", "7,8"], capsys)
    assert line.endswith("none of --runs has a seed of --seeds")


def test_a_figures_name_is_read_with_its_words_and_its_case(tmp_path, capsys):
    for name in ("Figure 4-left", "fig. 4-LEFT", "figure_4-left"):
        assert figures.read(name).name == "4-left"
    assert refused(figure, ["Figure9"], capsys).endswith("Did you mean 9-left or 9-right?")
    line = refused(figure, ["15"], capsys)
    assert line.endswith(f"There are: {', '.join(figures.names())}.")
    path = tmp_path / "mine.yml"
    path.write_text("title: x\narms: {A: {config: qmix}}\n")
    assert figures.read(str(path)).name == "mine"


def test_a_misspelt_metric_is_named_before_any_run(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    text = "title: x\narms: {A: {config: qmix}}\npanels: [{metric: test_retrun_mean}]\n"
    path.write_text(text)
    assert figure.main([str(path), "--dry-run"]) == 0
    line = capsys.readouterr().err
    assert "test_retrun_mean is not logged here; did you mean test_return_mean?" in line
    for own in ("test_lamps_visited_mean", "test_gold_mean", "value_loss", "test_score_mean"):
        path.write_text(text.replace("test_retrun_mean", own))
        assert figure.main([str(path), "--dry-run"]) == 0
        assert capsys.readouterr().err == ""


def test_a_figure_without_a_logged_metric(tmp_path, capsys):
    """One of pictures alone has its pictures and no table; of curves there is nothing to draw."""
    for panel, made in (("kind: actions", True), ("metric: my_own", False)):
        text = "title: x\narms: {A: {config: qmix, t_max: 1}}\npanels: [{" + panel + "}]\n"
        found = figures.read(own(tmp_path, text))
        (job,) = jobs_of(found, [0])["A"]
        run = Record(
            tmp_path, job.config, "COMPLETED", {"loss": run_of([1.0]).metrics.popitem()[1]}, ""
        )
        out = tmp_path / f"{made}.png"
        if made:
            figure.make(found, {"A": [run]}, out, False)
            assert out.exists() and out.with_suffix(".md").read_text() == "# x\n\n\n"
        else:
            with pytest.raises(UserError, match="no run has logged my_own"):
                figure.make(found, {"A": [run]}, out, False)


def test_runs_on_record_count_and_those_that_lack_are_made(tmp_path, monkeypatch, capsys):
    found = figures.read("13")
    arms = jobs_of(found, [0, 1, 2])
    config = arms["QMIX"][0].config
    recorded = {
        "QMIX": [Record(tmp_path, config | {"seed": s}, "COMPLETED", {}, "") for s in (1, 9)]
    }
    left = results.lacking(arms, recorded)
    assert [job.seed for job in left["QMIX"]] == [0]
    assert [job.seed for job in left["EOI+QMIX"]] == [0, 1, 2]
    both = results.together(recorded, {"EOI+QMIX": [], "QMIX": recorded["QMIX"][:1]})
    assert [len(runs) for runs in both.values()] == [3, 0]
    shutil.copy(results.EVIDENCE / "pac_men_easy.csv.gz", tmp_path)
    monkeypatch.setattr(results, "EVIDENCE", tmp_path)
    assert figure.main(["13", "--recorded", "--dry-run", "--seeds", "7", "-j", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("0 of 8 runs") and out.count("fleet.seeds=[0,1]") == 4


def test_runs_of_no_arm_are_counted():
    found = figures.read("13")
    config = jobs_of(found, [0])["QMIX"][0].config
    kinds = [(config, "COMPLETED"), (config, "COMPLETED"), (config, "FAILED")]
    kinds += [(config | {"lr": 7.0}, "COMPLETED"), (config | {"world": "other"}, "COMPLETED")]
    runs = [Record(pathlib.Path(str(k)), *kind, {}, "") for k, kind in enumerate(kinds)]
    assert list(results.left_out(found, runs, results.among(found, results.Pool(runs)))) == [
        "left out, of other worlds than pac_men_easy: 1 of other",
        "left out, not finished: 1 of 4",
        "left out, with settings of no arm or an arm's seed again: 2 of 4",
    ]


def test_runs_without_a_finite_score_are_named_in_the_sentence():
    arms = {"A": [run_of([0.0, x], k) for k, x in enumerate([1.0, np.nan, 2.0])]}
    found = verdicts.judge(claim("above", 0.0), arms)
    assert found.runs == (2, 0)
    assert found.sentence.endswith("2 seeds, without 1 run of A whose Test return is not finite")
    none = verdicts.judge(claim("above", 0.0), {"A": arms["A"][1:2]})
    assert none.sentence.startswith("no run of A has it, without 1 run of A")


# Verdicts


def claim(relation, second: Side | float, margin: float = 0.0) -> Claim:
    return Claim("", Side("A", "test_return_mean", "final"), relation, second, margin)


B = Side("B", "test_return_mean", "final")
LOW, HIGH, BOTH = [1.0, 2, 1, 2, 1], [7.0, 8, 7, 8, 7], [0.0, 9, 1, 8, 4]


@pytest.mark.parametrize(
    ("ours", "relation", "second", "margin", "outcome"),
    [
        (HIGH, "above", B, 0, "holds"),
        (HIGH, "below", B, 0, "contradicted"),
        (LOW, "below", 3.0, 0, "holds"),
        (BOTH, "above", B, 0, "level"),
        (BOTH, "below", B, 0, "level"),
        (LOW, "level", B, 3, "holds"),
        (HIGH, "level", B, 3, "contradicted"),
        (BOTH, "level", B, 3, "undecided"),
        (LOW, "not_above", 1.0, 1, "holds"),
        (HIGH, "not_above", B, 3, "contradicted"),
        (BOTH, "not_above", B, 3, "undecided"),
        (HIGH[:3], "above", B, 0, "undecided"),
        ([], "above", B, 0, "not measured"),
    ],
)
def test_a_claim_is_judged(ours, relation, second, margin, outcome):
    arms = {
        "A": [run_of([value], k) for k, value in enumerate(ours)],
        "B": [run_of([value], k) for k, value in enumerate([1.0, 2, 2, 3, 2])],
    }
    found = verdicts.judge(claim(relation, second, margin), arms)
    assert found.outcome == outcome
    assert found.runs == (len(ours), 5 if second is B else 0)


def test_a_verdict_in_words():
    arms = {
        "A": [run_of([value], k) for k, value in enumerate([4.0, 5, 6, 7])],
        "B": [run_of([value], k) for k, value in enumerate([1.0, 2, 3, 2])],
    }
    found = verdicts.judge(claim("above", B), arms)
    assert found.claim.test == "A above B in Test return"
    assert found.sentence.startswith(
        "5.50 against 2.00, difference of interquartile means +3.50 [+"
    )
    assert found.sentence.endswith("P(improvement) 1.00 [1.00, 1.00], 4 and 4 seeds")
    alone = verdicts.judge(claim("level", 4.0, 1.0), {"A": arms["A"][:1]})
    assert alone.claim.test == "A level with 4.00 (within 1.00) in Test return"
    assert alone.sentence == (
        "4.00 against 4.00, difference of interquartile means 0, P(improvement) 0.50, 1 seed"
    )
    assert verdicts.judge(claim("above", B), {}).sentence == "no run of A or B has it"


def test_two_metrics_of_one_arm_are_compared_and_nan_does_not_count():
    runs = [
        replace(run, metrics=run.metrics | {"p": Series(np.arange(4), np.array([0.0, 1, 1, 1]))})
        for run in (run_of([0.0, 0, 0, 8], k) for k in range(5))
    ]
    both = Claim("", Side("A", "p", "half"), "below", Side("A", "test_return_mean", "half"))
    found = verdicts.judge(both, {"A": runs})
    assert both.test == "A: p (half) below Test return (half)"
    assert found.outcome == "holds" and found.middles == (pytest.approx(1 / 3), 1)
    assert found.sentence.startswith(
        "0.333 against 1.00, interquartile mean of the differences -0.667 [-0.667, -0.667],"
    )
    assert found.sentence.endswith("P(lower) 1.00 [1.00, 1.00], 5 seeds")
    few = {"A": runs[:4]}
    assert verdicts.judge(both, few).outcome == "undecided"
    broken = [*runs, run_of([np.nan], 9)]
    assert verdicts.judge(claim("above", 1.0), {"A": broken}).runs == (5, 0)


def test_the_runs_of_two_arms_are_subtracted_seed_by_seed():
    """Gains 3, 1, 2, 4 and 6 - 6 = 0 have interquartile mean 2; seed 9 has no partner."""
    arms = {
        "A": [run_of([value], k) for k, value in enumerate([4.0, 5, 5, 7, 6])] + [run_of([9.0], 9)],
        "B": [run_of([value], k) for k, value in reversed([*enumerate([1.0, 4, 3, 3, 6])])],
    }
    gain = replace(claim("above", 0.0).first, less="B")
    found = verdicts.judge(replace(claim("above", 0.0), first=gain), arms)
    assert found.middles == (2, 0) and found.runs == (5, 0) and found.outcome == "holds"
    assert found.claim.test == "A less B above 0 in Test return"
    none = verdicts.judge(replace(claim("above", 0.0), first=gain), {"A": arms["A"]})
    assert none.outcome == "not measured" and none.sentence == "no run of A less B has it"


def test_a_run_that_is_older_than_a_setting_has_its_default():
    found = figures.read("runaway")
    whole = jobs_of(found, [1])["Pull on QMIX"][0].config
    older = {key: value for key, value in whole["eoi"].items() if key != "trust_region"}
    for eoi, arm in ((older, "Pull on QMIX"), ({**older, "trust_region": 0.5}, "trust region")):
        (name,) = results.among(found, results.Pool([run_of([1.0], **{**whole, "eoi": eoi})]))
        assert name.endswith(arm)


def test_scores_that_are_no_final_values_have_a_table_of_their_own():
    arms = {
        "A": [run_of([0.0, 4.0, 8.0], 2), run_of([0.0, 2.0, 4.0], 1)],
        "B": [run_of([1.0, 1.0, 1.0], 1)],
    }
    mean = Side("A", "test_return_mean", "mean")
    final = Side("B", "test_return_mean", "final")
    gain = replace(final, arm="A", less="B")
    claims = [Claim("", mean, "above", final), Claim("", gain, "above", 0.0)]
    claims.append(Claim("", Side("C", "test_return_mean", "mean"), "below", mean))
    assert verdicts.scores_beside(claims, arms)[1:] == [
        ["A: Test return (mean)", "2", "3.00", "1: 2.00, 2: 4.00"],
        ["A less B: Test return", "1", "3.00", "1: 3.00"],
    ]


# The runs


def in_process(called: list[list[str]]):
    """An engine that trains in this process, and collects the commands."""

    def engine(tasks, pace, screen):
        for task in tasks:
            called.append(task.command()[2:])
            assert program.main(called[-1]) == 0
        return False

    return engine


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Figures 5, 7 and 11c of tiny runs, and then figure 7 again."""
    folder, called = tmp_path_factory.mktemp("figures"), []
    given = ["with", *TINY, f"local_results_path={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engines.ENGINES, "local", in_process(called))
        patch.setattr(figure, "ROOT", folder)
        patch.setattr(paper, "EPISODES", 2)
        assert figure.main(["5", "7", "11c", "--quick", "-j", "1", *given]) == 0
        first = list(called)
        assert figure.main(["7", "--quick", *given]) == 0
    return SimpleNamespace(folder=folder, given=given, first=first, again=called[len(first) :])


def test_what_is_missing_runs_once_as_fleets(made):
    arms = ["qmix", "qmix", "eoi_qmix", "eoi_qmix_literal", "qmix"]  # figures 5 and 7
    arms += ["eoi_maac", "eoi_maac", "eoi_qmix", "eoi_qmix_literal"]  # 11c
    assert [words[0] for words in made.first] == [f"--config={arm}" for arm in arms]
    assert all("fleet.seeds=[0,1]" in words for words in made.first) and made.again == []


def test_a_figure_is_a_picture_its_verdicts_and_its_runs(made):
    folder = made.folder / "results" / "quick" / "figures"
    pictures = ["5", "5_embedding", "7", "11c"]
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(
        f"figure_{name}.png" for name in pictures
    )
    assert all(np.asarray(Image.open(path)).std() > 5 for path in folder.glob("*.png"))
    text = (folder / "figure_11c.md").read_text()
    assert text.startswith("# Figure 11 (c): mean") and text.count("**undecided**") == 6
    assert "| EOI+MAAC+LFO | 2 |" in text
    records = table.read(folder / "figure_11c.csv.gz")
    assert len(records) == 8 and "lfo_weight_mean" in records[0].metrics
    assert "q_taken_mean" not in records[0].metrics


def test_runs_that_cannot_be_read_are_named_in_a_line(made, tmp_path, capsys):
    found = figures.read("11c")
    arms = jobs_of(found, [0, 1], made.given[1:])
    every = [job for jobs in arms.values() for job in jobs]
    find(every)
    damaged = shutil.copytree(every[0].folder, tmp_path / "1")
    (damaged / "metrics.json").write_text('{"x": ')
    every[0].folder = damaged
    records = figure.finished(arms)
    assert [len(members) for members in records.values()] == [1, 2, 2, 2]
    assert "metrics.json: damaged" in capsys.readouterr().err
    records["EOI+QMIX+LFO"][0].metrics["lfo_weight_mean"].values[0] = np.nan
    figure.note_nan(found, records)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: EOI+QMIX+LFO: lfo_weight_mean of ") and "not finite" in line


@pytest.mark.parametrize("name", ["6-left", "8"])
def test_learning_curves_of_a_figure(name):
    found, notes = figures.read(name), []
    arms = {
        arm: [run_of([0.0, 1 + k, 2], 0), run_of([0.0, 2, 3 + k], 1)]
        for k, arm in enumerate(found.arms)
    }
    ((suffix, picture),) = paper.drawn(found, arms, notes.append)
    assert suffix == "" and len(picture.axes) == len(found.parts)
    names = [text.get_text() for text in picture.legends[0].get_texts()]
    assert names == [f"{arm} (2 seeds)" for arm in arms]
    text = results.section(found, arms)
    assert all(f"| {arm} | 2 |" in text for arm in arms) and "No runs yet" not in text


def family(tmp_path: pathlib.Path, text: str = FAMILY) -> tuple[figures.Figure, figure.Arms]:
    """The figure, and runs of it: A has 1/2 and 2/3 of the best returns, B 1/4 and 1/3."""
    found = figures.read(own(tmp_path, text))
    ends = {"A in few": 2.0, "A in easy": 4.0, "B in few": 1.0, "B in easy": 2.0}
    arms = {name: [run_of([0.0, end], seed) for seed in (7, 9)] for name, end in ends.items()}
    return found, figures.with_shares(found, arms)


def test_over_all_worlds_of_a_figure(tmp_path):
    found, arms = family(tmp_path)
    text = results.section(found, arms)
    assert "| over all worlds | runs |" in text
    assert "| A | 4 | 0.583 [0.583, 0.583] | 0.417 [0.417, 0.417] |" in text
    assert "| B | 4 | 0.292 [0.292, 0.292] | 0.708 [0.708, 0.708] |" in text
    del arms["B in few"]  # so B's runs are of other worlds than A's
    assert "| A | 4 |" in results.section(found, arms)
    assert "| B | 2 |" not in results.section(found, arms)


def test_a_world_without_a_best_return_leaves_no_table_over_worlds(tmp_path):
    found, arms = family(tmp_path, FAMILY.replace(", best: 6", ""))
    text = results.section(found, arms)
    assert "| A in few | 2 |" in text and "over all worlds" not in text


def test_a_figure_of_one_world_has_no_table_over_worlds():
    found = figures.read("8")
    arms = {arm: [run_of([0.0, 1.0], seed) for seed in (0, 1)] for arm in found.arms}
    assert "over all worlds" not in results.section(found, arms)


def test_final_values_over_worlds_are_shares_of_the_best_return(tmp_path):
    found, arms = family(tmp_path)
    ((suffix, picture),) = paper.drawn(found, arms, print)
    first, second = picture.axes
    assert suffix == "" and first.get_ylabel() == "Test return (share of best)"
    assert [first.get_xlabel(), second.get_xlabel()] == ["Dots", ""]
    assert [text.get_text() for text in first.get_xticklabels()] == ["4", "6"]
    assert [text.get_text() for text in second.get_xticklabels()] == ["few", "easy"]
    means = [[bar.lines[0].get_ydata().tolist() for bar in a.containers] for a in picture.axes]
    ours, theirs = pytest.approx([1 / 2, 2 / 3]), pytest.approx([1 / 4, 1 / 3])
    assert means == [[ours, theirs], [theirs]]
    dots = [line for line in first.lines if line.get_marker() == "o"]
    assert sorted(len(line.get_ydata()) for line in dots) == [2, 2, 2, 2]
    names = [text.get_text() for text in picture.legends[0].get_texts()]
    assert names == ["A (2 seeds)", "B (2 seeds)"]
    (gain,) = results.verdicts(found, arms)[-1:]
    assert gain.middles == (pytest.approx(1 / 4), pytest.approx(1 / 3))
    notes: list[str] = []
    assert list(paper.drawn(found, {}, notes.append)) == []
    assert notes == ["figure mine: no run has logged test_return_share, test_return_share"]


def test_learning_curves_have_a_row_for_each_world_of_a_figure(tmp_path):
    text = FAMILY.replace("B: {config: vdn}", "B: {config: vdn, like: A}")
    found, arms = family(tmp_path, text.replace("kind: worlds, ", "").replace("over: Dots,", ""))
    ((_, picture),) = paper.drawn(found, arms, print)
    titles = [a.get_title(loc="left") + a.get_title() for a in picture.axes]
    assert titles == ["few", "", "easy", ""]
    names = [text.get_text() for text in picture.legends[0].get_texts()]
    assert names == ["A (2 seeds)", "B (2 seeds)"]
    first, second = (line.get_color() for line in picture.legends[0].get_lines())
    assert first == second


def test_a_figure_over_worlds_is_drawn_again_from_its_table(tmp_path):
    path, out, again = own(tmp_path, FAMILY), tmp_path / "a.png", tmp_path / "b.png"
    found = figures.read(path)
    series = {"test_return_mean": Series(np.arange(2) * 300, np.array([0.0, 3.0]))}
    arms = {
        name: [Record(tmp_path / name / str(j.seed), j.config, "COMPLETED", series, "") for j in js]
        for name, js in jobs_of(found, found.seeds).items()
    }
    figure.make(found, arms, out, False)
    page, runs = out.with_suffix(".md").read_text(), table.read(tmp_path / "a.csv.gz")
    assert "| A in easy | 2 | 0.500" in page and len(runs) == 8
    assert all([*run.metrics] == ["test_return_mean"] for run in runs)
    assert figure.main([path, "--runs", str(tmp_path / "a.csv.gz"), "--out", str(again)]) == 0
    assert again.with_suffix(".md").read_text() == page


def test_five_panels_of_one_world_fill_two_rows_and_some_are_logarithmic():
    found = figures.read("runaway")
    series = run_of([0.1, 10.0, 1000.0]).metrics["test_return_mean"]
    runs = [replace(run_of([0.0], k), metrics=dict.fromkeys(found.metrics, series)) for k in (0, 1)]
    ((_, picture),) = paper.drawn(found, dict.fromkeys(found.arms, runs), print)
    assert [a.get_yscale() for a in picture.axes if a.axison] == ["linear", *["log"] * 4]
    assert [a.get_subplotspec().rowspan.start for a in picture.axes] == [0, 0, 0, 1, 1, 1]
    assert [a.get_title(loc="left") + a.get_title() for a in picture.axes] == ["pac_men", *[""] * 5]
    assert "band: lowest to highest seed" in picture.get_supxlabel()


def test_every_metric_that_was_logged_has_a_label(made):
    every = {name for record in reader.find_runs([made.folder]) for name in record.metrics}
    assert len(every) > 40 and [name for name in every if not labels.known(name)] == []


def test_figures_are_drawn_from_runs_and_tables(made, tmp_path, capsys):
    out = tmp_path / "eleven.pdf"
    source = made.folder / "results" / "quick" / "figures" / "figure_11c.csv.gz"
    words = ["11c", "--quick", "--runs", str(source), "--out", str(out), *made.given]
    assert figure.main(words) == 0 and out.read_bytes().startswith(b"%PDF")
    whole = (source.parent / "figure_11c.md").read_text()
    assert out.with_suffix(".md").read_text()[:600] == whole[:600]
    capsys.readouterr()
    table.write(tmp_path / "maps.csv.gz", reader.find_runs([made.folder]))
    words = ["5", "--runs", str(tmp_path / "maps.csv.gz"), *words[4:]]
    assert figure.main(words) == 0
    assert "positions: QMIX has no saved networks" in capsys.readouterr().err


def test_the_list_tells_what_is_left(made, capsys, monkeypatch):
    monkeypatch.setattr(reader, "SACRED", made.folder / "sacred")
    assert figure.main(["7", "6-right", "--list", "--quick", *made.given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["7", "2/2", "0:00"] and lines[2].split()[:2] == [
        "6-right",
        "4/6",
    ]
    assert lines[3].split()[:2] == ["all", "6/8"] and "measured" in lines[4]


def test_the_list_counts_the_runs_on_record(tmp_path, capsys, monkeypatch):
    """The table of easy Pac-Men has five seeds of each arm of figure 13."""
    shutil.copy(results.EVIDENCE / "pac_men_easy.csv.gz", tmp_path)
    monkeypatch.setattr(results, "EVIDENCE", tmp_path)
    assert figure.main(["13", "--list", "--seeds", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[3] == "8/8"
    assert figure.main(["13", "--list", "--seeds", "7", "with", "lr=0.123"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[3] == "0/28"


def test_an_algorithm_that_is_not_here_is_left_out_in_a_line(tmp_path, capsys):
    assert figure.main([own(tmp_path), "--dry-run", "-j", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].endswith("t_max=600 lr=0.0005 'fleet.seeds=[0,1]' threads=1")
    assert err.startswith("note: figure mine: B is left out: no algorithm 'nowhere' in config/algs")
    assert err.count("\n") == 1
    none = OWN.replace("{config: qmix, lr: 5e-4}", "{config: nothing}")
    assert "no arm of it can run" in capsys_error(figure, own(tmp_path, none), capsys)


def test_an_arm_that_a_run_would_refuse_is_named(tmp_path, capsys):
    error = capsys_error(figure, own(tmp_path, OWN.replace("lr: 5e-4", "lrr: 1")), capsys)
    assert error.startswith("error: figure mine: A: with lrr: there is no such setting. Did you")


def capsys_error(module, path: str, capsys) -> str:
    assert module.main([path]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_protocol_of_gorsane(capsys):
    assert figure.main(["14b", "--dry-run", "-j", "2", "--protocol", "gorsane"]) == 0
    (line, _) = [x for x in capsys.readouterr().out.splitlines() if "fleet" in x]
    assert "test_nepisode=32 absolute_nepisode=320 'fleet.seeds=[0,1,2,3,4,5,6,7,8,9]'" in line


def test_seeds_stack_where_their_world_allows_it_and_fill_the_processes():
    jobs = [job for arm in jobs_of(figures.read("14b"), range(5)).values() for job in arm]
    titles = [[task.title for task in stacks.stacked(jobs, n)] for n in (1, 4, 99)]
    assert titles[0] == [f"pac_men {a} seeds 0, 1, 2, 3, 4" for a in ("ippo", "eoi_ippo")]
    assert titles[1][:2] == [f"pac_men ippo seeds {s}" for s in ("0, 1, 2", "3, 4")]
    assert len(titles[2]) == 10 and titles[2][0] == "pac_men ippo seed 0"
    jobs[1].state, jobs[1].folder = "cut", pathlib.Path("cut")
    first, second, _ = stacks.stacked(jobs, 1)
    assert first.command()[-2:] == ["--resume", "cut"] and "fleet.seeds=[0,2,3,4]" in str(
        second.command()
    )
    second.remark = "no memory"
    assert jobs[0].remark == jobs[4].remark == "no memory" != jobs[1].remark
    fight = jobs_of(figures.read("10-right"), [0, 1], ["env_args.engine=lite"])["QMIX"]
    assert [task.title for task in stacks.stacked(fight, 1)] == [job.title for job in fight]


def test_a_command_of_a_dry_run_can_be_typed(capsys):
    assert figure.main(["14b", "--dry-run", "-j", "1", "with", "label=a b"]) == 0
    assert " 'label=a b' " in capsys.readouterr().out


def test_a_figure_has_its_seeds_from_one_place(capsys):
    assert "use --seeds" in refused(figure, ["13", "with", "seed=3"], capsys)


def test_a_run_of_a_figure_that_fails_ends_its_array_job_with_1(tmp_path, monkeypatch):
    monkeypatch.setattr(figure, "ENGINES", {"local": lambda *_: False})
    words = [own(tmp_path), "--only", "0", "with", f"local_results_path={tmp_path}"]
    assert figure.main(words) == 1


def test_given_runs_of_given_seeds_alone(tmp_path):
    table = str(results.EVIDENCE / "pac_men_easy.csv.gz")
    for name, seeds in (("a.v1", "61-63"), ("a.v2", "61-61")):
        words = ["13", "--runs", table, "--seeds", seeds, "--out", str(tmp_path / f"{name}.png")]
        assert figure.main(words) == 0
    rows = [len(reader.find_runs([tmp_path / f"a.v{k}.csv.gz"])) for k in (1, 2)]
    assert rows == [12, 4]


def test_an_array_job_runs_one_run_of_a_figure_a_task(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engines, "ROOT", tmp_path)
    assert figure.main(["14b", "--on", "slurm", "-j", "3"]) == 0
    text = (tmp_path / "results" / "figure.sbatch").read_text()
    assert "--array=0,1,2,3,4,5,6,7,8,9%3" in text
    assert '/run.sh figure 14b --only "$SLURM_ARRAY_TASK_ID" -j 1' in text


def test_a_run_is_found_though_a_setting_is_newer(made):
    (job, _) = jobs_of(figures.read("13"), [0, 1], made.given[1:])["QMIX"]
    find([job])
    assert job.state == "new"
    (job, _) = jobs_of(figures.read("5"), [0, 1], made.given[1:])["EOI+QMIX"]
    find([job])
    assert job.state == "finished"
    path = job.folder / "config.json"
    config = json.loads(path.read_text())
    del config["absolute_nepisode"]
    path.write_text(json.dumps(config))
    find([job])
    assert job.state == "finished"
    with pytest.MonkeyPatch.context() as patch:  # a later arm's module has settings of its own
        patch.setitem(loader._DECLARED, "mine", {"weight": 0.0})
        find([job])
    assert job.state == "finished"


def test_how_long_runs_take_is_measured(tmp_path):
    (job, other) = jobs_of(figures.read("13"), [0, 1])["QMIX"]
    run = fake(tmp_path / "1", 3, [0.0], t_max=6000)
    record = {"status": "COMPLETED", "meta": {"together": 2}}
    times = {"start_time": "2026-01-01T00:00:00", "stop_time": "2026-01-01T00:01:00"}
    (run / "run.json").write_text(json.dumps(record | times))
    speeds = durations.measured([tmp_path, tmp_path / "none"])
    assert speeds.of(job) == 200  # two runs of 6,000 steps in 60 seconds
    assert durations.Speeds({("vdn", "pac_men"): 50.0}).of(job) == 50
    assert durations.measured([]).of(job) == durations.ESTIMATE
    (run / "run.json").write_text(json.dumps(record | times | {"status": "INTERRUPTED"}))
    assert durations.measured([tmp_path]) == durations.Speeds({})
    job.folder, other.state = fake(tmp_path / "2", 0, [0.0, 0, 0, 0]), "finished"
    assert speeds.left([job, other]) == (300_000 - 900) / 200


# The absolute metric


@pytest.mark.parametrize("runs", [1, 2])
def test_the_absolute_metric_is_of_the_best_networks(tmp_path, runs):
    every = [tiny("qmix", seed=seed, absolute_nepisode=6, lr=0.1) for seed in range(runs)]
    logged = []
    trainer = make_trainer(*every, folder=tmp_path, logged=logged)
    trainer.train()
    found = [value for name, value, step in logged if name == "absolute_return_mean"]
    assert len(found) == runs and {step for _, _, step in logged} >= {trainer.at.t}
    for place, settings in enumerate(every):
        alone = make_trainer(settings, folder=tmp_path if runs == 1 else tmp_path / str(place))
        alone.runs[0].take_best()
        outcomes, _ = alone._greedy("absolute", 6, [0])
        returns = torch.cat([outcome.returns for outcome in outcomes[0]])
        assert len(returns) == 6 and found[place] == pytest.approx(float(returns.mean()))


def test_a_run_without_its_best_networks_fails_alone(tmp_path, caplog):
    every = [tiny("qmix", seed=seed, absolute_nepisode=6) for seed in range(2)]
    logged = []
    trainer = make_trainer(*every, folder=tmp_path, logged=logged)
    trainer.train()
    (tmp_path / "0/models/best.pt").unlink()
    logged.clear()
    trainer.absolute()
    assert [name for name, *_ in logged].count("absolute_return_mean") == 1
    assert "best.pt" in caplog.text and "the other runs go on" in caplog.text


def test_the_absolute_metric_needs_saved_networks():
    with pytest.raises(UserError, match="absolute_nepisode: plays the best networks"):
        tiny("qmix", absolute_nepisode=320, save_model=False)


# Exports


def two_groups() -> dict[str, dict[str, list[Record]]]:
    first = [run_of([1.0, 3], 2), run_of([0.0, 2], 1)]
    absolute = Series(np.array([300]), np.array([5.0]))
    first[1].metrics["absolute_return_mean"] = absolute
    return {"pac_men": {"a, lr=1": first, "b_1": [run_of([4.0, 5, 6], 1)]}}


def test_the_tree_of_marl_eval():
    content, notes, exported = exports.marl_eval(two_groups(), ["test_return_mean"])
    assert content == {
        "pac_men": {
            "pac_men": {
                "a lr=1": {
                    "run_0": {
                        "step_0": {"step_count": 0, "return": [0.0]},
                        "step_1": {"step_count": 300, "return": [2.0]},
                        "absolute_metrics": {"return": [5.0]},
                    }
                },
                "b_1": {
                    "run_0": {
                        "step_0": {"step_count": 0, "return": [4.0]},
                        "step_1": {"step_count": 300, "return": [5.0]},
                        "absolute_metrics": {"return": [6.0]},
                    }
                },
            }
        }
    }
    assert notes == [
        "pac_men: a, lr=1 has 2 runs, of which 1 are exported",
        "pac_men: of up to 3 tests of a run, the 2 at steps of all runs are exported",
        "pac_men: runs without an absolute metric have their final value in it",
    ]
    assert exported == 2
    with pytest.raises(UserError, match="has not logged test_snd"):
        exports.marl_eval(two_groups(), ["test_snd"])


def test_marl_eval_has_tests_of_equal_steps_and_algorithms_of_all_tasks():
    often, seldom = run_of([0.0, 1, 2, 3, 4], 1), run_of([5.0, 6, 7], 1, name="vdn")
    steps = seldom.metrics["test_return_mean"].steps
    seldom.metrics["test_return_mean"] = Series(steps * 2, np.array([5.0, 6, 7]))
    other = {"pac_men (a=2)": {"qmix": [often]}}
    worlds = {"pac_men (a=1)": {"qmix": [often], "vdn": [seldom]}} | other
    content, notes, _ = exports.marl_eval(worlds, ["test_return_mean"])
    assert [list(own) for own in content["pac_men"].values()] == [["qmix"], ["qmix"]]
    absent = "pac_men: vdn did not run in all of pac_men (a=1), pac_men (a=2), and is left out"
    assert absent in notes
    del worlds["pac_men (a=2)"]
    content, *_ = exports.marl_eval(worlds, ["test_return_mean"])
    for name, values in (("qmix", [0, 2, 4]), ("vdn", [5, 6, 7])):
        run = content["pac_men"]["pac_men (a=1)"][name]["run_0"]
        tests = [run[f"step_{k}"] for k in range(3)]
        assert tests == [
            {"step_count": step, "return": [value]}
            for step, value in zip((0, 600, 1200), values, strict=True)
        ]
    with pytest.raises(UserError, match="no algorithm ran in all of"):
        exports.marl_eval({"a": {"vdn": [seldom]}} | other, ["test_return_mean"])
    seldom.metrics["test_return_mean"] = Series(steps * 2 + 1, np.array([5.0, 6, 7]))
    with pytest.raises(UserError, match="no step has a test of every run"):
        exports.marl_eval(worlds, ["test_return_mean"])


@pytest.mark.parametrize("names", [("x,y", "xy"), ("A", "a")])
def test_marl_eval_is_not_given_names_that_it_takes_for_one(names):
    worlds = {"pac_men": {name: [run_of([0.0, 1], 1)] for name in names}}
    with pytest.raises(UserError, match=r"takes 'A' and 'a'|takes 'x,y' and 'xy'"):
        exports.marl_eval(worlds, ["test_return_mean"])


def test_marl_eval_is_not_given_what_json_cannot_say():
    worlds = {"pac_men": {"qmix": [run_of([0.0, float("nan")], 1)]}}
    with pytest.raises(UserError, match="not finite at step 300, which JSON cannot say"):
        exports.marl_eval(worlds, ["test_return_mean"])


def test_a_seed_that_is_exported_twice_is_named(tmp_path, capsys):
    for place in ("1", "2"):
        fake(tmp_path / "runs" / place, 7, [0.0, 1.0])
    out = tmp_path / "x.tex"
    assert export.main([str(tmp_path / "runs"), "--out", str(out)]) == 0
    remark = "pac_men, qmix: a seed occurs more than once among its 2 runs"
    assert f"note: {remark}" in capsys.readouterr().err and f"% {remark}" in out.read_text()


def test_metrics_of_other_steps_do_not_stand_beside_each_other():
    worlds = two_groups()
    for record in (each for groups in worlds.values() for own in groups.values() for each in own):
        values = record.metrics["test_return_mean"].values
        record.metrics["p"] = Series(np.arange(len(values)) * 300 + 5, values)
    with pytest.raises(UserError, match="p and test_return_mean were logged at different steps"):
        exports.marl_eval(worlds, ["test_return_mean", "p"])


def test_tables_for_other_programs():
    assert exports.table_of_runs(two_groups(), ["test_return_mean"]).splitlines() == [
        "world,algorithm,seed,metric,score,value",
        'pac_men,"a, lr=1",1,test_return_mean,final,2',
        'pac_men,"a, lr=1",1,test_return_mean,absolute,5',
        'pac_men,"a, lr=1",2,test_return_mean,final,3',
        "pac_men,b_1,1,test_return_mean,final,6",
    ]
    lines = exports.latex(two_groups(), ["test_return_mean", "test_snd"]).splitlines()
    assert lines[4].startswith(" & pac\\_men: Test return & pac\\_men: Test system neural")
    assert lines[6:8] == ["a, lr=1 & 2.50 & -- \\\\", "b\\_1 & 6.00 & -- \\\\"]


def test_words_of_latex_and_markdown_stand_for_themselves():
    worlds = {"w": {r"a{b}^c~d\e": [run_of([1.0], 1)]}}
    row = exports.latex(worlds, ["test_return_mean"]).splitlines()[6]
    escaped = r"a\{b\}\textasciicircum{}c\textasciitilde{}d\textbackslash{}e"
    assert row == escaped + r" & 1.00 \\"
    assert summary.markdown([["", "r"], ["a|b", "1"]]).splitlines()[2] == r"| a\|b | 1 |"


def test_the_command_exports_by_the_files_name(tmp_path, capsys):
    for seed in (1, 2):
        fake(tmp_path / "runs" / str(seed), seed, [0.0, seed])
    for suffix, start in ((".json", '{"pac_men"'), (".csv", "world,"), (".tex", "% inter")):
        out = tmp_path / f"x{suffix}"
        assert export.main([str(tmp_path / "runs"), "--out", str(out)]) == 0
        assert out.read_text().startswith(start)
    said = capsys.readouterr()
    assert "absolute metric have their final" in said.err
    assert said.out.count(": 2 runs, ") == 3
    fake(tmp_path / "runs" / "3", 3, [0.0, float("nan")])
    assert export.main([str(tmp_path / "runs"), "--out", str(tmp_path / "x.csv")]) == 0
    line = f"note: test_return_mean of {tmp_path}/runs/3 is not finite at step 300\n"
    assert capsys.readouterr().err.startswith(line)
    words = [tmp_path / "runs", "--out", tmp_path / "x.txt"]
    assert ".json, .csv, .tex" in refused(export, words, capsys)
    words = [tmp_path / "runs", "--out", tmp_path / "x.csv", "--by", "eoi.alhpa"]
    assert "Did you mean 'eoi.alpha'" in refused(export, words, capsys)


# Pictures


def test_labels_and_chance():
    assert labels.label("test_return_mean") == "Test return"
    assert labels.label("return_mean") == "Training return"
    assert labels.label("test_dots_eaten_mean_2") == "Test dots eaten (dots), agent 2"
    assert labels.label("absolute_battle_won_mean") == "Absolute win rate"
    assert labels.label("pull_td_cosine") == "Cosine of the pull and temporal difference gradients"
    assert labels.label("my_own") == "my_own" and not labels.known("my_own")
    assert labels.meant("test_return_maen") == "test_return_mean"
    assert labels.meant("test_return_mean") == labels.meant("test_gold_mean") == ""
    skills = run_of([0.0], n_skills=8, skills_start=0)
    assert labels.chance("skill_probability", [skills]) == 0.125
    growing = run_of([0.0], n_skills=8, skills_start=4)
    assert labels.chance("skill_accuracy", [growing]) is None
    runs = [run_of([0.0]), run_of([0.0], env_args={"n_agents": 2})]
    assert labels.chance("lfo_weight_mean", runs[:1]) == 0.25
    assert labels.chance("test_probe_accuracy", runs[1:]) == 0.5
    assert labels.chance("lfo_weight_mean", runs) is None
    assert labels.chance("test_return_mean", runs[:1]) is None
    assert labels.chance("classifier_ce", runs[1:]) == pytest.approx(0.6931, abs=1e-4)
    fight = run_of([0.0], env_args={"map_name": "8m"})
    assert labels.chance("individuality_mean", [fight]) == 0.125
    for name, agents in (("2s3z", 5), ("27m_vs_30m", 27), ("3s_vs_5z", 3), ("MMM", 10)):
        assert labels.agents_of(run_of([0.0], env_args={"map_name": name})) == agents
    game = run_of([0.0], env_args={"key": "mpe2.simple_spread_v3"})
    returns = {f"test_agent_return_mean_{i}": game.metrics["test_return_mean"] for i in range(3)}
    assert labels.agents_of(replace(game, metrics=returns)) == 3
    assert labels.agents_of(game) is None


def test_short_curves_keep_their_shape_beside_long_ones():
    long, short = run_of(np.arange(100.0)), run_of([0.0, 9, 0, 0, 0], 1, name="vdn")
    rows = panels([long, short], None, "steps", None)
    axes = learning.learning_curves(rows, None, "std").axes[0]
    thick = [line.get_ydata() for line in axes.lines if line.get_linewidth() > 1]
    assert [9.0 in list(line) for line in thick] == [False, True] or thick[1].max() == 9
    assert axes.get_ylim()[0] < 0  # a curve at 0 is not hidden by the axis


def test_the_band_of_the_interquartile_mean():
    runs = [curves.Curve(np.arange(2.0), np.array([0.0, end])) for end in (0.0, 1, 2, 30)]
    found = curves.summarise(runs, "iqm")
    assert found.mean.tolist() == [0, 1.5] and found.low[1] < 1.5 < found.high[1] <= 30
    assert (found.low[0], found.high[0]) == (0, 0)


def test_unfinished_runs_are_not_averaged_with_finished_ones():
    whole = [run_of([0.0] * 10, seed, t_max=2700) for seed in (0, 1)]
    cut = replace(run_of([9.0] * 2, 2, t_max=2700), status="INTERRUPTED")
    for by in (None, ["name"]):
        ((panel,),) = panels([cut, *whole], None, "steps", by)
        assert {name: len(group) for name, group in panel.groups.items()} == {
            "qmix": 2,
            "qmix, unfinished": 1,
        }
    assert remarks(panel) == ["pac_men, qmix, unfinished: " + _AT_300]
    content, notes, _ = exports.marl_eval({"pac_men": panel.groups}, ["test_return_mean"])
    assert list(content["pac_men"]["pac_men"]) == ["qmix"]
    assert f"pac_men: {cut.folder} is unfinished, and is left out" in notes
    del panel.groups["qmix"]
    content, *_ = exports.marl_eval({"pac_men": panel.groups}, ["test_return_mean"])
    assert list(content["pac_men"]["pac_men"]) == ["qmix unfinished"]


_AT_300 = "runs/2 has reached step 300 of 2,700 (INTERRUPTED)"


@pytest.mark.parametrize(
    ("status", "t_max", "until", "label"),
    [
        ("COMPLETED", 9000, None, "qmix"),
        ("INTERRUPTED", 2700, None, "qmix, unfinished"),
        ("RUNNING", 2700, None, "qmix, unfinished"),
        ("FAILED", None, None, "qmix, unfinished"),
        ("FAILED", 300, None, "qmix"),  # after its training
        ("INTERRUPTED", 2700, 300, "qmix"),
        ("INTERRUPTED", 2700, 299, "qmix"),
        ("INTERRUPTED", 2700, 301, "qmix, unfinished"),
    ],
)
def test_a_run_alone_is_unfinished_by_its_status_and_t_max(status, t_max, until, label):
    run = replace(run_of([1.0, 2], **({"t_max": t_max} if t_max else {})), status=status)
    ((panel,),) = panels([run.until(until) if until else run], None, "steps", None)
    assert list(panel.groups) == [label]


def test_an_arm_like_another_has_its_colour_dotted():
    rows = panels([run_of([0.0, 1]), run_of([1.0, 2], name="vdn")], None, "steps", None)
    styles = learning.styles_of(rows, {"vdn": "qmix"})
    assert styles["vdn"]["color"] == styles["qmix"]["color"]
    assert styles["vdn"]["linestyle"] != styles["qmix"]["linestyle"]


def test_long_names_are_wrapped():
    run = run_of([0.0, 1], metric="classifier_pd", name="a very long name " * 9)
    figure_ = learning.learning_curves(panels([run], "classifier_pd", "steps", None), None, "std")
    figure_.canvas.draw()
    box, edge = figure_.legends[0].get_window_extent(), figure_.bbox
    assert box.x0 >= 0 and box.x1 <= edge.x1 and box.y1 <= figure_.bbox.y1


def test_maps_are_as_large_for_a_wide_world_as_for_a_square_one():
    wide, square = (positions.Maps("", np.zeros((2, *shape))) for shape in ((4, 15), (19, 19)))
    assert positions._layout([wide]) == (3, 2.6, [1], [0.95])
    assert positions._layout([square]) == (3, 1.45, [1], [1.45])
    assert positions._layout([wide, square]) == (3, 2.6, [1, 1], [0.95, 1.6])


def test_maps_of_many_agents_take_several_lines_of_a_page_at_most():
    eight = positions.Maps("", np.zeros((8, 18, 34)))
    columns, width, lines, (height,) = positions._layout([eight])
    assert (columns, lines) == (3, [3]) and columns * width < 9
    assert height == pytest.approx(width * 18 / 34)
    squad = positions.Maps("", np.zeros((27, 18, 34)))
    assert positions._layout([squad, eight])[::2] == (4, [7, 3])


def evenly(world: str, *shape: int) -> positions.Maps:
    """Agents that spend as much time in each cell of a hall."""
    hall = np.full(shape, 1 / np.prod(shape[1:]))
    walled = np.pad(hall, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    return positions.Maps("qmix", walled, world)


def test_maps_show_their_agents_walls_and_worlds(monkeypatch):
    found = {"8m": evenly("sc2_lite", 8, 16, 32), "maze": evenly("windy_maze", 2, 2, 13)}
    monkeypatch.setattr(positions, "measure", lambda folder, *_: found[folder.name])
    picture = positions.heat_maps([pathlib.Path("8m"), pathlib.Path("maze")], 1, 0, "best")
    drawn = [axes for axes in picture.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [
        *(f"agent {i}" for i in range(8)),
        "all",
        *("agent 0", "agent 1", "all"),
    ]
    for axes, (down, across) in zip(drawn, [(18, 34)] * 9 + [(4, 15)] * 3, strict=True):
        pixels = np.asarray(axes.images[0].get_array())
        walls = (pixels == positions._WALL).all(-1)
        assert walls.shape == (down, across) and axes.get_aspect() == 1
        assert walls.sum() == 2 * (down + across) - 4 and not walls[1:-1, 1:-1].any()
    beside = [axes.texts[0].get_text() for axes in drawn if axes.texts]
    assert beside == ["sc2_lite\nqmix", "windy_maze\nqmix"]
    picture.canvas.draw()
    edge = picture.bbox
    for axes in drawn:
        for text in (axes.title, *axes.texts):
            box = text.get_window_extent()
            assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and box.y1 <= edge.y1
    (bar,) = [axes for axes in picture.axes if axes.get_ylabel()]
    assert bar.get_ylabel() == "share of time"


def test_a_world_s_picture_has_the_words_of_its_colours():
    world = REGISTRY["windy_maze"](REGISTRY["windy_maze"].Config(), 1)
    world.reset(torch.tensor([1]))
    legend = film.legend_of(world)
    assert list(legend) == ["closed box", "open box", "wind", "floor", "wall"]
    drawn = np.asarray(film.with_legend(world.render(), legend))
    below = drawn[world.render().shape[0] :].reshape(-1, 3)
    assert all((below == colour).all(1).sum() > 100 for colour in legend.values())
    shot = film.Shot(world.render(), "", 0, 0.0, ["", ""], [], {}, legend=legend)
    side = np.asarray(film.frame(shot, ["title"]))[:, -280:].reshape(-1, 3)
    assert all((side == colour).all(1).sum() > 100 for colour in legend.values())


def test_kernel_pca_tells_groups_of_observations_apart():
    generator = np.random.default_rng(0)
    obs = generator.normal(size=(30, 2, 5)) * 0.05
    obs[:, 1, 0] += 5
    places = embedding.in_two_dimensions(obs)
    assert places.shape == (30, 2, 2)
    assert (np.sign(places[:, 0, 0]) == -np.sign(places[:, 1, 0])).all()


def test_the_typical_run_has_the_median_final_value():
    runs = [run_of([value], k) for k, value in enumerate([5.0, 1.0, 3.0, 9.0])]
    assert paper.typical(runs, "test_return_mean") is runs[2]
    assert paper.typical(runs, "test_snd") is runs[0]


def test_initial_choices_are_those_of_untrained_networks(made):
    (record, *_) = [r for r in reader.find_runs([made.folder]) if r.config["t_max"] == 1]
    found = choices.measure(record, "QMIX", 4)
    assert found.actions == ["up", "down", "left", "right", "eat"]
    np.testing.assert_allclose(found.share.sum(1), 1, rtol=1e-5)
    again = choices.measure(record, "QMIX", 4)
    np.testing.assert_array_equal(found.share, again.share)


# The page


def test_the_page_of_results_is_up_to_date():
    records = results.evidence()
    every = list(results.on_page(records))
    page = results.page(every, records)
    assert results.PAGE.read_text() == page, "bash run.sh figure --page writes it"
    claims = [c for x in every if figures.of_paper(x.figure.name) for c in x.figure.claims]
    papers = sum(claim.paper for claim in claims)
    assert papers < len(claims) and f"Of {papers} tests of the paper's claims" in page
    for each in every:
        for kind, suffix in paper.suffixes(each.figure).items():
            path = results.PICTURES / f"figure_{each.figure.name}{suffix}.png"
            assert f"(results/{path.name})" in page or not each.arms, path
            if kind not in paper.PLAYED:
                with Image.open(path) as picture:
                    assert picture.text["Description"] == each.digest, path
    assert "Figure runaway" not in results.PAGE.read_text()  # not a claim of the paper


CELL = re.compile(r"(-?[\d.]+)(?: \[(-?[\d.]+), (-?[\d.]+)\])? \((\d+)\)")


def test_the_readmes_table_is_that_of_the_page():
    """Each number rounded."""

    def rows(text: str) -> dict[str, list[str]]:
        lines = [line.replace("**", "").strip("| ").split(" | ") for line in text.splitlines()]
        return {first: rest for first, *rest in lines if len(rest) >= 4}

    page = rows(results.PAGE.read_text().partition("## Figure 4-left")[0])
    every = ("QMIX, `qmix`", "QMIX (every 5), `qmix`", "EOI+QMIX, `eoi_qmix`", "IPPO, `ippo`")
    readme = rows((results.PAGE.parents[1] / "README.md").read_text())
    for world, column in (("Windy", 1), ("Pac-Men", 0), ("Firefighters", 2), ("8m", 4)):
        (shown,) = (row for first, row in readme.items() if first.startswith(world))
        for cell, name in zip(shown, every, strict=True):
            pairs = zip(numbers(cell), numbers(page[name][column]), strict=True)
            for here, there in pairs:
                unit = 10.0 ** -len(here.partition(".")[2])
                assert abs(float(here) - float(there)) <= unit * 0.5001, (world, cell)


def numbers(cell: str) -> list[str]:
    """Value, interval and number of runs of a cell."""
    found = CELL.fullmatch(cell)
    assert found, cell
    return [each for each in found.groups() if each]


def test_evidence_is_matched_by_settings_one_run_a_seed():
    found = figures.read("13")
    (job,) = jobs_of(found, [0])["QMIX"]
    runs = [
        Record(pathlib.Path(str(k)), job.config | {"seed": s}, status, {}, "")
        for k, (s, status) in enumerate([(1, "COMPLETED"), (1, "COMPLETED"), (2, "FAILED")])
    ]
    assert [r.run for r in results.among(found, results.Pool(runs))["QMIX"]] == [""]
    assert statistics.SCORES.keys() == {"final", "initial", "first", "mean", "half", "swing"}


def test_the_page_shows_the_example_as_it_is():
    text = (results.PAGE.parent / "figures.md").read_text()
    example = results.PAGE.parents[1] / "examples" / "my_figure.yaml"
    assert f"```yaml title=examples/my_figure.yaml\n{example.read_text()}```" in text
    found = figures.read(str(example))
    assert found.arms["VDN, fast"].like == "VDN" and len(jobs_of(found, [0])) == 3
    assert all(f"`{name}`" in text for name in figures.names())
    assert all(f"| `{score}` |" in text for score in statistics.SCORES)


def test_every_algorithm_has_a_row_in_the_table_across_worlds(tmp_path):
    found = figures.read("algorithms")
    arms = jobs_of(found, [0])
    assert {job.config["name"] for (job,) in arms.values()} == set(loader.names("algs"))

    def run(arm: str, seed: int, value: float, **more: float) -> Record:
        values = {"test_return_mean": value, **more}
        series = {name: Series(np.arange(3) * 300, np.full(3, x)) for name, x in values.items()}
        config = arms[arm][0].config | {"seed": seed}
        return Record(tmp_path / str(seed), config, "COMPLETED", series, "")

    runs = [run("VDN in Pac-Men", 1, 3.0), run("VDN in Pac-Men", 2, 5.0)]
    runs.append(run("QMIX (every 5) in Firefighters", 3, 7.0))
    runs.append(run("IQL in 8m", 4, 12.0, test_battle_won_mean=0.25))
    head, _, *rows = results.across(found, results.Pool(runs)).splitlines()
    assert head == "|  | Pac-Men | Windy Maze | Firefighters | 8m | 8m: Test win rate |"
    assert len(rows) == len({arm.label for arm in found.arms.values()})
    assert "| VDN, `vdn` | 4.00 (2) |  |  |  |  |" in rows
    assert "| QMIX (every 5), `qmix` |  |  | 7.00 (1) |  |  |" in rows
    assert "| IQL, `iql` |  |  |  | 12.0 (1) | 0.250 (1) |" in rows
    assert "| QMIX, `qmix` |  |  |  |  |  |" in rows
