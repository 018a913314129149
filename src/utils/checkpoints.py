"""Networks and whole runs on disk.

Files are written whole or not at all, and reading one runs no code from it.

A run's checkpoint is `<environment step>-<CRC-32 of its bytes>.pt`: one rename makes it appear with
its checksum, and `torch.load` reads it.
"""

import logging
import pathlib
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from eoi.utils.errors import UserError
from eoi.utils.files import put

log = logging.getLogger(__name__)

FORMAT = 2  # of a run's checkpoint; raised whenever an older one would be misread
KEEP = 3


class _Summed:
    """A file with the CRC-32 of its content."""

    def __init__(self, file: BinaryIO):
        self._file, self.crc = file, 0

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(
    folder: pathlib.Path, content: dict[str, Any], name: Callable[[int], str]
) -> pathlib.Path:
    """`name` gets the CRC-32. Raises OSError and leaves older files as they were."""
    written: list[_Summed] = []

    def write(file: BinaryIO) -> None:
        written.append(_Summed(file))
        _torch_save(content, written[0])

    return put(folder, write, lambda: name(written[0].crc))


def _torch_save(content: dict[str, Any], file: Any) -> None:
    """Raises OSError.

    After a failed write, torch closes its archive and reports the failure of that instead.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def save(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Raises OSError."""
    _write(path.parent, content, lambda _: path.name)


def load(path: pathlib.Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None


def step(path: pathlib.Path) -> int:
    """Environment step of a run's checkpoint, from its name."""
    return int(path.name.split("-")[0])


class Checkpoints:
    """The newest few checkpoints of one run."""

    def __init__(self, folder: pathlib.Path, keep: int = KEEP):
        self.folder, self._keep = folder, keep

    def paths(self) -> list[pathlib.Path]:
        """Oldest first."""
        return sorted(
            path for path in self.folder.glob("*-*.pt") if path.name.split("-")[0].isdigit()
        )

    def write(self, t: int, content: dict[str, Any]) -> pathlib.Path:
        """Raises OSError, and leaves older files as they were."""
        path = _write(
            self.folder, {"format": FORMAT, **content}, lambda crc: f"{t:012d}-{crc:08x}.pt"
        )
        for old in [each for each in self.paths() if each != path][: -self._keep + 1]:
            old.unlink(missing_ok=True)
        return path

    def newest(
        self, device: torch.device | str = "cpu"
    ) -> tuple[pathlib.Path, dict[str, Any]] | None:
        """The newest checkpoint that is whole and of this version; each refused one is named.

        Raises UserError when all are refused.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return path, _read(path, device)
            except UserError as refused:
                log.warning("%s; using the checkpoint before it", refused)
        if paths:
            raise UserError(
                f"{self.folder}: none of its {len(paths)} checkpoints can be used; "
                "delete it to begin the run again"
            )
        return None


def _read(path: pathlib.Path, device: torch.device | str) -> dict[str, Any]:
    if path.stem.split("-")[-1] != f"{_crc(path):08x}":
        raise UserError(f"{path}: damaged, its content does not match the checksum in its name")
    content = load(path, device)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path}: of another version (format {content.get('format')}, "
            f"this program reads {FORMAT})"
        )
    return content


def _crc(path: pathlib.Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc
