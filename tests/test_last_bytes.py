"""The last bytes of a video, in which its index probably is, are requested with its first ones."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ego4dfs.errors import AccessDenied, ObjectMissing, StoreError, StoreUnavailable
from ego4dfs.runtime import daemon_threads
from ego4dfs.store import Fetched
from ego4dfs.store.classify import past_end
from ego4dfs.vfs import VFS, last_bytes
from ego4dfs.vfs.ranges import read_range
from ego4dfs.vfs.video import open_video
from kit import media
from kit.processes import wait_until

VIDEOS = {f"{number}.mp4": media.long_video(20, 2 * number + 1) for number in range(6)}
ReadRange = Callable[..., Fetched]


class Requests:
    """Records the GET requests for ranges, which `before` may delay or fail."""

    def __init__(self, vfs: VFS, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts: list[tuple[str, int]] = []
        self.before: Callable[[str, int], object] = lambda _url, _start: None
        self.read_range: ReadRange = vfs.session.store.read_range
        monkeypatch.setattr(vfs.session.store, "read_range", self)

    def __call__(self, url: str, start: int, stop: int, **pins: object) -> Fetched:
        self.starts.append((url.rpartition("/")[2], start))
        self.before(url, start)
        return self.read_range(url, start, stop, **pins)

    def suffixes(self) -> list[str]:
        return [name for name, start in self.starts if start < 0]


@pytest.fixture
def top(release) -> str:
    release.dataset("full_scale", VIDEOS)
    return f"{release.version}/full_scale"


@pytest.fixture
def vfs(open_tree, release, top) -> VFS:
    """A tree in which the place of one index is known."""
    found = open_tree(version=release.version, datasets=["full_scale"], metadata=False)
    open_video(found, f"{top}/0.mp4")
    return found


@pytest.fixture
def requests(vfs, monkeypatch) -> Requests:
    monkeypatch.setattr(last_bytes, "WAIT_S", 60.0)
    return Requests(vfs, monkeypatch)


def whole(vfs: VFS, path: str) -> bytes:
    handle = vfs.open(path)
    return vfs.read(handle, 0, handle.size)


def test_the_first_and_the_last_bytes_are_requested_at_the_same_time(vfs, top, requests):
    """So that an index at the end costs as many consecutive round trips as one at the start."""
    both = threading.Barrier(2, timeout=60)
    requests.before = lambda _url, _start: both.wait()
    before = vfs.session.metrics.requests["get"]
    video = open_video(vfs, f"{top}/1.mp4")
    assert [name for name, _ in requests.starts] == ["1.mp4", "1.mp4"]
    assert len(requests.suffixes()) == 1
    assert video.index.place.stop == len(VIDEOS["1.mp4"])
    assert vfs.session.metrics.requests["get"] == before + 2


def test_no_thread_is_left_after_the_close(vfs, top, monkeypatch):
    monkeypatch.setattr(daemon_threads, "IDLE_S", 3600.0)
    open_video(vfs, f"{top}/1.mp4")
    vfs.close()
    wait_until(lambda: "last-bytes" not in {thread.name for thread in threading.enumerate()})


def test_a_lookup_requests_them_too(vfs, top, requests):
    vfs.stat(f"{top}/0.mp4", caller=1)
    vfs.open(f"{top}/0.mp4")
    vfs.stat(f"{top}/1.mp4", caller=1)
    vfs.open(f"{top}/1.mp4")
    vfs.stat(f"{top}/2.mp4", caller=1)
    assert requests.suffixes()[-1:] == ["2.mp4"]


def test_a_read_of_a_given_place_requests_nothing_else(vfs, top, requests):
    for name, place in (("1.mp4", (0, 100)), ("2.mp4", (300_000, 300_100))):
        assert read_range(vfs, f"{top}/{name}", *place) == VIDEOS[name][slice(*place)]
    assert requests.suffixes() == []


@pytest.mark.parametrize("error", [StoreError, StoreUnavailable])
def test_a_store_that_answers_no_such_request_gets_no_more_of_them(vfs, top, requests, error):
    def refuse(url: str, start: int) -> None:
        if start < 0:
            raise error("501 Not Implemented", url=url)

    requests.before = refuse
    for name in list(VIDEOS)[1:]:
        assert whole(vfs, f"{top}/{name}") == VIDEOS[name]
    assert requests.suffixes() == ["1.mp4", "2.mp4", "3.mp4"]


@pytest.mark.parametrize("error", [past_end(""), AccessDenied(""), ObjectMissing("")])
def test_an_answer_about_one_object_says_nothing_about_the_store(vfs, top, requests, error):
    def refuse(_url: str, start: int) -> None:
        if start < 0:
            raise error

    requests.before = refuse
    for name in list(VIDEOS)[1:]:
        assert whole(vfs, f"{top}/{name}") == VIDEOS[name]
    assert requests.suffixes() == list(VIDEOS)[1:]


def test_answers_that_come_late_block_no_open_and_end_the_requests(vfs, top, requests, monkeypatch):
    monkeypatch.setattr(last_bytes, "WAIT_S", 0.01)
    gate = threading.Event()
    requests.before = lambda _url, start: start >= 0 or gate.wait(60)
    try:
        for name in list(VIDEOS)[1:]:
            assert whole(vfs, f"{top}/{name}") == VIDEOS[name]
        assert requests.suffixes() == ["1.mp4", "2.mp4", "3.mp4"]
    finally:
        gate.set()


def test_no_request_waits_for_another_one(vfs, top, requests, monkeypatch):
    monkeypatch.setattr(last_bytes, "WAIT_S", 0.01)
    vfs._objects._last_bytes._slots = threading.BoundedSemaphore(1)
    gate = threading.Event()
    requests.before = lambda _url, start: start >= 0 or gate.wait(60)
    vfs.open(f"{top}/1.mp4")
    vfs.open(f"{top}/2.mp4")
    gate.set()
    wait_until(lambda: vfs._objects._last_bytes._slots._value == 1)
    vfs.open(f"{top}/3.mp4")
    assert requests.suffixes() == ["1.mp4", "3.mp4"]


def test_last_bytes_of_another_version_are_not_kept(vfs, top, release, requests):
    """The object is replaced between the two answers."""
    new, is_replaced = media.long_video(20, 9), threading.Event()
    answer = requests.read_range

    def replaced_after_the_suffix(url: str, start: int, stop: int, **pins: object) -> Fetched:
        if start >= 0 and not is_replaced.is_set():
            assert is_replaced.wait(60)
        found = answer(url, start, stop, **pins)
        if start < 0:
            release.put("full_scale/1.mp4", new)
            is_replaced.set()
        return found

    requests.read_range = replaced_after_the_suffix
    assert whole(vfs, f"{top}/1.mp4") == new
    assert requests.suffixes() == ["1.mp4"]
