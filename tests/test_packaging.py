"""The package `eoi`: in a checkout, from a wheel, beside packages with common names."""

import os
import pathlib
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from eoi import cli

ROOT = pathlib.Path(__file__).parent.parent

# `sys.modules[name] = None` makes `import name` fail, as if it were not installed.
WORLDS = """
import sys
for name in ("jaxtyping", "yaml", "sacred", "matplotlib", "PIL", "pymongo"):
    sys.modules[name] = None
import torch
import eoi.envs
from eoi.envs import REGISTRY, PacMen, StarCraft, VecEnv
from eoi.utils.seeding import fold, root_key

assert eoi.__file__.startswith(sys.argv[1]), eoi.__file__
for name in ("pac_men", "windy_maze", "firefighters", "sc2"):
    env = REGISTRY[name](eoi.envs.configured(name, {}), 3)
    assert isinstance(env, VecEnv)
    now = env.reset(fold(root_key(1, name), torch.arange(3)))
    for _ in range(env.spec.episode_limit):
        now = env.step(now.avail.int().argmax(2))
    assert now.done.all() and env.text()
print(PacMen(PacMen.Config(n_agents=2), 1).spec.n_agents)
"""


def python(
    *words: str, cwd: pathlib.Path, path: pathlib.Path | str = ""
) -> subprocess.CompletedProcess[str]:
    """Python in `cwd` with `path` first on sys.path, outside of any checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment | ({"PYTHONPATH": str(path)} if path else {}),
        text=True,
        capture_output=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel of a copy of the tree, without the symlink `eoi`."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, tree)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "-q"]
    result = python("-m", "pip", "wheel", ".", *flags, "-w", str(out), cwd=tree)
    assert result.returncode == 0, result.stderr
    (path,) = out.glob("eoi-*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the unpacked wheel, as in site-packages."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_wheel_has_every_module_and_data_file(site):
    kinds = (".py", ".yaml", ".html", ".css", ".js")
    there, packed = (
        {str(path.relative_to(top)) for path in top.rglob("*") if path.suffix in kinds}
        for top in (ROOT / "src", site / "eoi")
    )
    assert packed == there
    assert "eoi = eoi.cli:main" in next(site.glob("*.dist-info/entry_points.txt")).read_text()


def test_its_requirements_are_those_of_the_files(site):
    metadata = next(site.glob("*.dist-info/METADATA")).read_text().splitlines()
    needed = {line.split()[1] for line in metadata if line.startswith("Requires-Dist:")}
    extras = {line.split()[1] for line in metadata if line.startswith("Provides-Extra:")}
    text = "\n".join(path.read_text() for path in ROOT.glob("requirements*.txt"))
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    assert {name.rstrip(";") for name in needed} == {
        line for line in lines if line and not line.startswith("-r")
    }
    assert extras == {
        path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")
    }


def test_the_worlds_of_a_wheel_need_torch_and_numpy_alone(site, tmp_path):
    result = python("-c", WORLDS, str(site), cwd=tmp_path, path=site)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "2"


def test_a_run_of_a_wheel_leaves_its_results_in_the_current_directory(site, tmp_path):
    keys = "t_max=40 batch_size_run=1 batch_size=8 hidden_dim=4 test_nepisode=1 test_interval=40"
    words = ["-m", "eoi.cli", "train", "--config=vdn", "--env-config=windy_maze", "with"]
    result = python(*words, *keys.split(), cwd=tmp_path, path=site)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results" / "sacred" / "1" / "metrics.json").is_file()
    assert not (site / "results").exists()
    load = "from eoi import load_policy; print(load_policy('results/sacred/1').spec.n_agents)"
    loaded = python("-c", load, cwd=tmp_path, path=site)
    assert loaded.stdout.strip() == "2", loaded.stderr


@pytest.mark.parametrize("path", [ROOT, ROOT / "src"], ids=["root", "src"])
def test_a_checkout_is_the_package_from_its_root_and_from_src(path, tmp_path):
    """Both ways lead to one package, also beside unrelated packages with common names."""
    for name in ("utils", "config", "envs"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong one')\n")
    code = "import eoi; from eoi import load_policy; from eoi.envs import PacMen; print(PacMen)"
    result = python("-c", code, cwd=tmp_path, path=path)
    assert result.stdout == "<class 'eoi.envs.pac_men.PacMen'>\n", result.stderr


def test_unknown_commands_are_refused_by_name(capsys):
    assert cli.main(["plto"]) == 2
    assert capsys.readouterr().err == (
        "error: eoi plto: there is no such command. Did you mean 'plot'?\n"
    )
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eoi"])
    assert cli.main([name, "--help"]) == 0
    assert capsys.readouterr().out


def test_the_import_layers_name_every_package() -> None:
    """The contract does not check a package that it leaves out."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    packages = {f"eoi.{folder.parent.name}" for folder in ROOT.glob("src/*/__init__.py")}
    layers = contract["contracts"][0]["layers"]
    assert contract["root_package"] == "eoi"
    assert packages == {name.strip() for layer in layers for name in layer.split("|")}
