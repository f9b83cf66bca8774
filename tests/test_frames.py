"""Video libraries read the same frames through a mount as from a copy, and only the bytes for them.

Every frame of the sample carries the number of its video and its own: see `ego4dfs.demo.media`.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import pytest

from ego4dfs.demo.decode_window import decode_middle
from ego4dfs.demo.media import FRAME_RATE, read_stamp
from ego4dfs.demo.sample import SampleVideo
from kit.data import MIB
from kit.mounts import Mounts, status
from kit.processes import wait_until
from kit.server import Sampled, environment

pytestmark = pytest.mark.fuse

INDEX = {"front": 0, "end": 1}  # the videos of the sample whose index is there


@dataclass(frozen=True)
class Theatre:
    """The sample's videos, mounted, and copies of them."""

    root: Path
    copies: Path
    sampled: Sampled

    def video(self, index: str) -> SampleVideo:
        video = self.sampled.sample.videos[INDEX[index]]
        assert video.media.faststart == (index == "front")
        return video

    def both(self, index: str) -> tuple[Path, Path]:
        """Return a video in the mount, and its copy on disk."""
        name = f"{self.video(index).uid}.mp4"
        copy = self.copies / name
        if not copy.exists():
            copy.write_bytes(self.sampled.content("v2_1", "full_scale", name))
        return self.root / "v2/full_scale" / name, copy


@pytest.fixture(scope="module")
def theatre(sampled, tmp_path_factory, libfuse, transport) -> Iterator[Theatre]:
    own = tmp_path_factory.mktemp("theatre")
    mounts = Mounts(own, libfuse)
    env = environment(sampled.server, own / "home", transport)
    try:
        yield Theatre(mounts(env=env), own, sampled)
    finally:
        mounts.clear()


def ffprobe(path: Path) -> str:
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "compact"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("index", INDEX)
def test_ffprobe_finds_the_same_streams_and_packets(theatre, index):
    mounted, copy = theatre.both(index)
    assert ffprobe(mounted) == ffprobe(copy)
    assert "codec_name=vp9" in ffprobe(mounted)


@pytest.mark.parametrize("index", INDEX)
def test_pyav_decodes_the_same_frames(theatre, index):
    def frames(path: Path) -> list[tuple[int, str]]:
        with av.open(str(path)) as container:
            container.seek(3 * av.time_base)
            decoded = zip(range(40), container.decode(video=0), strict=False)
            return [
                (frame.pts, hashlib.md5(frame.to_ndarray().tobytes()).hexdigest())  # noqa: S324
                for _, frame in decoded
            ]

    mounted, copy = theatre.both(index)
    assert len(frames(mounted)) == 40
    assert frames(mounted) == frames(copy)


@pytest.mark.parametrize("index", INDEX)
def test_opencv_decodes_the_same_frames_and_the_right_ones(theatre, index):
    video = theatre.video(index)

    def frames(path: Path) -> list[np.ndarray]:
        capture = cv2.VideoCapture(str(path))
        try:
            assert capture.isOpened()
            assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == video.media.num_frames
            found = []
            for number in (200, 31, 90):
                capture.set(cv2.CAP_PROP_POS_FRAMES, number)
                ok, picture = capture.read()
                assert ok
                grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
                assert read_stamp(grey) == (video.media.number, number)
                found.append(picture)
            return found
        finally:
            capture.release()

    mounted, copy = theatre.both(index)
    assert np.array_equal(frames(mounted), frames(copy))


@pytest.mark.parametrize("index", INDEX)
def test_decord_decodes_the_same_frames(theatre, index):
    def frames(path: Path) -> np.ndarray:
        reader = decord.VideoReader(str(path), num_threads=1)
        assert len(reader) == theatre.video(index).media.num_frames
        return reader.get_batch([0, 77, 150, 149]).asnumpy()

    mounted, copy = theatre.both(index)
    assert np.array_equal(frames(mounted), frames(copy))


@pytest.mark.parametrize("index", INDEX)
def test_a_window_of_two_seconds_is_that_of_a_copy(theatre, index):
    mounted, copy = theatre.both(index)
    assert decode_middle(mounted) == decode_middle(copy)
    assert decode_middle(mounted).frames == 2 * FRAME_RATE


def test_a_window_of_two_seconds_fetches_a_small_part_of_a_video(
    sampled, tmp_path, libfuse, transport
):
    """The longest video of the sample is some 27 MB; real ones are 30 times as long."""
    mounts = Mounts(tmp_path, libfuse)
    env = environment(sampled.server, tmp_path / "home", transport)
    video = sampled.sample.videos[0]
    try:
        root = mounts(env=env)
        window = decode_middle(root / f"v2/full_scale/{video.uid}.mp4")
        assert window.frames == 2 * FRAME_RATE
        fetched = settled(root)
        print(f"{fetched} bytes fetched of {video.size}")
        assert 0 < fetched <= min(video.size / 3, 16 * MIB)
        assert decode_middle(root / f"v2/full_scale/{video.uid}.mp4") == window
        assert settled(root) == fetched
    finally:
        mounts.clear()


def settled(root: Path) -> int:
    """Return the bytes fetched once no request is under way, and none follows."""
    still: list[int] = []

    def is_still() -> bool:
        found = status(root)
        ended = {kind: one["buckets"]["+Inf"] for kind, one in found["durations"].items()}
        if found["requests"] != ended or still[-1:] != [found["bytes_fetched"]]:
            still.clear()
        still.append(found["bytes_fetched"])
        return len(still) > 10

    wait_until(is_still)
    return still[-1]


def test_features_are_those_of_a_copy_read_whole_or_mapped(theatre):
    dataset = "slowfast8x8_r101_k400"
    files = theatre.sampled.sample.files["v2_1", dataset]
    assert files
    for file in files:
        path = theatre.root / "v2" / dataset / file.name
        wanted = theatre.sampled.content("v2_1", dataset, file.name)
        assert path.read_bytes() == wanted
        assert hashlib.sha256(wanted).hexdigest() == file.sha256
        with (
            path.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        ):
            assert mapped[:] == wanted
        mapped_array = np.memmap(path, dtype=np.uint8, mode="r")
        assert np.array_equal(mapped_array, np.frombuffer(wanted, np.uint8))
        # `.pt` is a zip of stored parts: what torch.load(mmap=True) maps is in place in the file.
        with np.load(io.BytesIO(wanted)) as whole, np.load(path) as parts:
            assert sorted(parts.files) == sorted(whole.files)
            assert all(
                parts.zip.read(name) == whole.zip.read(name) for name in whole.zip.namelist()
            )
