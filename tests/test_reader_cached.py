"""What a reader returns and requests without waiting: cached bytes, and requests ahead of reads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader import Window, fetch_pool
from kit.data import seeded
from kit.fakes import CountingStore, FailingStore
from kit.processes import wait_until
from kit.reader import URL, read, settle

DATA = seeded("cached", 3 * BLOCK_SIZE)


@pytest.mark.parametrize("parts", [False, True])
def test_cached_bytes_are_read_without_a_request(make_reader, parts):
    store = CountingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    assert reader.read_cached(ref, 0, 10) is None
    if parts:
        assert reader.request_parts(ref, [range(2 * PART_SIZE)])
    else:
        read(reader, ref, 0, BLOCK_SIZE)
    settle(reader)
    stop = 2 * PART_SIZE if parts else BLOCK_SIZE
    sent = list(store.gets)
    assert reader.read_cached(ref, 5, stop - 5) == DATA[5:stop]
    assert reader.read_cached(ref, stop - 5, BLOCK_SIZE) is None
    assert store.gets == sent


def test_bytes_that_have_arrived_are_read_before_their_request_ends(make_reader):
    begun, hold = threading.Event(), threading.Event()

    class Halting(CountingStore):
        def stream_range(self, url, start, stop, sink, **version) -> None:
            half = (start + stop) // 2
            sink(start, memoryview(DATA)[start:half])
            begun.set()
            assert hold.wait(60)
            sink(half, memoryview(DATA)[half:stop])

    reader = make_reader(Halting({URL: DATA}))
    ref = CountingStore().put(URL, DATA)
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(read, reader, ref, 0, BLOCK_SIZE)
        try:
            assert begun.wait(60)
            wait_until(lambda: reader.read_cached(ref, 10, 100) == DATA[10:110])
            assert reader.read_cached(ref, BLOCK_SIZE - 10, 10) is None
        finally:
            hold.set()
        assert whole.result(60) == DATA[:BLOCK_SIZE]


def test_nothing_is_requested_ahead_of_an_object_that_failed_just_now(make_reader, monkeypatch):
    monkeypatch.setattr(fetch_pool, "SLOW_FAILURE_S", 0.0)
    store = FailingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    store.fail(StoreUnavailable(f"{URL}: no answer", url=URL), times=1)
    with pytest.raises(StoreUnavailable):
        read(reader, ref, 0, 10)
    settle(reader)
    sent = list(store.gets)
    assert not reader.request_parts(ref, [range(PART_SIZE)])
    assert store.gets == sent


def test_bytes_that_a_window_missed_are_taken_once():
    window = Window()
    assert window.take_missed() == 0
    window.add_missed(10)
    window.add_missed(5)
    assert [window.take_missed() for _ in range(2)] == [15, 0]
