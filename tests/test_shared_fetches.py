"""Processes that share a cache fetch each block once; here each is a Reader with its own locks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE, block_key
from ego4dfs.cache import blockfile
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader import Window
from ego4dfs.reader import flights as flights_module
from ego4dfs.runtime import range_locks
from kit.data import seeded
from kit.fakes import CountingStore, FailingStore, StallingStore
from kit.processes import wait_until
from kit.reader import URL, bytes_requested, read, requested_once, settle

SIZE = 3 * BLOCK_SIZE + 777
DATA = seeded("shared", SIZE)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def stalled():
    """A store that answers nothing until its gate is opened, which the end of the test does."""
    store = StallingStore()
    yield store
    store.gate.set()


def test_what_another_process_fetches_now_is_awaited(make_reader, pool, stalled):
    ref = stalled.put(URL, DATA)
    readers = [make_reader(stalled) for _ in range(3)]
    first = pool.submit(read, readers[0], ref, 0, SIZE)
    assert stalled.requested.wait(60)
    others = [pool.submit(read, reader, ref, 0, SIZE) for reader in readers[1:]]
    wait_until(lambda: all(reader.downloads.in_flight for reader in readers))
    stalled.gate.set()
    assert [one.result(60) for one in (first, *others)] == [DATA] * 3
    assert bytes_requested(stalled) == SIZE
    for reader in readers:
        settle(reader)
        assert reader.downloads.memory_bytes == 0


@pytest.mark.parametrize("seed", range(4))
def test_readers_of_all_kinds_fetch_no_byte_twice(make_reader, pool, seed):
    """In whole blocks, in parts, in order and at random."""
    store = CountingStore()
    ref = store.put(URL, data := seeded(f"shared {seed}", 24 * BLOCK_SIZE + 5))
    readers = [make_reader(store) for _ in range(4)]

    def sequential(number: int) -> bool:
        window, step = Window(), (100_000, PART_SIZE, BLOCK_SIZE)[(number + seed) % 3]
        return all(
            read(readers[number], ref, start, step, window) == data[start : start + step]
            for start in range(0, ref.size, step)
        )

    def scattered(number: int) -> bool:
        return all(
            read(readers[number], ref, start, 1000, Window()) == data[start : start + 1000]
            for start in range(seed, ref.size, 5 * PART_SIZE)
        )

    kinds = [sequential, sequential, scattered, scattered]
    assert all(pool.map(lambda kind, number: kind(number), kinds, range(4)))
    assert requested_once(store)
    for reader in readers:
        settle(reader)


def test_a_process_that_makes_no_progress_costs_one_bounded_wait(
    make_reader, pool, stalled, monkeypatch
):
    monkeypatch.setattr(range_locks, "WAIT_S", 0.1)
    ref = stalled.put(URL, DATA)
    holder, other = make_reader(stalled), make_reader(fast := CountingStore({URL: DATA}))
    held = pool.submit(read, holder, ref, 0, SIZE)
    assert stalled.requested.wait(60)
    assert read(other, ref, 0, BLOCK_SIZE) == DATA[:BLOCK_SIZE]
    monkeypatch.setattr(range_locks, "WAIT_S", 600.0)
    assert read(other, ref, BLOCK_SIZE, SIZE) == DATA[BLOCK_SIZE:]
    assert bytes_requested(fast) == SIZE
    stalled.gate.set()
    assert held.result(60) == DATA


def test_what_another_process_could_not_fetch_is_fetched(make_reader, pool, stalled):
    ref = stalled.put(URL, DATA)
    holder, other = make_reader(stalled), make_reader(CountingStore({URL: DATA}))
    stalled.fail(StoreUnavailable("gone", url=URL))
    failed = pool.submit(read, holder, ref, 0, SIZE)
    assert stalled.requested.wait(60)
    awaited = pool.submit(read, other, ref, 0, SIZE)
    wait_until(lambda: other.downloads.in_flight)
    stalled.gate.set()
    assert awaited.result(60) == DATA
    with pytest.raises(StoreUnavailable, match="gone"):
        failed.result(60)


def test_a_process_whose_cache_cannot_be_written_lets_nobody_wait(
    make_reader, pool, stalled, monkeypatch
):
    monkeypatch.setattr(range_locks, "WAIT_S", 600.0)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    stalled.gate.set()
    ref = stalled.put(URL, DATA)
    holder, other = make_reader(stalled), make_reader(fast := CountingStore({URL: DATA}))
    with monkeypatch.context() as full:
        full.setattr(blockfile, "write", refuse)
        assert read(holder, ref, 0, 10) == DATA[:10]
        wait_until(lambda: holder.downloads.unstored)
    stalled.gate.clear()
    held = pool.submit(read, holder, ref, BLOCK_SIZE, 10)
    wait_until(lambda: len(stalled.gets) == 2)
    assert read(other, ref, 0, SIZE) == DATA
    assert bytes_requested(fast) == SIZE
    stalled.gate.set()
    assert held.result(60) == DATA[BLOCK_SIZE:][:10]


def test_the_blocks_of_a_long_request_are_taken_as_they_are_stored(make_reader, pool):
    """A process that waits reads what there is: it does not wait for the end of the request."""
    ref = CountingStore().put(URL, DATA)
    begun, hold = threading.Event(), threading.Event()

    class Halting(CountingStore):
        def stream_range(self, url, start, stop, sink, **version) -> None:
            data = memoryview(DATA)
            sink(start, data[start : start + BLOCK_SIZE])
            begun.set()
            assert hold.wait(60)
            sink(start + BLOCK_SIZE, data[start + BLOCK_SIZE : stop])

    holder, other = (
        make_reader(Halting({URL: DATA})),
        make_reader(fast := CountingStore({URL: DATA})),
    )
    held = pool.submit(read, holder, ref, 0, SIZE)
    assert begun.wait(60)  # a flight is claimed before its range is locked
    awaited = pool.submit(read, other, ref, 0, SIZE)
    wait_until(lambda: other.downloads.in_flight)
    assert read(other, ref, 0, BLOCK_SIZE) == DATA[:BLOCK_SIZE]
    assert not awaited.done()
    hold.set()
    assert held.result(60) == awaited.result(60) == DATA
    assert fast.gets == []


def test_a_block_that_came_with_the_facts_is_awaited_until_it_is_stored(
    make_reader, pool, monkeypatch
):
    store = CountingStore()
    ref = store.put(URL, DATA)
    holder, other = make_reader(store), make_reader(store)
    writes, hold = blockfile.write, threading.Event()

    def slow(*block: object) -> None:
        assert hold.wait(60)
        writes(*block)  # type: ignore[arg-type]

    monkeypatch.setattr(blockfile, "write", slow)
    holder.put(ref, 0, memoryview(DATA)[:BLOCK_SIZE])
    awaited = pool.submit(read, other, ref, 0, 10)
    wait_until(lambda: other.downloads.in_flight)
    hold.set()
    assert awaited.result(60) == DATA[:10]
    assert store.gets == []


def test_a_damaged_block_of_another_process_is_fetched_and_no_other(
    make_reader, tmp_path, monkeypatch
):
    """It was stored after the look at the cache, so it is read first when the request begins."""
    ref = CountingStore().put(URL, DATA)
    holder, other = (
        make_reader(CountingStore({URL: DATA})),
        make_reader(store := CountingStore({URL: DATA})),
    )
    assert read(holder, ref, 0, SIZE) == DATA
    settle(holder)
    key = block_key(ref.object_id, 1)
    Path(tmp_path, "v1/blocks", key[:2], key[2:]).write_bytes(b"damaged")
    monkeypatch.setattr(other.downloads, "has", lambda _key: False)
    other.downloads.fetch(ref, range(SIZE), BLOCK_SIZE)
    settle(other)
    assert store.gets == [(URL, BLOCK_SIZE, 2 * BLOCK_SIZE)]
    monkeypatch.undo()
    assert read(other, ref, 0, SIZE) == DATA
    assert len(store.gets) == 1


def test_a_reader_that_is_closed_does_not_wait_for_another_process(make_reader, pool, stalled):
    ref = stalled.put(URL, DATA)
    holder, other = make_reader(stalled), make_reader(stalled)
    held = pool.submit(read, holder, ref, 0, 10)
    assert stalled.requested.wait(60)
    awaited = pool.submit(read, other, ref, 0, 10)
    wait_until(lambda: other.downloads.in_flight)
    other.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        awaited.result(60)
    assert not other.downloads.in_flight
    stalled.gate.set()
    assert held.result(60) == DATA[:10]


def test_a_reader_goes_on_when_few_bytes_are_left_to_be_written(make_reader, tmp_path, monkeypatch):
    """What is read and not on disk is lost when the process ends without a close."""
    monkeypatch.setattr(flights_module, "DISK_WAIT_S", 60.0)
    store = CountingStore()
    ref = store.put(URL, data := seeded("written", 40 * BLOCK_SIZE))
    reader = make_reader(store)
    window = Window()
    for start in range(0, ref.size, BLOCK_SIZE):
        assert read(reader, ref, start, BLOCK_SIZE, window) == data[start : start + BLOCK_SIZE]
        written = sum(path.stat().st_size for path in tmp_path.glob("v1/blocks/??/*"))
        assert start + BLOCK_SIZE - written <= 8 * BLOCK_SIZE


def test_a_slow_disk_delays_one_read_and_not_each(make_reader, monkeypatch):
    monkeypatch.setattr(flights_module, "DISK_WAIT_S", 0.05)
    hold = threading.Event()
    monkeypatch.setattr(blockfile, "write", lambda *_: hold.wait(60))
    store = FailingStore()
    ref = store.put(URL, data := seeded("slow disk", 20 * BLOCK_SIZE))
    reader = make_reader(store)
    assert read(reader, ref, 0, 10 * BLOCK_SIZE) == data[: 10 * BLOCK_SIZE]
    monkeypatch.setattr(flights_module, "DISK_WAIT_S", 600.0)
    assert read(reader, ref, 10 * BLOCK_SIZE, BLOCK_SIZE) == data[10 * BLOCK_SIZE :][:BLOCK_SIZE]
    hold.set()
