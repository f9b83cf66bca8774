"""`ego4dfs clip --exact`: what the file has, what is fetched for it, and its errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ego4dfs.cli.output import ExitCode
from ego4dfs.errors import StoreUnavailable
from ego4dfs.media import read_index
from ego4dfs.media.encode import Encoder
from ego4dfs.vfs.video import Video
from kit import media
from kit.clips import FILES, LARGE_BYTES, large, pictures, refused
from kit.prefetch import tree


@pytest.mark.parametrize("name", FILES)
def test_the_file_has_the_pictures_of_the_window_and_no_others(clips, name):
    form = media.form(FILES[name])
    report = clips.report(name.removesuffix(".mp4"), "1.51", "2.5", "-o", "clip.mp4", "--exact")
    data = (clips.directory / "clip.mp4").read_bytes()
    whole = [time for time, _ in pictures(form) if 1.51 <= time < 2.5]
    found = [time for time, _ in pictures(data)]
    assert [round(1000 * time) for time in found] == [round(1000 * (t - 1.51)) for t in whole]
    index = read_index(len(data), lambda offset, length: data[offset : offset + length])
    assert len(index.video.samples) == len(whole)
    assert (report["bytes_written"], report["seconds"]) == (
        len(data),
        pytest.approx(0.99, abs=1e-4),
    )
    assert tree(clips.directory).keys() == {"clip.mp4"}


def test_it_fetches_what_the_copy_fetches(clips, release):
    release.dataset("video_540ss", {"gggg.mp4": large(faststart=False)})
    words = ("gggg", "2", "3", "--datasets", "video_540ss", "--cache-dir")
    copy = clips.report(*words, str(clips.directory.parent / "one"), "-o", "copy.mp4")
    exact = clips.report(*words, str(clips.directory.parent / "two"), "-o", "a.mp4", "--exact")
    assert copy["bytes_fetched"] == exact["bytes_fetched"] < LARGE_BYTES / 10


def test_without_pyav_it_is_one_line_before_anything_is_fetched(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    done = clips("aaaa", "1", "2", "--exact")
    line = "--exact needs PyAV, which is not installed"
    assert refused(done, ExitCode.USAGE) == line
    assert "pip install 'ego4dfs[video]'" in done.stderr


def test_a_failed_read_leaves_no_file_and_keeps_the_old_one(clips, monkeypatch):
    def fail(_video: Video, _offset: int, _length: int) -> bytes:
        raise StoreUnavailable("s3://bucket/key: no answer", url="s3://bucket/key")

    monkeypatch.setattr(Video, "read", fail)
    (clips.directory / "clip.mp4").write_bytes(b"old")
    done = clips("aaaa", "1", "2", "-o", "clip.mp4", "--overwrite", "--exact")
    assert refused(done, ExitCode.FAILURE) == "s3://bucket/key: no answer"
    assert tree(clips.directory) == {"clip.mp4": b"old"}


def test_an_interrupt_leaves_no_file(clips, monkeypatch):
    seen: list[float] = []
    encode = Encoder.encode

    def interrupted(self: Encoder, made, read, file, on_time) -> None:
        def interrupt(time: float) -> None:
            seen.append(time)
            if len(seen) > 3:
                raise KeyboardInterrupt

        encode(self, made, read, file, interrupt)

    monkeypatch.setattr(Encoder, "encode", interrupted)
    done = clips("aaaa", "1", "2", "--exact")
    assert (done.code, done.stdout) == (130, "")
    assert len(seen) == 4
    assert list(Path().iterdir()) == []


def test_damage_is_one_line_with_the_path(clips, release):
    data = bytearray(media.form("h264"))
    index = read_index(len(data), lambda offset, length: bytes(data[offset : offset + length]))
    start, size = int(index.video.samples.offsets[50]), int(index.video.samples.sizes[50])
    data[start : start + size] = bytes(size)
    release.dataset("video_540ss", {"hhhh.mp4": bytes(data)})
    done = clips("hhhh", "1.5", "2.5", "--datasets", "video_540ss", "--exact")
    line = refused(done, ExitCode.FAILURE)
    assert line.startswith(f"{clips.version}/video_540ss/hhhh.mp4: ")
    assert tree(clips.directory) == {}
