"""The checks of `doctor` and their remedies, on one screen."""

import importlib.metadata
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "envs"))
import pretend

from eoi import doctor


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.delenv("EOI_MONGO", raising=False)
    with pretend.pretended(tmp_path / "machine", monkeypatch) as found:
        yield found


def lines(capsys, *argv: str, status: int = 0) -> list[str]:
    assert doctor.main(argv) == status
    return capsys.readouterr().out.splitlines()


def about(shown: list[str], name: str) -> tuple[str, str]:
    """Its line without the name, and the line after it."""
    (i,) = [
        i
        for i, line in enumerate(shown)
        if line[2:].split(maxsplit=1)[1:] and line[11:].startswith(f"{name} ")
    ]
    found = f"{shown[i][2:10].strip()} {shown[i][11:].removeprefix(name).strip()}"
    return found, shown[i + 1].strip() if i + 1 < len(shown) else ""


def test_with_everything_there(machine, capsys):
    for name in machine_maps():
        (machine.maps / f"{name}.SC2Map").write_text("map")
    shown = lines(capsys)
    assert about(shown, "StarCraft II")[0] == f"ok {machine.binary}"
    assert about(shown, "maps")[0].startswith("ok 4 of 4: 3m 8m 2s3z so_many_baneling")
    assert about(shown, "engine=auto")[0] == "ok plays 8m on game"
    assert (
        about(shown, "import torch")[0].startswith("ok works; ")
        and about(shown, "import sacred")[0] == "ok works"
    )
    assert len(shown) <= 40  # one screen


def machine_maps() -> list[str]:
    from smac.env.starcraft2.maps.smac_maps import get_smac_map_registry  # pyright: ignore[reportMissingImports]

    return list(get_smac_map_registry())


def test_each_failure_comes_with_its_fix_and_training_works_all_the_same(machine, capsys):
    machine.gone |= {"pysc2", "tensorboard", "wandb", "pettingzoo"}
    machine.binary.chmod(0o644)
    shown = lines(capsys)
    assert about(shown, "pysc2") == (
        "- not installed",
        "-> bash run.sh pip install -r requirements-sc2.txt",
    )
    assert about(shown, "StarCraft II") == (
        f"- {machine.binary} is not executable",
        f"-> chmod +x {machine.binary}",
    )
    assert about(shown, "PettingZoo") == (
        "- not installed",
        "-> bash run.sh pip install -r requirements-pettingzoo.txt",
    )
    assert (
        about(shown, "engine=auto")[0]
        == "ok plays 8m on lite, this project's simulator: its results are not SMAC's"
    )


def test_missing_maps_are_named(machine, capsys):
    found, fix = about(lines(capsys), "maps")
    assert (
        found == "- 3 of 4: 3m 8m so_many_baneling; missing: 2s3z"
        and fix == "-> bash install_sc2.sh maps"
    )


def test_mongo_that_is_asked_for_and_silent(machine, capsys, monkeypatch):
    assert (
        about(lines(capsys), "MongoDB")[0] == "ok not checked: neither --mongo nor EOI_MONGO is set"
    )
    monkeypatch.setattr(doctor, "PATIENCE", 100)
    found, fix = about(lines(capsys, "--mongo", "127.0.0.1:1"), "MongoDB")
    assert "does not answer" in found and fix.startswith("-> start it")


def test_a_missing_requirement_is_status_1(machine, capsys, monkeypatch):
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "jaxtyping":
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9" if name == "pillow" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    shown = lines(capsys, status=1)
    assert about(shown, "jaxtyping")[0] == "MISSING not installed" and about(shown, "pillow")[
        0
    ].startswith("ok 9.9; tested with ")
    assert not any("StarCraft" in line for line in shown)


def test_a_package_that_does_not_load_is_status_1(machine, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacred", None)
    found, fix = about(lines(capsys, status=1), "import sacred")
    assert found.startswith("MISSING ModuleNotFoundError: ") and "requirements.txt" in fix
