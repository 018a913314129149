"""The name of the package in a checkout, where its folder is called src.

`python src/main.py` puts src on sys.path, where `import eoi` finds this file. The file replaces
itself by the package of src/__init__.py.
"""

import sys


def _shown(kind: type[BaseException], error: BaseException, trace: object) -> None:
    """Prints Ctrl-C as one line until utils/start.py, whose import takes a moment, handles it."""
    if kind is KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)  # pyright: ignore[reportArgumentType]


_program = getattr(sys.modules["__main__"], "__file__", None) or ""
if _program.rpartition("/")[0] == __file__.rpartition("/")[0]:  # a command of this folder
    sys.excepthook = _shown

import importlib.util
import pathlib

_here = pathlib.Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location(
    "eoi", _here / "__init__.py", submodule_search_locations=[str(_here)]
)
assert _spec is not None and _spec.loader is not None
_package = importlib.util.module_from_spec(_spec)
sys.modules["eoi"] = _package
_spec.loader.exec_module(_package)
