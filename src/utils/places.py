"""Folders: the package's own files, and the folder that `results` is in.

In a checkout, results go below the checkout. For an installed package they go below the current
directory, never into site-packages.
"""

import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
IS_CHECKOUT = PACKAGE.name == "src" and (PACKAGE.parent / "pyproject.toml").is_file()
ROOT = PACKAGE.parent if IS_CHECKOUT else pathlib.Path.cwd()

_FILES = {"train": "main", "sc2-server": "sc2_server"}  # the others are named as their file


def command(name: str) -> str:
    """The words that start a command here: `python src/plot.py` or, installed, `eoi plot`."""
    return f"python src/{_FILES.get(name, name)}.py" if IS_CHECKOUT else f"eoi {name}"


def install(group: str = "") -> str:
    """The words that install the requirements, or those of an optional group such as sc2."""
    if not IS_CHECKOUT:
        return f"pip install 'eoi[{group}]'" if group else "pip install eoi"
    return f"bash run.sh pip install -r requirements{'-' * bool(group)}{group}.txt"
