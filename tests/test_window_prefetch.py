"""The iterator that reads windows ahead: order, bounds, errors, and threads that end with it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ego4dfs.api import window_prefetch
from ego4dfs.api.window_prefetch import prefetched
from ego4dfs.errors import StoreUnavailable
from kit.data import MIB
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

THREADS = "windows"


class Files:
    """Files of `size` bytes by number; reads of those in `held` wait until `gate` is set."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.gate = threading.Event()
        self.held: set[int] = set()
        self.reading = 0
        self.most = 0
        self.read_numbers: list[int] = []
        self.pieces = 0
        self.broken: set[int] = set()
        self._lock = threading.Lock()

    def open(self, number: int) -> File:
        if number in self.broken:
            raise StoreUnavailable("no answer")
        return File(self, number)


class File:
    def __init__(self, files: Files, number: int) -> None:
        self._files, self._number, self.size = files, number, files.size

    def read(self, offset: int, length: int) -> bytes:
        files = self._files
        with files._lock:
            files.reading += 1
            files.most = max(files.most, files.reading)
        assert self._number not in files.held or files.gate.wait(30)
        with files._lock:
            files.reading -= 1
            files.pieces += 1
            if offset == 0:
                files.read_numbers.append(self._number)
        return bytes(length)


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == THREADS]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not threads())


def test_items_come_in_order_each_after_its_file_was_read():
    files = Files()
    for place, number in enumerate(prefetched(range(50), files.open, ahead=4, max_bytes=1000)):
        assert number == place
        assert number in files.read_numbers
    assert sorted(files.read_numbers) == list(range(50))


def test_so_many_files_are_read_ahead_and_no_more():
    files = Files()
    taken = []
    source = (taken.append(number) or number for number in itertools.count())
    found = prefetched(source, files.open, ahead=3, max_bytes=1000)
    assert taken == []  # nothing happens before the first use
    for number in range(5):
        assert next(found) == number
        wait_until(lambda most=number + 4: len(files.read_numbers) == most)
        assert taken == list(range(number + 4))
    found.close()


def test_files_have_so_many_bytes_together():
    files = Files(size=10)
    found = prefetched(range(100), files.open, ahead=50, max_bytes=35)
    assert next(found) == 0
    wait_until(lambda: len(files.read_numbers) == 3)
    for number in range(1, 30):
        assert next(found) == number
        wait_until(lambda least=number + 3: len(files.read_numbers) >= least)
        assert len(files.read_numbers) == number + 3
    found.close()


def test_a_file_that_is_longer_than_all_bytes_is_read_alone():
    files = Files(size=100)
    assert list(prefetched(range(10), files.open, ahead=5, max_bytes=35)) == list(range(10))
    assert sorted(files.read_numbers) == list(range(10))
    assert files.most == 1


def test_an_item_that_cannot_be_read_is_yielded_and_the_rest_goes_on():
    files = Files()
    files.broken = {2, 3}
    assert list(prefetched(range(6), files.open, ahead=2, max_bytes=100)) == list(range(6))
    assert sorted(files.read_numbers) == [0, 1, 4, 5]


def test_an_error_of_the_source_is_raised():
    def source():
        yield 1
        raise OSError("source")

    found = prefetched(source(), Files().open, ahead=1, max_bytes=100)
    with pytest.raises(OSError, match="source"):
        list(found)


def test_an_exception_of_the_caller_ends_the_threads():
    def loop() -> None:
        for _ in prefetched(range(100), Files().open, ahead=4, max_bytes=1000):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        loop()


def test_a_closed_iterator_reads_nothing_more():
    files = Files(size=10)
    found = prefetched(range(100), files.open, ahead=8, max_bytes=10)  # most wait for room
    assert next(found) == 0
    found.close()
    wait_until(lambda: not threads())
    assert files.read_numbers == [0]


def test_a_read_that_is_under_way_ends_after_a_piece(monkeypatch):
    files = Files(size=100 * MIB)
    files.held = {1}
    found = prefetched(range(2), files.open, ahead=1, max_bytes=1000 * MIB)
    assert next(found) == 0
    wait_until(lambda: files.reading)
    before, close = files.pieces, window_prefetch._Reads.close

    def closed(reads: window_prefetch._Reads) -> None:
        close(reads)
        files.gate.set()

    monkeypatch.setattr(window_prefetch._Reads, "close", closed)
    found.close()  # waits for the read
    assert files.pieces == before + 1


def test_an_iterator_that_is_dropped_ends_its_threads():
    found = prefetched(range(100), Files().open, ahead=4, max_bytes=1000)
    assert next(found) == 0
    del found
    wait_until(lambda: not threads())


def test_without_threads_items_are_yielded(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    files = Files()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert list(prefetched(range(5), files.open, ahead=2, max_bytes=100)) == list(range(5))
    assert files.read_numbers == []


def test_a_forked_child_goes_on_with_its_own_threads():
    files = Files()
    found = prefetched(range(20), files.open, ahead=4, max_bytes=1000)
    assert next(found) == 0
    with files._lock:  # no other thread holds it in the child
        pid = os.fork()
    if not pid:
        is_right = list(found) == list(range(1, 20)) and set(range(1, 20)) <= set(
            files.read_numbers
        )
        os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(found) == list(range(1, 20))


def test_a_program_ends_while_files_wait_for_room():
    """Its pool waits for its threads at the end, and these would wait for the iterator."""
    code = """
from ego4dfs.api.window_prefetch import prefetched

class File:
    size = 10
    def read(self, offset, length):
        return b""

found = prefetched(range(100), lambda _: File(), ahead=8, max_bytes=10)
next(found)
import ego4dfs.runtime.daemon_threads as threads
close = threads.DaemonThreadPool.close
def closed(self, *args):
    assert close(self, *args), "a thread still waits"
    print("closed")
    return True
threads.DaemonThreadPool.close = closed
"""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=60)
    assert "closed" in done.stdout
    assert done.stderr == ""
