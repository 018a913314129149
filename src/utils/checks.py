"""Something that has to be there, and whether it is."""

from collections.abc import Iterable
from typing import NamedTuple


class Check(NamedTuple):
    what: str
    found: str  # what is there, or what is wrong with it
    fix: str = ""  # what to do about it; "" when nothing is wrong

    @property
    def ok(self) -> bool:
        return not self.fix


def listed(checks: Iterable[Check]) -> str:
    """A line each, for a refusal."""
    return "\n".join(
        f"  {check.what}: {check.found}" + ("" if check.ok else f"; {check.fix}")
        for check in checks
    )
