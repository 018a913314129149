"""The start of every command, imported before everything else.

Importing this module in a command's process checks that the requirements are installed, and makes
Ctrl-C during the imports, which take seconds, end the process with one line. Other programs that
import a command's module are left alone.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from eoi.utils.places import IS_CHECKOUT, PACKAGE, ROOT

# Import names of the packages in requirements.txt
NEEDED = (
    *("torch", "numpy", "sacred", "scipy", "matplotlib"),
    *("yaml", "PIL", "jaxtyping", "pymongo", "zstandard", "sklearn", "plotly"),
)


# Folders of programs: the package's commands, and further ones of a checkout. The folders of the
# same names in another program's project are not ours.
_OTHERS = ("benchmarks", "scripts", "docs/worlds") if IS_CHECKOUT else ()
PROGRAMS = (PACKAGE, *(ROOT / name for name in _OTHERS))


def _is_a_command() -> bool:
    """Whether this process runs a program of this project, such as src/plot.py."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and pathlib.Path(file).resolve().parent in PROGRAMS


def trouble() -> str:
    """Reason why this Python cannot run a command, or ''."""
    if sys.version_info < (3, 11):  # noqa: UP036 # a check for users of an older version
        return f"Python {sys.version.split()[0]} is too old, 3.11 or newer is needed"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    others = f" and {len(missing) - 1} more packages" if len(missing) > 1 else ""
    return f"{sys.executable} has no {missing[0]}{others}" if missing else ""


def cure() -> str:
    """The command to type instead: this one, in the project's environment."""
    if not IS_CHECKOUT:
        return "pip install --force-reinstall eoi"
    root = "" if pathlib.Path.cwd() == ROOT else f"{ROOT}/"
    return shlex.join(["bash", f"{root}run.sh", "python", *sys.argv])


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Ends the process as an unhandled Ctrl-C would, without the traceback."""
    os.write(2, b"interrupted\n")
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _begin() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    if reason := trouble():
        print(f"error: {reason}; type `{cure()}`", file=sys.stderr)
        sys.exit(2)


def imported() -> None:
    """The imports are over: Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def launch(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Calls `main` with the words of the command line, and exits with the status it returns."""
    imported()
    sys.exit(main(sys.argv[1:]))


if _is_a_command():
    _begin()
