"""The first picture of a video as a JPEG."""

from __future__ import annotations

import io

import av
import pytest

from ego4dfs.errors import MediaError
from ego4dfs.media.still import first_picture
from kit import media

pytestmark = pytest.mark.first_pass


def decoded(data: bytes) -> av.VideoFrame:
    with av.open(io.BytesIO(data)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("form", ["vp9", "h264", "b-frames", "pictures begin later", "quicktime"])
@pytest.mark.parametrize("width", [32, 320])
def test_it_is_the_first_one_and_not_wider_than_asked(form, width):
    data = media.form(form)
    with av.open(
        io.BytesIO(first_picture(io.BytesIO(data), width)), format="jpeg_pipe"
    ) as container:
        picture = next(container.decode(video=0))
    size = (min(width, 64), min(width, 64) * 3 // 4)
    assert (picture.width, picture.height) == size
    wanted = decoded(data).reformat(*size, format="gray").to_ndarray().astype(int)
    difference = abs(picture.reformat(format="gray").to_ndarray().astype(int) - wanted)
    assert difference.mean() < 12


@pytest.mark.parametrize("data", [b"", b"no video" * 100, media.form("vp9")[:2000]])
def test_what_cannot_be_decoded_is_an_error(data):
    with pytest.raises(MediaError):
        first_picture(io.BytesIO(data), 320)
