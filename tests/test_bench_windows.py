"""The benchmark of windows counts the bytes that they need, and checks every picture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks import RunError, mount_video, mounts, samples, window_reads, workers
from benchmarks.filled_caches import Fill, with_import, with_indexes
from benchmarks.measure import Metered
from benchmarks.mount_reads import Reading, measured
from benchmarks.mount_video import WINDOW_S, Films, window, window_bytes
from benchmarks.mounts import OBJECTS, Mounted
from benchmarks.rows.mount_list import list_long
from benchmarks.servers import Servers, serving
from benchmarks.window_reads import job
from benchmarks.window_worker import READERS
from ego4dfs.demo.media import Clip
from ego4dfs.demo.videos import CONSORTIUM

CLIP = Clip(number=7, duration_s=20, key_frame_s=4)
NEEDED_BYTES = 256 << 20  # more than these tests publish and cache


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    with serving(tmp_path_factory.mktemp("bench"), needed_bytes=NEEDED_BYTES) as running:
        assert not running.wan_missing
        yield running


@pytest.fixture(scope="module")
def films(servers) -> Films:
    return mount_video.publish(servers, "films", 2, CLIP)


def only(films: Films, needed: range, path: Path) -> Path:
    """Copy the video with zeros in place of all pictures outside of `needed`."""
    data = films.local.read_bytes()
    pictures = data.index(b"mdat") + 4
    path.write_bytes(
        data[:pictures]
        + bytes(needed.start - pictures)
        + data[needed.start : needed.stop]
        + bytes(len(data) - needed.stop)
    )
    return path


def test_what_a_window_needs_is_enough_and_not_too_much(films, tmp_path):
    begin_s = films.begins_s[0]
    needed = window_bytes(films.local, begin_s)
    assert window(only(films, needed, tmp_path / "all.mp4"), CLIP, begin_s) > 0
    less = range(needed.start + 1000, needed.stop)
    with pytest.raises(Exception, match=r"other frames|[Ii]nvalid"):
        window(only(films, less, tmp_path / "less.mp4"), CLIP, begin_s)


def test_an_index_is_needed_once_for_each_file(films):
    data = films.local.read_bytes()
    at = data.index(b"moov") - 4
    index_bytes = int.from_bytes(data[at : at + 4], "big")
    windows_only = mount_video.needed_bytes(films, with_index=False)
    assert mount_video.needed_bytes(films) == windows_only + 2 * index_bytes


@pytest.mark.parametrize("reader", sorted(READERS))
def test_each_reader_returns_the_pictures_of_its_windows(servers, films, reader):
    servers.empty("cache")
    where, options = str(films.local), {}
    if reader.startswith("Ego4D"):
        where, options = films.uids[0], {"first_uid": films.uids[0], "datasets": ["films"]}
    elif reader == "s3fs":
        where = f"{CONSORTIUM}/{OBJECTS}/films/{films.uids[0]}"
    job_of = partial(job, windows=[(where, begin_s, 0) for begin_s in films.begins_s], **options)
    with window_reads.started(servers, [job_of(films, reader)]) as running:
        (answer,) = running.work()
    assert len(answer["seconds"]) == len(films.begins_s)
    other = replace(films, clip=replace(CLIP, number=8))
    with (
        window_reads.started(servers, [job_of(other, reader)]) as running,
        pytest.raises(RunError, match="other frames"),
    ):
        running.work()


def test_a_process_that_ends_before_it_is_ready_fails_the_run():
    command = [sys.executable, "-c", "raise SystemExit('no decord')"]
    with (
        pytest.raises(RunError, match="reading failed: no decord"),
        workers.started(command, [{}]),
    ):
        pass


def fetched(servers: Servers, films: Films, fill: Fill | None) -> dict[str, float]:
    """Decode a window through a mount on a new cache, and return what it cost."""

    def decode(mount: Mounted) -> dict[str, float]:
        list(mount.files.iterdir())
        path, begin_s = mount.path(films.names[0]), films.begins_s[0]
        return measured(mount, lambda: Reading(window(path, CLIP, begin_s), 1))

    ours = [mounts.ego4dfs()]
    (contender,) = mounts.cold(servers, "wan", "films", decode, mounters=ours, fill=fill)
    return dict(contender.run())


def test_cached_indexes_are_not_fetched_again(servers, films):
    cold, filled = (fetched(servers, films, f) for f in (None, with_indexes(servers, "films")))
    assert filled["wire_mib"] < cold["wire_mib"]  # how many requests that are depends on the load


def test_an_import_has_key_frames_and_no_bytes(servers, films):
    fill = with_import(servers, "films", key_frames=True)
    fill(servers.empty("cache"))
    assert not any((servers.directory / "runs/cache").rglob("*.mp4"))
    assert fetched(servers, films, fill)["wire_mib"] < fetched(servers, films, None)["wire_mib"]


def test_sizes_that_were_imported_are_listed_without_a_head_request(servers):
    dataset = samples.publish_files(servers.s3, "many", [10, 1, 7_000])

    def lists(mount: Mounted) -> dict[str, float]:
        return dict(list_long(mount, dataset))

    heads = [
        mounts.cold(servers, "wan", "many", lists, mounters=[mounts.ego4dfs()], fill=fill)[0].run()[
            "heads"
        ]
        for fill in (None, with_import(servers, "many"))
    ]
    assert heads == [3, 0]


def test_a_process_that_reads_is_metered(servers, films):
    wanted = job(films, "PyAV", [(str(films.local), films.begins_s[0], 0)])
    with window_reads.started(servers, [wanted]) as running:

        def work() -> Reading:
            (answer,) = running.work()
            return Reading(answer["seconds"][0], WINDOW_S)

        found = measured(Metered(servers, "wan", running.pids[0]), work)
    assert found["requests"] == 0
    assert found["cpu_s"] > 0
    assert found["peak_mib"] > 10
