"""Replays that are small enough for a report: fewer pixels and colours, and fewer moments."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image

from eoi.pictures.film import Films
from eoi.utils.shapes import UInt8

T = TypeVar("T")

_SIDE = 480  # pixels, the longer side of a smaller picture at most
_COLOURS = 64  # of a smaller picture
_LOSSES = f"in pictures of at most {_SIDE} pixels and {_COLOURS} colours"


def fitted(films: Films, limit: int) -> tuple[Films, str]:
    """Films whose pictures take at most `limit` bytes as PNG, and a remark on what is left out.

    The remark is empty for films that fit as they are. Larger ones get smaller pictures. If these
    are still too large, moments are left out evenly, but never the first and the last of a film.
    """
    if sum(map(sum, _sizes(films))) <= limit:
        return films, ""
    small = [[replace(shot, picture=_smaller(shot.picture)) for shot in film] for film in films]
    every = _every(_sizes(small), limit)
    moments = "every moment" if every == 1 else f"one in {every} moments"
    return [_some(film, every) for film in small], f"the replay shows {moments}, {_LOSSES}"


def _sizes(films: Films) -> list[list[int]]:
    """Bytes of each picture."""
    return [[len(shot.png) for shot in film] for film in films]


def _every(sizes: Sequence[Sequence[int]], limit: int) -> int:
    """Least distance of the moments that are kept, so that their pictures fit if possible."""
    most = max(map(len, sizes))
    fits = (k for k in range(1, most) if sum(sum(_some(own, k)) for own in sizes) <= limit)
    return next(fits, most)


def _some(moments: Sequence[T], every: int) -> list[T]:
    """Moments at this distance, and the last one."""
    return [*moments[:-1:every], moments[-1]]


def _smaller(picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE))
    return np.asarray(image.quantize(_COLOURS, dither=Image.Dither.NONE).convert("RGB"))
