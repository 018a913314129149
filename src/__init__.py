"""EOI, the emergence of individuality, and the learners, worlds and tools around it.

from eoi.envs import PacMen
from eoi import load_policy
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eoi.saved import load_policy

__all__ = ["load_policy"]


def __getattr__(name: str) -> object:
    """Imports `load_policy` on first use: the worlds alone need torch and numpy only."""
    if name == "load_policy":
        from eoi.saved import load_policy

        return load_policy
    raise AttributeError(f"module 'eoi' has no attribute {name!r}")
