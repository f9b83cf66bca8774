"""Ego4D: windows as pictures and files, from the real server, and the errors of each argument."""

from __future__ import annotations

import functools
import io
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import av
import cv2
import decord
import numpy as np
import pytest

from ego4dfs import Ego4D, errors
from ego4dfs.api import ego4d
from ego4dfs.blocks import PART_SIZE
from ego4dfs.cli import main
from ego4dfs.media import read_index
from ego4dfs.reader import GROUP_REQUEST_BYTES
from ego4dfs.vfs import VFS
from ego4dfs.vfs.video import ExactFile, current
from kit import media
from kit.data import MIB, seeded

UIDS = {form: f"{number:08x}" for number, form in enumerate(media.FORMS)}
FRONT, END = UIDS["index in front"], UIDS["index at the end"]


@pytest.fixture
def version(release) -> str:
    files = {f"{UIDS[form]}.mp4": media.form(form) for form in media.FORMS}
    files["fragmented.mp4"] = media.encode(movflags="+frag_keyframe")
    files["nothing.mp4"] = seeded("no video", 1000)
    release.dataset("full_scale", files)
    release.dataset("clips", {"a-clip.mp4": media.form("no sound")})
    release.dataset("annotations", {"narration.json": b"{}"})
    return release.version


@pytest.fixture
def open_api(licensee, version) -> Iterator[Callable[..., Ego4D]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Ego4D(version=version, **options))


@pytest.fixture
def api(open_api) -> Ego4D:
    return open_api()


@functools.lru_cache(maxsize=1)
def decoded(data: bytes) -> list[tuple[float, np.ndarray]]:
    """Return time and content of each picture of a whole video."""
    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(video=0)
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in frames]


def pictures(data: bytes, start_s: float, end_s: float) -> np.ndarray:
    """Return the pictures of a window, decoded from the whole video."""
    return np.stack([picture for time, picture in decoded(data) if start_s <= time < end_s])


def fetched(api: Ego4D) -> int:
    return api.fs.vfs.session.metrics.bytes_fetched


def gets(api: Ego4D) -> int:
    return int(api.fs.vfs.session.metrics.requests["get"])


def windows(form: str, count: int) -> Iterator[tuple[float, float]]:
    """Yield windows that begin and end between the beginnings of two pictures."""
    rng = random.Random(form)
    for _ in range(count):
        first = rng.randrange(25, (media.SECONDS - 1) * media.RATE)
        last = first + rng.randrange(1, media.RATE)
        yield tuple((number + rng.uniform(0.1, 0.9)) / media.RATE for number in (first, last))


@pytest.mark.parametrize("form", media.FORMS)
def test_frames_are_those_of_the_whole_video(api, form, request):
    data = media.form(form)
    examples = windows(form, request.config.getoption("--examples") or 4)
    for start_s, end_s in [(0, 4), (0.75, 0.8), (1, 1.2), (3.5, 4.3), *examples]:
        found = api.frames(UIDS[form], start_s, end_s)
        assert found.dtype == np.uint8
        assert np.array_equal(found, pictures(data, start_s, end_s)), (start_s, end_s)


@pytest.mark.parametrize("form", media.FORMS)
def test_a_window_is_the_file_that_clip_writes(api, form, tmp_path):
    target = tmp_path / "clip.mp4"
    words = [
        "clip",
        UIDS[form],
        "1.5",
        "2.5",
        "-o",
        str(target),
        "--version",
        api.fs.config.version,
    ]
    assert main(words) == 0
    with api.window(UIDS[form], 1.5, 2.5) as file:
        assert file.read() == target.read_bytes()


def test_a_window_is_a_file_with_a_position(api):
    with api.window(FRONT, 1, 2) as file:
        whole = file.read()
        assert file.read() == b""
        assert (file.seekable(), file.readable(), file.writable()) == (True, True, False)
        for place in (0, 5, len(whole) - 3, len(whole), len(whole) + 10):
            assert (file.seek(place), file.tell()) == (place, place)
            assert file.read(7) == whole[place : place + 7]
        assert file.seek(-4, io.SEEK_END) == len(whole) - 4
        assert file.seek(2, io.SEEK_CUR) == len(whole) - 2
        assert file.read() == whole[-2:]
        with pytest.raises(ValueError, match="cannot seek"):
            file.raw.seek(-1)
        with pytest.raises(ValueError, match="cannot seek"):
            file.raw.seek(0, 9)


def test_video_readers_read_a_window(api):
    wanted = pictures(media.form("h264"), 1, 2)
    with av.open(api.window(UIDS["h264"], 1, 2)) as container:
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(np.stack(found), wanted)
    reader = decord.VideoReader(api.window(UIDS["h264"], 1, 2))
    assert np.abs(reader[0].asnumpy().astype(int) - wanted[0]).max() <= 4  # other rounding


def test_opencv_reads_a_window(api):
    if not hasattr(cv2, "CAP_FFMPEG") or not stream_backends():
        pytest.skip("this OpenCV reads no file objects")
    # OpenCV keeps no reference to the file, and crashes if a read raises.
    file = io.BytesIO(api.window(UIDS["h264"], 1, 2).read())
    capture = cv2.VideoCapture(file, stream_backends()[0], [])
    is_read, first = capture.read()
    capture.release()
    assert is_read
    wanted = pictures(media.form("h264"), 1, 2)[0]
    assert np.abs(first[:, :, ::-1].astype(int) - wanted).max() <= 4  # other rounding


def stream_backends() -> list[int]:
    listed = getattr(cv2.videoio_registry, "getStreamBufferedBackends", list)()
    return [one for one in listed if one == cv2.CAP_FFMPEG]


def test_the_uid_may_be_of_a_clip_and_in_any_case(api):
    assert api.path("A-Clip") == f"{api.fs.config.version}/clips/a-clip.mp4"
    assert len(api.frames("A-Clip", 1, 1.5)) == 15
    assert api.url(FRONT) == f"ego4d://{api.fs.config.version}/full_scale/{FRONT}.mp4"
    with api.fs.open(api.url(FRONT)) as file:
        assert file.read() == media.form("index in front")


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ((FRONT, 2, 2), "2.0 s to 2.0 s is not a window"),
        ((FRONT, 3, 2), "3.0 s to 2.0 s is not a window"),
        ((FRONT, -1, 2), "-1.0 s to 2.0 s is not a window"),
        ((FRONT, math.nan, 2), "nan s to 2.0 s is not a window"),
        ((FRONT, 0, math.nan), "0.0 s to nan s is not a window"),
        ((FRONT, 1, math.inf), "1.0 s to inf s: it ends after the end of the video, 4.000 s"),
        ((FRONT, 4.1, 5), "4.1 s to 5.0 s: it starts after the end of the video, 4.000 s"),
        ((FRONT, 1, 4.6), "1.0 s to 4.6 s: it ends after the end of the video, 4.000 s"),
        ((FRONT, 1.001, 1.002), "no picture begins in 1.001 s to 1.002 s"),
        ((FRONT, "one", 2), "'one' to 2 are not seconds"),
        ((FRONT, None, 2), "None to 2 are not seconds"),
    ],
)
def test_times_that_are_no_window(api, window, message):
    for method in (api.window, api.frames):
        with pytest.raises(errors.ConfigError) as raised:
            method(*window)
        assert str(raised.value) == f"{FRONT}: {message}"


def test_uids_that_are_not_selected(open_api, version):
    api = open_api()
    with pytest.raises(
        errors.NotFound, match=rf"^zz: no such video in full_scale clips of {version}$"
    ):
        api.frames("zz", 1, 2)
    with pytest.raises(errors.NotFound, match=r"^nan: no such video"):
        api.window(math.nan, 1, 2)  # as pandas has it
    left = open_api(datasets=["full_scale"], video_uids=[FRONT])
    assert len(left.frames(FRONT, 1, 1.5)) == 15
    with pytest.raises(errors.NotFound, match=r"leaves out this video of full_scale$"):
        left.path(END)
    with pytest.raises(errors.NotFound, match=r"^a-clip: no such video in full_scale of"):
        left.path("a-clip")


def test_videos_without_a_usable_index(api):
    with pytest.raises(errors.MediaError, match=r"fragmented\.mp4 has no usable index: it is frag"):
        api.frames("fragmented", 1, 2)
    with pytest.raises(errors.MediaError, match=r"nothing\.mp4 has no usable index: "):
        api.window("nothing", 1, 2)


def test_pictures_that_cannot_be_decoded_are_an_error(open_api, release):
    data = bytearray(media.form("h264"))
    index = read_index(len(data), lambda at, length: bytes(data[at : at + length]))
    samples, number = index.video.samples, round(1.2 * media.RATE)
    start = int(samples.offsets[number])
    stop = start + int(samples.sizes[number])
    data[start:stop] = bytes(stop - start)
    release.dataset("video_540ss", {"damaged.mp4": bytes(data)})
    api = open_api(datasets=["video_540ss"])
    with pytest.raises(errors.MediaError, match=r"^damaged, 1 s to 2 s: its "):
        api.frames("damaged", 1, 2)


def test_errors_of_the_store_reach_the_caller_of_a_reader(open_api, release):
    release.dataset("video_540ss", {"long.mp4": media.long_video(60, 0)})
    api = open_api(datasets=["video_540ss"])
    file = api.window("long", 30, 32)
    release.put("video_540ss/long.mp4", media.form("no sound"))
    with pytest.raises(errors.ObjectChanged), av.open(file):
        pass


def test_frames_of_a_video_that_was_replaced_are_the_new_ones(api, release):
    assert api.fs.info(api.path(FRONT))["size"] == len(media.form("index in front"))
    release.put(f"full_scale/{FRONT}.mp4", media.form("vp9"))
    assert np.array_equal(api.frames(FRONT, 1, 2), pictures(media.form("vp9"), 1, 2))


def test_frames_of_a_video_that_is_replaced_meanwhile_are_the_new_ones(
    open_api, release, monkeypatch
):
    data = media.form("vp9")
    release.dataset("video_540ss", {"long.mp4": media.long_video(60, 0, group=30)})

    def open_then_replace(vfs: VFS, path: str, use: Callable[[ExactFile], object]) -> object:
        found = current(vfs, path, use)
        release.put("video_540ss/long.mp4", data)
        return found

    monkeypatch.setattr(ego4d, "current", open_then_replace)
    found = open_api(datasets=["video_540ss"]).frames("long", 3, 4)
    assert np.array_equal(found, pictures(data, 3, 4))


def test_frames_fetch_the_index_and_the_window_once(open_api, release):
    data = media.long_video(60, 0)
    release.dataset("video_540ss", {"long.mp4": data})
    api = open_api(datasets=["video_540ss"])
    index = read_index(len(data), lambda at, length: data[at : at + length])
    needed = sum(map(len, index.byte_ranges(30, 32)))
    with api.window("long", 30, 32) as file:
        assert file.read()
    assert fetched(api) <= MIB + needed + 2 * PART_SIZE
    requests = gets(api)
    assert requests <= 2 + needed // GROUP_REQUEST_BYTES + 1
    with api.window("long", 30, 32) as file:
        assert file.read()
    assert gets(api) == requests


def test_without_pyav_the_error_names_the_extra(api, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"ego4dfs\[video\]"):
        api.frames(FRONT, 1, 2)


def test_a_wrong_option_is_an_error_at_once(licensee):
    with pytest.raises(errors.ConfigError, match="dataset"):
        Ego4D(dataset=["full_scale"])
    with pytest.raises(errors.ConfigError, match="version"):
        Ego4D(version="two")
    with pytest.raises(errors.ConfigError, match="hf of Ego4D: there is no such option"):
        Ego4D(hf={})


def test_a_closed_one_opens_again(api):
    first = api.frames(FRONT, 1, 2)
    api.close()
    assert np.array_equal(api.frames(FRONT, 1, 2), first)


def test_imports_are_late():
    """`import ego4dfs` imports no library and warns of nothing; Ego4D, neither pandas nor PyAV."""
    code = """
import sys, ego4dfs
late = {"fsspec", "numpy", "pandas", "av", "obstore", "s3fs", "rich", "torch"}
assert not late & set(sys.modules)
ego4dfs.Ego4D
assert not (late - {"fsspec", "numpy"}) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
