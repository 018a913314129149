"""Which runs make which curve: a panel for each world and metric, in it a group of runs for each setting compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eoi.config.schema import nearest
from eoi.pictures.curves import Curve
from eoi.utils.errors import UserError
from eoi.utils.records import Record, labelled

INTRINSIC = "individuality_mean"
_BARE = {"name", "label"}  # settings whose value says enough in a legend
_NO_MATTER = {
    "seed",
    "label",
    "local_results_path",
    "checkpoint_path",
    "threads",
    "use_cuda",
    "save_model",
}


@dataclass(frozen=True)
class Panel:
    """One metric in one world: a curve for each group of runs."""

    world: str
    metric: str
    groups: dict[str, list[Record]]
    x: str  # steps, episodes


def panels(
    records: Sequence[Record],
    metric: str | None,
    x: str | None,
    by: Sequence[str],
    over: Sequence[str] = (),
) -> list[list[Panel]]:
    """A row for each world, a column for each metric; settings `over` which a picture is drawn make neither worlds nor groups.

    Raises UserError for a metric or setting that no run has.
    """
    grouped(records, by)
    for key in over:
        _refuse_unknown(records, key, "--over")
    metrics, rows = chosen_metrics(records, metric), []
    for world, members in worlds(records, [*by, *over]).items():
        axis = x or ("episodes" if all(map(lasts_equally, members)) else "steps")
        rows.append(
            [
                Panel(world, name, grouped([r for r in members if name in r.metrics], by), axis)
                for name in metrics
            ]
        )
    return rows


def chosen_metrics(records: Sequence[Record], wanted: str | None) -> list[str]:
    known = {name for record in records for name in record.metrics}
    if wanted is None:
        wanted = f"test_return_mean,{INTRINSIC}" if INTRINSIC in known else "test_return_mean"
    metrics = [name for name in wanted.split(",") if name]
    for name in metrics:
        if name not in known:
            raise UserError(f"--metric {name}: no run has logged it.{nearest(name, known)}")
    return metrics


def grouped(records: Sequence[Record], by: Sequence[str]) -> dict[str, list[Record]]:
    """Runs under the text of their `by` settings."""
    groups: dict[str, list[Record]] = {}
    for key in by:
        _refuse_unknown(records, key, "--by")
    for record in sorted(
        records, key=lambda record: [order(record.settings.get(key)) for key in by]
    ):
        values = (
            (key.removeprefix("env_args."), value(record, key))
            for key in by
            if not idle(record, key)
        )
        label = ", ".join(str(each) if key in _BARE else f"{key}={each}" for key, each in values)
        groups.setdefault(label, []).append(record)
    return groups


def _refuse_unknown(records: Sequence[Record], key: str, option: str) -> None:
    """Raises UserError for a setting that no run has."""
    known = {key for record in records for key in record.settings}
    if records and key not in known:
        raise UserError(f"{option} {key}: there is no such setting.{nearest(key, known)}")


def idle(record: Record, key: str) -> bool:
    """A number of EOI's in a run without EOI."""
    return key.startswith("eoi.") and record.settings.get("eoi.form") == "none"


def order(value: object) -> tuple[float, str]:
    """Numbers by size, before words."""
    return (value if isinstance(value, int | float) else float("inf"), str(value))


def worlds(records: Sequence[Record], by: Sequence[str]) -> dict[str, list[Record]]:
    """Runs by environment; of one environment, each variant that is not itself compared is a world."""
    found: dict[str, list[Record]] = {}
    names = [
        labelled(str(record.config.get("env")), record.config.get("env_args") or {})
        for record in records
    ]
    for env in sorted(set(names)):
        members = [record for record, name in zip(records, names, strict=True) if name == env]
        keys = {
            key for record in members for key in record.settings if key.startswith("env_args.")
        } - set(by)
        apart = differing(members, sorted(keys))
        for record in members:
            variant = ", ".join(
                f"{key.removeprefix('env_args.')}={record.settings.get(key)}" for key in apart
            )
            found.setdefault(f"{env} ({variant})" if variant else env, []).append(record)
    return found


def differing(records: Sequence[Record], keys: Iterable[str]) -> list[str]:
    """Those settings that are not the same in all runs."""
    return [key for key in keys if len({value(record, key) for record in records}) > 1]


def value(record: Record, key: str) -> int | float | str | None:
    """A setting's value, such that equal ones read alike (1000.0 as 1000); lists and the like as text."""
    found = record.settings.get(key)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    return found if found is None or isinstance(found, int | float | str) else repr(found)


def lasts_equally(record: Record) -> bool:
    """Whether every episode was equally long, as in the grid worlds, so that episodes are as good an axis as steps."""
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
    """Environment steps as episodes played by then; beyond the last log entry they go on at the run's mean rate."""
    if "episode" not in record.metrics:
        raise UserError(f"{record.folder}: has not logged its episodes; use --x steps")
    known, episodes = record.metrics["episode"]
    end = max(known[-1], steps[-1])
    return np.interp(steps, [0, *known, end], [0, *episodes, episodes[-1] * end / known[-1]])


def remarks(panel: Panel) -> list[str]:
    """What a reader of the panel must know and might not suspect."""
    found = []
    for name, records in panel.groups.items():
        where = f"{panel.world}, {name}"
        unlike = differing(
            records, sorted({key for record in records for key in record.settings} - _NO_MATTER)
        )
        if unlike:
            found.append(
                f"{where}: its runs differ in {', '.join(unlike[:4])}; --by name,{','.join(unlike[:4])} tells them apart"
            )
        if len({record.config.get("seed") for record in records}) < len(records):
            found.append(f"{where}: a seed occurs more than once among its {len(records)} runs")
        ends = [int(record.metrics[panel.metric].steps[-1]) for record in records]
        if max(ends) > 1.05 * min(ends):
            short = records[int(np.argmin(ends))]
            found.append(
                f"{where}: the mean ends at step {min(ends)}, where {short.folder} does ({short.status})"
            )
    return found
