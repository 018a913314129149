"""Final values and test curves of groups of runs in the formats of other programs.

- marl-eval's JSON (https://github.com/instadeepai/marl-eval), for its plots and tables;
- a CSV file with a row for each run, metric and score;
- a LaTeX table of interquartile means.

Runs are given by world and group: {world: {group: runs}}.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from eoi.records.labels import known, label
from eoi.records.record import Record
from eoi.records.statistics import final_value
from eoi.records.summary import Finals, finals
from eoi.utils.errors import UserError

Worlds = Mapping[str, Mapping[str, Sequence[Record]]]
Step = Mapping[str, int | list[float]]  # step_count, and values by metric
Tree = dict[str, dict[str, dict[str, dict[str, dict[str, Step]]]]]


class Exported(NamedTuple):
    content: Tree  # environment, task, algorithm, run, step
    notes: list[str]  # parts that were left out
    runs: int


def short(metric: str) -> str:
    """`test_return_mean` as `return`."""
    return metric.removeprefix("test_").removesuffix("_mean")


def absolute(metric: str) -> str:
    """Name of the absolute metric of a test's metric."""
    return f"absolute_{metric.removeprefix('test_')}"


def marl_eval(worlds: Worlds, metrics: Sequence[str]) -> Exported:
    """The tree of marl-eval's JSON.

    It asks for the same algorithms in all tasks of an environment, and for equal numbers of runs
    and steps. So algorithms that some task lacks are left out, as are the runs of the highest seeds
    beyond the fewest, and steps that not all runs have. The absolute metric of a run without one is
    its final value. Unfinished runs are left out of an environment that has others. Raises
    UserError for a run that lacks a metric or has a value that is not finite, for names that
    marl-eval takes for one, and where nothing is in common.
    """
    content: Tree = {}
    notes: list[str] = []
    exported = 0
    for env, own_tasks in _by_environment(worlds).items():
        tasks, cut = _finished(own_tasks)
        notes += [f"{env}: {record.folder} is unfinished, and is left out" for record in cut]
        tasks, absent = _in_every_task(env, tasks)
        notes += absent
        names = _names(env, {name for own in tasks.values() for name in own})
        groups = {(task, name): runs for task, own in tasks.items() for name, runs in own.items()}
        every = [record for runs in groups.values() for record in runs]
        for record in every:
            _refuse_missing(record, metrics)
        runs = min(len(each) for each in groups.values())
        steps = _common_steps(env, every, metrics[0])
        notes += _left_out(env, groups, runs, steps, metrics)
        if not all(absolute(m) in record.metrics for record in every for m in metrics):
            notes.append(f"{env}: runs without an absolute metric have their final value in it")
        content[env] = {
            task: {
                names[name]: {
                    f"run_{k}": _steps(record, metrics, steps)
                    for k, record in enumerate(_by_seed(members)[:runs])
                }
                for name, members in own.items()
            }
            for task, own in tasks.items()
        }
        exported += runs * len(groups)
    return Exported(content, notes, exported)


def _by_environment(worlds: Worlds) -> dict[str, dict[str, Mapping[str, Sequence[Record]]]]:
    """Worlds under the environment that they are variants of."""
    found: dict[str, dict[str, Mapping[str, Sequence[Record]]]] = {}
    for world, groups in worlds.items():
        first = next(iter(groups.values()))[0]
        found.setdefault(first.world, {})[world] = groups
    return found


def _finished(
    tasks: dict[str, Mapping[str, Sequence[Record]]],
) -> tuple[dict[str, Mapping[str, Sequence[Record]]], list[Record]]:
    """The groups of finished runs, and the other runs; all groups where none has finished."""
    kept: dict[str, Mapping[str, Sequence[Record]]] = {
        task: done
        for task, own in tasks.items()
        if (done := {name: runs for name, runs in own.items() if not runs[0].unfinished})
    }
    every = [record for own in tasks.values() for runs in own.values() for record in runs]
    return (kept, [record for record in every if record.unfinished]) if kept else (tasks, [])


def _in_every_task(
    env: str, tasks: dict[str, Mapping[str, Sequence[Record]]]
) -> tuple[dict[str, Mapping[str, Sequence[Record]]], list[str]]:
    """The groups that all tasks have, and a note on each other one. Raises UserError."""
    common = set.intersection(*(set(own) for own in tasks.values()))
    if not common:
        raise UserError(f"{env}: no algorithm ran in all of {', '.join(tasks)}; export one of them")
    kept: dict[str, Mapping[str, Sequence[Record]]] = {
        task: {name: runs for name, runs in own.items() if name in common}
        for task, own in tasks.items()
    }
    others = {name for own in tasks.values() for name in own} - common
    return kept, [
        f"{env}: {name} did not run in all of {', '.join(tasks)}, and is left out"
        for name in sorted(others)
    ]


def _names(env: str, groups: set[str]) -> dict[str, str]:
    """The name of each group without commas. Raises UserError where two names become one.

    marl-eval does not tell upper from lower case.
    """
    found: dict[str, str] = {}
    for name in sorted(groups):
        same = found.setdefault(name.replace(",", "").lower(), name)
        if same != name:
            raise UserError(
                f"{env}: marl-eval takes {same!r} and {name!r} for one algorithm, as they differ"
                " in commas or case alone; export them one by one"
            )
    return {name: name.replace(",", "") for name in groups}


def _common_steps(env: str, records: Sequence[Record], metric: str) -> list[int]:
    """Steps of the tests that all runs have. Raises UserError."""
    found = set.intersection(*(set(r.metrics[metric].steps.tolist()) for r in records))
    if not found:
        raise UserError(f"{env}: no step has a test of every run; export them one by one")
    return sorted(found)


def _by_seed(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.seed or 0)


def _refuse_missing(record: Record, metrics: Sequence[str]) -> None:
    for metric in metrics:
        if metric not in record.metrics:
            raise UserError(f"{record.folder}: has not logged {metric}; leave one of them out")
        if (step := record.not_finite(metric)) is not None:
            raise UserError(
                f"{record.folder}: {metric} is not finite at step {step:,}, which JSON cannot say;"
                " leave the run out"
            )
        if not np.array_equal(record.metrics[metric].steps, record.metrics[metrics[0]].steps):
            raise UserError(
                f"{record.folder}: {metric} and {metrics[0]} were logged at different steps;"
                " export them one by one"
            )


def _left_out(
    env: str,
    groups: Mapping[tuple[str, str], Sequence[Record]],
    runs: int,
    steps: Sequence[int],
    metrics: Sequence[str],
) -> list[str]:
    found = [
        f"{env}: {name} has {len(members)} runs, of which {runs} are exported"
        for (_, name), members in groups.items()
        if len(members) > runs
    ]
    longest = max(
        len(r.metrics[m].steps) for members in groups.values() for r in members for m in metrics
    )
    if longest > len(steps):
        found.append(
            f"{env}: of up to {longest} tests of a run, the {len(steps)} at steps of all runs"
            " are exported"
        )
    return found


def _steps(record: Record, metrics: Sequence[str], steps: Sequence[int]) -> dict[str, Step]:
    places = {step: k for k, step in enumerate(record.metrics[metrics[0]].steps.tolist())}
    found: dict[str, Step] = {
        f"step_{k}": {
            "step_count": step,
            **{short(m): [float(record.metrics[m].values[places[step]])] for m in metrics},
        }
        for k, step in enumerate(steps)
    }
    found["absolute_metrics"] = {short(m): [best_value(record, m)] for m in metrics}
    return found


def best_value(record: Record, metric: str) -> float:
    """The absolute metric, else the final value."""
    logged = record.metrics.get(absolute(metric))
    if logged is not None:
        return float(logged.values[-1])
    return final_value(record.metrics[metric].values)


def table_of_runs(worlds: Worlds, metrics: Sequence[str]) -> str:
    """CSV: world, algorithm, seed, metric, score (final or absolute) and value."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["world", "algorithm", "seed", "metric", "score", "value"])
    for world, groups in worlds.items():
        for name, records in groups.items():
            for record in _by_seed(records):
                for metric in (m for m in metrics if m in record.metrics):
                    head = [world, name, record.seed, metric]
                    value = final_value(record.metrics[metric].values)
                    rows.writerow([*head, "final", f"{value:.6g}"])
                    if absolute(metric) in record.metrics:
                        rows.writerow([*head, "absolute", f"{best_value(record, metric):.6g}"])
    return text.getvalue()


def latex(worlds: Worlds, metrics: Sequence[str], remarks: Sequence[str] = ()) -> str:
    """A tabular of booktabs: a row for each group, a column for each world and metric.

    remarks: comments above it.
    """
    columns = [(world, metric) for world in worlds for metric in metrics]
    names = list(dict.fromkeys(name for groups in worlds.values() for name in groups))
    several = len(metrics) > 1
    lines = [
        f"% interquartile mean [95 % interval] of final values of {', '.join(metrics)}",
        "% \\usepackage{booktabs}",
        *(f"% {remark}" for remark in remarks),
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        _row(
            ["", *(_escaped(world) + (f": {_name(m)}" if several else "") for world, m in columns)]
        ),
        "\\midrule",
    ]
    for name in names:
        cells = [_cell(worlds[world].get(name, ()), metric) for world, metric in columns]
        lines.append(_row([_escaped(name), *cells]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _cell(records: Sequence[Record], metric: str) -> str:
    """Runs whose value is not finite are left out, as of a verdict."""
    found = finals(records, metric)
    finite = np.isfinite(found.values)
    seeds = [seed for seed, kept in zip(found.seeds, finite, strict=True) if kept]
    return Finals(seeds, found.values[finite]).iqm if seeds else "--"


_ESCAPED = str.maketrans(
    {c: f"\\{c}" for c in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def _escaped(text: str) -> str:
    return text.translate(_ESCAPED)


def _name(metric: str) -> str:
    """The metric's label, in which $ begins and ends a formula already."""
    return label(metric) if known(metric) else _escaped(metric)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"
