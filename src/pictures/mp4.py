"""Films as mp4: H.264 with 4:2:0 colours and even sides, which every browser plays."""

from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from eoi.pictures.film import PAPER, Films, durations, frame, frames

if TYPE_CHECKING:  # an optional package
    from av import VideoFrame

_QUALITY = "18"  # constant rate factor, 0 (lossless) to 51: small text stays sharp


def mp4(films: Films, title: str, fps: float, file: BytesIO) -> None:
    """Writes all films, one after the other, at a constant rate.

    The last frame of an episode is repeated for as long as it is held.
    """
    import av  # an optional package
    from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

    rate = Fraction(fps).limit_denominator(1000)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        encoder = stream.codec_context
        encoder.width, encoder.height = (x + x % 2 for x in frame(films[0][0], [title]).size)
        encoder.pix_fmt = "yuv420p"
        # Without these, a player infers the colours from the size.
        encoder.colorspace = Colorspace.ITU709
        encoder.color_primaries, encoder.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        count = 0
        for picture, shown in zip(frames(films, title), durations(films, fps), strict=True):
            moment = _converted(picture, (encoder.width, encoder.height))
            for _ in range(max(1, round(shown * fps / 1000))):
                moment.pts, moment.time_base, count = count, 1 / rate, count + 1
                container.mux(stream.encode(moment))
        container.mux(stream.encode())


def _converted(picture: Image.Image, size: tuple[int, int]) -> "VideoFrame":
    """The picture on a sheet of that size, in the colours of the encoder."""
    from av import VideoFrame  # an optional package
    from av.video.reformatter import Colorspace

    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(picture, (0, 0))
    return VideoFrame.from_image(sheet).reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
