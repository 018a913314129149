"""What the runs of figures show: verdicts and final values in Markdown, and the page of results.

docs/results.md is made of the tables in results/evidence, with a picture of each figure.
"""

import hashlib
import io
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure as Picture
from PIL import Image, PngImagePlugin

from eoi.batches.arms import jobs_of
from eoi.batches.jobs import Job
from eoi.config import loader
from eoi.pictures.look import LOOK
from eoi.pictures.paper import PLAYED, Note, drawn, suffixes
from eoi.records import figures, labels, summary, table
from eoi.records.figures import Figure
from eoi.records.groups import asks_for
from eoi.records.record import Config, Record, world_of
from eoi.records.shipped import completed
from eoi.records.verdicts import Verdict, judge, scores_beside
from eoi.utils.places import ROOT
from eoi.utils.script import write_whole

Arms = dict[str, list[Record]]  # runs of each arm
EVIDENCE = ROOT / "results" / "evidence"
PAGE = ROOT / "docs" / "results.md"
PICTURES = ROOT / "docs" / "results"
_DPI = 150  # of its pictures


class Pool:
    """Runs that arms are looked for in: the finished ones, by their algorithm and world."""

    def __init__(self, records: Sequence[Record]):
        defaults = loader.defaults()
        self._runs: dict[tuple[object, object], list[tuple[Record, Record]]] = {}
        for record in records:
            if record.status == "COMPLETED":
                kind = record.config.get("name"), record.config.get("env")
                self._runs.setdefault(kind, []).append((record, completed(record, defaults)))

    def of(self, config: Config) -> list[Record]:
        """Those with these settings, one of each seed."""
        there = self._runs.get((config["name"], config["env"]), [])
        own = [record for record, whole in there if asks_for(whole, config)]
        return list({record.seed: record for record in reversed(own)}.values())[::-1]


def among(figure: Figure, pool: Pool, given: Sequence[str] = ()) -> Arms:
    """The runs of each arm; an arm without one is not in it."""
    arms = jobs_of(figure, [0], given)
    found = {name: pool.of(job.config) for name, (job,) in arms.items()}
    return {name: runs for name, runs in found.items() if runs}


def lacking(jobs: Mapping[str, Sequence[Job]], recorded: Arms) -> dict[str, list[Job]]:
    """The runs of each arm that are left to do where some are on record, of other seeds than them.

    There are as many as bring the arm to its number of seeds.
    """
    found = {}
    for name, own in jobs.items():
        seeds = {record.seed for record in recorded.get(name, ())}
        new = [job for job in own if job.seed not in seeds]
        found[name] = new[: max(0, len(own) - len(seeds))]
    return found


def together(recorded: Arms, finished: Arms) -> Arms:
    """The runs of each arm, those on record first."""
    names = [*recorded, *(name for name in finished if name not in recorded)]
    return {name: [*recorded.get(name, ()), *finished.get(name, ())] for name in names}


def left_out(figure: Figure, records: Sequence[Record], arms: Arms) -> Iterator[str]:
    """Numbers of runs in no arm: of other worlds, unfinished, with other settings."""
    worlds = {world_of(job.config) for (job,) in jobs_of(figure, [0]).values()}
    elsewhere = Counter(r.world for r in records if r.world not in worlds)
    if elsewhere:
        named = ", ".join(f"{n} of {world}" for world, n in sorted(elsewhere.items()))
        yield f"left out, of other worlds than {', '.join(sorted(worlds))}: {named}"
    there = [r for r in records if r.world in worlds]
    cut = sum(r.status != "COMPLETED" for r in there)
    if cut:
        yield f"left out, not finished: {cut} of {len(there)}"
    used = {r.folder for members in arms.values() for r in members}
    rest = sum(r.folder not in used for r in there) - cut
    if rest:
        yield f"left out, with settings of no arm or an arm's seed again: {rest} of {len(there)}"


def verdicts(figure: Figure, arms: Arms) -> list[Verdict]:
    return [judge(claim, arms) for claim in figure.claims]


def section(figure: Figure, arms: Arms) -> str:
    """The figure's verdicts and final values in Markdown."""
    parts = [f"{figure.caption}\n"] if figure.caption else []
    says = ""
    for verdict in verdicts(figure, arms):
        if verdict.claim.says != says:
            says = verdict.claim.says
            parts.append(f"- {says}")
        parts.append(f"  - {verdict.claim.test}: **{verdict.outcome}**; {verdict.sentence}.")
    logged = {name for runs in arms.values() for record in runs for name in record.metrics}
    metrics = [name for name in figure.metrics if name in logged]
    if metrics:
        head, *rows = summary.final_values(arms, metrics)
        parts.append("\n" + summary.markdown([_in_words(head, metrics), *rows]))
        beside = scores_beside(figure.claims, arms)
        if len(beside) > 1:
            parts.append("\n" + summary.markdown(beside))
        pooled = figures.over_worlds(figure, arms)
        if pooled and figures.SHARE in metrics:
            parts.append("\n" + summary.markdown(summary.over_worlds(pooled, figures.SHARE)))
    missing = [name for name in figure.arms if name not in arms]
    if missing:
        parts.append(f"\nNo runs yet: {', '.join(missing)}.")
    return "\n".join(parts) + "\n"


def _in_words(head: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The head of a table of final values, which names the first metric where there are several."""
    named = {metric: labels.plain(metric) for metric in metrics}
    first, *_ = metrics
    return [
        named.get(cell, cell.replace(f"{first}: ", f"{named[first]}: "))
        if len(metrics) > 1
        else cell.replace("mean ±", f"{named[first]}: mean ±")
        for cell in head
    ]


_KINDS = ("holds", "level", "contradicted", "undecided", "not measured")
_OVER = "Interquartile mean of the final test values [95 % interval] (runs):"
_HEAD = """# Results of the paper's figures

{total}

`bash run.sh figure --page` writes this page from the tables in `results/evidence`. Nothing on it is
typed by hand. [Figures](figures.md) explains the verdicts and how to make each figure.

| figure | claims | holds | level | contradicted | undecided | not measured |
|---|---|---|---|---|---|---|
"""


def evidence() -> list[Record]:
    """The runs of the tables in results/evidence."""
    return [r for path in sorted(EVIDENCE.glob("*.csv.gz")) for r in table.read(path)]


class Shown(NamedTuple):
    """A figure of the page."""

    figure: Figure
    arms: Arms
    text: str  # its section

    @property
    def digest(self) -> str:
        """A checksum of its section, which its pictures have as their description."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def on_page(records: Sequence[Record]) -> Iterator[Shown]:
    """The figures of the page.

    Last comes the study of individuality, which is not of the paper; its seeds were fixed before.
    """
    every = Pool(records)
    for name in [*filter(figures.of_paper, figures.names()), "individuality"]:
        figure = figures.read(name)
        own = (
            every
            if figures.of_paper(name)
            else Pool([r for r in records if r.seed in figure.seeds])
        )
        arms = figures.with_shares(figure, among(figure, own))
        yield Shown(figure, arms, section(figure, arms))


def pictures(every: Sequence[Shown], note: Note) -> Iterator[pathlib.Path]:
    """Draws the pictures of the page's figures that need no saved networks, and names them."""
    with matplotlib.rc_context(LOOK):
        for each in every:
            parts = tuple(part for part in each.figure.parts if part.kind not in PLAYED)
            there = replace(each.figure, parts=parts)
            for suffix, picture in drawn(there, each.arms, note) if each.arms else ():
                path = PICTURES / f"figure_{there.name}{suffix}.png"
                content = _png(picture, each.digest)
                write_whole(path, lambda file, content=content: file.write(content))
                yield path


def _png(picture: Picture, description: str) -> bytes:
    """With a palette of 128 colours, which makes it a quarter as large."""
    whole, small = io.BytesIO(), io.BytesIO()
    picture.savefig(whole, format="png", dpi=_DPI)
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", description)
    image = Image.open(whole).convert("RGB").quantize(128)
    image.save(small, format="PNG", optimize=True, pnginfo=text)
    return small.getvalue()


def _links(figure: Figure) -> str:
    """Its pictures on the page, those that are there."""
    paths = [PICTURES / f"figure_{figure.name}{suffix}.png" for suffix in suffixes(figure).values()]
    there = [
        f"![{figure.title}]({PICTURES.name}/{path.name})\n\n" for path in paths if path.exists()
    ]
    return "".join(there)


def page(every: Sequence[Shown], records: Sequence[Record]) -> str:
    """docs/results.md: the verdict on every claim of the paper, by the runs in results/evidence."""
    rows, sections = [], []
    total: Counter[str] = Counter()
    for figure, arms, text in every:
        name = figure.name
        judged = verdicts(figure, arms)
        found = [verdict.outcome for verdict in judged]
        if figures.of_paper(name):
            found = [verdict.outcome for verdict in judged if verdict.claim.paper]
            total.update(found)
        counts = " | ".join(str(found.count(kind) or "") for kind in _KINDS)
        rows.append(f"| [{name}](#figure-{name}) | {len(found)} | {counts} |")
        body = f"{_links(figure)}{text}"
        sections.append(f"## Figure {name}\n\n{figure.title}\n\n{body}")
    other = figures.read("algorithms")
    top = f"## {other.title}\n\n{other.caption}\n\n{_OVER}\n\n{across(other, Pool(records))}\n\n"
    head = _HEAD.format(total=_opening(total))
    return head + "\n".join(rows) + "\n\n" + top + "\n".join(sections)


def _opening(total: Counter[str]) -> str:
    """The first paragraph: how the tests of the paper's claims ended."""
    hold, level, contradicted, undecided, missing = (total[kind] for kind in _KINDS)
    return (
        f"Of {total.total()} tests of the paper's claims {hold} hold and {level} are level; "
        f"{contradicted} are contradicted, {undecided} undecided, {missing} not measured.\n"
        "Tests that are not the paper's, which their first line says, are not counted.\n"
        "[World by world](../README.md#what-holds-and-what-does-not), Windy Maze first."
    )


def across(figure: Figure, pool: Pool) -> str:
    """Final values in Markdown: a row for each arm, a column for each world and metric.

    An arm is named by its label and its algorithm's file.
    A metric other than the return has a column in the worlds whose runs have it.
    """
    worlds = list(dict.fromkeys(arm.world for arm in figure.arms.values()))
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for name, runs in among(figure, pool).items():
        arm = figure.arms[name]
        for metric in figure.metrics:
            found = summary.finals(runs, metric)
            if found.seeds:
                value = f"{found.iqm} ({len(found.seeds)})"
                cells.setdefault(arm.label, {})[metric, arm.world] = value
    filled = {at for row in cells.values() for at in row}
    every = [(metric, world) for metric in figure.metrics for world in worlds]
    columns = [at for at in every if at[0] == figures.RETURN or at in filled]
    heads = [w if m == figures.RETURN else f"{w}: {labels.label(m)}" for m, w in columns]
    configs = {arm.label: arm.config for arm in figure.arms.values()}
    rows = [
        [f"{label}, `{config}`", *(cells.get(label, {}).get(at, "") for at in columns)]
        for label, config in configs.items()
    ]
    return summary.markdown([["", *heads], *rows])
