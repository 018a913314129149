"""Files that are either complete or absent, even after a kill or a power cut."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import BinaryIO

PART = ".part"  # suffix of an incomplete file; a killed process leaves it behind


class Unwritable(OSError):
    """Nothing can be written there. `filename` is the folder, or the path of the file."""


def probe(folder: pathlib.Path) -> None:
    """Raises Unwritable if no file can be made in the folder, or in the one to make it in."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(existing)) from None


def put(
    folder: pathlib.Path, write: Callable[[BinaryIO], object], name: Callable[[], str]
) -> pathlib.Path:
    """Write a file. A reader sees either the old file or the new one. Raises OSError,
    Unwritable if the folder accepts no file.

    `name`: called after `write`, so that the name may depend on the content.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=PART)
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(folder)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 hides it from other users of a shared folder
        path = folder / name()
        _rename(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    _sync(folder)
    return path


def _rename(temporary: str, path: pathlib.Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(path)) from None


def _sync(folder: pathlib.Path) -> None:
    """Write the folder's entry to disk, so that the rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: pathlib.Path) -> None:
    """Remove incomplete files below `folder`. Only for the process that holds its lock."""
    for left_over in folder.rglob(f"*{PART}"):
        left_over.unlink(missing_ok=True)
