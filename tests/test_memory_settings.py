"""The heap of a mount: what was freed goes back to the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ego4dfs.mount.memory_settings import MIN_FREE_BYTES, HeapTrimmer, _MallocInfo

FRAGMENT = """
from ego4dfs.mount.memory_settings import HeapTrimmer, tune_memory

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
    assert heap.trims == 1
    heap.used += 1
    trimmer()
    assert heap.trims == 2


def test_a_heap_with_little_free_memory_is_not_trimmed(trimmer):
    heap = Heap(MIN_FREE_BYTES - 1)
    use(trimmer, heap)
    trimmer()
    assert not heap.trims


def test_a_c_library_without_these_functions_is_left_as_it_is(trimmer):
    trimmer._info = None
    trimmer()
