"""`ego4dfs clip --windows FILE -o DIR`: which clips are written, what is named, what is fetched."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ego4dfs.catalog import Catalog, Listing
from ego4dfs.cli.clip_progress import ClipProgress
from ego4dfs.cli.output import ExitCode
from ego4dfs.clips import ClipReport, ClipRun, run
from ego4dfs.clips.report import Written
from ego4dfs.errors import AccessDenied, StoreUnavailable
from ego4dfs.files import Folder
from ego4dfs.media.encode import Encoder
from ego4dfs.prefetch import Outage
from ego4dfs.prefetch.worker_pool import WorkerPool
from ego4dfs.vfs import VFS
from ego4dfs.vfs.video import Video, open_video
from kit import media
from kit.cli import EGO4DFS, unwarned
from kit.clips import pictures, refused
from kit.prefetch import tree
from kit.processes import wait_until

Row = tuple[object, object, object]


@pytest.fixture
def table(clips) -> Callable[..., str]:
    """Write a table of windows and return its path."""

    def write(*rows: Row) -> str:
        path = clips.directory.parent / "windows.csv"
        lines = [",".join(map(str, row)) for row in (("video_uid", "start_s", "end_s"), *rows)]
        path.write_text("\n".join([*lines, ""]))
        return str(path)

    return write


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the videos that were opened."""
    found: list[str] = []

    def open_one(vfs: VFS, path: str) -> Video:
        found.append(path.rpartition("/")[2])
        return open_video(vfs, path)

    monkeypatch.setattr(run, "open_video", open_one)
    return found


def test_each_window_is_the_file_that_a_single_clip_is(clips, table):
    rows = [("aaaa", 1, 2), ("aaaa", 0.5, 3.25), ("BBBB", 1, 2)]
    report = clips.report("--windows", table(*rows), "-o", "many")
    names = ["aaaa_0.5-3.25.mp4", "aaaa_1-2.mp4", "bbbb_1-2.mp4"]
    assert sorted(os.listdir("many")) == names
    assert [one["file"] for one in report["clips"]] == [
        str(clips.directory / "many" / name) for name in names
    ]
    for uid, start_s, end_s in rows:
        clips.report(str(uid).lower(), str(start_s), str(end_s), "-o", ".")
    assert {f"many/{name}": data for name, data in tree(Path("many")).items()} == {
        f"many/{name}": Path(name).read_bytes() for name in names
    }


def test_the_report_has_files_times_and_sizes(clips, table):
    report = clips.report("--windows", table(("aaaa", 3.5, 4.4)), "-o", "many")
    file = clips.directory / "many" / "aaaa_3.5-4.4.mp4"
    assert report.pop("run_seconds") >= 0
    assert report == {
        "directory": str(file.parent),
        "clips": [
            {
                "file": str(file),
                "video": f"{clips.version}/full_scale/aaaa.mp4",
                "start_s": 3.5,
                "end_s": 4.4,
                "seconds": 0.5,
                "bytes_written": file.stat().st_size,
            }
        ],
        "existing": 0,
        "duplicates": 0,
        "failed": 0,
        "failures": [],
        "windows_not_selected": 0,
        "bad_rows": 0,
        "first_bad_rows": [],
        "bytes_written": file.stat().st_size,
        "bytes_fetched": report["bytes_fetched"],
        "stopped_by": None,
        "exit_code": 0,
    }
    assert report["bytes_fetched"] >= len(media.form("index in front"))


def test_the_line_says_what_was_written_and_quiet_says_nothing(clips, table):
    file = table(("aaaa", 1, 2), ("aaaa", 1.0, 2.0), ("aaaa", 2, 3))
    done = clips("--windows", file, "-o", "many")
    size = sum(path.stat().st_size for path in Path("many").iterdir()) / 1024
    assert done.stdout.startswith(
        f"{clips.directory}/many: 2 clips, 2.0 s, {size:.1f} KiB written, "
    )
    assert done.stdout.endswith(" s; 1 duplicate.\n")
    assert clips("--windows", file, "-o", "many").stdout == (
        f"{clips.directory}/many: 2 clips, all existed.\n"
    )
    done = clips("--windows", file, "-o", "many", "--quiet")
    assert (done.stdout, unwarned(done.stderr)) == ("", "")


def test_exact_clips_have_the_pictures_of_their_windows(clips, table):
    clips.report("--windows", table(("aaaa", 1.5, 2.5), ("bbbb", 2, 2.2)), "-o", "x", "--exact")
    found = {name: len(pictures(data)) for name, data in tree(Path("x")).items()}
    assert found == {"aaaa_1.5-2.5.exact.mp4": 30, "bbbb_2-2.2.exact.mp4": 6}
    assert b"avc1" in Path("x/aaaa_1.5-2.5.exact.mp4").read_bytes()


def test_other_clips_of_the_same_window_do_not_count_as_existing(clips, release, table):
    """Neither an exact one, nor one of a smaller video with the same uid."""
    release.dataset("video_540ss", {"aaaa.mp4": media.form("no sound")})
    words = ("--windows", table(("aaaa", 1, 2)), "-o", "many")
    names = set()
    for more, name in [
        ((), "aaaa_1-2.mp4"),
        (("--exact",), "aaaa_1-2.exact.mp4"),
        (("--datasets", "video_540ss"), "aaaa_1-2.video_540ss.mp4"),
    ]:
        report = clips.report(*words, *more)
        names.add(name)
        assert (report["existing"], len(report["clips"])) == (0, 1)
        assert tree(Path("many")).keys() == names
    assert clips.report(*words, "--exact")["existing"] == 1


def test_an_index_is_read_once_for_all_windows_of_a_video(clips, table, opened):
    rows = [(uid, start / 10, start / 10 + 1) for uid in ("aaaa", "bbbb") for start in range(20)]
    report = clips.report("--windows", table(*rows), "-o", "many")
    assert len(report["clips"]) == 40
    assert sorted(opened) == ["aaaa.mp4", "bbbb.mp4"]


def test_a_second_run_opens_no_video_whose_clips_exist(clips, table, opened):
    rows = [("aaaa", 1, 2), ("aaaa", 1, 2), ("aaaa", 2, 3), ("bbbb", 1, 2)]
    clips.report("--windows", table(*rows), "-o", "many")
    before = tree(Path("many"))
    (clips.directory / "many" / "bbbb_1-2.mp4").unlink()
    Path("many/aaaa_1-2.mp4").write_bytes(b"mine")
    opened.clear()
    report = clips.report("--windows", table(*rows), "-o", "many")
    assert opened == ["bbbb.mp4"]
    assert (report["existing"], report["duplicates"], len(report["clips"])) == (2, 1, 1)
    assert tree(Path("many")) == before | {"aaaa_1-2.mp4": b"mine"}
    assert len(clips.report("--windows", table(*rows), "-o", "many", "--overwrite")["clips"]) == 3
    assert tree(Path("many")) == before


BAD = [
    ("zzzz", 1, 2, "no selected dataset has the video zzzz"),
    ("aaaa", 2, 1, "its start, 2 s, is not before its end, 1 s"),
    ("aaaa", "nan", 1, "its start, 'nan', is not a number of seconds"),
    ("aaaa", "", 1, "its start or end is missing"),
    ("aaaa", 5, 6, "it starts after the end of the video, 4.000 s"),
    ("aaaa", 3, 4.6, "it ends after the end of the video, 4.000 s"),
    ("aaaa", 1.001, 1.002, "no picture begins in it"),
    ("dddd", 0.1, 0.5, "it ends before the first picture, 0.700 s"),
]


def test_bad_rows_are_named_and_the_others_are_written(clips, table):
    file = table(*(row[:3] for row in BAD), ("aaaa", 1, 2))
    report = clips.report("--windows", file, "-o", "many", code=ExitCode.PARTIAL)
    named = [(one["row"], one["reason"]) for one in report["first_bad_rows"]]
    assert named == [(f"row {number}", row[3]) for number, row in enumerate(BAD, 2)]
    assert (report["bad_rows"], report["exit_code"]) == (len(BAD), 3)
    assert tree(Path("many")).keys() == {"aaaa_1-2.mp4"}
    done = clips("--windows", file, "-o", "many")
    assert done.code == ExitCode.PARTIAL
    assert "  row 2: no selected dataset has the video zzzz\n" in done.stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_file_without_a_usable_window_is_an_error(clips, table, words):
    done = clips("--windows", table(BAD[0][:3]), "-o", "many", *words)
    assert done.code == ExitCode.USAGE
    assert os.listdir() == []
    assert done.stderr.endswith("windows.csv: none of its windows can be used\n")


def test_a_video_without_a_usable_index_is_named_and_the_rest_goes_on(clips, table):
    file = table(("eeee", 1, 2), ("eeee", 2, 3), ("ffff", 1, 2), ("aaaa", 1, 2))
    report = clips.report("--windows", file, "-o", "many", code=ExitCode.PARTIAL)
    reasons = {
        "eeee": "it has no usable index: it is fragmented: its index is in many places",
        "ffff": "it has no usable index: the box at byte 0 has an impossible size",
    }
    paths = {uid: f"{clips.version}/full_scale/{uid}.mp4" for uid in reasons}
    assert report["failures"] == [
        {"path": paths["eeee"], "reason": reasons["eeee"], "clips": 2},
        {"path": paths["ffff"], "reason": reasons["ffff"], "clips": 1},
    ]
    assert (report["failed"], len(report["clips"])) == (3, 1)
    done = clips("--windows", file, "-o", "many")
    assert unwarned(done.stderr).splitlines() == [
        f"  {paths[uid]}: {reason}" for uid, reason in reasons.items()
    ]
    assert clips("--windows", table(("eeee", 1, 2)), "-o", "other").code == ExitCode.FAILURE


def test_an_annotation_of_the_tree_and_filters(clips, release):
    records = [
        {"video_uid": uid, "clips": [{"clip_uid": "none", "annotations": [nlq(start)]}]}
        for uid, start in (("aaaa", 1), ("bbbb", 2))
    ]
    release.dataset("annotations", {"nlq_train.json": json.dumps({"videos": records}).encode()})
    words = ("--windows", "annotations/nlq_train.json", "-o", "many", "--video_uids", "aaaa")
    done = clips(*words, "--datasets", "full_scale")
    assert done.code == 0, done
    assert "Left out: 1 window of videos that are not selected." in done.stdout
    assert tree(Path("many")).keys() == {"aaaa_1-1.5.mp4"}


def nlq(start: float) -> dict[str, object]:
    query = {"video_start_sec": start, "video_end_sec": start + 0.5, "query": "where?"}
    return {"language_queries": [query]}


def test_a_window_of_a_clip_is_in_the_file_of_the_clip(clips, table):
    report = clips.report(
        "--windows", table(("cccc", 1, 2)), "-o", "many", "--datasets", "full_scale", "clips"
    )
    assert [one["video"] for one in report["clips"]] == [f"{clips.version}/clips/cccc.mp4"]
    assert tree(Path("many")).keys() == {"cccc_1-2.mp4"}


def test_a_video_of_two_datasets_is_an_error(clips, release, table):
    release.dataset("video_540ss", {"aaaa.mp4": media.form("no sound")})
    words = ("--datasets", "full_scale", "video_540ss", "-o", "many")
    done = clips("--windows", table(("aaaa", 1, 2)), *words)
    line = refused(done, ExitCode.USAGE)
    where = f"{clips.version}/full_scale/aaaa.mp4 and {clips.version}/video_540ss/aaaa.mp4"
    assert line == f"row 2: the window is in {where}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aaaa", "--windows", "w.csv", "-o", "many"], "aaaa: not allowed with --windows"),
        (["--windows", "w.csv"], "--windows: no directory was given"),
        (["--windows", "", "-o", "many"], "--windows: the name of the file is empty"),
        (
            ["--windows", "./none.csv", "-o", "many"],
            "--windows ./none.csv: neither on disk nor in the tree",
        ),
        ([], "the following arguments are required: UID, START, END"),
        (["aaaa"], "the following arguments are required: START, END"),
        (["", "1", "2"], "the UID is empty"),
        (["aaaa", "1", "2", "--retry-for", "1m"], "--retry-for: only with --windows"),
    ],
)
def test_wrong_words_are_one_line(clips, words, message):
    assert refused(clips(*words), ExitCode.USAGE).startswith(message)
    assert os.listdir() == []


def test_a_directory_that_cannot_be_made_is_one_line(clips, table):
    Path("file").write_bytes(b"")
    done = clips("--windows", table(("aaaa", 1, 2)), "-o", "file")
    assert refused(done, ExitCode.FAILURE).endswith(
        "/file: no directory can be made here: file exists"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_ends_the_run_with_one_error(
    clips, table, monkeypatch, number
):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Folder, "write_atomic", fail)
    rows = [("aaaa", start / 10, start / 10 + 1) for start in range(20)]
    done = clips("--windows", table(*rows), "-o", "many")
    assert done.code == ExitCode.FAILURE
    lines = unwarned(done.stderr).splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(f": cannot be written: {os.strerror(number).lower()}")
    assert lines[1].startswith("Stopped; ")


def alone(monkeypatch) -> None:
    """Write one clip at a time, in order."""
    monkeypatch.setattr(run, "_COPIES", 1)


def test_videos_and_their_clips_are_in_the_order_of_the_file(clips, table, monkeypatch, opened):
    alone(monkeypatch)
    written: list[str] = []
    write = run.write_clip

    def noted(folder: Folder, name: str, *rest: object) -> object:
        written.append(name)
        return write(folder, name, *rest)

    monkeypatch.setattr(run, "write_clip", noted)
    rows = [("bbbb", 2, 3), ("aaaa", 1, 2), ("dddd", 1, 2), ("bbbb", 1, 2)]
    clips.report("--windows", table(*rows), "-o", "many")
    assert opened == ["bbbb.mp4", "aaaa.mp4", "dddd.mp4"]
    assert written == ["bbbb_2-3.mp4", "bbbb_1-2.mp4", "aaaa_1-2.mp4", "dddd_1-2.mp4"]


def test_the_progress_of_every_window_ends(clips, table, monkeypatch):
    """Of written, existing and duplicate ones, and of those that fail or are left out."""
    reports: list[ClipReport] = []
    monkeypatch.setattr(ClipProgress, "clips", lambda _, report: reports.append(report))
    (clips.directory / "many" / "aaaa_2-3.mp4").mkdir(parents=True)
    (clips.directory / "many" / "aaaa_3-4.mp4").write_bytes(b"")
    rows = [("aaaa", 1, 2), ("aaaa", 1, 2), ("aaaa", 2, 3), ("aaaa", 3, 4), ("aaaa", 5, 6)]
    file = table(*rows, ("eeee", 1, 2))
    report = clips.report("--windows", file, "-o", "many", code=ExitCode.PARTIAL)
    counts = [report[name] for name in ("existing", "duplicates", "failed", "bad_rows")]
    assert counts == [1, 1, 2, 1]
    assert reports[-1].done_s == reports[-1].seconds == 6


def test_a_clip_that_is_written_begins_a_new_count_of_failures(clips, table, monkeypatch):
    alone(monkeypatch)
    write = run.write_clip

    def fail(folder: Folder, name: str, *rest: object) -> object:
        if name != "aaaa_0.07-1.07.mp4":
            raise StoreUnavailable("no answer")
        return write(folder, name, *rest)

    monkeypatch.setattr(run, "write_clip", fail)
    rows = [("aaaa", at / 100, at / 100 + 1) for at in range(15)]
    report = clips.report("--windows", table(*rows), "-o", "many", code=ExitCode.PARTIAL)
    assert (report["failed"], report["stopped_by"]) == (14, None)


def test_videos_that_are_all_refused_have_their_exit_code(clips, table, monkeypatch):
    def refuse(*_: object) -> None:
        raise AccessDenied("s3://bucket/key: refused: not licensed")

    monkeypatch.setattr(run, "open_video", refuse)
    done = clips("--windows", table(("aaaa", 1, 2), ("bbbb", 1, 2)), "-o", "many")
    assert done.code == ExitCode.REFUSED
    assert unwarned(done.stderr).splitlines() == [
        f"  {clips.version}/full_scale/{uid}.mp4: not licensed" for uid in ("aaaa", "bbbb")
    ]


def test_an_encoder_ends_when_the_run_is_stopped(clips, table, monkeypatch):
    def encode(_encoder: Encoder, _made, _read, _file, on_time) -> None:
        on_time(0.0)
        os.kill(os.getpid(), signal.SIGINT)
        while not codes:
            on_time(0.1)
            time.sleep(0.01)

    codes: list[int] = []  # of a process that does not wait for the encoder
    monkeypatch.setattr("ego4dfs.cli.clip_windows.end_process", codes.append)
    monkeypatch.setattr(Encoder, "encode", encode)
    done = clips("--windows", table(("aaaa", 1, 2)), "-o", "many", "--exact")
    assert (done.code, codes, os.listdir("many")) == (130, [], [])


def test_an_outage_is_no_unknown_video(clips, table, monkeypatch):
    """Only the manifest of clips says whether a uid is that of a clip."""
    listing = Catalog.listing

    def fail(catalog: Catalog, dataset: str) -> Listing:
        if dataset == "clips":
            raise StoreUnavailable("s3://bucket/manifest.csv: no answer")
        return listing(catalog, dataset)

    monkeypatch.setattr(Catalog, "listing", fail)
    done = clips("--windows", table(("cccc", 1, 2)), "-o", "many")
    assert refused(done, ExitCode.FAILURE) == "s3://bucket/manifest.csv: no answer"
    assert os.listdir() == []


def test_the_reading_of_the_rows_is_shown(clips, table, monkeypatch):
    monkeypatch.setattr("ego4dfs.cli.progress._LINE_EVERY_S", 0.0)
    monkeypatch.setattr("ego4dfs.cli.windows_file._ROWS", 2)
    done = clips("--windows", table(*[("aaaa", 1, 2)] * 5), "-o", "many")
    assert [line for line in done.stderr.splitlines() if line.startswith("read")] == [
        "read 2 rows",
        "read 4 rows",
    ]
    done = clips("--windows", table(*[("aaaa", 1, 2)] * 5), "-o", "many", "--quiet")
    assert unwarned(done.stderr) == ""


def test_all_bad_rows_are_in_the_json_and_the_first_are_printed(clips, table):
    file = table(*[("zzzz", 1, 2)] * 30, ("aaaa", 1, 2))
    report = clips.report("--windows", file, "-o", "many", code=ExitCode.PARTIAL)
    assert [one["row"] for one in report["first_bad_rows"]] == [f"row {n}" for n in range(2, 32)]
    lines = unwarned(clips("--windows", file, "-o", "many").stderr).splitlines()
    assert lines[-1] == "  … and 10 more rows; --json names them"
    assert [line.partition(":")[0] for line in lines[:-1]] == [f"  row {n}" for n in range(2, 22)]


def test_a_name_that_is_a_directory_fails_alone(clips, table):
    (clips.directory / "many" / "aaaa_1-2.mp4").mkdir(parents=True)
    file = table(("aaaa", 1, 2), ("aaaa", 2, 3))
    report = clips.report("--windows", file, "-o", "many", code=ExitCode.PARTIAL)
    [failure] = report["failures"]
    assert failure == {
        "path": str(clips.directory / "many" / "aaaa_1-2.mp4"),
        "reason": "there is a directory of this name",
        "clips": 1,
    }
    assert tree(Path("many")).keys() == {"aaaa_2-3.mp4"}


def test_a_store_that_stops_answering_ends_the_run(clips, table, monkeypatch):
    def fail(_video: Video, _offset: int, _length: int) -> bytes:
        raise StoreUnavailable("s3://bucket/key: no answer", url="s3://bucket/key")

    monkeypatch.setattr(Video, "read", fail)
    monkeypatch.setattr("ego4dfs.prefetch.outage._PAUSES_S", (0.0,))
    rows = [("aaaa", start / 100, start / 100 + 1) for start in range(100)]
    report = clips.report("--windows", table(*rows), "-o", "many", "--retry-for", "0", code=1)
    assert "no answer" in report["stopped_by"]
    assert 8 <= report["failed"] < 100
    assert tree(clips.directory) == {}


@pytest.mark.parametrize("exact", [False, True])
def test_ctrl_c_leaves_only_whole_clips(clips, table, monkeypatch, exact):
    """And the same command writes the others."""
    rows = [("aaaa", start / 100, start / 100 + 2) for start in range(100)]
    words = ["--windows", table(*rows), "-o", "many", *(["--exact"] if exact else [])]
    done_at = 5
    done = ClipReport.done

    def interrupting(report: ClipReport, written) -> None:
        done(report, written)
        if len(report.written) == done_at:
            os.kill(os.getpid(), signal.SIGINT)
        if len(report.written) >= done_at:
            wait_until(lambda: report.stopped_by is not None)

    with monkeypatch.context() as patched:
        patched.setattr(ClipReport, "done", interrupting)
        ended = clips(*words)
    assert ended.code == 130
    assert "Interrupted; the clips that were written are complete." in ended.stderr
    some = tree(Path("many"))
    assert done_at <= len(some) < 100
    assert not list(Path("many").glob(".*"))
    assert all(len(pictures(data)) == 60 for data in some.values())
    if not exact:
        report = clips.report(*words)
        assert (report["existing"], len(report["clips"])) == (len(some), 100 - len(some))


def test_a_second_ctrl_c_ends_the_wait_with_a_report(clips, table, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    codes: list[int] = []
    monkeypatch.setattr("ego4dfs.cli.clip_windows.end_process", codes.append)
    monkeypatch.setattr(WorkerPool, "run", interrupt)
    monkeypatch.setattr(WorkerPool, "ended", interrupt)
    (clips.directory / "many" / ".ego4dfs").mkdir(parents=True)
    done = clips("--windows", table(("aaaa", 1, 2)), "-o", "many")
    assert (done.code, codes, os.listdir("many")) == (130, [130], [])
    assert "Interrupted; the clips that were written are complete." in done.stderr


def test_sigterm_while_the_store_hangs_leaves_nothing(clips, table, front, spawn):
    """A read that waits ends when the VFS is closed."""
    front.faults.stall_s, front.faults.only = 60, "aaaa"
    words = ["--windows", table(("aaaa", 1, 2)), "-o", "many", "--version", clips.version]
    process = spawn([*EGO4DFS, "clip", *words], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: front.concurrent and Path("many").exists())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert os.listdir("many") == []


def report_of(windows: int) -> ClipReport:
    """Return a report of a run that has written one of so many windows of two seconds."""
    report = ClipReport(Outage(), windows=windows, seconds=2.0 * windows)
    report.done(Written(Path("a.mp4"), "v2/full_scale/a.mp4", 1, 3, 2, 1000))
    report.advance(Path("b.mp4"), 0.5)
    return report


@pytest.mark.parametrize("many", [False, True])
def test_what_a_killed_run_left_is_removed_later(clips, table, monkeypatch, many):
    monkeypatch.setattr(Folder.remove_unfinished, "__defaults__", (-1.0,))
    (clips.directory / ".ego4dfs").mkdir()
    (clips.directory / ".ego4dfs" / "aaaa_1-2.mp4.01234567.new").write_bytes(b"half")
    words = ("--windows", table(("aaaa", 1, 2))) if many else ("aaaa", "1", "2")
    clips.report(*words, "-o", ".")
    assert os.listdir() == ["aaaa_1-2.mp4"]


def test_progress_in_a_log_is_lines_of_clips_and_seconds(monkeypatch):
    monkeypatch.setattr("ego4dfs.cli.progress._LINE_EVERY_S", 0.0)
    monkeypatch.setattr("ego4dfs.cli.clip_progress._FIRST_S", 0.0)
    stream = io.StringIO()
    with ClipProgress(stream) as progress:
        progress.clips(report_of(4))
        progress.clip("c.mp4", 0, 4)
    first, second = stream.getvalue().splitlines()
    assert re.fullmatch(r"1 of 4 clips, 2 of 8 s, \d:\d\d:\d\d left", first)
    assert second == "c.mp4, 0 of 4 s"


def test_progress_on_a_terminal_is_a_bar_of_seconds_that_ends_full(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("ego4dfs.cli.clip_progress._FIRST_S", 0.0)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    with ClipProgress(stream) as progress:
        progress.clips(report_of(4))
        progress.clips(report_of(1))
    shown = [line for line in stream.getvalue().splitlines() if "clip" in line]
    assert "1 of 4 clips " in shown[0]
    assert "1 of 1 clip " in shown[-1]
    assert "2 s of 2 s" in shown[-1]


def test_encoders_are_bounded_by_the_cpus(monkeypatch, open_tree, clips):
    for cpus, workers, threads in ((1, 1, 1), (2, 2, 1), (6, 6, 1), (64, 8, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cpus: set(range(n)))
        made = ClipRun(
            open_tree(version=clips.version, datasets="full_scale"), clips.directory, exact=True
        )
        assert (made._workers, made._encoder) == (workers, Encoder(threads))
