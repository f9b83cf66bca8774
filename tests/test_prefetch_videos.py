"""`prefetch --to cache --indexes` and `--windows`: what is fetched, what is named, what stays."""

from __future__ import annotations

import io
import json
import os
import re
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from ego4dfs.annotations import BadRow
from ego4dfs.blocks import PART_SIZE
from ego4dfs.cache import BlockCache
from ego4dfs.catalog import Place
from ego4dfs.cli import main
from ego4dfs.cli.output import ExitCode
from ego4dfs.copies import State
from ego4dfs.media import MediaIndex, read_index
from ego4dfs.prefetch import IndexWarmer, WindowPlan, WindowPlanner
from ego4dfs.prefetch.windows import BadRows, Windows
from kit import media
from kit.cli import unwarned
from kit.data import MIB, seeded
from kit.gateway import Faults, Gateway, Reply
from kit.server import Release

SECONDS = 40
GONE = Reply(404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>")
INDEXES_KIB = 541.3
"""The first part of both of `videos`, and the last one of that whose index is at the end."""


@dataclass
class Runs:
    """The command against one release, through a gateway that counts."""

    release: Release
    front: Gateway
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run `prefetch --to cache`; return what it printed on stdout and stderr."""
        self.front.reset()
        self.front.faults.hide_missing = True
        done = main(["prefetch", "--to", "cache", *words, "--version", self.release.version])
        out, err = self.capture.readouterr()
        assert done == code, f"{done}\n{out}\n{err}"
        return out, unwarned(err)

    def report(self, *words: str, code: int = 0) -> dict[str, object]:
        """Run it without questions; return its JSON document."""
        return json.loads(self(*words, "-y", "--json", code=code)[0])

    @property
    def gets(self) -> list[str]:
        """The objects of which something was fetched, one for each request."""
        log = self.front.log
        return [
            path.rpartition("/")[2]
            for method, path, _ in log
            if method == "GET" and "/objects/" in path
        ]


@pytest.fixture
def runs(release, front, capsys) -> Runs:
    return Runs(release, front, capsys)


@pytest.fixture(scope="module")
def videos() -> dict[str, bytes]:
    """Videos of 22 MB with a key frame every 4.3 s; the index of one is at its end."""
    return {f"{name}.mp4": media.long_video(SECONDS, seed) for seed, name in enumerate("ab")}


def index_of(data: bytes) -> MediaIndex:
    return read_index(len(data), lambda offset, length: data[offset : offset + length])


def group_bytes(data: bytes, windows: Sequence[tuple[float, float]]) -> int:
    """Return the bytes of all groups of pictures of which a window has a picture."""
    keys = media.key_frames(index_of(data).video)
    starts, bounds = keys.times / media.RATE, [*keys.offsets.tolist(), keys.stop]
    stops = [*starts[1:], SECONDS]
    groups = zip(starts, stops, bounds[:-1], bounds[1:], strict=True)
    return sum(
        stop - start
        for begins, ends, start, stop in groups
        if any(begins < end and first < ends for first, end in windows)
    )


def table(*rows: tuple[object, object, object]) -> str:
    return "".join(
        f"{','.join(map(str, row))}\n" for row in (("video_uid", "start_s", "end_s"), *rows)
    )


@pytest.fixture
def windows_file(tmp_path) -> Callable[..., str]:
    """Write a table of windows and return its path."""

    def write(*rows: tuple[object, object, object]) -> str:
        path = tmp_path / "windows.csv"
        path.write_text(table(*rows))
        return str(path)

    return write


# --- indexes ------------------------------------------------------------------------------------


def test_indexes_fetch_head_and_index_and_report_the_bytes(runs, videos):
    files = videos | {"ego4d.csv": b"no video"}
    runs.release.dataset("full_scale", files)
    out, _ = runs("--indexes", "-y")
    whole = sum(map(len, videos.values())) / MIB
    need = "the indexes need about 512.0 KiB, of which 0 B are cached; the cache has"
    assert f"2 videos, {whole:.1f} MiB; {need}" in out
    assert f"2 indexes, {INDEXES_KIB:.1f} KiB; the videos have {whole:.1f} MiB." in out
    assert sorted(runs.gets) == ["a.mp4", "b.mp4", "b.mp4"]
    assert 0 <= runs.front.bytes_sent - INDEXES_KIB * 1024 < 64 * 1024  # that are manifests


def test_indexes_are_not_fetched_again(runs, videos):
    runs.release.dataset("full_scale", videos)
    first = runs.report("--indexes")
    assert (first["done"], first["skipped"], first["videos"]) == (2, 0, 2)
    assert first["fetched_bytes"] == first["index_bytes"]
    again = runs.report("--indexes")
    assert (again["done"], again["skipped"], again["fetched_bytes"]) == (0, 2, 0)
    assert runs.gets == []


def test_after_that_a_window_is_one_request(runs, videos, tmp_path):
    runs.release.dataset("full_scale", videos)
    runs("--indexes", "-y")
    runs.front.reset()
    file = str(tmp_path / "clip.mp4")
    assert main(["clip", "b", "9", "11", "-o", file, "--version", runs.release.version]) == 0
    assert runs.gets == ["b.mp4"]


def test_pinned_indexes_are_exactly_what_was_fetched(runs, videos, cli):
    runs.release.dataset("full_scale", videos)
    report = runs.report("--indexes", "--pin")
    pins = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    assert {pin["url"].rpartition("/")[2] for pin in pins} == set(videos)
    disk = sum(pin["bytes"] for pin in pins)
    assert report["index_bytes"] <= disk < report["index_bytes"] + 4 * 4096
    assert runs.report("--indexes", "--pin")["fetched_bytes"] == 0


def with_index_of(size: int, seed: int) -> bytes:
    """Return a video whose index, which is at its end, has about `size` bytes."""
    free = media.box("free", bytes(size))
    return media.replaced(media.long_video(1, seed), "moov/mvhd", lambda mvhd: mvhd + free)


def test_pinned_indexes_need_no_more_room_in_the_next_run(runs):
    """Of 64 MiB 51 can be pinned; an index takes 27 of them, and a second one has no room."""
    files = {"a.mp4": with_index_of(27 * MIB, 1), "b.mp4": with_index_of(27 * MIB, 3)}
    runs.release.dataset("full_scale", files)
    words = ("--indexes", "--pin", "--cache-size", "64MiB")
    assert runs.report(*words, "--video_uids", "a")["done"] == 1
    again = runs.report(*words, "--video_uids", "a")
    assert (again["skipped"], again["fetched_bytes"]) == (1, 0)
    _, err = runs(*words, "-y", code=ExitCode.FAILURE)
    assert "the cache has no room for the indexes of more videos" in err


def test_files_without_a_usable_index_are_named_and_the_rest_goes_on(runs, cli):
    good = media.form("index at the end")
    files = {"bad.mp4": seeded("bad", 4 * MIB), "gone.mp4": b"", "good.mp4": good}
    files["moof.mp4"] = media.encode(movflags="+frag_keyframe")
    runs.release.dataset("full_scale", files)
    report = runs.report("--indexes", "--pin", code=ExitCode.PARTIAL)
    assert {p["path"].rpartition("/")[2]: p["reason"] for p in report["problems"]} == {
        "bad.mp4": "it has no usable index: the box at byte 0 has an impossible size",
        "gone.mp4": "it has no usable index: it has no index (moov)",
        "moof.mp4": "it has no usable index: it is fragmented: its index is in many places",
    }
    assert (report["done"], report["failed"], report["videos"]) == (1, 3, 1)
    [pin] = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    assert pin["url"].endswith("good.mp4")
    _, err = runs("--indexes", "-y", code=ExitCode.PARTIAL)
    assert "  failed  " in err
    assert "bad.mp4: it has no usable index: the box at byte 0" in err


def test_a_missing_object_is_named(runs, videos):
    runs.release.put("there", videos["a.mp4"])
    rows = [f"{name},mp4,{runs.release.url(name)}" for name in ("there", "gone")]
    runs.release.manifest("full_scale", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    out, err = runs("--indexes", "--dry-run", code=ExitCode.PARTIAL)
    assert out.splitlines()[-1].startswith("1 video, ")
    assert re.search(r"^  \w+  \S+/full_scale/gone\.mp4: not", err, re.MULTILINE)
    out, _ = runs("--indexes", "--dry-run", "--json", code=ExitCode.PARTIAL)
    [problem] = json.loads(out)["problems"]
    assert problem["uid"] == "gone"
    report = runs.report("--indexes", code=ExitCode.PARTIAL)
    assert (report["done"], report["missing"] + report["refused"]) == (1, 1)


def test_a_video_that_was_replaced_fails_once_and_its_size_is_corrected(runs, videos):
    """Its size and ETag are remembered, and the store has another version now."""
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"]})
    runs("--indexes", "--dry-run")
    runs.release.put("full_scale/a.mp4", videos["b.mp4"])
    report = runs.report("--indexes", code=ExitCode.FAILURE)
    assert (report["failed"], report["index_bytes"]) == (1, 0)
    report = runs.report("--indexes")
    assert (report["done"], report["video_bytes"]) == (1, len(videos["b.mp4"]))


def test_a_video_whose_index_cannot_be_fetched_fails_and_the_rest_goes_on(runs, videos):
    """Its facts are known."""
    runs.release.dataset("full_scale", videos)
    runs("--indexes", "--dry-run")
    reset = runs.front.reset

    def refused() -> None:
        reset()
        runs.front.faults = Faults(reply=GONE, only="a.mp4", method="GET")

    runs.front.reset = refused
    report = runs.report("--indexes", code=ExitCode.PARTIAL)
    assert (report["done"], report["failed"] + report["missing"] + report["refused"]) == (1, 1)


def test_a_dry_run_of_indexes_fetches_nothing(runs, videos):
    runs.release.dataset("full_scale", videos)
    plan = json.loads(runs("--indexes", "--dry-run", "--json")[0])
    assert plan == {
        "videos": 2,
        "video_bytes": sum(map(len, videos.values())),
        "needed_bytes": 2 * PART_SIZE,
        "needed_cached_bytes": 0,
        "problems": [],
        "refused_datasets": [],
    }
    assert runs.gets == []
    runs("--indexes", "-y")
    out, _ = runs("--indexes", "--dry-run")
    assert "the indexes need about 512.0 KiB, of which 512.0 KiB are cached;" in out


@pytest.fixture(params=["--indexes", "--windows"])
def kind(request, windows_file) -> list[str]:
    return (
        [request.param]
        if request.param == "--indexes"
        else ["--windows", windows_file(("a", 1, 2))]
    )


def test_indexes_that_the_disk_has_no_space_for_are_refused_before_a_byte(
    runs, videos, monkeypatch
):
    runs.release.dataset("full_scale", videos)
    free = os.statvfs_result((4096, 4096, 0, 75, 75, 0, 0, 0, 0, 255))
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda _: free)
        _, err = runs("--indexes", "-y", code=ExitCode.FAILURE)
        assert "the cache needs 512.0 KiB more for this, and 300.0 KiB are free" in err
        assert runs.gets == []
    runs("--indexes", "-y")
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    assert runs.report("--indexes")["skipped"] == 2  # nothing is needed any more


def test_without_room_the_run_stops_and_says_why(runs, monkeypatch, kind):
    runs.release.dataset("full_scale", {"a.mp4": media.form("index in front")})
    monkeypatch.setattr("ego4dfs.prefetch.index_warmer.PIN_SHARE", 0)
    _, err = runs(*kind, "-y", code=ExitCode.FAILURE)
    assert "the cache has no room for the indexes of more videos" in err
    assert "To continue:" in err


def test_the_confirmation_can_be_refused(runs, videos, monkeypatch, kind):
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"]})
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    out, _ = runs(*kind)
    assert "Do you want to start the download? ([y]/n) Aborting the download operation." in out
    assert len(runs.gets) == (kind[0] == "--windows")  # the index, to know what is needed


def test_a_refused_dataset_does_not_stop_the_others(runs, videos, kind):
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"]})
    runs.release.metadata(b"{}")
    datasets = ("--datasets", "full_scale", "video_540ss")
    out, err = runs(*kind, *datasets, "-y", "--dry-run", "--json", code=ExitCode.PARTIAL)
    assert "Continuing without video_540ss." in err
    assert [one["dataset"] for one in json.loads(out)["refused_datasets"]] == ["video_540ss"]
    _, err = runs(*kind, *datasets, "-y", code=ExitCode.PARTIAL)
    assert "Continuing without video_540ss." in err


def test_the_cache_is_asked_only_for_what_is_wanted(runs, videos, kind, monkeypatch):
    """Not for each block of the videos: full_scale has seven million."""
    asked: set[str] = set()
    contains = BlockCache.contains

    def noted(cache: BlockCache, key: str) -> bool:
        asked.add(key.partition(".")[0])
        return contains(cache, key)

    monkeypatch.setattr(BlockCache, "contains", noted)
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"]})
    runs(*kind, "-y")
    assert len(videos["a.mp4"]) > 20 * MIB
    # The first block, and for a window that ends at 2 s the 1.1 MB before that.
    assert len(asked) == (1 if kind[0] == "--indexes" else 2)


# --- windows ------------------------------------------------------------------------------------

SPREAD = (("a", 1.0, 3.0), ("a", 9.5, 17.5), ("a", 16.0, 18.0), ("b", 21.0, 33.0))


def test_windows_fetch_their_groups_of_pictures_and_nothing_else(runs, videos, windows_file):
    """With key frames 4.3 s apart, at most 1.1 times the groups of pictures are fetched."""
    runs.release.dataset("full_scale", videos)
    report = runs.report("--windows", windows_file(*SPREAD))
    by_video = {name: [row[1:] for row in SPREAD if f"{row[0]}.mp4" == name] for name in videos}
    groups = sum(group_bytes(videos[name], rows) for name, rows in by_video.items())
    assert (report["windows"], report["videos"], report["window_seconds"]) == (4, 2, 22.5)
    assert report["fetched_bytes"] == report["needed_bytes"]
    assert report["window_bytes"] < report["needed_bytes"] <= 1.1 * groups
    assert runs.front.bytes_sent < 1.1 * groups + 64 * 1024
    assert report["video_bytes"] == sum(map(len, videos.values()))


def test_what_the_windows_need_is_in_the_cache_then(runs, videos, windows_file, tmp_path):
    runs.release.dataset("full_scale", videos)
    runs("--windows", windows_file(*SPREAD), "-y")
    for uid, start, end in SPREAD:
        runs.front.reset()
        words = ["clip", uid, str(start), str(end), "-o", str(tmp_path / f"{start}.mp4")]
        assert main([*words, "--version", runs.release.version]) == 0
        assert runs.gets == []


def test_the_plan_says_what_is_needed_before_anything_but_indexes_is_fetched(
    runs, videos, windows_file
):
    runs.release.dataset("full_scale", videos)
    file = windows_file(*SPREAD)
    out, _ = runs("--windows", file, "--dry-run")
    plan = json.loads(runs("--windows", file, "--dry-run", "--json")[0])
    needed, whole = (plan[name] / MIB for name in ("needed_bytes", "video_bytes"))
    assert "4 windows of 2 videos, 22.5 s:" in out
    assert (
        f"{needed:.1f} MiB of {whole:.1f} MiB are needed, {INDEXES_KIB:.1f} KiB are cached" in out
    )
    assert runs.gets == []  # in the second run; the first has fetched the indexes
    report = runs.report("--windows", file)
    assert report["fetched_bytes"] == plan["needed_bytes"] - plan["needed_cached_bytes"]
    assert runs.report("--windows", file)["fetched_bytes"] == 0
    out, _ = runs("--windows", file, "-y")
    assert out.endswith("All that the windows need is cached.\n")


def test_each_key_of_the_json_has_one_meaning(runs, videos, windows_file):
    """Bytes that were cached before the run are not those that it took from the cache."""
    runs.release.dataset("full_scale", videos)
    file = windows_file(*SPREAD)
    plan = json.loads(runs("--windows", file, "--dry-run", "--json")[0])
    assert abs(plan["needed_cached_bytes"] - INDEXES_KIB * 1024) < 100
    report = runs.report("--windows", file)
    assert report["needed_cached_bytes"] == plan["needed_cached_bytes"]
    assert (report["resumed_bytes"], report["cached_bytes"]) == (plan["needed_cached_bytes"], 0)
    assert plan.keys() - report.keys() == set()
    again = runs.report("--windows", file)
    assert (again["needed_cached_bytes"], again["cached_bytes"]) == (plan["needed_bytes"], 0)


def test_pinned_windows_are_exactly_what_is_needed(runs, videos, windows_file, cli):
    runs.release.dataset("full_scale", videos)
    file = windows_file(("a", 0, SECONDS), ("b", 1, SECONDS))
    small = ("--cache-size", "64MiB")  # of which 80 % can be pinned, and this takes most of it
    report = runs.report("--windows", file, "--pin", *small)
    pins = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    disk, blocks = (sum(pin[name] for pin in pins) for name in ("bytes", "blocks"))
    assert report["needed_bytes"] <= disk <= report["needed_bytes"] + 4096 * blocks
    assert runs.report("--windows", file, "--pin", *small)["fetched_bytes"] == 0


def test_pins_of_other_ranges_of_a_video_leave_no_room_for_more(runs, videos, windows_file):
    """Of 64 MiB 51 can be pinned, and a half of these three videos takes 32."""
    runs.release.dataset("full_scale", {**videos, "c.mp4": media.long_video(SECONDS, 2)})
    words = ("--pin", "--cache-size", "64MiB", "--windows")
    runs.report(*words, windows_file(*((uid, 0, 20) for uid in "abc")))
    assert runs.report(*words, windows_file(*((uid, 0, 19) for uid in "abc")))["skipped"] == 3
    _, err = runs(*words, windows_file(*((uid, 21, 40) for uid in "abc")), "-y", code=1)
    assert "MiB can still be pinned" in err
    assert runs.gets == []


def test_bad_rows_are_named_and_the_rest_goes_on(runs, videos, windows_file):
    runs.release.dataset("full_scale", videos)
    rows = [
        ("a", 1, 2),
        ("zzzz", 1, 2),
        ("a", 39, 40.5),
        ("a", 39, 40.6),
        ("a", 40, 40.2),
        ("a", 5, 5),
        ("a", "nan", 3),
        ("", 1, 2),
        ("a", "", 2),
        ("a", -1, 2),
    ]
    file = windows_file(*rows, *[("zzzz", 1, 2)] * 30)
    out, err = runs("--windows", file, "-y", code=ExitCode.PARTIAL)
    named = [line.strip() for line in err.splitlines() if line.startswith("  row")]
    assert named == [
        "row 3: no selected dataset has the video zzzz",
        "row 5: it ends after the end of the video, 40.000 s",
        "row 6: it starts after the end of the video, 40.000 s",
        "row 7: its start, 5 s, is not before its end, 5 s",
        "row 8: its start, 'nan', is not a number of seconds",
        "row 9: it has no video_uid",
        "row 10: its start or end is missing",
        "row 11: it starts at -1 s, before the video",
        *(f"row {number}: {ZZZZ}" for number in range(12, 24)),
    ]
    assert "  … and 18 more rows; --json names them" in err
    assert "2 windows of 1 video," in out
    report = runs.report("--windows", file, code=ExitCode.PARTIAL)
    assert (report["windows"], report["bad_rows"], len(report["first_bad_rows"])) == (2, 38, 38)


ZZZZ = "no selected dataset has the video zzzz"


NOT_NUMBERED = ["", "x", "x[1", "x 1]", "x[01]", "x[-1]", "x[\u0661]", f"x[{10**18}]", "3"]


@pytest.mark.parametrize(
    "row", ["row 2", "line 0", "v[0].a[30]", f"x\n[{10**18 - 1}]", *NOT_NUMBERED]
)
def test_a_bad_row_has_the_place_that_its_file_gave_it(row):
    index, bad, kept = index_of(media.form("index in front")), BadRows(), Windows()
    kept.add(Place("s3://b/k", row, 100, 101))
    assert kept.valid(index, bad) == []
    assert [found.row for found in bad.rows] == [row]


def test_of_many_bad_rows_all_are_counted_and_some_are_kept(monkeypatch):
    monkeypatch.setattr("ego4dfs.prefetch.windows._BAD_ROWS_KEPT", 2)
    bad = BadRows()
    for number in (10, 2, 3):
        bad.add(BadRow(f"row {number}", "no such video"))
    assert (bad.count, [found.row for found in bad.rows]) == (3, ["row 2", "row 10"])


def test_a_window_takes_32_bytes_of_memory():
    """There are 3.8 million narrations."""
    count, kept = 100_000, Windows()
    tracemalloc.start()
    try:
        for number in range(count):
            kept.add(Place("s3://b/k", f"{VIDEO}.narration_pass_1.narrations[{number}]", 1, 2))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 32 * 1.2 * count  # lists and arrays grow in steps of an eighth


def test_no_windows_are_kept_after_the_plan(runs, videos, windows_file, monkeypatch):
    planners: list[WindowPlanner] = []
    plan = WindowPlanner.plan
    monkeypatch.setattr(
        WindowPlanner, "plan", lambda *words: planners.append(words[0]) or plan(*words)
    )
    runs.release.dataset("full_scale", {**videos, "c.mp4": seeded("c", MIB)})
    file = windows_file(("a", 1, 2), ("b", 50, 60), ("c", 1, 2))
    runs("--windows", file, "-y", code=ExitCode.PARTIAL)
    assert [planner._by_url for planner in planners] == [{}]


def test_videos_without_a_usable_index_are_named_and_the_rest_goes_on(runs, videos, windows_file):
    runs.release.dataset("full_scale", {**videos, "c.mp4": seeded("c", MIB)})
    file = windows_file(("a", 1, 2), ("c", 1, 2))
    report = runs.report("--windows", file, code=ExitCode.PARTIAL)
    [problem] = report["problems"]
    assert problem["path"].endswith("full_scale/c.mp4")
    assert "it has no usable index" in problem["reason"]
    assert (report["done"], report["failed"], report["windows"]) == (1, 1, 1)
    assert "--windows" in report["retry"][0]
    _, err = runs("--windows", file, "--dry-run", code=ExitCode.PARTIAL)
    assert "c.mp4: it has no usable index" in err


def test_windows_of_videos_that_are_not_selected_are_counted(runs, videos, windows_file):
    runs.release.dataset("full_scale", videos)
    out, _ = runs("--windows", windows_file(("a", 1, 2), ("b", 1, 2)), "-y", "--video_uids", "a")
    assert "Left out: 1 window of videos that are not selected." in out
    assert "1 window of 1 video," in out


def test_an_object_that_two_datasets_list_is_one_video(runs, videos, windows_file):
    manifest = runs.release.dataset("full_scale", videos)
    runs.release.manifest("video_540ss", manifest)
    file = windows_file(*SPREAD, ("a", 50, 60))
    of_one = runs.report("--windows", file, code=ExitCode.PARTIAL)
    words = ("--windows", file, "--datasets", "full_scale", "video_540ss")
    of_both = runs.report(*words, code=ExitCode.PARTIAL)
    names = ("windows", "videos", "window_seconds", "needed_bytes", "window_bytes", "bad_rows")
    assert {name: of_both[name] for name in names} == {name: of_one[name] for name in names}
    assert (of_both["windows"], of_both["videos"], of_both["bad_rows"]) == (4, 2, 1)
    assert of_both["files"] == 2


def test_a_window_before_the_first_picture_is_named(runs, windows_file):
    runs.release.dataset("full_scale", {"a.mp4": media.form("pictures begin later")})
    file = windows_file(("a", 0, 0.5), ("a", 0, 1.5))
    report = runs.report("--windows", file, code=ExitCode.PARTIAL)
    [bad] = report["first_bad_rows"]
    assert bad["row"] == "row 2"
    assert bad["reason"].startswith("it ends before the first picture, 0.7")
    assert report["windows"] == 1


@pytest.mark.parametrize("rows", [[], [("zzzz", 1, 2)], [("a", 50, 60)]])
def test_without_a_window_that_can_be_used_it_is_an_error(runs, videos, windows_file, rows):
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"]})
    _, err = runs("--windows", windows_file(*rows), "-y", code=ExitCode.USAGE)
    assert "windows.csv: " in err
    assert len(runs.gets) == any("a" in row for row in rows)  # its index


@pytest.mark.parametrize("ended", [True, False])
def test_an_interrupted_search_for_indexes_makes_no_plan(
    runs, videos, windows_file, monkeypatch, ended
):
    """Threads that still run may change what a plan is made of."""
    found: list[WindowPlan] = []
    codes: list[int] = []
    run, plan = IndexWarmer.run, WindowPlanner.plan

    def interrupted(warmer: IndexWarmer, *words: object) -> bool:
        assert run(warmer, *words)
        warmer.report.stop(KeyboardInterrupt())
        return ended

    monkeypatch.setattr(IndexWarmer, "run", interrupted)
    monkeypatch.setattr(
        WindowPlanner, "plan", lambda *words: found.append(plan(*words)) or found[-1]
    )
    monkeypatch.setattr("ego4dfs.cli.prefetch_cache.end_process", codes.append)
    runs.release.dataset("full_scale", videos)
    _, err = runs("--windows", windows_file(*SPREAD), "-y", code=130)
    assert "Interrupted; downloaded data is kept. To continue:" in err
    assert codes == [130] * (not ended)
    assert (found[0].windows, found[0].plan.count(*State)) == (4, 0)
    assert sorted(runs.gets) == ["a.mp4", "b.mp4", "b.mp4"]  # the indexes


# --- clips, and annotations in the tree -----------------------------------------------------------

VIDEO, CLIP, OTHER = (f"{n:08x}-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))


def query(start_s: float, end_s: float, *, clip_start_s: float) -> dict[str, object]:
    return {
        "query": "Where was the knife?",
        "video_start_sec": start_s,
        "video_end_sec": end_s,
        "clip_start_sec": start_s - clip_start_s,
        "clip_end_sec": end_s - clip_start_s,
    }


@pytest.fixture
def annotated(runs, videos) -> Runs:
    """A video, a clip of 40 s that begins at its second 100, and an annotation of both."""
    release = runs.release
    release.dataset("full_scale", {f"{VIDEO}.mp4": media.long_video(140, 2)})
    release.put(f"{CLIP}.mp4", videos["a.mp4"])
    header = "video_uid,exported_clip_uid,parent_video_uid,parent_start_sec,parent_end_sec,s3_path"
    row = f"{CLIP},{CLIP},{VIDEO},100.0,140.0,{release.url(f'{CLIP}.mp4')}"
    release.manifest("clips", f"{header}\n{row}\n")
    clip = {
        "clip_uid": CLIP,
        "annotations": [{"language_queries": [query(110, 112, clip_start_s=100)]}],
    }
    document = {"videos": [{"video_uid": VIDEO, "split": "train", "clips": [clip]}]}
    release.dataset("annotations", {"nlq_train.json": json.dumps(document).encode()})
    return runs


def needed(data: bytes, start_s: float, end_s: float) -> int:
    return sum(map(len, index_of(data).byte_ranges(start_s, end_s)))


def test_an_annotation_in_the_tree_means_the_video_or_the_clip(annotated, videos):
    words = ("--windows", "annotations/nlq_train.json")
    of_video = annotated.report(*words)
    assert of_video["window_bytes"] == needed(media.long_video(140, 2), 110, 112)
    assert set(annotated.gets) == {f"{VIDEO}.mp4", "nlq_train.json"}
    for datasets in (["clips"], ["full_scale", "clips"]):
        report = annotated.report(*words, "--datasets", *datasets)
        assert report["window_bytes"] == needed(videos["a.mp4"], 10, 12)
    assert f"{VIDEO}.mp4" not in annotated.gets


@pytest.mark.parametrize("column", ["video_uid", "clip_uid"])
def test_seconds_of_a_clip_are_added_to_its_start_in_the_video(annotated, column, tmp_path):
    (tmp_path / "w.csv").write_text(f"{column},start_s,end_s\n{CLIP},10,12\n{OTHER},1,2\n")
    words = ("--windows", str(tmp_path / "w.csv"))
    report = annotated.report(*words, code=ExitCode.PARTIAL)
    assert report["window_bytes"] == needed(media.long_video(140, 2), 110, 112)
    assert report["first_bad_rows"][0]["row"] == "row 3"


def test_a_clip_whose_place_in_its_video_is_not_known_is_a_bad_row(annotated, tmp_path):
    release = annotated.release
    row = f"{CLIP},{CLIP},{VIDEO},{release.url(f'{CLIP}.mp4')}"
    release.manifest("clips", f"video_uid,exported_clip_uid,parent_video_uid,s3_path\n{row}\n")
    (tmp_path / "w.csv").write_text(f"video_uid,start_s,end_s\n{CLIP},10,12\n{VIDEO},110,112\n")
    report = annotated.report("--windows", str(tmp_path / "w.csv"), code=ExitCode.PARTIAL)
    assert report["window_bytes"] == needed(media.long_video(140, 2), 110, 112)
    assert [found["row"] for found in report["first_bad_rows"]] == ["row 2"]


def test_a_file_that_is_no_video_has_no_windows(runs, videos, windows_file):
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"], "notes.csv": b"1"})
    file = windows_file(("a", 1, 2), ("notes", 1, 2))
    report = runs.report("--windows", file)
    assert (report["windows"], report["windows_not_selected"]) == (1, 1)
    assert set(runs.gets) == {"a.mp4"}


def test_a_file_in_neither_place_is_an_error(runs, videos):
    runs.release.dataset("full_scale", {"a.mp4": videos["a.mp4"]})
    runs.release.dataset("annotations", {"x.json": b"{}"})
    _, err = runs("--windows", "annotations/y.json", "-y", code=ExitCode.USAGE)
    assert "--windows annotations/y.json: neither on disk nor in the tree" in err
    _, err = runs("--windows", "annotations/x.json", "-y", code=ExitCode.USAGE)
    assert "--windows annotations/x.json: it has no windows" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--windows", "w", "--indexes"], "--indexes: not allowed with --windows"),
        (["--indexes", "--manifests-only"], "--manifests-only: not allowed with"),
        (["--indexes", "--metadata"], "--metadata: not allowed with --windows and --indexes"),
        (["--windows", "w", "--metadata"], "--metadata: not allowed with"),
        (["--indexes", "--to", "directory"], "--indexes: only the cache can have parts of files"),
        (["--windows", "w", "--to", "directory"], "--windows: only the cache"),
        (["--windows", ""], "--windows: the name of the file is empty"),
        (["--windows", "", "--indexes"], "--windows: the name of the file is empty"),
        (["--windows", "", "--to", "directory"], "--windows: the name of the file is empty"),
        (["--indexes", "--datasets", "annotations"], "no videos are selected of annotations"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(runs, words, message):
    runs.release.dataset("annotations", {"x.json": b"{}"})
    assert message in runs(*words, "-y", code=ExitCode.USAGE)[1]
    assert runs.gets == []
