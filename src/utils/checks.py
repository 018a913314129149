"""Result of looking for something that a program requires, such as a package or a file."""

from collections.abc import Iterable
from typing import NamedTuple


class Check(NamedTuple):
    name: str
    found: str  # the thing itself, or the problem with it
    fix: str = ""  # how to solve the problem; "" if there is none

    @property
    def ok(self) -> bool:
        return not self.fix


def listed(checks: Iterable[Check]) -> str:
    """One line for each check, for an error message."""
    return "\n".join(
        f"  {check.name}: {check.found}" + ("" if check.ok else f"; {check.fix}")
        for check in checks
    )
