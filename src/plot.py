"""Pictures of runs.

    python src/plot.py RUN_OR_FOLDER ... [options]        learning curves, and a table of the final values
    python src/plot.py RUN_OR_FOLDER ... --over KEY       final values over a setting, as eoi.alpha, and the table
    python src/plot.py --heatmap RUN ... [options]        where the agents of saved runs spend their time

A run is its folder, a Sacred id (3 is results/sacred/3) or `latest`; a folder of runs stands for all runs in it.
"""

import pathlib
import re
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from eoi.pictures.curves import BANDS, deviation, final
from eoi.pictures.learning import LABELS, learning_curves
from eoi.pictures.panels import INTRINSIC, Panel, panels, remarks
from eoi.pictures.sweeps import sweeps
from eoi.utils.errors import UserError
from eoi.utils.records import Record, find_runs, locate
from eoi.utils.script import FIGURES, Parser, guarded, positive, write_whole

LOOK: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters stay letters
    "svg.fonttype": "none",
    "savefig.dpi": 200,
}


def parser() -> Parser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="RUN_OR_FOLDER")
    result.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        help="default: in results/figures; .png, .pdf, .svg",
    )
    curves = result.add_argument_group("learning curves")
    curves.add_argument(
        "--metric",
        metavar="NAME[,NAME]",
        help=f"default: test_return_mean, and {INTRINSIC} where a run has it",
    )
    curves.add_argument(
        "--x",
        choices=("steps", "episodes"),
        help="default: episodes where all episodes are equally long",
    )
    curves.add_argument(
        "--by",
        default="name",
        metavar="KEY[,KEY]",
        help="settings that make a group, as name,eoi.alpha; default: name",
    )
    curves.add_argument(
        "--over", metavar="KEY", help="final values over this setting instead of curves over time"
    )
    curves.add_argument(
        "--smooth",
        type=positive,
        metavar="K",
        help="entries that are averaged; default: a twentieth of them",
    )
    curves.add_argument(
        "--band",
        choices=BANDS,
        default="std",
        help="what the band shows; default: std, as in the paper",
    )
    maps = result.add_argument_group("position maps")
    maps.add_argument(
        "--heatmap", action="store_true", help="draw them, from greedy episodes, instead of curves"
    )
    maps.add_argument("--episodes", type=positive, default=64, help="default: 64")
    maps.add_argument("--seed", type=int, default=0, help="of these episodes; default: 0")
    maps.add_argument(
        "--model",
        choices=("best", "last"),
        default="best",
        help="which saved networks; default: best",
    )
    return result


def curves(options: Namespace) -> None:
    records, by = usable(find_runs(options.runs)), [key for key in options.by.split(",") if key]
    over = [options.over] if options.over else []
    rows = panels(records, options.metric, options.x, by, over)
    figure = (
        sweeps(rows, options.over, options.band)
        if over
        else learning_curves(rows, options.smooth, options.band)
    )
    save(
        figure,
        options.out
        or FIGURES / f"{default_name(f'over_{options.over}' if over else 'curves', rows)}.png",
    )
    rows = panels(records, options.metric, options.x, [*by, *over])
    for panel in (panel for row in rows for panel in row if panel.groups):
        print(table(panel))
    for remark in (remark for row in rows for remark in remarks(row[0])):
        print(f"note: {remark}", file=sys.stderr)


def usable(records: Sequence[Record]) -> list[Record]:
    """Runs that trained and have logged something."""
    left = [record for record in records if record.metrics and not record.config.get("evaluate")]
    if not left:
        raise UserError("nothing to draw: these runs have logged nothing yet, or are evaluations")
    if len(left) < len(records):
        print(
            f"note: {len(records) - len(left)} of {len(records)} runs left out: nothing logged yet, or an evaluation",
            file=sys.stderr,
        )
    return left


def table(panel: Panel) -> str:
    """The final values of each group and of each of its seeds."""
    rows = [(name, *final_values(records, panel.metric)) for name, records in panel.groups.items()]
    width = [max(len(row[k]) for row in rows) for k in range(2)]
    head = f"{panel.world}: {panel.metric}, last 10 % of the entries, mean ± standard deviation over seeds"
    return "\n".join(
        [
            head,
            *(
                f"  {name:{width[0]}}  {value:{width[1]}}  seed {each}"
                for name, value, each in rows
            ),
        ]
    )


def final_values(records: Sequence[Record], metric: str) -> tuple[str, str]:
    """'mean ± deviation', and 'seed: value' of each run."""
    records = sorted(records, key=lambda record: record.config.get("seed") or 0)
    values = np.array([final(record.metrics[metric].values) for record in records])
    each = "  ".join(
        f"{record.config.get('seed')}: {value:.3f}"
        for record, value in zip(records, values, strict=True)
    )
    return f"{values.mean():.3f}" + (
        f" ± {deviation(values[:, None]).item():.3f}" if len(values) > 1 else ""
    ), each


def default_name(kind: str, rows: Sequence[Sequence[Panel]]) -> str:
    groups = sorted({name for row in rows for panel in row for name in panel.groups})
    compared = groups if len(groups) <= 4 else [f"{len(groups)}_groups"]
    return slug(
        [
            kind,
            *(row[0].world for row in rows),
            *compared,
            *(panel.metric for panel in rows[0] if panel.metric not in LABELS),
        ]
    )


def slug(parts: Iterable[str]) -> str:
    """A file's name from texts, cut where file systems would refuse it."""
    return re.sub(r"[^\w.=-]+", "-", "_".join(parts))[:120].strip("-_.")


def position_maps(options: Namespace) -> None:
    from eoi.pictures.positions import heat_maps  # here, so that curves need not wait for torch

    folders = locate(options.runs)
    figure = heat_maps(folders, options.episodes, options.seed, options.model)
    save(
        figure,
        options.out
        or FIGURES / f"{slug(['positions', *(folder.resolve().name for folder in folders)])}.png",
    )


def save(figure: Figure, path: pathlib.Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower()))
    print(path)


def body(argv: Sequence[str]) -> None:
    options = parser().parse_args(argv)
    known = Figure().canvas.get_supported_filetypes()
    if options.out and options.out.suffix[1:].lower() not in known:
        raise UserError(
            f"--out {options.out}: the name of a picture ends with .{', .'.join(sorted(known))}"
        )
    with matplotlib.rc_context(LOOK):
        (position_maps if options.heatmap else curves)(options)


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
