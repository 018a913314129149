"""The name of the package in a checkout, where its folder is called src.

`python src/main.py` puts src on sys.path, where `import eoi` finds this file. The file replaces
itself by the package of src/__init__.py.
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
