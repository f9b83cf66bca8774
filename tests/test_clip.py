"""`ego4dfs clip UID START END`: the file that it writes, what it fetches, and its errors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ego4dfs.blocks import PART_SIZE
from ego4dfs.cli.output import ExitCode
from ego4dfs.errors import ConfigError, ProcessLimit, StoreUnavailable
from ego4dfs.files import Folder
from ego4dfs.media import read_index
from ego4dfs.times import parse_time
from ego4dfs.vfs.video import Video
from kit import media
from kit.cli import unwarned
from kit.clips import FILES, LARGE_BYTES, large, pictures, refused
from kit.data import MIB
from kit.prefetch import tree


def window(form: str, start_s: float, stop_s: float) -> list[bytes]:
    """Return the pictures of a window, decoded from the whole file."""
    found = pictures(media.form(form))
    return [picture.tobytes() for time, picture in found if start_s <= time < stop_s]


@pytest.mark.parametrize("name", FILES)
def test_the_file_has_the_pictures_of_the_window(clips, name):
    done = clips(name.removesuffix(".mp4"), "1.5", "2.5", "-o", "clip.mp4")
    assert done.code == 0, done.stderr
    found = pictures((clips.directory / "clip.mp4").read_bytes())
    assert [picture.tobytes() for _, picture in found] == window(FILES[name], 1.5, 2.5)
    assert [round(time * media.RATE) for time, _ in found] == list(range(media.RATE))
    assert tree(clips.directory).keys() == {"clip.mp4"}


def test_the_line_says_what_was_written_and_fetched(clips):
    done = clips("aaaa", "0:01.5", "00:00:02.5", "-o", "clip.mp4")
    line = done.stdout.replace(str(clips.directory), "DIR")
    size = (clips.directory / "clip.mp4").stat().st_size / 1024
    whole = len(media.form("index in front")) / 1024
    assert line == (
        f"DIR/clip.mp4: 1 s, {size:.1f} KiB written, {whole:.1f} KiB fetched;"
        f" the video has {whole:.1f} KiB\n"
    )
    assert unwarned(done.stderr) == ""


def test_the_report_has_the_same_as_json(clips):
    assert clips.report("aaaa", "1.5", "2.5") == {
        "file": str(clips.directory / "aaaa_1.5-2.5.mp4"),
        "video": f"{clips.version.partition('_')[0]}/full_scale/aaaa.mp4",
        "start_s": 1.5,
        "end_s": 2.5,
        "seconds": 1.0,
        "bytes_written": (clips.directory / "aaaa_1.5-2.5.mp4").stat().st_size,
        "bytes_fetched": len(media.form("index in front")),
        "video_bytes": len(media.form("index in front")),
    }


def test_a_second_clip_fetches_nothing_that_the_cache_has(clips):
    assert clips.report("aaaa", "1", "2", "-o", "1.mp4")["bytes_fetched"]
    assert clips.report("aaaa", "1", "2", "-o", "2.mp4")["bytes_fetched"] == 0
    one, other = (clips.directory / name for name in ("1.mp4", "2.mp4"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["bbbb.mp4", "1", "2"], "bbbb_1-2.mp4"),
        (["BBBB", "1.25", "02.0"], "bbbb_1.25-2.mp4"),
        (["bbbb", "1", "2", "--exact"], "bbbb_1-2.exact.mp4"),
        (["cccc", "1", "2", "--datasets", "clips"], "cccc_1-2.mp4"),
        (["cccc", "1", "2", "--datasets", "full_scale", "clips"], "cccc_1-2.mp4"),
        (["{}/clips/cccc.mp4", "1", "2"], "cccc_1-2.mp4"),
        (["clips/cccc.mp4", "1", "2"], "cccc_1-2.mp4"),
        (["/full_scale/aaaa.mp4", "1", "2", "-o", "."], "aaaa_1-2.mp4"),
    ],
)
def test_a_uid_or_a_path_names_the_video(clips, words, name):
    words[0] = words[0].format(clips.version.partition("_")[0])
    assert clips.report(*words)["file"] == str(clips.directory / name)
    assert tree(clips.directory).keys() == {name}


def test_the_directory_of_copies_in_the_environment_is_not_that_of_clips(clips, monkeypatch):
    monkeypatch.setenv("EGO4DFS_OUTPUT_DIRECTORY", str(clips.directory.parent / "copies"))
    assert clips.report("aaaa", "1", "2")["file"] == str(clips.directory / "aaaa_1-2.mp4")


def test_what_is_after_the_end_is_left_out(clips):
    assert clips.report("aaaa", "3.5", "4.4")["seconds"] == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aaaa", "2", "2"], "START, 2, is not before END, 2"),
        (["aaaa", "0:03", "2"], "START, 0:03, is not before END, 2"),
        (["aaaa", "nan", "2"], "START: 'nan' is not a time"),
        (["aaaa", "1", "inf"], "END: 'inf' is not a time"),
        (["aaaa", "1"], "the following arguments are required: END"),
        (
            ["aaaa", "4.1", "5"],
            "DIR/full_scale/aaaa.mp4, 4.1 s to 5 s: it starts after the end of the video",
        ),
        (
            ["aaaa", "1", "4.6"],
            "DIR/full_scale/aaaa.mp4, 1 s to 4.6 s: it ends after the end of the video",
        ),
        (
            ["dddd", "0", "0.5"],
            "DIR/full_scale/dddd.mp4, 0 s to 0.5 s: it ends before the first picture, 0.700 s",
        ),
        (
            ["aaaa", "1.001", "1.002"],
            "DIR/full_scale/aaaa.mp4, 1.001 s to 1.002 s: no picture begins in it",
        ),
        (["zzzz", "1", "2"], "zzzz: no such video in full_scale"),
        (["cccc", "1", "2"], "cccc: no such video in full_scale"),
        (["clips/zzzz.mp4", "1", "2"], "DIR/clips/zzzz.mp4: no such file in this selection"),
        (["full_scale/a/b.mp4", "1", "2", "--datasets", "full_scale"], "DIR/full_scale/a/b.mp4:"),
        (["v1/full_scale/aaaa.mp4", "1", "2"], "v1/full_scale/aaaa.mp4: no such video in DIR"),
        (["clips/cccc", "1", "2"], "DIR/clips/cccc is not a video"),
        (["full_scale/x.json", "1", "2"], "DIR/full_scale/x.json is not a video"),
        (["/", "1", "2"], "/: no such video in DIR"),
        (["../aaaa.mp4", "1", "2"], "'..' cannot be the name of a dataset"),
    ],
)
def test_wrong_words_are_one_line(clips, words, message):
    found = refused(clips(*words), ExitCode.USAGE)
    assert found.replace(clips.version, "DIR").startswith(message)
    assert tree(clips.directory) == {}


@pytest.mark.parametrize(("uid", "message"), [("eeee", "fragmented"), ("ffff", "impossible size")])
def test_a_video_without_a_usable_index_is_named_with_the_remedy(clips, uid, message):
    done = clips(uid, "1", "2")
    line = refused(done, ExitCode.FAILURE)
    assert line.startswith(f"{clips.version}/full_scale/{uid}.mp4 has no usable index")
    assert message in line
    assert "ffmpeg -ss START" in done.stderr
    assert tree(clips.directory) == {}


def test_a_file_that_exists_is_replaced_only_if_asked(clips):
    file = clips.directory / "clip.mp4"
    file.write_bytes(b"old")
    done = clips("aaaa", "1", "2", "-o", "clip.mp4")
    assert refused(done, ExitCode.FAILURE) == f"{file}: the file exists"
    assert "--overwrite" in done.stderr
    assert file.read_bytes() == b"old"
    assert clips.report("aaaa", "1", "2", "-o", "clip.mp4", "--overwrite")["seconds"] == 1


def test_a_directory_that_does_not_exist_is_an_error(clips):
    done = clips("aaaa", "1", "2", "-o", "none/clip.mp4")
    assert refused(done, ExitCode.FAILURE) == f"{clips.directory / 'none'}: no such directory"


def test_a_slash_at_the_end_names_a_directory(clips):
    done = clips("aaaa", "1", "2", "-o", "none/")
    assert refused(done, ExitCode.FAILURE) == f"{clips.directory / 'none'}: no such directory"
    assert tree(clips.directory) == {}
    Path("some").mkdir()
    clips.report("aaaa", "1", "2", "-o", "some/")
    assert tree(clips.directory).keys() == {"some/aaaa_1-2.mp4"}


def test_a_failed_read_leaves_no_file_and_keeps_the_old_one(clips, monkeypatch):
    def fail(_video: Video, _offset: int, _length: int) -> bytes:
        raise StoreUnavailable("s3://bucket/key: no answer", url="s3://bucket/key")

    monkeypatch.setattr(Video, "read", fail)
    (clips.directory / "clip.mp4").write_bytes(b"old")
    done = clips("aaaa", "1", "2", "-o", "clip.mp4", "--overwrite")
    assert refused(done, ExitCode.FAILURE) == "s3://bucket/key: no answer"
    assert tree(clips.directory) == {"clip.mp4": b"old"}


def test_a_full_disk_is_one_line(clips, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Folder, "write_atomic", fail)
    done = clips("aaaa", "1", "2", "-o", "clip.mp4")
    line = refused(done, ExitCode.FAILURE)
    assert line == f"{clips.directory}/clip.mp4: cannot be written: no space left on device"
    assert tree(clips.directory) == {}


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), "it cannot be read: input/output error"),
        (ProcessLimit("no more threads can be started"), "hint: raise the limit of processes"),
    ],
)
def test_a_video_that_cannot_be_read_is_no_error_of_the_clip(
    clips, monkeypatch, tmp_path, error, line, many
):
    def fail(_video: Video, _offset: int, _length: int) -> bytes:
        raise error

    monkeypatch.setattr(Video, "read", fail)
    (tmp_path / "w.csv").write_text("video_uid,start_s,end_s\naaaa,1,2\n")
    done = clips(*(["--windows", "../w.csv"] if many else ["aaaa", "1", "2"]), "-o", ".")
    assert done.code == ExitCode.FAILURE
    assert line in done.stderr
    assert "written:" not in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(clips.directory) == {}


def test_a_clip_of_a_smaller_video_has_the_dataset_in_its_name(clips, release):
    release.dataset("video_540ss", {"aaaa.mp4": media.form("no sound")})
    words = ("aaaa", "1", "2", "--datasets", "video_540ss")
    clips.report("aaaa", "1", "2")
    clips.report(*words)
    clips.report(*words, "--exact")
    names = {"aaaa_1-2.mp4", "aaaa_1-2.video_540ss.mp4", "aaaa_1-2.video_540ss.exact.mp4"}
    assert tree(clips.directory).keys() == names


@pytest.mark.parametrize("faststart", [True, False])
def test_only_the_index_and_the_window_are_fetched(clips, release, faststart):
    """Most of the file is between its media data and the index, or after both."""
    data = large(faststart=faststart)
    release.dataset("video_540ss", {"gggg.mp4": data})
    index = read_index(len(data), lambda offset, length: data[offset : offset + length])
    report = clips.report("gggg", "2", "3", "--datasets", "video_540ss")
    needed = sum(map(len, index.byte_ranges(2, 3)))
    assert report["video_bytes"] > LARGE_BYTES
    # The first read of an object of unknown size is a block; others are rounded up to parts.
    assert report["bytes_fetched"] <= MIB + needed + 6 * PART_SIZE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("600", 600),
        ("600.25", 600.25),
        ("10:00", 600),
        ("90:00", 5400),
        ("1:30:00", 5400),
        ("00:10:00.5", 600.5),
        (" 5 ", 5),
        ("0", 0),
        ("123456789.123456789", 123456789.123456789),
    ],
)
def test_times_have_three_forms(text, seconds):
    assert parse_time(text, "START") == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1:60",
        "1:2:3:4",
        "-1",
        "1e3",
        "nan",
        "inf",
        "1.",
        ".5",
        "1,5",
        "1:",
        ":1",
        "٣",
        "9" * 10,
    ],
)
def test_other_texts_are_no_times(text):
    with pytest.raises(ConfigError, match=r"^START: .* is not a time$"):
        parse_time(text, "START")
