"""Networks on disk: written whole or not at all, read without running any code from the file."""

import os
import pathlib
import tempfile
from typing import Any

import torch

from utils.errors import UserError


def save(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Atomic: a reader sees the old file or the new one. Raises OSError (a full disk, say) and leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def load(path: pathlib.Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
