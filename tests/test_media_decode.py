"""Decoding of a short MP4 into one array, and what is wrong with others."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from ego4dfs.errors import MediaError, StoreUnavailable
from ego4dfs.media.decode import decode_pictures
from kit import media

pytestmark = pytest.mark.first_pass

COUNT = media.SECONDS * media.RATE


def test_all_pictures_are_in_one_array():
    data = media.form("h264")
    with av.open(io.BytesIO(data)) as container:
        wanted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(decode_pictures(io.BytesIO(data), COUNT), np.stack(wanted))


@pytest.mark.parametrize("count", [0, COUNT - 1, COUNT + 1])
def test_another_number_of_pictures_is_an_error(count):
    with pytest.raises(MediaError, match=f"its index has {count} pictures"):
        decode_pictures(io.BytesIO(media.form("h264")), count)


def test_pictures_of_several_sizes_are_an_error():
    """Two raw streams of MJPEG, one after the other."""
    streams = io.BytesIO()
    for width in (64, 128):
        codec = av.CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = width, 64, "yuvj420p"
        codec.time_base = Fraction(1, media.RATE)
        frame = av.VideoFrame(width, 64, "yuvj420p")
        frame.pts = 0
        for packet in [*codec.encode(frame), *codec.encode(None)]:
            streams.write(bytes(packet))
    streams.seek(0)
    with pytest.raises(MediaError, match="several sizes"):
        decode_pictures(streams, 2)


def test_what_is_no_video_is_an_error():
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_pictures(io.BytesIO(b"nothing" * 1000), 1)


def test_errors_of_reads_are_not_changed():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable, match="no answer"):
        decode_pictures(Failing(media.form("h264")), COUNT)
