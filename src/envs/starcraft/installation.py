"""The parts that StarCraft II through SMAC requires, and whether they are installed.

All parts are checked before a game starts, because the game, pysc2 and SMAC report problems late
and one at a time. The game is expected where pysc2 expects it on Linux: in $SC2PATH, else in
~/StarCraftII.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import warnings
from types import ModuleType

from eoi.config.schema import nearest
from eoi.utils.checks import Check
from eoi.utils.places import IS_CHECKOUT, PIP, command, expanded, install

BINARY = "SC2_x64"
_PACKAGES = install("sc2")
_PAIRING = _PACKAGES.replace("install ", "install --force-reinstall --no-deps ", 1)
_SCRIPT = "bash install_sc2.sh" if IS_CHECKOUT else "in the repository of EOI, bash install_sc2.sh"
_SMAC = f"{_SCRIPT} smac"
_GAME = f"{_SCRIPT} game, or set SC2PATH to the game's folder"
_MAPS = f"{_SCRIPT} maps"
_SERVER = f"{command('sc2-server')} install DIR, and set SC2PATH to DIR"


def missing(map_name: str, game_version: str | None = None, server: bool = False) -> list[Check]:
    """Failed checks for `map_name`; [] if it can be played.

    `server`: for this project's server instead of the game.
    """
    return [
        check
        for check in (*packages(), game(game_version, server), map_file(map_name))
        if not check.ok
    ]


def packages() -> list[Check]:
    """Checks of pysc2, the game's protocol and SMAC, in this order."""
    found = [_pysc2(), _protocol()]
    return [*found, _smac(importable=all(check.ok for check in found))]


def folder() -> pathlib.Path:
    return expanded(os.environ.get("SC2PATH", "~/StarCraftII"))


def game(version: str | None = None, server: bool = False) -> Check:
    """Check of the program that pysc2 would start: the game, or this project's server.

    `version`: of the game; None for the newest one installed. The server is a script and the game
    is not, so that results of one cannot pass for results of the other.
    """
    found, name = _binary(version), "this project's server" if server else "StarCraft II"
    if isinstance(found, Check):
        return found._replace(name=name, fix=_SERVER) if server else found
    with found.open("rb") as file:
        is_script = file.read(2) == b"#!"
    if is_script and not server:
        return Check(
            name,
            f"{found} is this project's server, not the game",
            f"{_GAME} (env_args.engine=server plays on it)",
        )
    if server and not is_script:
        return Check(name, f"{found} is the game", _SERVER)
    return Check(name, str(found))


def map_file(name: str) -> Check:
    """Check of the file of a map."""
    label, known = f"map {name}", maps()
    if known and name not in known:
        return Check(label, "SMAC has no such map", f"choose another.{nearest(name, known)}")
    path = _maps_folder() / f"{name}.SC2Map"
    if not path.is_file() or not path.stat().st_size:
        return Check(label, f"no {path}", _MAPS)
    return Check(label, str(path))


def maps() -> list[str]:
    """Names of SMAC's maps, in its order. Without SMAC: those whose files are installed."""
    if all(check.ok for check in packages()):
        return list(_imported("smac.env.starcraft2.maps.smac_maps").get_smac_map_registry())
    return sorted(path.stem for path in _maps_folder().glob("*.SC2Map"))


def _maps_folder() -> pathlib.Path:
    return folder() / "Maps" / "SMAC_Maps"


def _binary(version: str | None) -> pathlib.Path | Check:
    name, versions = "StarCraft II", folder() / "Versions"
    builds = [int(path.name[4:]) for path in versions.glob("Base*") if path.name[4:].isdigit()]
    if not builds:
        return Check(name, f"no {versions}/Base*", _GAME)
    build = max(builds)
    if version:
        known = _builds()
        if known.get(version) not in builds:
            installed = ", ".join(other for other, number in known.items() if number in builds)
            return Check(
                name,
                f"no version {version} in {folder()}",
                "set env_args.game_version to the installed version: "
                f"{installed or 'one that pysc2 does not know'}, or null",
            )
        build = known[version]
    binary = versions / f"Base{build:05d}" / BINARY
    if not binary.is_file():
        return Check(name, f"no {binary}", _GAME)
    if not os.access(binary, os.X_OK):
        return Check(name, f"{binary} is not executable", f"chmod +x {binary}")
    return binary


def _builds() -> dict[str, int]:
    """Build number of each version of the game that pysc2 knows."""
    if not _pysc2().ok or not _protocol().ok:
        return {}
    versions = _imported("pysc2.run_configs.lib").VERSIONS
    return {name: version.build_version for name, version in versions.items()}


def _pysc2() -> Check:
    if importlib.util.find_spec("pysc2") is None:
        return Check("pysc2", "not installed", _PACKAGES)
    return Check("pysc2", _version("pysc2"))


def _protocol() -> Check:
    """Check that s2clientprotocol loads.

    It is generated code, which only some versions of protobuf load, and two distributions install
    into its folder.
    """
    name, protobuf = "s2clientprotocol with protobuf", _version("protobuf")
    if importlib.util.find_spec("s2clientprotocol") is None:
        return Check(name, "not installed", _PACKAGES)
    try:
        _imported("s2clientprotocol.sc2api_pb2")
    except Exception as error:  # its type depends on both versions
        return Check(name, f"does not load with protobuf {protobuf}: {_line(error)}", _PAIRING)
    found = f"pys2clientprotocol {_version('pys2clientprotocol')}, protobuf {protobuf}"
    return Check(name, found)


def _smac(importable: bool) -> Check:
    found = importlib.util.find_spec("smac")
    if found is None:
        return Check("SMAC", "not installed", _SMAC)
    places = [pathlib.Path(place) for place in found.submodule_search_locations or []]
    if not any((place / "env" / "starcraft2" / "starcraft2.py").is_file() for place in places):
        other = (
            "the installed package `smac` is another project: AutoML's hyper-parameter search "
            "has the same name on PyPI"
        )
        uninstall = PIP.replace("install", "uninstall")
        return Check("SMAC", other, f"{uninstall} smac, then {_SMAC}")
    if importable:
        try:
            _imported("smac.env")
        except Exception as error:
            problem = f"does not load: {type(error).__name__}: {_line(error)}"
            return Check("SMAC", problem, _SMAC)
    return Check("SMAC", f"{_version('smac')} in {places[0]}")


def _imported(module: str) -> ModuleType:
    with warnings.catch_warnings():
        # The user cannot act on protobuf's warnings about generated code.
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def _line(error: Exception) -> str:
    """First line of the message, at most 120 characters."""
    return [*str(error).strip().splitlines(), ""][0][:120]


def _version(distribution: str) -> str:
    try:
        return re.sub(r"\+.*", "", importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
