"""Folders: the package's own files, and the folder that `results` is in.

In a checkout, results go below the checkout. For an installed package they go below the current
directory, never into site-packages.
"""

import os
import pathlib
import shlex
import sys
from collections.abc import Iterable

from eoi.utils.errors import UserError

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
IS_CHECKOUT = PACKAGE.name == "src" and (PACKAGE.parent / "pyproject.toml").is_file()
ROOT = PACKAGE.parent if IS_CHECKOUT else pathlib.Path.cwd()


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path with its `~` replaced by the home folder. Raises UserError where there is none."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user") from None


_FILES = {"train": "main", "sc2-server": "sc2_server"}  # the others are named as their file


def command(name: str, modules: Iterable[str] = ()) -> str:
    """The words that start a command: `bash run.sh python src/plot.py` or, installed, `eoi plot`.

    They work in the current directory, with or without an active environment. `modules`: imported
    ones that the command needs, too.
    """
    path = _python_path(modules)
    if not IS_CHECKOUT:
        return f"{path}eoi {name}"
    root = "" if pathlib.Path.cwd() == ROOT else f"{ROOT}/"
    words = ["bash", f"{root}run.sh", "python", f"{root}src/{_FILES.get(name, name)}.py"]
    return path + shlex.join(words)


def _python_path(modules: Iterable[str]) -> str:
    """`PYTHONPATH=... ` as this process has it, where one of the modules lies in its folders."""
    given = os.environ.get("PYTHONPATH", "")
    folders = {pathlib.Path(folder).resolve() for folder in given.split(os.pathsep) if folder}
    files = (getattr(sys.modules.get(module), "__file__", None) for module in modules)
    parents = {parent for file in files if file for parent in pathlib.Path(file).resolve().parents}
    return f"PYTHONPATH={shlex.quote(given)} " if folders & parents else ""


PIP = "bash run.sh pip install" if IS_CHECKOUT else "pip install"


def install(group: str) -> str:
    """The words that install an optional group of requirements, such as sc2."""
    return f"{PIP} -r requirements-{group}.txt" if IS_CHECKOUT else f"{PIP} 'eoi[{group}]'"
