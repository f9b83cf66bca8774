"""A picture of a video as a small JPEG, with PyAV."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, BinaryIO

from ego4dfs.errors import MediaError

_QUALITY = 5  # of FFmpeg's MJPEG: 2 is the best, 31 the worst


def first_picture(file: BinaryIO, width: int) -> bytes:
    """Return the first picture of an MP4 as a JPEG, at most `width` pixels wide.

    Raises MediaError if there is none that can be decoded, what reads of the file raise, and
    ImportError without PyAV.
    """
    import av  # noqa: PLC0415 - it is an extra, and takes 0.1 s to import

    try:
        with av.open(file) as container:
            frame = next(container.decode(video=0), None)
            if frame is None:
                raise MediaError("it has no picture")
            return _jpeg(frame, width)
    except av.FFmpegError as error:
        raise MediaError(f"its first picture cannot be decoded: {error}") from error


def _jpeg(frame: Any, width: int) -> bytes:
    import av  # noqa: PLC0415

    scale = min(1.0, width / frame.width)
    codec: Any = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height = (
        max(2, round(side * scale)) for side in (frame.width, frame.height)
    )
    codec.pix_fmt, codec.time_base = "yuvj420p", Fraction(1, 30)
    codec.options = {"qmin": str(_QUALITY), "qmax": str(_QUALITY)}
    small = frame.reformat(codec.width, codec.height, format="yuvj420p")
    small.pts = 0
    return b"".join(map(bytes, [*codec.encode(small), *codec.encode(None)]))
