"""The parts of the packaging that are read from the tree: sub-packages and requirements.

The package `eoi` is the folder src. Everything else is in pyproject.toml.
"""

import pathlib
import tempfile

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
# A build folder that outlives a build would put deleted modules into the next wheel.
BUILD = tempfile.TemporaryDirectory(prefix="eoi-build-")


def requirements(name: str) -> list[str]:
    """The lines of a requirements file and of the files that it includes, without comments."""
    lines = [line.partition("#")[0].strip() for line in (HERE / name).read_text().splitlines()]
    found: list[str] = []
    for line in filter(None, lines):
        included = line.removeprefix("-r ")
        found += [line] if included == line else requirements(included)
    return found


setup(
    packages=["eoi", *(f"eoi.{name}" for name in find_packages(str(HERE / "src")))],
    package_dir={"eoi": "src"},
    install_requires=requirements("requirements.txt"),
    extras_require={
        path.stem.removeprefix("requirements-"): requirements(path.name)
        for path in HERE.glob("requirements-*.txt")
    },
    options={"build": {"build_base": BUILD.name}},
)
