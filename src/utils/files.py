"""Files that are whole or absent, whenever the process is killed or the power cut."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import BinaryIO

PART = ".part"  # ends the name of what is not whole; a killed process leaves it behind


def put(
    folder: pathlib.Path, write: Callable[[BinaryIO], object], name: Callable[[], str]
) -> pathlib.Path:
    """A reader sees the old file or the new one. `name` is asked when all is written. Raises OSError (a full disk, say)."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide it from a shared folder's readers
        path = folder / name()
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    _sync(folder)
    return path


def _sync(folder: pathlib.Path) -> None:
    """The rename itself on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: pathlib.Path) -> None:
    """Removes what killed processes left below it. Only for the one process that writes there."""
    for left_over in folder.rglob(f"*{PART}"):
        left_over.unlink(missing_ok=True)
