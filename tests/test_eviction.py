"""Eviction policies: hits over several epochs, counted by rows without bytes."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.cache.eviction import IDLE_S
from ego4dfs.cache.index import BlockIndex
from ego4dfs.metrics import Metrics
from kit.cache import UNIT, got, key_of, put

MIB = 1 << 20
TOUCHED_AT_ONCE = 16


class Epochs:
    """A loader that reads each block once in an epoch, in a new random order."""

    def __init__(self, directory: Path, max_bytes: int, eviction: str) -> None:
        directory.mkdir()
        self.index = BlockIndex(directory, max_bytes, eviction)
        self._random = random.Random(1)
        self._max_bytes = max_bytes
        self._touched: list[str] = []

    def read(self, blocks: range) -> float:
        """Read all blocks once and return the share that were hits."""
        order = list(blocks)
        self._random.shuffle(order)
        hits = sum(self._read_one(number) for number in order)
        assert self.index.used_bytes <= self._max_bytes
        return hits / len(order)

    def _read_one(self, number: int) -> bool:
        if self.index.reserved([key_of(number)]):
            self._touched.append(key_of(number))
            if len(self._touched) == TOUCHED_AT_ONCE:  # the cache does it every few seconds
                self.index.touch(self._touched)
                self._touched.clear()
            return True
        self.index.reserve([(key_of(number), MIB, "s3://b/k", False)])
        return False


def open_cache(cache_dir: Path, max_bytes: int | None, eviction: str | None = None) -> BlockCache:
    inner = prepare_directory(cache_dir)
    return BlockCache(inner, Metrics(), max_bytes=max_bytes, eviction=eviction)


@pytest.mark.parametrize("blocks", [128, 512])
def test_keeping_the_oldest_blocks_hits_half_of_data_twice_the_cache(tmp_path, blocks):
    epochs = Epochs(tmp_path / "index", blocks * MIB, "none")
    data = range(2 * blocks)
    assert epochs.read(data) == 0
    for _ in range(3):
        assert epochs.read(data) >= 0.95 * 0.5


def test_least_recently_used_hits_a_seventh_of_data_twice_the_cache(tmp_path):
    epochs = Epochs(tmp_path / "index", 512 * MIB, "lru")
    epochs.read(range(1024))
    assert 0.11 <= epochs.read(range(1024)) <= 0.19  # 1/2 + ln(1/2)/2 = 0.153


@pytest.mark.parametrize("eviction", ["lru", "none"])
def test_data_that_fits_is_fetched_once(tmp_path, eviction):
    epochs = Epochs(tmp_path / "index", 256 * MIB, eviction)
    assert [epochs.read(range(240)) for _ in range(3)] == [0, 1, 1]


@pytest.mark.parametrize(("eviction", "second"), [("lru", 1), ("none", 0)])
def test_other_data_is_cached_at_once_only_with_lru(tmp_path, eviction, second):
    epochs = Epochs(tmp_path / "index", 256 * MIB, eviction)
    for _ in range(2):
        epochs.read(range(512))
    epochs.read(range(1000, 1128))
    assert epochs.read(range(1000, 1128)) == second


def test_blocks_idle_for_days_make_room_for_other_data(tmp_path):
    epochs = Epochs(tmp_path / "index", 256 * MIB, "none")
    epochs.read(range(512))
    with sqlite3.connect(tmp_path / "index/cache.db") as database:
        database.execute("UPDATE Cache SET access_time = access_time - ?", (IDLE_S + 60,))
    epochs.read(range(1000, 1200))
    assert epochs.read(range(1000, 1200)) == 1


@pytest.mark.parametrize("eviction", ["lru", "none"])
def test_pins_stay_and_the_limit_holds(tmp_path, eviction):
    cache = open_cache(tmp_path, 4 * MIB, eviction)
    pinned = range(5)
    put(cache, *pinned)
    cache.admin.pin("none", [key_of(number) for number in pinned])
    for number in range(100, 300):
        put(cache, number)
        assert cache.admin.used_bytes <= 4 * MIB
    assert all(got(cache, number) is not None for number in pinned)
    assert got(cache, 299) is not None
    cache.close()


def test_the_oldest_blocks_stay_and_the_newest_are_cached(tmp_path):
    cache = open_cache(tmp_path, 16 * MIB, "none")
    put(cache, *range(400))
    assert all(cache.contains(key_of(number)) for number in range(16 * MIB // UNIT // 2))
    assert cache.contains(key_of(399))
    assert not cache.contains(key_of(380))
    cache.close()


def test_the_last_eviction_policy_given_holds_for_all_caches_of_the_directory(tmp_path):
    cache = open_cache(tmp_path, 4 * MIB)
    assert cache.admin.eviction == "lru"
    other = open_cache(tmp_path, None, "none")
    assert cache.admin.eviction == "none"
    put(cache, *range(200))
    assert cache.contains(key_of(0))
    other.close()
    cache.close()
    again = open_cache(tmp_path, None)
    assert again.admin.eviction == "none"
    again.close()
