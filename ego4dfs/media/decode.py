"""Decoding of all pictures of a short MP4 into one array, with PyAV."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ego4dfs.errors import MediaError

Pictures = NDArray[np.uint8]
"""Pictures of a video: (pictures, height, width, 3), in RGB."""


def decode_pictures(file: BinaryIO, count: int) -> Pictures:
    """Return the `count` pictures that an MP4 presents, in the order of presentation.

    Raises MediaError if it has another number of pictures, or they cannot be decoded; what reads
    of the file raise; and ImportError without PyAV.
    """
    try:
        import av  # noqa: PLC0415 - it is an extra, and takes 0.1 s to import
    except ImportError as error:
        raise ImportError("pictures are decoded with PyAV: pip install 'ego4dfs[video]'") from error
    try:
        with av.open(file) as container:
            return _collected(container.decode(video=0), count)
    except av.FFmpegError as error:
        raise MediaError(f"its pictures cannot be decoded: {error}") from error


def _collected(decoded: Any, count: int) -> Pictures:
    """Return the pictures in one array, which is made before them: two would not fit in memory."""
    found, number = np.empty((0, 0, 0, 3), np.uint8), 0
    for number, frame in enumerate(decoded, 1):
        picture = frame.to_ndarray(format="rgb24")
        if number == 1:
            found = np.empty((count, *picture.shape), np.uint8)
        if picture.shape != found.shape[1:]:
            raise MediaError("its pictures have several sizes")
        if number > count:
            break
        found[number - 1] = picture
    if number != count:
        raise MediaError(f"its index has {count} pictures, and the decoder returns {number}")
    return found
