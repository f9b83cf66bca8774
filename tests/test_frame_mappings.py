"""Times of pictures, and the mappings that torchcodec takes, are those of FFmpeg's packets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import av
import numpy as np
import pytest

from ego4dfs import Ego4D
from ego4dfs.errors import MediaError, NotFound
from kit import media

FORMS = ["index in front", "b-frames", "negative offsets", "pictures begin later", "quicktime"]
UIDS = {f"form{number}": form for number, form in enumerate(FORMS)}


@pytest.fixture
def api(release, licensee) -> Iterator[Ego4D]:
    files = {f"{uid}.mp4": media.form(form) for uid, form in UIDS.items()}
    release.dataset("full_scale", {**files, "none.mp4": b"no video"})
    with Ego4D(version=release.version, datasets=["full_scale"], metadata=False) as opened:
        yield opened


@pytest.mark.parametrize("uid", UIDS)
def test_the_mappings_are_the_packets_of_the_file(api, uid):
    with av.open(io.BytesIO(media.form(UIDS[uid]))) as container:
        packets = [p for p in container.demux(video=0) if p.size and not p.is_discard]
        wanted = [(p.pts, p.duration, int(p.is_keyframe)) for p in packets]
    frames = json.loads(api.frame_mappings(uid))["frames"]
    assert [(f["pts"], f["duration"], f["key_frame"]) for f in frames] == wanted


@pytest.mark.parametrize("uid", UIDS)
def test_the_times_are_those_of_the_frames(api, uid):
    with av.open(io.BytesIO(media.form(UIDS[uid]))) as container:
        times = [frame.time for frame in container.decode(video=0)]
    wanted = [time for time in times if 1.2 <= time < 2.4]
    found = api.frame_times(uid, 1.2, 2.4)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert len(found) == len(api.frames(uid, 1.2, 2.4))


def test_errors_are_those_of_windows(api):
    with pytest.raises(MediaError, match="no usable index"):
        api.frame_mappings("none")
    with pytest.raises(NotFound):
        api.frame_mappings("unknown")
    with pytest.raises(NotFound):
        api.frame_times("unknown", 1, 2)
