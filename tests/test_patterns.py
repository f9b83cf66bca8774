"""The cost of access patterns: requests, fetched bytes and cached bytes, counted and not timed."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.reader import Reader, Window
from ego4dfs.reader.downloads import MAX_INFLIGHT_BYTES
from ego4dfs.reader.window import FIRST_AFTER_SEEK, FIRST_AT_START, MAX_WINDOW, SEQUENTIAL_AFTER
from kit.fakes import CountingStore
from kit.reader import URL, bytes_requested, read, requested_once, settle

KERNEL = 128 << 10


@pytest.fixture
def stored(make_reader, large):
    """A store with one large object, a reader with an empty cache, and the object's name."""
    store = CountingStore()
    return store, make_reader(store), store.put(URL, large)


def kept_bytes(reader: Reader) -> int:
    """Return the bytes on disk, where each entry is rounded up to 4 KiB with its trailer."""
    settle(reader)
    return reader._cache.admin.used_bytes


@pytest.mark.parametrize("size", [64 << 10, KERNEL, BLOCK_SIZE])
def test_sequential_reading_fetches_each_byte_once_in_large_requests(stored, large, size):
    store, reader, ref = stored
    window = Window()
    for at in range(0, len(large), size):
        assert read(reader, ref, at, size, window) == large[at : at + size]
        if at % (16 * BLOCK_SIZE) == 0:
            settle(reader)  # a disk that is slow for a moment would make the requests smaller
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) == len(large)
    assert len(store.gets) <= 40  # 25 of 8 MiB would be the fewest
    assert len(large) <= kept_bytes(reader) <= 1.01 * len(large)
    assert store.peak <= MAX_INFLIGHT_BYTES


@pytest.mark.parametrize("wanted", [KERNEL, 900_000, 2 * BLOCK_SIZE, SEQUENTIAL_AFTER])
def test_a_window_at_any_place_fetches_at_most_twice_its_bytes(stored, wanted):
    store, reader, ref = stored
    window = Window()
    start = 77 * BLOCK_SIZE + 300_000
    for at in range(start, start + wanted, KERNEL):
        read(reader, ref, at, KERNEL, window)
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) <= max(FIRST_AFTER_SEEK, 2 * wanted) + PART_SIZE
    assert kept_bytes(reader) <= 1.1 * bytes_requested(store)


@pytest.mark.parametrize("stride", [3 * BLOCK_SIZE + 11, 5 * BLOCK_SIZE])
def test_strided_reads_fetch_a_few_parts_each(stored, stride):
    store, reader, ref = stored
    window = Window()
    places = range(0, ref.size, stride)
    for at in places:
        read(reader, ref, at, KERNEL, window)
    settle(reader)
    assert len(store.gets) == len(places)
    assert bytes_requested(store) <= len(places) * FIRST_AT_START + 4 * FIRST_AFTER_SEEK


def test_reading_backward_fetches_no_byte_twice(stored, large):
    store, reader, ref = stored
    window = Window()
    for at in range(20 * BLOCK_SIZE, -1, -KERNEL):
        assert read(reader, ref, at, KERNEL, window) == large[at : at + KERNEL]
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) <= 21 * BLOCK_SIZE


def test_many_seeks_fetch_a_few_times_the_bytes_read(stored, large):
    store, reader, ref = stored
    window, rng = Window(), random.Random(9)
    for _ in range(200):
        at = rng.randrange(len(large) - 262_144)
        assert read(reader, ref, at, 262_144, window) == large[at : at + 262_144]
    settle(reader)
    assert requested_once(store)
    assert len(store.gets) <= 2 * 200
    assert bytes_requested(store) <= 3 * 200 * 262_144


def test_processes_that_read_a_file_together_fetch_it_as_one_does(stored, large):
    """The kernel requests each page once, through the handle of the first reader."""
    store, reader, ref = stored
    windows, chance = [Window() for _ in range(16)], random.Random(4)
    for at in range(0, len(large), BLOCK_SIZE):
        assert (
            read(reader, ref, at, BLOCK_SIZE, chance.choice(windows)) == large[at : at + BLOCK_SIZE]
        )
        if at % (16 * BLOCK_SIZE) == 0:
            settle(reader)
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) == len(large)
    assert len(store.gets) <= 60


def test_each_of_many_handles_has_a_window_of_its_own(stored, large):
    store, reader, ref = stored

    def look(number: int) -> bool:
        window, start = Window(), number * 12 * BLOCK_SIZE
        pieces = range(start, start + BLOCK_SIZE, KERNEL)
        return all(
            read(reader, ref, at, KERNEL, window) == large[at : at + KERNEL] for at in pieces
        )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(look, range(16)))
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) <= 16 * 2 * BLOCK_SIZE


def test_many_handles_on_the_same_bytes_fetch_them_once(stored, large):
    store, reader, ref = stored

    def through(_: int) -> bool:
        window = Window()
        pieces = range(0, len(large), BLOCK_SIZE)
        return all(
            read(reader, ref, at, BLOCK_SIZE, window) == large[at : at + BLOCK_SIZE]
            for at in pieces
        )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(through, range(16)))
    settle(reader)
    assert bytes_requested(store) <= 1.02 * len(large)


def test_a_second_read_of_the_same_bytes_costs_no_request(stored):
    store, reader, ref = stored
    rng = random.Random(2)
    places = [rng.randrange(ref.size - KERNEL) for _ in range(50)]
    for at in places:
        read(reader, ref, at, KERNEL, Window())
    settle(reader)
    store.gets.clear()
    for at in places:
        read(reader, ref, at, KERNEL, Window())
    assert store.gets == []


def test_existing_parts_are_not_fetched_when_the_rest_is_read(stored, large):
    store, reader, ref = stored
    read(reader, ref, 3 * BLOCK_SIZE + 10, 10, Window())
    settle(reader)
    assert read(reader, ref, 0, 8 * BLOCK_SIZE) == large[: 8 * BLOCK_SIZE]
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) == 8 * BLOCK_SIZE


@pytest.mark.parametrize("tail", [1, KERNEL, 3 * BLOCK_SIZE])
def test_a_read_at_the_end_requests_nothing_after_it(stored, large, tail):
    store, reader, ref = stored
    window = Window()
    for at in range(len(large) - tail, len(large) + BLOCK_SIZE, KERNEL):
        assert read(reader, ref, at, KERNEL, window) == large[at : at + KERNEL]
    settle(reader)
    assert max(stop for _, _, stop in store.gets) == len(large)
    assert bytes_requested(store) <= max(FIRST_AT_START, 2 * tail)


def test_sequential_reading_leaves_at_most_a_window_unread(stored):
    store, reader, ref = stored
    window = Window()
    for at in range(0, 30 * BLOCK_SIZE, BLOCK_SIZE):
        read(reader, ref, at, BLOCK_SIZE, window)
    settle(reader)
    assert bytes_requested(store) <= 30 * BLOCK_SIZE + min(MAX_WINDOW, 60 * BLOCK_SIZE)
