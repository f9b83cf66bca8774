"""What a click on a second of a video costs: the bytes of the store, with Debian's Chromium."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from playwright.sync_api import Browser

from ego4dfs.browse.media_answers import AHEAD_BYTES, MAX_FRONT_BYTES, REST_BYTES, portion
from ego4dfs.demo import media as demo
from kit.browse import FIRST
from kit.chromium import page_of, wait_for_video
from kit.media import box
from kit.server import SHARING

pytestmark = pytest.mark.first_pass

GROUP = demo.Clip(number=1, duration_s=4, width=384, height=216, bit_rate=6_000_000, key_frame_s=4)
"""A group of pictures with the bit rate of full_scale, 550 kB/s."""
SECONDS = 380
GOAL_BYTES = 4_000_000
MIB, KIB = 1 << 20, 1 << 10


def lengthened(group: Path, path: Path, movflags: str) -> Path:
    """Write a video of SECONDS, the same group of pictures again and again."""
    with av.open(str(group)) as source, av.open(str(path), "w", options=movflags) as target:
        [pictures] = source.streams.video
        stream = target.add_stream_from_template(pictures)
        packets = [
            (one.pts, bytes(one), one.is_keyframe) for one in source.demux(pictures) if one.size
        ]
        length = round(GROUP.duration_s / pictures.time_base)
        for begin in range(0, SECONDS * length // GROUP.duration_s, length):
            for pts, data, is_key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, pictures.time_base
                packet.pts = packet.dts = begin + pts
                packet.is_keyframe = is_key
                target.mux(packet)
    return path


@pytest.mark.program("chromium")
@pytest.mark.parametrize("movflags", [{"movflags": "+faststart"}, {}], ids=["front", "end"])
def test_a_click_in_the_middle_of_200_mb_fetches_less_than_4_mb(
    chromium: Browser, browse, release, gateway, tmp_path, movflags
):
    """The index, and what Chromium reads ahead of the picture: it would like more."""
    group = demo.make_all([GROUP], tmp_path / "media")[GROUP]
    video = lengthened(group, tmp_path / "video.mp4", movflags)
    assert video.stat().st_size > 190_000_000
    release.server.put(SHARING, f"public/{release.version}/objects/video", video)
    header = "video_uid,canonical_s3_location"
    release.manifest("full_scale", f"{header}\n{FIRST},{release.url('video')}\n")
    release.metadata(b"{}")
    options = {"datasets": ["full_scale"], "endpoint_url": gateway.url}
    client, _ = browse(version=release.version, **options)
    client.get("browse/api/catalogue")
    with page_of(chromium, client) as page:
        gateway.reset()
        page.goto(f"video.html?uid={FIRST}#t={SECONDS // 2}")
        shown = f"currentTime == {SECONDS // 2} && one.readyState >= 2 && !one.seeking"
        wait_for_video(page, shown)
        wait_for_video(page, "networkState == 1")  # it has read ahead what it wants
        assert MIB < gateway.bytes_sent <= GOAL_BYTES


SIZE = 100 * MIB
FILE_TYPE = box("ftyp", b"isom", bytes(4))


def start_of(index_bytes: int, *before: bytes) -> bytes:
    """Return the first bytes of a video whose index, of so many bytes, is in front."""
    return b"".join([FILE_TYPE, *before, index_bytes.to_bytes(4, "big"), b"moov", bytes(4096)])


@pytest.mark.parametrize(
    ("start", "wanted", "stop"),
    [
        (b"", range(MIB, SIZE), MIB + 256 * KIB),
        (b"", range(2 * MIB - 32 * KIB, SIZE), 2 * MIB + 256 * KIB),  # not 32 KiB only
        (b"", range(2 * MIB - 200 * KIB, SIZE), 2 * MIB),
        (b"", range(MIB - 1, SIZE), MIB + 256 * KIB),
        (box("mdat") + bytes(4096), range(SIZE), 256 * KIB),
        (start_of(100 * KIB), range(SIZE), 256 * KIB),
        (start_of(600 * KIB), range(SIZE), 768 * KIB),
        (start_of(600 * KIB, box("free", bytes(500))), range(SIZE), 768 * KIB),
        (start_of(600 * KIB), range(MIB, SIZE), MIB + 256 * KIB),
        (start_of(MAX_FRONT_BYTES), range(SIZE), 256 * KIB),
        (start_of(4), range(SIZE), 256 * KIB),  # shorter than its header
        (FILE_TYPE, range(SIZE), 256 * KIB),
    ],
)
def test_an_answer_ends_with_a_part_or_with_the_index(start, wanted, stop):
    found = portion(wanted, SIZE, lambda offset, size: start[offset : offset + size])
    ahead = AHEAD_BYTES if wanted.start >= MIB else 0
    assert found == (range(wanted.start, stop), stop + ahead)


@pytest.mark.parametrize(
    "wanted", [range(5, 8), range(SIZE - REST_BYTES, SIZE), range(SIZE - 4, SIZE)]
)
def test_what_is_short_and_the_end_of_a_video_are_one_answer(wanted):
    """The index of most videos is at the end."""
    assert portion(wanted, SIZE, None) == (wanted, wanted.stop)


def test_an_index_in_front_may_be_most_of_a_video():
    size = 2900 * KIB
    start = start_of(2700 * KIB)
    found = portion(range(size), size, lambda offset, size: start[offset : offset + size])
    assert found == (range(2816 * KIB), 2816 * KIB)
