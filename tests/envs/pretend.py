"""A machine with StarCraft II, pysc2 and SMAC on it, as far as this project can tell."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

import pytest

import eoi.envs.starcraft
from eoi.envs.starcraft import game

MODULES = {
    "s2clientprotocol": "",
    "s2clientprotocol.sc2api_pb2": "",
    "pysc2": "",
    "pysc2.lib": "",
    "pysc2.lib.protocol": "from pretend_pysc2 import ConnectionError, ProtocolError",
    "pysc2.lib.remote_controller": "from pretend_pysc2 import ConnectError",
    "pysc2.lib.sc_process": "from pretend_pysc2 import SC2LaunchError, StarcraftProcess",
    "pysc2.run_configs": "from pretend_pysc2 import get",
    "pysc2.run_configs.lib": "from pretend_pysc2 import VERSIONS",
    "pysc2.run_configs.platforms": "from pretend_pysc2 import Linux",
    "smac": "",
    "smac.env": "from smac.env.starcraft2.starcraft2 import StarCraft2Env",
    "smac.env.starcraft2": "",
    "smac.env.starcraft2.starcraft2": "from pretend_smac import StarCraft2Env",
    "smac.env.starcraft2.maps": "",
    "smac.env.starcraft2.maps.smac_maps": """
def get_smac_map_registry():
    facts = {"3m": (3, 3, 6), "8m": (8, 8, 12), "2s3z": (5, 5, 12), "so_many_baneling": (7, 32, 10)}
    keys = "n_agents", "n_enemies", "limit"
    return {name: dict(zip(keys, numbers)) for name, numbers in facts.items()}
""",
}


class Machine:
    """`packages` and `game` are its two folders; packages named in `gone` are not found."""

    def __init__(self, folder: pathlib.Path):
        self.gone: set[str] = set()
        self.packages, self.game = folder / "packages", folder / "StarCraftII"
        for name, text in MODULES.items():
            is_package = any(other.startswith(f"{name}.") for other in MODULES)
            path = (
                self.packages / name.replace(".", "/") / "__init__.py"
                if is_package
                else self.packages / f"{name.replace('.', '/')}.py"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.binary = self.game / "Versions" / "Base75689" / "SC2_x64"
        self.binary.parent.mkdir(parents=True)
        shutil.copy(shutil.which("sleep") or "", self.binary)
        self.maps = self.game / "Maps" / "SMAC_Maps"
        self.maps.mkdir(parents=True)
        for name in ("3m", "8m", "so_many_baneling"):
            (self.maps / f"{name}.SC2Map").write_text("map")

    def games(self) -> list[int]:
        """Processes of the game that are running."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(path / "exe").startswith(str(self.binary)):
                    found.append(int(path.name))
            except OSError:
                pass  # another user's process, or one that has just ended
        return found


def _forget() -> None:
    for name in [
        name
        for name in sys.modules
        if name.split(".")[0]
        in ("pysc2", "smac", "s2clientprotocol", "pretend_pysc2", "pretend_smac")
    ]:
        del sys.modules[name]
    sys.modules.pop("eoi.envs.starcraft.launch", None)
    vars(eoi.envs.starcraft).pop("launch", None)


@contextlib.contextmanager
def pretended(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    real, find_spec, found = dict(sys.modules), importlib.util.find_spec, Machine(folder)
    _forget()
    monkeypatch.syspath_prepend(str(found.packages))
    monkeypatch.setenv("SC2PATH", str(found.game))
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in found.gone else find_spec(name, *rest),
    )
    yield found
    _forget()
    sys.modules.update({name: module for name, module in real.items() if name not in sys.modules})
    for cached in (game._fight, game._losses):
        cached.cache_clear()
