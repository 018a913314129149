"""Which runs make which curve: a panel for each world and metric, with a curve for each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eoi.pictures.curves import Curve
from eoi.records.groups import (
    apart_by_name,
    grouped,
    in_labels,
    refuse_unknown,
    refuse_unlogged,
    setting_apart,
    twice,
    worlds,
)
from eoi.records.labels import INTRINSIC
from eoi.records.record import Record
from eoi.records.shipped import changed
from eoi.utils.errors import UserError

_ALIKE = 1.05  # runs whose lengths differ by a smaller factor are equally long


@dataclass(frozen=True)
class Panel:
    """One metric in one world: a curve for each group of runs."""

    world: str
    metric: str
    groups: dict[str, list[Record]]
    x: str  # steps, episodes
    log: bool = False  # logarithmic y axis
    # settings of each algorithm that differ from the shipped ones and are in no group's name
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)


def panels(
    records: Sequence[Record],
    metric: str | None,
    x: str | None,
    by: Sequence[str] | None,
    over: Sequence[str] = (),
) -> list[list[Panel]]:
    """A row for each world, a column for each metric. Raises UserError for an unknown name.

    by: settings that make a group; None groups by name and by whatever sets runs apart.
    over: settings on a picture's x axis, which make neither worlds nor groups.
    """
    refuse_unknown(records, by or (), "--by")
    refuse_unknown(records, over, "--over")
    metrics, rows = chosen_metrics(records, metric), []
    divided = worlds(records, [*(by or ()), *over])
    apart = apart_by_name(divided.values(), over)  # so that a label means the same in all panels
    for world, members in divided.items():
        axis = x or ("episodes" if all(map(lasts_equally, members)) else "steps")
        groups = grouped(members, by, apart)
        other = changed(members, in_labels(apart, by), over)
        shown = {name: _logged(groups, name) for name in metrics}
        rows.append([Panel(world, name, own, axis, changed=other) for name, own in shown.items()])
    return rows


def _logged(groups: dict[str, list[Record]], metric: str) -> dict[str, list[Record]]:
    """Groups of the runs that have logged the metric."""
    found = {name: [r for r in group if metric in r.metrics] for name, group in groups.items()}
    return {name: group for name, group in found.items() if group}


def chosen_metrics(records: Sequence[Record], wanted: str | None) -> list[str]:
    known = {name for record in records for name in record.metrics}
    if wanted is None:
        wanted = f"test_return_mean,{INTRINSIC}" if INTRINSIC in known else "test_return_mean"
    metrics = [name for name in wanted.split(",") if name]
    if not metrics:
        raise UserError(f"--metric {wanted}: names no metric")
    refuse_unlogged(records, metrics, "--metric")
    return metrics


def lasts_equally(record: Record) -> bool:
    """Whether all episodes had one length, so that episodes suit the x axis as well as steps."""
    lengths = [
        record.metrics[name].values
        for name in ("ep_length_mean", "test_ep_length_mean")
        if name in record.metrics
    ]
    return "episode" in record.metrics and len(np.unique(np.concatenate([*lengths, []]))) == 1


def curve(record: Record, metric: str, x: str) -> Curve:
    steps, values = record.metrics[metric]
    return Curve(steps.astype(float) if x == "steps" else _in_episodes(record, steps), values)


def _in_episodes(record: Record, steps: np.ndarray) -> np.ndarray:
    """Number of episodes played by each step; extrapolated at the run's mean rate at the end."""
    if "episode" not in record.metrics:
        raise UserError(f"{record.folder}: has not logged its episodes; use --x steps")
    known, episodes = record.metrics["episode"]
    end = max(known[-1], steps[-1])
    return np.interp(steps, [0, *known, end], [0, *episodes, episodes[-1] * end / known[-1]])


def not_finite(panel: Panel) -> list[str]:
    """A line on each run with a value that is nan or infinite."""
    every = [(name, record) for name, records in panel.groups.items() for record in records]
    return [
        f"{panel.world}, {name}: {panel.metric} of {record.folder} is not finite at step {step:,};"
        " its curve has a gap"
        for name, record in every
        if (step := record.not_finite(panel.metric)) is not None
    ]


def remarks(panel: Panel, by: Sequence[str] | None = None) -> list[str]:
    """Warnings about groups whose mean can mislead. by: settings that made the groups."""
    found = []
    for name, records in panel.groups.items():
        where = ", ".join(filter(None, (panel.world, name)))
        unlike = setting_apart(records)
        if unlike:
            keys = ",".join(dict.fromkeys([*(by or ("name",)), *unlike[:4]]))
            found.append(
                f"{where}: its runs differ in {', '.join(unlike[:4])}; --by {keys} tells them apart"
            )
        found += twice(where, records)
        found += [f"{where}: {_reached(record)}" for record in records if record.unfinished]
        ends = [int(record.metrics[panel.metric].steps[-1]) for record in records]
        if max(int(record.metrics[panel.metric].steps[0]) for record in records) > min(ends):
            found.append(f"{where}: its runs share no step of {panel.metric}; no mean is drawn")
        elif max(ends) > _ALIKE * min(ends):
            short = records[int(np.argmin(ends))]
            found.append(
                f"{where}: the mean ends at step {min(ends)}, the end of {short.folder}"
                f" ({short.status})"
            )
    return found


def _reached(record: Record) -> str:
    whole = f" of {record.config['t_max']:,}" if "t_max" in record.config else ""
    return f"{record.folder} has reached step {record.end:,}{whole} ({record.status})"
