"""Gives the package its name in a checkout: `python src/main.py` puts src/ on sys.path, where `import eoi` finds this file.

It is replaced by the package that src/__init__.py makes.
"""

import importlib.util
import pathlib
import sys

_here = pathlib.Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location(
    "eoi", _here / "__init__.py", submodule_search_locations=[str(_here)]
)
assert _spec is not None and _spec.loader is not None
_package = importlib.util.module_from_spec(_spec)
sys.modules["eoi"] = _package
_spec.loader.exec_module(_package)
