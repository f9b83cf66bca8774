"""Videos of the tree: few requests for the index and a window, and one version of the object."""

from __future__ import annotations

import numpy as np
import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.errors import MediaError, NotFound, ObjectChanged
from ego4dfs.media import cut
from ego4dfs.vfs import VFS
from ego4dfs.vfs.video import Video, open_video
from kit import media
from kit.data import MIB, seeded

FILLER_BYTES = 10 * MIB


def spread(*, in_front: bool) -> bytes:
    """Return a video with 10 MiB before and after its samples, and its index on one side."""
    data, filler = media.form("index at the end"), seeded("filler", FILLER_BYTES)
    spans = {path: (start, stop) for path, start, stop in media.boxes(data) if "/" not in path}
    start, stop = spans["mdat"]
    mdat = media.box("mdat", filler, data[start + 8 : stop], filler)

    def index(moved: int) -> bytes:
        def change(stco: bytes) -> bytes:
            offsets = np.frombuffer(stco, ">u4", offset=16) + moved
            return stco[:16] + offsets.astype(">u4").tobytes()

        return media.moov_of(media.replaced(data, "moov/trak/mdia/minf/stbl/stco", change))

    if in_front:
        return data[:start] + index(len(filler) + len(index(0))) + mdat
    return data[:start] + mdat + index(len(filler))


@pytest.fixture
def vfs(open_tree, release) -> VFS:
    files = {"front.mp4": spread(in_front=True), "end.mp4": spread(in_front=False)}
    release.dataset("full_scale", {**files, "no.mp4": bytes(1000)})
    return open_tree(version=release.version, datasets=["full_scale"], metadata=False)


def gets(vfs: VFS) -> int:
    return int(vfs.session.metrics.requests["get"])


def content(video: Video, start_s: float, stop_s: float) -> bytes:
    return b"".join(cut(video.index, start_s, stop_s).content(video.read))


@pytest.mark.parametrize(("name", "reads"), [("front", 1), ("end", 2)])
def test_the_index_takes_one_request_in_front_and_two_at_the_end(vfs, release, name, reads):
    video = open_video(vfs, f"{release.version}/full_scale/{name}.mp4")
    assert gets(vfs) == reads
    assert vfs.session.metrics.requests["head"] == 0
    assert vfs.session.metrics.bytes_fetched <= BLOCK_SIZE + (reads - 1) * 9 * PART_SIZE
    before = vfs.session.metrics.bytes_fetched
    assert content(video, 1.5, 2.5)
    assert gets(vfs) == reads + 1
    needed = sum(map(len, video.index.byte_ranges(1.5, 2.5)))
    assert vfs.session.metrics.bytes_fetched - before <= needed + 2 * PART_SIZE


def test_a_window_is_that_of_a_local_file(vfs, release):
    video = open_video(vfs, f"{release.version}/full_scale/front.mp4")
    data = spread(in_front=True)
    local = cut(video.index, 1.5, 2.5).content(lambda at, length: data[at : at + length])
    assert content(video, 1.5, 2.5) == b"".join(local)


def test_a_video_that_was_replaced_is_read_in_its_new_version(vfs, release):
    path = f"{release.version}/full_scale/front.mp4"
    assert vfs.stat(path).size == len(spread(in_front=True))
    release.put("full_scale/front.mp4", media.form("no sound"))
    assert open_video(vfs, path).index.size == len(media.form("no sound"))


def test_bytes_of_two_versions_are_not_mixed(vfs, release):
    video = open_video(vfs, f"{release.version}/full_scale/front.mp4")
    release.put("full_scale/front.mp4", media.form("no sound"))
    with pytest.raises(ObjectChanged):
        content(video, 1.5, 2.5)


def test_the_error_names_the_video(vfs, release):
    path = f"{release.version}/full_scale/no.mp4"
    with pytest.raises(MediaError, match=f"^{path} has no usable index: "):
        open_video(vfs, path)
    with pytest.raises(NotFound):
        open_video(vfs, f"{release.version}/full_scale/none.mp4")
