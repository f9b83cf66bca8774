"""The reader: right bytes or an error, each block fetched once, memory bounded."""

from __future__ import annotations

import errno
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE, ObjectRef
from ego4dfs.cache import blockfile
from ego4dfs.errors import ObjectChanged, StoreUnavailable
from ego4dfs.reader import ExactWindow, Window
from ego4dfs.reader import reader as reader_module
from ego4dfs.reader.window import FIRST_AT_START, READAHEAD_STEP
from ego4dfs.store import Fetched, Sink, WrongSize
from kit.data import seeded
from kit.fakes import CountingStore, FailingStore, StallingStore
from kit.processes import wait_until
from kit.reader import BLOCKS, URL, bytes_requested, read, requested_once, settle


@pytest.mark.parametrize("sequential", [False, True])
def test_random_ranges_through_a_small_cache_are_the_plain_bytes(make_reader, large, sequential):
    """A cache of 64 blocks, an object of 200: most blocks are evicted several times."""
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store, cache_blocks=64)
    rng = random.Random(11)
    with ThreadPoolExecutor(4) as pool:
        reads = []
        for _ in range(120):
            offset, size = rng.randrange(len(large)), rng.choice([1, 4096, BLOCK_SIZE, 5_000_000])
            window = Window() if sequential else None
            reads.append((offset, size, pool.submit(read, reader, ref, offset, size, window)))
        for offset, size, data in reads:
            assert data.result(60) == large[offset : offset + size]
    assert reader._cache.admin.used_bytes <= 64 * BLOCK_SIZE


def test_a_read_past_the_end_is_short_and_then_empty(make_reader):
    store = CountingStore()
    ref = store.put(URL, b"0123456789")
    reader = make_reader(store)
    assert read(reader, ref, 7, 100) == b"789"
    assert read(reader, ref, 10, 100) == b""
    assert read(reader, ref, 10**12, 100) == b""
    assert read(reader, ref, 3, 0) == b""
    assert store.gets == [(URL, 0, 10)]


def test_an_empty_object_costs_no_request(make_reader):
    store = CountingStore()
    assert read(make_reader(store), store.put(URL, b""), 0, 10) == b""
    assert store.gets == []


def test_a_first_read_requests_a_few_parts(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    read(reader, ref, 0, 65536, Window())
    settle(reader)
    assert store.gets == [(URL, 0, FIRST_AT_START)]


def test_a_cached_block_is_not_requested_again(make_reader, large, tmp_path):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    for _ in range(2):
        assert read(reader, ref, 10, 100) == large[10:110]
        settle(reader)
        assert read(reader, ref, BLOCK_SIZE - 100, 50) == large[BLOCK_SIZE - 100 : BLOCK_SIZE - 50]
    reader.close()
    reader._cache.close()
    assert read(make_reader(store), ref, 500_000, 100) == large[500_000:500_100]
    assert len(store.gets) == 1


def test_adjacent_blocks_share_requests(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    data = read(reader, ref, 100, 19 * BLOCK_SIZE)
    assert data == large[100 : 100 + 19 * BLOCK_SIZE]
    longest = READAHEAD_STEP
    assert sorted(store.gets) == [
        (URL, 0, longest),
        (URL, longest, 2 * longest),
        (URL, 2 * longest, 20 * BLOCK_SIZE),
    ]


def test_cached_blocks_are_left_out_of_requests(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    for index in (2, 5):
        read(reader, ref, index * BLOCK_SIZE, 10)
    settle(reader)
    store.gets.clear()
    assert read(reader, ref, 0, 7 * BLOCK_SIZE) == large[: 7 * BLOCK_SIZE]
    assert sorted((start // BLOCK_SIZE, stop // BLOCK_SIZE) for _, start, stop in store.gets) == [
        (0, 2),
        (3, 5),
        (6, 7),
    ]


def test_sixteen_readers_of_the_same_blocks_cause_one_request_each(make_reader, large):
    store = StallingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    with ThreadPoolExecutor(16) as pool:
        reads = [pool.submit(read, reader, ref, i, 3 * BLOCK_SIZE) for i in range(16)]
        wait_until(lambda: reader._metrics.misses == 16)
        store.gate.set()
        for i, data in enumerate(reads):
            assert data.result(60) == large[i : i + 3 * BLOCK_SIZE]
    assert max(store.blocks_requested(BLOCK_SIZE).values()) == 1


def test_sixteen_readers_of_a_whole_object_fetch_each_block_once(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)

    def read_all(seed: int) -> bool:
        window, step = Window(), random.Random(seed).choice([131_072, 700_001])
        pieces = range(0, len(large) // 4, step)
        return all(read(reader, ref, at, step, window) == large[at : at + step] for at in pieces)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read_all, range(16)))
    settle(reader)
    assert requested_once(store)


def test_sequential_reads_are_fetched_ahead_and_each_block_once(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader, window = make_reader(store), Window()
    for at in range(0, 40 * BLOCK_SIZE, 131_072):
        assert read(reader, ref, at, 131_072, window) == large[at : at + 131_072]
    settle(reader)
    assert requested_once(store)
    assert 40 * BLOCK_SIZE < bytes_requested(store) <= (40 + 64) * BLOCK_SIZE
    assert max(stop - start for _, start, stop in store.gets) == READAHEAD_STEP


def test_processes_that_read_a_file_together_fetch_each_byte_once(make_reader, large):
    """The kernel gives each of them only the pages that the others have not read: gaps."""
    store = CountingStore()
    ref = store.put(URL, large)
    reader, windows = make_reader(store), (Window(), Window())
    starts = range(0, 60 * BLOCK_SIZE, 131_072)
    for number, at in enumerate(starts):
        read(reader, ref, at, 131_072, windows[number // 30 % 2])  # 3.75 MiB each
    settle(reader)
    assert requested_once(store)
    assert len(store.gets) <= 24


@pytest.mark.parametrize("cached", [range(20), range(10, 20), range(19, 20), range(0)])
def test_a_read_after_cached_blocks_is_not_taken_for_one_of_a_sequence(make_reader, large, cached):
    """Whoever has read them, and whether or not this program has read something before."""
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    for index in cached:
        block = large[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
        reader.put(ref, index, memoryview(block))
    for first in (None, 0, 12 * BLOCK_SIZE):
        if first and len(cached) == 20:
            continue  # such a gap is what processes leave that read together
        window = Window()
        if first is not None:
            read(reader, ref, first, 1000, window)
        settle(reader)
        before = bytes_requested(store)
        read(reader, ref, 20 * BLOCK_SIZE + 5, 1000, window)
        settle(reader)
        assert bytes_requested(store) - before <= BLOCK_SIZE


def test_a_long_read_of_known_length_has_its_pieces_fetched_ahead(make_reader, large):
    """While the first piece of 32 MiB arrives, more is requested, and nothing after the end."""
    store, start, size = StallingStore(), 5 * PART_SIZE + 7, 130 * BLOCK_SIZE
    ref = store.put(URL, large)
    reader = make_reader(store)
    with ThreadPoolExecutor(1) as pool:
        data = pool.submit(read, reader, ref, start, size, ExactWindow(start + size))
        wait_until(lambda: bytes_requested(store) >= 70 * BLOCK_SIZE)
        store.gate.set()
        assert data.result(60) == large[start : start + size]
    settle(reader)
    assert requested_once(store)
    assert bytes_requested(store) <= size + 2 * PART_SIZE


def test_sequential_reads_never_request_past_the_end(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader, window = make_reader(store), Window()
    for at in range(150 * BLOCK_SIZE, len(large), BLOCK_SIZE // 2):
        read(reader, ref, at, BLOCK_SIZE // 2, window)
    settle(reader)
    assert max(stop for _, _, stop in store.gets) == len(large)


def test_random_reads_fetch_only_their_own_blocks(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader, window = make_reader(store), Window()
    places = random.Random(5).sample(range(0, BLOCKS - 5, 5), 30)
    for index in places:
        read(reader, ref, index * BLOCK_SIZE + 7, 4096, window)
    settle(reader)
    assert store.blocks_requested(BLOCK_SIZE).keys() == {(URL, index) for index in places}


def test_a_failure_reaches_all_readers_that_wait_and_the_next_read_sends_a_new_request(
    make_reader, large
):
    store = StallingStore()
    store.fail(StoreUnavailable("gone"))
    ref = store.put(URL, large)
    reader = make_reader(store)
    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(read, reader, ref, 0, 100) for _ in range(8)]
        wait_until(lambda: reader._metrics.misses == 8)
        store.gate.set()
        assert all(isinstance(data.exception(60), StoreUnavailable) for data in reads)
    assert len(store.gets) == 1
    store.fail(None)
    assert read(reader, ref, 0, 100) == large[:100]
    assert reader.downloads.memory_bytes <= BLOCK_SIZE


def test_an_immediate_failure_costs_one_request(make_reader, large):
    store = FailingStore()
    store.fail(StoreUnavailable("gone"))
    reader = make_reader(store)
    ref = store.put(URL, large)
    for count in range(1, 50):
        with pytest.raises(StoreUnavailable):
            read(reader, ref, 5, 10)
        assert len(store.gets) == count


class FailingBehind(CountingStore):
    """Fails requests that begin at `border` or after it."""

    border = 5 * BLOCK_SIZE

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        fetched = super().read_range(url, start, stop, etag=etag, size=size)
        if start >= self.border:
            raise StoreUnavailable("gone")
        return fetched


def test_a_failure_of_read_ahead_does_not_fail_the_read(make_reader, large):
    store = FailingBehind()
    ref = store.put(URL, large)
    reader, border = make_reader(store), store.border
    assert read(reader, ref, 0, border, Window()) == large[:border]
    settle(reader)
    assert len(store.gets) == 2
    store.border = len(large)
    assert read(reader, ref, border, 10) == large[border : border + 10]


def test_a_replaced_object_is_an_error_and_never_other_bytes(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    assert read(reader, ref, 0, 10) == large[:10]
    store.objects[URL] = large[::-1]
    with pytest.raises(ObjectChanged):
        read(reader, ref, 5 * BLOCK_SIZE, 10)
    assert read(reader, ref, 0, 10) == large[:10]
    assert read(reader, store.ref(URL), 0, 10) == large[::-1][:10]


class LyingStore(CountingStore):
    """Sends `answer(fetched)` instead of the requested bytes."""

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        fetched = super().read_range(url, start, stop, etag=etag, size=size)
        return self.answer(fetched)

    def stream_range(
        self,
        url: str,
        start: int,
        stop: int,
        sink: Sink,
        *,
        etag: str,
        size: int | None = None,
    ) -> None:
        fetched = self.read_range(url, start, stop, etag=etag, size=size)
        sink(fetched.start, fetched.data)


@pytest.mark.parametrize(
    "answer",
    [
        lambda f: Fetched(f.data[:-1], f.start, f.facts),
        lambda f: Fetched(f.data[:0], f.start, f.facts),
        lambda f: Fetched(f.data, f.start + 1, f.facts),
    ],
)
def test_an_answer_of_another_range_is_an_error(make_reader, large, answer):
    store = LyingStore()
    store.answer = answer
    reader = make_reader(store)
    with pytest.raises(StoreUnavailable):
        read(reader, store.put(URL, large), BLOCK_SIZE, BLOCK_SIZE)
    settle(reader)
    assert reader.downloads.memory_bytes == 0


def test_an_admitted_block_costs_no_request(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    reader.put(ref, 3 * BLOCK_SIZE, memoryview(large)[3 * BLOCK_SIZE : 4 * BLOCK_SIZE])
    assert read(reader, ref, 3 * BLOCK_SIZE + 5, 100) == large[3 * BLOCK_SIZE + 5 :][:100]
    settle(reader)
    assert read(reader, ref, 3 * BLOCK_SIZE, 100) == large[3 * BLOCK_SIZE :][:100]
    assert store.gets == []


def test_a_size_is_confirmed_by_one_request_whose_bytes_the_first_read_takes(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(reader.confirm_size, [ref] * 8))
    assert read(reader, ref, 0, 128 << 10, Window()) == large[: 128 << 10]
    settle(reader)
    reader.confirm_size(ref)
    assert store.gets == [(URL, 0, FIRST_AT_START)]


def test_a_wrong_size_is_not_confirmed(make_reader):
    store = CountingStore()
    ref = store.put(URL, b"0123456789")
    wrong = ObjectRef.of(store.source, URL, 7, ref.etag)
    with pytest.raises(WrongSize) as caught:
        make_reader(store).confirm_size(wrong)
    assert caught.value.facts.has_confirmed_size


@pytest.mark.fault(
    area="network",
    fault="no network, and the size of a file was only reported by a HEAD request",
    face="all",
    sees="opened if any of its bytes is cached; else the open fails with EIO",
    deadline="4 s, then at once",
)
def test_a_cached_block_confirms_a_size_without_a_network(make_reader, large):
    store = FailingStore()
    ref, other = store.put(URL, large), store.put("s3://b/other", large)
    reader = make_reader(store)
    assert read(reader, ref, 150 * BLOCK_SIZE, 10) == large[150 * BLOCK_SIZE :][:10]
    settle(reader)
    store.fail(StoreUnavailable("no network"))
    sent = len(store.gets)
    reader.confirm_size(ref)
    assert len(store.gets) == sent
    with pytest.raises(StoreUnavailable):
        reader.confirm_size(other)


def test_a_read_fetches_each_part_once_even_if_the_disk_returns_none_of_them(
    make_reader, monkeypatch
):
    """Cached parts that cannot be read are fetched one after the other, and then stay in memory."""
    store, data = CountingStore(), seeded("parts", BLOCK_SIZE)
    ref = store.put(URL, data)
    reader = make_reader(store)
    for offset in range(0, BLOCK_SIZE, PART_SIZE):
        reader.downloads.fetch(ref, range(offset, offset + PART_SIZE), PART_SIZE, 0)
        settle(reader)
    store.gets.clear()

    def fail(_path: str, _start: int, _view: memoryview) -> bool:
        settle(reader)  # what was fetched is on disk, and in no flight
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(blockfile, "read_into", fail)
    assert read(reader, ref, 0, BLOCK_SIZE) == data
    assert requested_once(store)


def test_a_read_of_blocks_that_cannot_be_opened_ends_with_an_error(make_reader, monkeypatch):
    """A block that cannot be opened now is kept, and not fetched again."""
    monkeypatch.setattr(reader_module, "ANSWER_S", 0.1)
    store = CountingStore()
    ref = store.put(URL, b"0123456789")
    reader = make_reader(store)
    read(reader, ref, 0, 10)
    settle(reader)

    def fail(_path: str, _start: int, _view: memoryview) -> bool:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(blockfile, "read_into", fail)
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            read(reader, ref, 0, 10)
    assert read(reader, ref, 0, 10) == b"0123456789"
    assert len(store.gets) == 1


@pytest.mark.parametrize(("first", "second"), [(PART_SIZE, BLOCK_SIZE), (BLOCK_SIZE, PART_SIZE)])
def test_bytes_that_another_thread_fetches_after_the_look_for_them_cost_no_request(
    make_reader, large, monkeypatch, first, second
):
    """One thread looks for a block, the other for parts of it; each is unaware of the other."""
    store = CountingStore()
    ref = store.put(URL, large)
    downloads = make_reader(store).downloads
    acquire = downloads._budget.acquire
    others = [lambda: downloads.fetch(ref, range(BLOCK_SIZE), second)]

    def acquire_later(amount: int, *, wait: bool) -> bool:
        while others:
            others.pop()()
            wait_until(lambda: not downloads.in_flight)
        return acquire(amount, wait=wait)

    monkeypatch.setattr(downloads._budget, "acquire", acquire_later)
    downloads.fetch(ref, range(BLOCK_SIZE), first)
    wait_until(lambda: not downloads.in_flight)
    assert requested_once(store)
    assert not downloads.memory_bytes
