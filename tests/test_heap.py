"""The heap of a process: what was freed goes back to the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.runtime import heap as heap_module
from ego4dfs.runtime.heap import MIN_FREE_BYTES, HeapTrimmer, _MallocInfo
from ego4dfs.runtime.periodic_thread import PeriodicThread
from kit.data import MIB
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

FRAGMENT = """
from ego4dfs.runtime.memory_settings import tune_memory
from ego4dfs.runtime.heap import HeapTrimmer

def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

tune_memory()
blocks = []
for number in range(300):
    blocks += [bytearray(1 << 20), bytearray(20_000)]
kept = blocks[1::2]
del blocks
before = rss_mib()
HeapTrimmer()()
print(before, rss_mib())
"""


def test_free_memory_between_blocks_in_use_is_returned():
    done = subprocess.run(
        [sys.executable, "-c", FRAGMENT], check=True, capture_output=True, text=True
    )
    before, after = map(int, done.stdout.split())
    assert before > 300
    assert after < 100


class Heap:
    """A heap with these bytes free and in use, which counts how often it is trimmed."""

    def __init__(self, free: int) -> None:
        self.free, self.used, self.trims = free, 0, 0

    def info(self) -> _MallocInfo:
        return _MallocInfo(fordblks=self.free, uordblks=self.used)

    def trim(self, padding: int) -> None:
        assert padding == 0
        self.trims += 1


@pytest.fixture
def trimmer():
    return HeapTrimmer()


def use(trimmer: HeapTrimmer, heap: Heap) -> None:
    trimmer._info, trimmer._trim = heap.info, heap.trim


def test_a_heap_is_trimmed_once_until_it_changes(trimmer):
    """An idle mount costs nothing."""
    heap = Heap(MIN_FREE_BYTES)
    use(trimmer, heap)
    trimmer()
    trimmer()
    heap.used += 1
    trimmer()
    assert heap.trims == 2


def test_little_free_memory_is_returned_by_an_idle_process_only(trimmer):
    heap = Heap(MIN_FREE_BYTES - 1)
    use(trimmer, heap)
    for _ in range(3):
        heap.used += MIB
        trimmer()
    assert not heap.trims
    for _ in range(3):
        heap.used += 1000  # by a thread that looks from time to time
        trimmer()
    assert heap.trims == 1
    heap.free -= 2 * MIB
    trimmer()
    assert heap.trims == 2


def test_an_idle_process_with_hardly_any_free_memory_is_left_as_it_is(trimmer):
    heap = Heap(MIB - 1)
    use(trimmer, heap)
    for _ in range(3):
        trimmer()
    assert not heap.trims


def test_a_c_library_without_these_functions_is_left_as_it_is(trimmer):
    trimmer._info = None
    trimmer()


@pytest.fixture
def trims(monkeypatch):
    """The ids of threads that trimmed the heap, in an interval of 10 ms; none has begun yet."""
    found, threads = [], []

    def thread(*arguments, **how):
        threads.append(PeriodicThread(*arguments, **how))
        return threads[-1]

    def trim():
        found.append(threading.get_ident())

    monkeypatch.setattr(heap_module, "PeriodicThread", thread)
    monkeypatch.setattr(heap_module, "TRIM_EVERY_S", 0.01)
    monkeypatch.setattr(heap_module, "HeapTrimmer", lambda: trim)
    monkeypatch.setattr(heap_module, "_pids", set())
    yield found
    for one in threads:
        one.close(10.0)


def test_a_process_has_one_thread_for_it_and_a_forked_child_its_own(trims):
    heap_module.keep_heap_trimmed()
    heap_module.keep_heap_trimmed()
    wait_until(lambda: len(trims) > 5)
    assert len(set(trims)) == 1
    child = os.fork()
    if not child:
        before = len(trims)
        heap_module.keep_heap_trimmed()
        wait_until(lambda: len(trims) > before)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_whatever_fetches_keeps_its_heap_trimmed_but_no_thread_comes_before(
    trims, release, open_tree
):
    """A mount, `ego4d://` and `serve` alike; programs may fork once they have opened a tree."""
    release.dataset("annotations", {"a.bin": b"a" * BLOCK_SIZE * 2})
    vfs = open_tree(version=release.version, datasets=["annotations"])
    assert not heap_module._pids
    handle = vfs.open(f"{release.version}/annotations/a.bin")
    vfs.read_into(handle, BLOCK_SIZE, memoryview(bytearray(10)))
    assert wait_until(lambda: trims)
