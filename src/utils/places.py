"""Folders: the package's own files, and the folder that `results` is in.

In a checkout, results go below the checkout. For an installed package they go below the current
directory, never into site-packages.
"""

import pathlib
import shlex

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
IS_CHECKOUT = PACKAGE.name == "src" and (PACKAGE.parent / "pyproject.toml").is_file()
ROOT = PACKAGE.parent if IS_CHECKOUT else pathlib.Path.cwd()

_FILES = {"train": "main", "sc2-server": "sc2_server"}  # the others are named as their file


def command(name: str) -> str:
    """The words that start a command: `bash run.sh python src/plot.py` or, installed, `eoi plot`.

    They work in the current directory, with or without an active environment.
    """
    if not IS_CHECKOUT:
        return f"eoi {name}"
    root = "" if pathlib.Path.cwd() == ROOT else f"{ROOT}/"
    return shlex.join(["bash", f"{root}run.sh", "python", f"{root}src/{_FILES.get(name, name)}.py"])


PIP = "bash run.sh pip install" if IS_CHECKOUT else "pip install"


def install(group: str) -> str:
    """The words that install an optional group of requirements, such as sc2."""
    return f"{PIP} -r requirements-{group}.txt" if IS_CHECKOUT else f"{PIP} 'eoi[{group}]'"
