"""What StarCraft II through SMAC needs, and what of it is here. Everything is looked at before anything is started: the game's, pysc2's
and SMAC's own complaints come late and one at a time.

The game is looked for where pysc2 looks on Linux: in $SC2PATH, else in ~/StarCraftII.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import warnings
from typing import Any

from eoi.config.schema import nearest
from eoi.utils.checks import Check

BINARY = "SC2_x64"
_PACKAGES = "bash run.sh pip install -r requirements-sc2.txt"
_PAIRING = "bash run.sh pip install --force-reinstall --no-deps -r requirements-sc2.txt"
_SMAC = "bash install_sc2.sh smac"
_GAME = "bash install_sc2.sh game, or set SC2PATH to the game's folder"
_MAPS = "bash install_sc2.sh maps"
_SERVER = "python src/sc2_server.py install DIR, and set SC2PATH to DIR"


def missing(map_name: str, game_version: str | None = None, server: bool = False) -> list[Check]:
    """All that keeps `map_name` from being played on the game, or on this project's server; nothing when it can be."""
    return [
        check
        for check in (*packages(), game(game_version, server), a_map(map_name))
        if not check.ok
    ]


def packages() -> list[Check]:
    """pysc2, the game's protocol, SMAC."""
    found = [_pysc2(), _protocol()]
    return [*found, _smac(importable=all(check.ok for check in found))]


def folder() -> pathlib.Path:
    return pathlib.Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()


def game(version: str | None = None, server: bool = False) -> Check:
    """The program that pysc2 would start for `version`, None being the newest one here: Blizzard's, or this project's server.

    The server is a script, which the game is not; its results must not be taken for the game's.
    """
    found, what = _binary(version), "this project's server" if server else "StarCraft II"
    if isinstance(found, Check):
        return found._replace(what=what, fix=_SERVER) if server else found
    with found.open("rb") as file:
        is_script = file.read(2) == b"#!"
    if is_script and not server:
        return Check(
            what,
            f"{found} is this project's server, not the game",
            f"{_GAME} (env_args.engine=server plays on the server)",
        )
    if server and not is_script:
        return Check(what, f"{found} is the game", _SERVER)
    return Check(what, str(found))


def a_map(name: str) -> Check:
    what, known = f"map {name}", maps()
    if known and name not in known:
        return Check(what, "SMAC has no such map", f"choose another.{nearest(name, known)}")
    path = _maps_folder() / f"{name}.SC2Map"
    if not path.is_file() or not path.stat().st_size:
        return Check(what, f"no {path}", _MAPS)
    return Check(what, str(path))


def maps() -> list[str]:
    """SMAC's maps, in its order; those whose files are here when SMAC cannot be asked."""
    if all(check.ok for check in packages()):
        return list(_quietly("smac.env.starcraft2.maps.smac_maps").get_smac_map_registry())
    return sorted(path.stem for path in _maps_folder().glob("*.SC2Map"))


def _maps_folder() -> pathlib.Path:
    return folder() / "Maps" / "SMAC_Maps"


def _binary(version: str | None) -> pathlib.Path | Check:
    what, versions = "StarCraft II", folder() / "Versions"
    builds = [int(path.name[4:]) for path in versions.glob("Base*") if path.name[4:].isdigit()]
    if not builds:
        return Check(what, f"no {versions}/Base*", _GAME)
    build = max(builds)
    if version:
        known = _builds()
        if known.get(version) not in builds:
            there = (
                ", ".join(name for name, number in known.items() if number in builds)
                or "one that pysc2 does not know"
            )
            return Check(
                what,
                f"no version {version} in {folder()}",
                f"set env_args.game_version to what is there: {there}, or null",
            )
        build = known[version]
    binary = versions / f"Base{build:05d}" / BINARY
    if not binary.is_file():
        return Check(what, f"no {binary}", _GAME)
    if not os.access(binary, os.X_OK):
        return Check(what, f"{binary} is not executable", f"chmod +x {binary}")
    return binary


def _builds() -> dict[str, int]:
    """pysc2's versions of the game and their builds."""
    if not _pysc2().ok or not _protocol().ok:
        return {}
    return {
        name: version.build_version
        for name, version in _quietly("pysc2.run_configs.lib").VERSIONS.items()
    }


def _pysc2() -> Check:
    if importlib.util.find_spec("pysc2") is None:
        return Check("pysc2", "not installed", _PACKAGES)
    return Check("pysc2", _version("pysc2"))


def _protocol() -> Check:
    """s2clientprotocol is generated code, which only some versions of protobuf read; two distributions write into its one folder."""
    what = "s2clientprotocol with protobuf"
    if importlib.util.find_spec("s2clientprotocol") is None:
        return Check(what, "not installed", _PACKAGES)
    try:
        _quietly("s2clientprotocol.sc2api_pb2")
    except Exception as error:  # its kind depends on the versions of both
        return Check(
            what,
            f"does not load with protobuf {_version('protobuf')}: {str(error).strip().splitlines()[0][:120]}",
            _PAIRING,
        )
    return Check(
        what,
        f"pys2clientprotocol {_version('pys2clientprotocol')}, protobuf {_version('protobuf')}",
    )


def _smac(importable: bool) -> Check:
    found = importlib.util.find_spec("smac")
    if found is None:
        return Check("SMAC", "not installed", _SMAC)
    places = [pathlib.Path(place) for place in found.submodule_search_locations or []]
    if not any((place / "env" / "starcraft2" / "starcraft2.py").is_file() for place in places):
        other = "the package `smac` here is another project: AutoML's hyper-parameter search has the same name on PyPI"
        return Check("SMAC", other, f"bash run.sh pip uninstall smac, then {_SMAC}")
    if importable:
        try:
            _quietly("smac.env")
        except Exception as error:
            return Check(
                "SMAC",
                f"does not load: {type(error).__name__}: {str(error).strip().splitlines()[0][:120]}",
                _SMAC,
            )
    return Check("SMAC", f"{_version('smac')} in {places[0]}")


def _quietly(module: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # protobuf's remarks on generated code are nothing that a user can mend
        return importlib.import_module(module)


def _version(distribution: str) -> str:
    try:
        return re.sub(r"\+.*", "", importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
