"""EOI, the emergence of individuality, with learners, environments and tools.

from eoi.envs import PacMen
from eoi import load_policy
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eoi.saved import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> object:
    """Import `load_policy` on first use: the environments need only torch and numpy."""
    if name == "load_policy":
        from eoi.utils.start import trouble

        if reason := trouble():
            raise ImportError(f"{reason}; start the program by `bash run.sh python`")
        from eoi.saved import load_policy

        return load_policy
    raise AttributeError(f"module 'eoi' has no attribute {name!r}")
