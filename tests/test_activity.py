"""What is read now, and the slowest requests of the last minute: right, and in bounded memory."""

from __future__ import annotations

import json
import threading

import pytest

from ego4dfs.activity import (
    MAX_FILES,
    MAX_REQUESTS,
    READS_S,
    REQUESTS_S,
    RecentReads,
    SlowRequests,
)
from ego4dfs.mount import read_statuses
from ego4dfs.mount.status import MAX_NAME_CHARS, MAX_SHOWN, STATUS_BYTES, fitted
from kit.clock import Clock
from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reads(clock) -> RecentReads:
    return RecentReads(clock)


@pytest.fixture
def requests(clock) -> SlowRequests:
    return SlowRequests(clock)


def send(requests, clock, seconds, result="ok", url="s3://b/k"):
    request = requests.begin("get", url, range(10, 30))
    clock.now_s += seconds
    return requests.end(request, result)


def test_the_files_of_which_most_was_read_come_first(reads, clock):
    for path, count, missed in (("/a", 10, 10), ("/b", 30, 0), ("/a", 15, 2), ("/c", 1, 0)):
        reads.add(path, count, missed)
    clock.now_s += 2
    assert reads.most_read(2) == (2, [("/b", 30, 0), ("/a", 25, 12)])


def test_reads_of_the_last_two_periods_are_counted(reads, clock):
    reads.add("/old", 1, 0)
    clock.now_s += READS_S
    reads.add("/a", 2, 1)
    clock.now_s += READS_S
    reads.add("/a", 3, 1)
    clock.now_s += 1
    assert reads.most_read(9) == (READS_S + 1, [("/a", 5, 2)])


def test_after_a_pause_nothing_is_read(reads, clock):
    reads.add("/a", 1, 0)
    clock.now_s += 2 * READS_S
    assert reads.most_read(9) == (READS_S, [])
    reads.add("/b", 1, 0)
    clock.now_s += 1
    assert reads.most_read(9) == (READS_S + 1, [("/b", 1, 0)])


def test_no_more_than_max_files_are_counted_and_the_most_read_ones_stay(reads):
    reads.add("/large", MIB, 0)
    for number in range(3 * MAX_FILES):
        reads.add(f"/{number}", 1, 0)
    _, found = reads.most_read(4 * MAX_FILES)
    assert len(found) <= MAX_FILES
    assert found[0] == ("/large", MIB, 0)


def test_counts_of_several_threads_are_all_there(reads):
    threads = [
        threading.Thread(target=lambda: [reads.add("/a", 1, 1) for _ in range(1000)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads.most_read(1)[1] == [("/a", 8000, 8000)]


def test_the_slowest_requests_of_the_last_minute_come_first(requests, clock):
    assert send(requests, clock, 5, "failed") == 5
    send(requests, clock, 7)
    found = requests.slowest(9)
    assert [(one.seconds, one.result) for one in found] == [(7, "ok"), (5, "failed")]
    assert (found[0].kind, found[0].url, found[0].start, found[0].stop) == (
        "get",
        "s3://b/k",
        10,
        30,
    )
    clock.now_s += REQUESTS_S - 6
    assert [one.seconds for one in requests.slowest(9)] == [7]
    clock.now_s += 7
    assert requests.slowest(9) == []


def test_a_request_that_runs_has_taken_the_time_until_now(requests, clock):
    request = requests.begin("head", "s3://b/k", range(0))
    send(requests, clock, 3)
    running, ended = requests.slowest(9)[0], requests.slowest(9)[1]
    assert {(one.seconds, one.result) for one in (running, ended)} == {(3, "running"), (3, "ok")}
    clock.now_s += 1
    assert (requests.slowest(1)[0].kind, requests.slowest(1)[0].seconds) == ("head", 4)
    requests.end(request, "missing")
    assert [one.result for one in requests.slowest(9)] == ["missing", "ok"]


def test_the_slowest_requests_are_kept_and_old_ones_make_room(requests, clock):
    for number in range(3 * MAX_REQUESTS):
        send(requests, clock, (number * 7 % 96) / 1000)
    found = requests.slowest(4 * MAX_REQUESTS)
    assert len(found) == MAX_REQUESTS
    assert found[-1].seconds == pytest.approx(0.064)
    clock.now_s += REQUESTS_S
    for _ in range(MAX_REQUESTS):
        send(requests, clock, 0.001)
    assert [round(one.seconds, 3) for one in requests.slowest(99)] == [0.001] * MAX_REQUESTS


@pytest.mark.parametrize("char", ["a", "\x1b", "\U0001f600"])
def test_long_names_leave_out_the_last_entries(char):
    entries = [{"path": char * MAX_NAME_CHARS, "number": number} for number in range(MAX_SHOWN)]
    found = fitted({"seconds": 1.0}, entries, entries, STATUS_BYTES)
    document = json.loads(found)
    assert len(found) == STATUS_BYTES
    assert document["files"] == entries[: len(document["files"])]
    assert document["requests"] == entries[: len(document["requests"])]
    assert len(document["files"]) - len(document["requests"]) in {0, 1}
    assert document["files"]


def activity(root):
    return json.loads((root / ".ego4dfs/activity.json").read_bytes())


def first_shown(root, paths):
    """Read files until one is shown: a busy machine may take longer than it is counted."""
    for path in paths:
        (root / path).read_bytes()
        for file in activity(root)["files"]:
            if file["path"] == path:
                return file
    raise AssertionError("none is shown")


@pytest.mark.fuse
def test_a_mount_shows_what_is_read_and_the_requests_for_it(mount, release):
    names = [f"{number}.bin" for number in range(5)]
    release.dataset("annotations", {name: seeded(name, 3 * MIB) for name in names})
    root = mount("--version", release.version, "--datasets", "annotations")
    file = first_shown(root, [f"{release.version}/annotations/{name}" for name in names])
    assert file["bytes"] == 3 * MIB
    assert 0 < file["bytes_missed"] <= 3 * MIB
    gets = [one for one in activity(root)["requests"] if one["kind"] == "get"]
    assert {one["url"] for one in gets} <= {release.url(f"annotations/{name}") for name in names}
    assert all(one["result"] == "ok" and one["seconds"] >= 0 for one in gets)
    assert max(one["stop"] for one in gets) == 3 * MIB
    assert read_statuses([root], activity=True)[root]["activity"]["requests"]
    assert "activity" not in read_statuses([root])[root]


@pytest.mark.fuse
def test_bytes_that_were_cached_or_are_copies_are_not_missed(mount, release, cli, tmp_path):
    release.metadata(b"{}")
    names = [f"{number}.bin" for number in range(5)]
    release.dataset("annotations", {name: seeded(name, MIB) for name in names})
    arguments = ["--version", release.version, "--datasets", "annotations"]
    root = mount(*arguments)
    paths = [f"{release.version}/annotations/{name}" for name in names]
    for path in paths:
        (root / path).read_bytes()
    mount.unmount(root)
    copies = str(tmp_path / "copies")
    for more in ([], ["--copies", copies]):
        mount.again(root, *arguments, *more)
        file = first_shown(root, paths)
        assert (file["bytes"], file["bytes_missed"]) == (MIB, 0)
        mount.unmount(root)
        cli("prefetch", "-y", "-o", copies, *arguments)


@pytest.mark.fuse
def test_a_request_that_gets_no_answer_is_shown_while_it_runs(mount, release, server):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    with Gateway(server.endpoint_url) as gateway:
        arguments = ("--version", release.version, "--datasets", "annotations")
        root = mount(*arguments, "--endpoint-url", gateway.url)
        gateway.faults.gate = gate = threading.Event()
        gateway.faults.only = "a.bin"
        path = root / release.version / "annotations/a.bin"
        reader = threading.Thread(target=lambda: path.open("rb").close())
        reader.start()
        try:
            found = wait_until(
                lambda: [one for one in activity(root)["requests"] if one["result"] == "running"]
            )
        finally:
            gate.set()
            reader.join()
    assert found[0]["url"] == release.url("annotations/a.bin")


@pytest.mark.fuse
def test_no_listing_shows_the_file_and_each_open_is_new(mount, release):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    root = mount("--version", release.version, "--datasets", "annotations")
    path = root / ".ego4dfs/activity.json"
    assert path.stat().st_size == STATUS_BYTES
    assert not [name for name in (root / ".ego4dfs").iterdir() if "json" in name.name]
    with path.open("rb") as held:
        first = held.read()
        wait_until(lambda: path.read_bytes() != first)
