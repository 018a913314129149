"""Installation of the server where pysc2 expects the game, and of files in place of SMAC's maps."""

import pathlib
import shlex
import sys

from eoi.envs.starcraft.maps import MAPS
from eoi.envs.starcraft.server.messages import BUILD, map_path
from eoi.utils.errors import UserError
from eoi.utils.script import write_text

_MARK = "# EOI's API server in the place of StarCraft II"


def install(folder: pathlib.Path, program: pathlib.Path) -> None:
    """Install a launcher in `folder`. `program`: serves if its first argument is `game`.

    Raises UserError if the folder contains the game, and OSError.
    """
    _refuse_game(folder)
    launcher = folder / "Versions" / f"Base{BUILD}" / "SC2_x64"
    command = shlex.join([sys.executable, str(program.resolve())])
    write_text(launcher, f'#!/bin/sh\n{_MARK}\nexec {command} game -parent "$PPID" "$@"\n')
    launcher.chmod(0o755)
    for name in MAPS:
        path = folder / "Maps" / map_path(name)
        if not path.exists():  # keep SMAC's own files: the server reads only their names
            write_text(path, f"{_MARK}: {name}\n")


def _refuse_game(folder: pathlib.Path) -> None:
    game = [folder / ".build.info", folder / "SC2Data"]
    found = [path for path in game if path.exists()] + [
        path for path in folder.glob("Versions/*/SC2_x64*") if not _is_ours(path)
    ]
    if found:
        raise UserError(
            f"{folder}: contains StarCraft II ({found[0].relative_to(folder)}); "
            "choose another folder"
        )


def _is_ours(launcher: pathlib.Path) -> bool:
    with launcher.open("rb") as file:
        return _MARK.encode() in file.read(200)
