"""Extras by name: `SECTION`, or `SECTION.FORM` where the setting `SECTION.form` chooses one.

A new extra is its own file and a line here. From outside, `register("mine", Mine)` does the same
(see docs/own-algorithm.md).
"""

import dataclasses
import inspect

from eoi.config import loader
from eoi.learners.base import Extra
from eoi.learners.edti import EDTI
from eoi.learners.eoi import Explore, Individuality, IntrinsicPolicy, Invariant, Pull, ShapedReward
from eoi.learners.kl import KLDivergence
from eoi.learners.lfo import LFO
from eoi.learners.roma import Roma
from eoi.utils.errors import UserError

REGISTRY: dict[str, type[Extra]] = {}


def register(name: str, kind: type[Extra]) -> None:
    """Makes an extra known by `SECTION` or `SECTION.FORM`.

    Settings that default.yaml does not list have the defaults of the extra's `Config`. Raises
    UserError for a class that cannot be made of its settings and a Context.
    """
    try:
        inspect.signature(kind).bind("cfg", "context")
    except TypeError as error:
        message = f"{name}: {kind.__name__}.__init__ takes (self, cfg, context): {error}"
        raise UserError(message) from None
    REGISTRY[name] = kind
    section, _, form = name.partition(".")
    fields = dataclasses.fields(kind.Config)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    loader.declare(section, defaults | ({"form": "none"} if form else {}))


def sections() -> dict[str, dict[str, type[Extra]]]:
    """Classes of each section by form; a section without forms has the one form ''."""
    found: dict[str, dict[str, type[Extra]]] = {}
    for name, kind in REGISTRY.items():
        section, _, form = name.partition(".")
        found.setdefault(section, {})[form] = kind
    return found


register("eoi.classifier", Individuality)
register("eoi.reward", ShapedReward)
register("eoi.pull", Pull)
register("eoi.invariant", Invariant)
register("eoi.policy", IntrinsicPolicy)
register("eoi.explore", Explore)
register("lfo", LFO)
register("kl", KLDivergence)
register("roma", Roma)
register("edti", EDTI)
