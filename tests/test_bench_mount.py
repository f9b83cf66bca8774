"""The benchmark of mounts checks what it reads, and never leaves a mount behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks import RunError, mount_video, mounts, samples
from benchmarks.goals import at_least, at_least_times, at_most_times, best_of
from benchmarks.mount_reads import measured, read
from benchmarks.mount_video import SHORT
from benchmarks.mounts import Mounted, Mounter, mounted
from benchmarks.row import Column, Outcome, Result, Row
from benchmarks.servers import Servers, mountpoints, serving, unmount

SIZE = 3_000_000
NEEDED_BYTES = 256 << 20  # more than these tests publish and cache
COLUMNS = (Column("rate", "MiB/s", more_is_better=True),)


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    with serving(tmp_path_factory.mktemp("bench"), needed_bytes=NEEDED_BYTES) as running:
        yield running


@pytest.fixture(scope="module")
def videos(servers) -> samples.Videos:
    return samples.publish(servers, "mount_tests", 2, SIZE)


def of(tool: Mounter) -> Mounter:
    assert not tool.tool.missing, tool.tool.missing
    return tool


@pytest.mark.parametrize("number", range(3))
def test_each_tool_shows_the_published_bytes_and_is_gone_afterwards(servers, videos, number):
    tool = of(mounts.tools()[number])

    def work(mount: Mounted) -> dict[str, float]:
        paths = [mount.path(content.name) for content in videos.contents]
        found = measured(mount, lambda: read([[path] for path in paths], limit=SIZE - 1))
        for content in videos.contents:
            content.check(mount.path(content.name))
        return found

    (contender,) = mounts.cold(servers, "lan", videos.name, work, mounters=[tool])
    found = contender.run()
    assert found["rate"] > 0
    assert found["peak_mib"] > 1
    assert mountpoints(servers.directory) == []


def test_a_distant_mount_fetches_each_byte_once(servers, videos):
    assert not servers.wan_missing

    def work(mount: Mounted) -> dict[str, float]:
        (first, _) = videos.contents
        return measured(mount, lambda: read([[mount.path(first.name)]] * 2))

    (ours, *_) = mounts.cold(servers, "wan", videos.name, work)
    assert 0.5 <= ours.run()["fetched"] < 0.52


def test_a_run_that_fails_leaves_no_mount(servers, videos):
    tool = of(mounts.ego4dfs())
    held = []

    def work(mount: Mounted) -> dict[str, float]:
        held.append(mount.path(videos.contents[0].name).open("rb"))
        raise RunError("wrong")

    (contender,) = mounts.cold(servers, "lan", videos.name, work, mounters=[tool])
    with pytest.raises(RunError, match="wrong"):
        contender.run()
    held[0].close()
    assert mountpoints(servers.directory) == []


def test_a_tool_that_does_not_mount_says_why(servers, videos):
    tool = mounts.ego4dfs("auto", "--cache-size", "lots")
    with (
        pytest.raises(RunError, match=r"did not mount: .*lots"),
        mounted(tool, servers, "lan", videos.name, servers.empty("cache")),
    ):
        pass


def test_a_mount_that_a_killed_run_left_is_removed(tmp_path):
    tool = of(mounts.bindfs(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f"ego4dfs-bench-{ended.pid}-x/mounts/it"
    left.mkdir(parents=True)
    serving_it = subprocess.Popen([*tool.tool.command, "-f", str(tmp_path), str(left)])
    deadline = time.monotonic() + 20
    while not mountpoints(left) and time.monotonic() < deadline:
        time.sleep(0.01)
    serving_it.kill()
    serving_it.wait()
    try:
        with serving(tmp_path, needed_bytes=NEEDED_BYTES):
            assert mountpoints(tmp_path) == []
    finally:
        for mountpoint in mountpoints(tmp_path):
            unmount(mountpoint, lazy=True)


def test_wrong_bytes_and_lengths_are_noticed(tmp_path):
    content = samples.Content("it.mp4", 1, SIZE)
    path = tmp_path / "it.mp4"
    content.write(path)
    content.check(path)
    assert path.read_bytes()[1_500_000:1_500_007] == content.part(1_500_000, 7)
    with path.open("r+b") as stream:
        stream.seek(SIZE - 1)
        stream.write(bytes([content.part(SIZE - 1, 1)[0] ^ 1]))
    content.check(path, SIZE - 1)
    with pytest.raises(RunError, match="wrong bytes"):
        content.check(path)
    os.truncate(path, SIZE - 1)
    with pytest.raises(RunError, match="bytes of"):
        content.check(path)


def test_readers_share_the_work_and_a_missing_file_fails_the_run(tmp_path):
    (tmp_path / "a").write_bytes(b"a" * 10)
    (tmp_path / "b").write_bytes(b"b" * 5)
    reading = read([[tmp_path / "a"], [tmp_path / "b"]], limit=7, evict=True)
    assert reading.size == 12
    with pytest.raises(RunError, match="reading failed: FileNotFoundError"):
        read([[tmp_path / "a"], [tmp_path / "c"]])


def test_windows_are_checked_frame_by_frame(servers):
    films = mount_video.publish(servers, "mount_test_film", 1, replace(SHORT, faststart=False))
    size = films.local.stat().st_size
    assert mount_video.window(films.local, films.clip, films.begins_s[0]) > 0
    assert 0 < mount_video.needed_bytes(films) < size / 2
    other = replace(SHORT, number=8)
    with pytest.raises(RunError, match="other frames"):
        mount_video.window(films.local, other, films.begins_s[0])


def test_goals_compare_with_the_best_peer():
    rates = {"ours": 30.0, "one": 10.0, "two": 20.0, "three": None}
    results = [
        Result(name, [] if rate is None else [{"rate": rate}]) for name, rate in rates.items()
    ]
    found = Outcome(Row("some-row", "some", "work", COLUMNS, lambda _: None), results)
    assert best_of("", "rate", 2, "one", "two", "three").value(found) == 1.5
    assert best_of("", "rate", 2, "one", "two", fewer=True).value(found) == 3
    assert best_of("", "rate", 2, "three").value(found) is None
    assert at_most_times("", "rate", 2, "two").verdict(found) == "reached"
    assert at_least_times("", "rate", 2, "one", "two").verdict(found) == "reached"
    assert at_least("", "rate", 15, "one").verdict(found) == "missed"
