"""Networks and whole runs on disk.

Files are written whole or not at all, and reading one runs no code from it.

A run's checkpoint is `<environment step>-<CRC-32 of its bytes>.pt.zst`: one rename makes it appear
with its checksum. It is a file of `torch.load`, compressed without loss by Zstandard at its fastest
level. A replay shrinks to a sixth or less, and writing takes less time than without.
"""

import io
import logging
import pathlib
import zlib
from typing import Any, BinaryIO

import torch
import zstandard

from eoi.utils.errors import UserError
from eoi.utils.files import put

log = logging.getLogger(__name__)

FORMAT = 2  # of a run's checkpoint; raised whenever an older one would be misread
KEEP = 2  # of a run that trains: if the newest one is damaged, the one before it is used
KEEP_FINISHED = 1
SHRINKS = 6  # a replay is compressed by this factor at least, in every world measured
_LEVEL = 1  # Zstandard's fastest
_SUFFIX = ".pt.zst"


class _Packed:
    """Compresses what is written, into a file; `crc` is the CRC-32 of the file's content."""

    def __init__(self, file: BinaryIO):
        self._file, self.crc = file, 0
        self._packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj()

    def write(self, data: bytes) -> int:
        self._put(self._packer.compress(data))
        return len(data)

    def flush(self) -> None: ...

    def finish(self) -> None:
        self._put(self._packer.flush())

    def _put(self, packed: bytes) -> None:
        self.crc = zlib.crc32(packed, self.crc)
        self._file.write(packed)


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
    put(path.parent, lambda file: _torch_save(content, file), lambda: path.name)


def load(path: pathlib.Path) -> dict[str, Any]:
    """Content of a checkpoint or of saved networks, on the CPU. Raises UserError."""
    try:
        file = _unpacked(path) if path.name.endswith(_SUFFIX) else path
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a readable checkpoint ({type(content).__name__})")
    return content


def step(path: pathlib.Path) -> int:
    """Environment step of a run's checkpoint, from its name."""
    return int(path.name.split("-")[0])


def _unpacked(path: pathlib.Path) -> io.BytesIO:
    content = io.BytesIO()
    with path.open("rb") as file:
        zstandard.ZstdDecompressor().copy_stream(file, content)
    content.seek(0)
    return content


class Checkpoints:
    """The newest few checkpoints of one run."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    def paths(self) -> list[pathlib.Path]:
        """Oldest first, those of versions that did not compress among them."""
        return sorted(
            path for path in self.folder.glob("*-*.pt*") if path.name.split("-")[0].isdigit()
        )

    def write(self, t: int, content: dict[str, Any], keep: int = KEEP) -> pathlib.Path:
        """Writes a checkpoint, and leaves the newest `keep`.

        Raises OSError, and leaves older files as they were.
        """
        written: list[_Packed] = []

        def write(file: BinaryIO) -> None:
            written.append(_Packed(file))
            _torch_save({"format": FORMAT, **content}, written[0])
            written[0].finish()

        path = put(self.folder, write, lambda: f"{t:012d}-{written[0].crc:08x}{_SUFFIX}")
        others = [each for each in self.paths() if each != path]
        for later in [each for each in others if step(each) > t]:  # damaged: the run began before
            later.unlink(missing_ok=True)
            others.remove(later)
        for old in others[: max(len(others) + 1 - keep, 0)]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[pathlib.Path, dict[str, Any]] | None:
        """The newest checkpoint that is whole and of this version; each refused one is named.

        Raises UserError when all are refused.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return path, _read(path)
            except UserError as refused:
                log.warning("%s; using the checkpoint before it", refused)
        if paths:
            raise UserError(
                f"{self.folder}: none of its {len(paths)} checkpoints can be used; "
                "delete it to begin the run again"
            )
        return None


def _read(path: pathlib.Path) -> dict[str, Any]:
    if path.name.split(".")[0].split("-")[-1] != f"{_crc(path):08x}":
        raise UserError(f"{path}: damaged, its content does not match the checksum in its name")
    content = load(path)
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
