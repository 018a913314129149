"""One version everywhere, and a workflow that calls the checks."""

import pathlib
import re
import subprocess
import tomllib

import yaml

ROOT = pathlib.Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_version_has_a_dated_section_of_the_changelog() -> None:
    sections = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [each for each in sections if each != "[Unreleased]"]
    assert re.fullmatch(rf"\[{re.escape(VERSION)}\] - \d{{4}}-\d\d-\d\d", released[0])
    numbers = [tuple(map(int, re.findall(r"\d+", each)[:3])) for each in released]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) == len(numbers)


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == VERSION
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{VERSION}] - {cited['date-released']}" in text


def test_the_workflow_calls_the_checks() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    steps = workflow["jobs"]["checks"]["steps"]
    assert steps[-1]["run"] == "bash .ci/run" and (ROOT / ".ci" / "run").is_file()
    python = next(step["with"]["python-version"] for step in steps if "with" in step)
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert required == f">={python}"
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0
