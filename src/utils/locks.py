"""A lock on the folder of a run. It is the kernel's, so it always ends with its process."""

import fcntl
import os
import pathlib
import socket
from typing import IO

from eoi.utils.errors import UserError

_NAME = ".lock"


class Lock:
    """Acquired when constructed. Raises UserError if another process holds it."""

    def __init__(self, folder: pathlib.Path):
        self._file = _open(folder)
        if not _taken(self._file):
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise UserError(
                f"{folder}: another process is writing this run ({holder}); wait for it, or stop it"
            )
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def is_locked(folder: pathlib.Path) -> bool:
    """Whether another process holds the lock. A call by the holder would release the lock."""
    with _open(folder) as file:
        return not _taken(file)


def _open(folder: pathlib.Path) -> IO[str]:
    file = (folder / _NAME).open("a+")
    file.seek(0)
    return file


def _taken(file: IO[str]) -> bool:
    try:
        # lockf, not flock: forked workers do not inherit it.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
