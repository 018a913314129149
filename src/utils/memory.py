"""Free memory, checked before a large allocation; freed memory, kept for the next one."""

import ctypes
import os
import pathlib
from typing import NamedTuple

import torch

from eoi.utils.errors import UserError

_MEMINFO = pathlib.Path("/proc/meminfo")
_CGROUP = pathlib.Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on the device; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    known = [bytes_ for bytes_ in (_machine(), _container()) if bytes_ is not None]
    return min(known) if known else None


class Setting(NamedTuple):
    """The setting that determines the size of an allocation."""

    key: str
    value: int
    power: int = 1  # the size grows with this power of the value


def require(size: int, device: torch.device, label: str, setting: Setting) -> None:
    """Raises UserError if `size` bytes are not free. `label`: the allocation in the message."""
    free = free_bytes(device)
    if free is not None and size > free:
        key, value, power = setting
        fits = int(value * (0.8 * free / size) ** (1 / power))
        raise UserError(
            f"{label} takes {size / 1e6:.0f} MB, but {free / 1e6:.0f} MB are free on {device}; "
            f"with {key}={fits} it fits"
        )


# Parameters of glibc's mallopt: freed memory above the first goes back to the system; blocks above
# the second have pages of their own.
_TRIM, _MMAP = -1, -3
_KEPT = 512 << 20  # bytes, far above an update's temporaries


def keep_freed() -> None:
    """Lets glibc keep up to 512 MiB of freed memory for the next allocation.

    An update's temporaries are freed and allocated again at once. New pages for them cost up to a
    seventh of an update. No effect on other systems, and none where the environment sets malloc.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_TRIM, _KEPT)
        mallopt(_MMAP, _KEPT)


def _machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _container() -> int | None:
    """Free bytes of the container, if it has a limit. Cached files count as free."""
    try:
        limit, used = (
            (_CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current")
        )
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return (
            None if limit == "max" else int(limit) - int(used) + int(stat.get("inactive_file", 0))
        )
    except (OSError, ValueError):
        return None
