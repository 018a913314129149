"""Films as files: gif, mp4 or html, by the ending of the file's name."""

import importlib.util
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from eoi.pictures.film import Films, gif
from eoi.pictures.mp4 import mp4
from eoi.pictures.page import page
from eoi.utils.errors import UserError
from eoi.utils.places import install
from eoi.utils.script import output, write_whole


def _html(films: Films, title: str, fps: float, file: BytesIO) -> None:
    file.write(page(films, title, fps).encode())


# Writes films with a title at a number of frames a second.
KINDS: dict[str, Callable[[Films, str, float, BytesIO], None]] = {
    "gif": gif,
    "mp4": mp4,
    "html": _html,
}


def film_argument(text: str) -> pathlib.Path:
    """Type of an argument: the file of a film, or its kind alone for a file in results/figures."""
    return pathlib.Path(text) if text in KINDS else output(text)


@dataclass(frozen=True)
class FilmFile:
    """Kind of a film's file, and its path."""

    kind: str
    path: pathlib.Path | None  # None: the command's default

    def write(self, films: Films, title: str, fps: float, default: pathlib.Path) -> pathlib.Path:
        """Write the file, or leave it as it was and raise OSError. Returns its path."""
        path = self.path or default.with_suffix(f".{self.kind}")
        write_whole(path, lambda file: KINDS[self.kind](films, title, fps, file))
        return path


def film_file(option: str, wanted: pathlib.Path) -> FilmFile:
    """The file for a `film_argument` of the command's option.

    Raises UserError: for the name of another kind of file, and where a kind's package is not
    installed.
    """
    alone = str(wanted) in KINDS
    kind = str(wanted) if alone else wanted.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise UserError(f"{option} {wanted}: the name of a film ends with .gif, .mp4 or .html")
    if kind == "mp4" and importlib.util.find_spec("av") is None:
        raise UserError(
            f"{option} {wanted}: mp4 requires the package av: {install('video')};"
            " gif and html require none"
        )
    return FilmFile(kind, None if alone else wanted)
