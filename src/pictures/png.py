"""Pictures as PNG."""

from io import BytesIO

import numpy as np
from PIL import Image

from eoi.utils.shapes import UInt8


def png(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A picture as PNG: as indices into a palette if it has at most 256 colours."""
    image, file = Image.fromarray(picture), BytesIO()
    if image.getcolors(256):
        image = _with_palette(picture)
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _with_palette(picture: UInt8[np.ndarray, "height width 3"]) -> Image.Image:
    """The same picture with its own colours as the palette, at most 256."""
    packed = picture.astype(np.int64) @ [1 << 16, 1 << 8, 1]
    colours, index = np.unique(packed, return_inverse=True)
    image = Image.fromarray(index.reshape(packed.shape).astype(np.uint8))
    image.putpalette(
        np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).ravel().tolist()
    )
    return image
