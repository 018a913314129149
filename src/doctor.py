"""Checks of this machine: the parts that work, and how to repair the others.

    python src/doctor.py [--mongo URL[:DB]]

The exit status is 0 if training works, which requires only the first part. MongoDB is checked if
--mongo or EOI_MONGO names a database.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator, Sequence

from eoi.utils.checks import Check
from eoi.utils.places import IS_CHECKOUT, PIP, ROOT, command, install
from eoi.utils.script import Parser, guarded

PATIENCE = 2000  # milliseconds for a database
_INSTALL = (
    "bash run.sh python src/doctor.py (it installs requirements.txt), or "
    "pip install -r requirements.txt"
    if IS_CHECKOUT
    else "pip install --force-reinstall eoi"
)


def basics() -> Iterator[Check]:
    if sys.version_info < (3, 11):  # noqa: UP036 # a check for users of an older version
        yield Check("Python", platform.python_version(), "use Python 3.11 or newer")
    else:
        yield Check("Python", f"{platform.python_version()} in {sys.prefix}")
    yield from (_requirement(name, version) for name, version in _pins())
    yield _loads("torch")
    yield _loads("sacred")
    results = next(place for place in (ROOT / "results", ROOT) if place.exists())
    writable = os.access(results, os.W_OK)
    yield Check(
        "results",
        str(ROOT / "results"),
        "" if writable else "make it writable, or set local_results_path",
    )


def _pins() -> list[tuple[str, str]]:
    """Name and version of each requirement of training."""
    if IS_CHECKOUT:
        text = (ROOT / "requirements.txt").read_text()
    else:
        lines = importlib.metadata.requires("eoi") or []
        text = "\n".join(line for line in lines if "extra ==" not in line)
    return re.findall(r"^([\w-]+)\S*==([\w.]+)", text, re.MULTILINE)


def _requirement(name: str, version: str) -> Check:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", _INSTALL)
    matches = found.split("+")[0] == version
    return Check(name, found if matches else f"{found}; tested with {version}")


def _loads(module: str) -> Check:
    """Check that an installed package loads. The type of the exception depends on the package."""
    label = f"import {module}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = importlib.import_module(module)
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")[:160]
        return Check(label, f"{type(error).__name__}: {line}", _INSTALL)
    if module != "torch":
        return Check(label, "works")
    device = (
        loaded.cuda.get_device_name() + " (with use_cuda=True)"
        if loaded.cuda.is_available()
        else "no GPU; the CPU"
    )
    return Check(label, f"works; {device}, {os.cpu_count()} cores")


def records(text: str | None) -> Iterator[Check]:
    """Places besides its folder where a run can be recorded."""
    yield _mongo(text)
    for module, flag in (("tensorboard", "--tensorboard"), ("wandb", "--wandb")):
        there = importlib.util.find_spec(module) is not None
        yield Check(
            flag,
            "works" if there else f"{module} is not installed",
            "" if there else f"{PIP} {module}",
        )


def _mongo(text: str | None) -> Check:
    from eoi.records import mongo

    if not mongo.chosen(text):
        return Check("MongoDB", "not checked: neither --mongo nor EOI_MONGO is set")
    database = mongo.Database(mongo.chosen(text), patience=PATIENCE)
    try:
        return Check(
            "MongoDB", f"{database.shown}: {database.runs.estimated_document_count()} runs"
        )
    except database.errors as error:
        fix = f"start it (docker compose up -d), or copy runs later: {command('sync')}"
        return Check("MongoDB", f"{database.shown} does not answer ({type(error).__name__})", fix)
    finally:
        database.close()


def starcraft() -> Iterator[Check]:
    from eoi.envs import configured
    from eoi.envs.starcraft import installation

    yield from (*installation.packages(), installation.game())
    maps = {name: installation.map_file(name) for name in installation.maps()}
    absent = [check for check in maps.values() if not check.ok]
    present = " ".join(name for name, check in maps.items() if check.ok)
    found = f"{len(maps) - len(absent)} of {len(maps)}: {present}" if maps else "none"
    if absent:
        found += f"; missing: {' '.join(check.name.removeprefix('map ') for check in absent)}"
    fix = absent[0].fix if absent else "" if maps else installation.map_file("8m").fix
    yield Check("maps", found, fix)
    engine = configured("sc2", {"map_name": "8m"}).engine
    yield Check(
        "engine=auto",
        f"plays 8m on {engine}"
        + ("" if engine == "game" else ", this project's simulator: its results are not SMAC's"),
    )


def others() -> Iterator[Check]:
    there = all(importlib.util.find_spec(name) for name in ("pettingzoo", "gymnasium"))
    fix = "" if there else install("pettingzoo")
    yield Check("PettingZoo", "works" if there else "not installed", fix)


def show(title: str, checks: Sequence[Check], bad: str) -> None:
    print(title)
    for check in checks:
        print(
            f"  {'ok' if check.ok else bad:8} {check.name:30} {check.found}"
            + ("" if check.ok else f"\n{'':41} -> {check.fix}")
        )


def body(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--mongo", metavar="URL[:DB]", help="a database; default: EOI_MONGO")
    options = parser.parse_args(argv)
    needed = list(basics())
    show("Training", needed, "MISSING")
    if not all(check.ok for check in needed):
        raise SystemExit(1)
    show("Records", list(records(options.mongo)), "-")
    show(
        "StarCraft II (optional: without it marine maps such as 8m run on the lite engine)",
        list(starcraft()),
        "-",
    )
    show("Other worlds", list(others()), "-")


def main(argv: Sequence[str]) -> int:
    return guarded(body, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
