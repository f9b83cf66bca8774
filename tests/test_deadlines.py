"""How long a read may take if a lower layer hangs, and what is served in the meantime."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ego4dfs import session
from ego4dfs.blocks import BLOCK_SIZE, ObjectRef, block_key
from ego4dfs.cache import BlockCache
from ego4dfs.config import resolve
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader import Reader, Window, arrivals, fetch_pool, flight
from ego4dfs.reader.flights import ByteBudget
from ego4dfs.runtime.deadline import call_within
from ego4dfs.vfs import open_vfs
from kit.fakes import CountingStore, FailingStore, StallingStore
from kit.processes import wait_until
from kit.reader import URL, read, settle

GOOD = "s3://healthy/good"


class HalfStalling(StallingStore):
    """Stalls only for objects below URL."""

    def before_answer(self, url: str) -> None:
        if url.startswith(URL):
            super().before_answer(url)


class FirstStalling(StallingStore):
    """Stalls only for the first GET."""

    def before_answer(self, url: str) -> None:
        if len(self.gets) == 1:
            super().before_answer(url)


@pytest.fixture
def first_stalls(make_reader, monkeypatch):
    """A store whose first GET stalls, and a reader of it, for which each request is an old one."""
    monkeypatch.setattr(flight.Flight, "age_s", property(lambda _: 1000.0))
    store = FirstStalling()
    yield store, make_reader(store)
    store.gate.set()


@pytest.fixture
def stalling(make_reader):
    """A store whose objects below URL stall, and a reader of it."""
    store = HalfStalling()
    yield store, make_reader(store)
    store.gate.set()


def send(reader: Reader, ref: ObjectRef) -> None:
    """Request an object, and wait until the request has left the queue."""
    begun = reader.downloads.fetch(ref, range(ref.size), BLOCK_SIZE, ref.size)
    wait_until(lambda: all(flight.request.is_started for flight in begun.values()))


@pytest.mark.fault(
    area="network",
    fault="another thread's request that never returns",
    face="all",
    sees="the read fails with EIO; its thread is abandoned and other reads are served",
    deadline="5 minutes, and 1 minute for each MiB that is read",
)
def test_a_read_ends_although_its_request_never_does(stalling, large, monkeypatch):
    monkeypatch.setattr(flight, "THROTTLED_S", 0.2)
    monkeypatch.setattr(flight, "SECONDS_PER_MIB", 0.0)
    monkeypatch.setattr(flight.Flight, "age_s", property(lambda _: 1000.0))
    store, reader = stalling
    ref = store.put(URL, large[:1000])
    send(reader, ref)
    with pytest.raises(StoreUnavailable, match="in time"):
        read(reader, ref, 0, 10)
    with pytest.raises(StoreUnavailable, match="in time"):  # at once: it failed a moment ago
        read(reader, ref, 0, 10)
    assert len(store.gets) == 1


def test_what_a_request_that_hangs_should_bring_is_requested_again(
    first_stalls, large, monkeypatch
):
    monkeypatch.setattr(flight, "THROTTLED_S", 0.2)
    monkeypatch.setattr(flight, "SECONDS_PER_MIB", 0.0)
    monkeypatch.setattr(fetch_pool, "REMEMBERED_S", 0.0)
    store, reader = first_stalls
    ref = store.put(URL, large[:1000])
    send(reader, ref)
    with pytest.raises(StoreUnavailable, match="in time"):
        read(reader, ref, 0, 10)
    monkeypatch.setattr(flight, "THROTTLED_S", 60.0)
    assert read(reader, ref, 0, 10) == large[:10]
    assert len(store.gets) == 2
    wait_until(lambda: reader.downloads.in_flight == 1)  # the first request still hangs
    store.gate.set()
    settle(reader)
    assert reader.downloads.memory_bytes == 0


def test_readers_with_time_left_request_again_what_another_gave_up(
    first_stalls, large, monkeypatch
):
    """Also while the failure of the other reader is remembered; then it is forgotten."""
    store, reader = first_stalls
    ref = store.put(URL, large[: 2 * BLOCK_SIZE])
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(read, reader, ref, BLOCK_SIZE, BLOCK_SIZE)
        wait_until(lambda: len(store.gets) == 1)
        with pytest.raises(StoreUnavailable, match="in time"), call_within(0.2):
            read(reader, ref, BLOCK_SIZE, 10)
        assert len(store.gets) == 1, "that call had less time than others"
        monkeypatch.setattr(flight, "THROTTLED_S", 0.0)
        monkeypatch.setattr(flight, "SECONDS_PER_MIB", 1.0)
        with pytest.raises(StoreUnavailable, match="in time"):
            read(reader, ref, BLOCK_SIZE, 10)
        monkeypatch.setattr(flight, "THROTTLED_S", 60.0)
        assert patient.result(60) == large[BLOCK_SIZE : 2 * BLOCK_SIZE]
    assert read(reader, ref, 0, 2 * BLOCK_SIZE) == large[: 2 * BLOCK_SIZE]


def test_a_request_that_was_given_up_ends_at_its_next_bytes(first_stalls, large, monkeypatch):
    """Its thread, its connection and its memory are free again."""
    monkeypatch.setattr(flight, "THROTTLED_S", 0.2)
    monkeypatch.setattr(flight, "SECONDS_PER_MIB", 0.0)
    store, reader = first_stalls
    ref = store.put(URL, large[:BLOCK_SIZE])
    send(reader, ref)
    with pytest.raises(StoreUnavailable, match="in time"):
        read(reader, ref, 0, 10, Window())
    store.gate.set()
    settle(reader)
    assert reader.downloads.memory_bytes == 0
    assert not reader._cache.contains(block_key(ref.object_id, 0))


def test_readers_of_objects_that_hang_stop_no_other_reader(stalling, large):
    """Neither their threads nor their reserved memory are missing for others."""
    store, reader = stalling
    bad = [store.put(f"{URL}{number}", large[: 2 * BLOCK_SIZE]) for number in range(64)]
    good = store.put(GOOD, large[: 40 * BLOCK_SIZE])
    with ThreadPoolExecutor(64) as pool:
        reads = [pool.submit(read, reader, ref, 0, 2 * BLOCK_SIZE) for ref in bad]
        wait_until(lambda: reader.downloads.memory_bytes >= 72 * BLOCK_SIZE)
        assert read(reader, good, 0, 40 * BLOCK_SIZE) == large[: 40 * BLOCK_SIZE]
        assert not any(data.done() for data in reads)
        store.gate.set()
        assert all(data.result(60) == large[: 2 * BLOCK_SIZE] for data in reads)
    settle(reader)


def test_reads_of_a_bucket_that_hangs_are_urgent_too(stalling, large):
    """All its threads for requests without a reader are in use; a reader is still served."""
    store, reader = stalling
    bad = [store.put(f"{URL}{number}", large[:1000]) for number in range(30)]
    with ThreadPoolExecutor(30) as pool:
        reads = [pool.submit(read, reader, ref, 0, 1000) for ref in bad]
        wait_until(lambda: len(store.gets) == 30)
        assert len(store.gets) > fetch_pool.FETCH_THREADS
        store.gate.set()
        assert all(data.result(60) == large[:1000] for data in reads)


def test_read_ahead_becomes_urgent_when_a_reader_waits_for_it(stalling, large):
    """It does not wait in the queue for requests that hang."""
    store, reader = stalling
    bad = [store.put(f"{URL}{number}", large[:1000]) for number in range(30)]
    good = store.put(f"{URL.rpartition('/')[0]}/good", large[:1000])
    store.before_answer = lambda url: (
        None if url == good.url else StallingStore.before_answer(store, url)
    )
    with ThreadPoolExecutor(30) as pool:
        reads = [pool.submit(read, reader, ref, 0, 1000) for ref in bad]
        wait_until(lambda: len(store.gets) == 30)
        assert reader.prefetch_small(good)
        time.sleep(0.05)
        assert len(store.gets) == 30  # nobody waits for it, so it waits
        assert read(reader, good, 0, 1000) == large[:1000]
        store.gate.set()
        assert all(data.result(60) == large[:1000] for data in reads)


def test_reads_after_a_slow_failure_fail_at_once(make_reader, large, monkeypatch):
    """The kernel requests the same bytes again in smaller pieces: these fail at once."""
    monkeypatch.setattr(fetch_pool, "SLOW_FAILURE_S", 0.1)
    store = SlowlyFailing()
    ref = store.put(URL, large)
    reader = make_reader(store)
    with pytest.raises(StoreUnavailable, match="silent"):
        read(reader, ref, 0, 128 << 10)
    for page in range(32):
        with pytest.raises(StoreUnavailable, match="silent"):
            read(reader, ref, page * 4096, 4096)
    assert len(store.gets) == 1
    other = store.put(GOOD, large[:10])
    assert read(reader, other, 0, 10) == large[:10]


def test_a_slow_failure_is_forgotten_after_seconds(make_reader, large, monkeypatch):
    monkeypatch.setattr(fetch_pool, "SLOW_FAILURE_S", 0.1)
    monkeypatch.setattr(fetch_pool, "REMEMBERED_S", 0.2)
    store = SlowlyFailing()
    ref = store.put(URL, large[:10])
    reader = make_reader(store)
    with pytest.raises(StoreUnavailable):
        read(reader, ref, 0, 10)
    store.fail(None)
    time.sleep(0.3)
    assert read(reader, ref, 0, 10) == large[:10]


class SlowlyFailing(FailingStore):
    """Fails requests for URL after a delay, like a store that does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.fail(StoreUnavailable("silent"), only=URL)

    def before_answer(self, url: str) -> None:
        if self.error is not None and url.startswith(URL):
            time.sleep(0.2)
        super().before_answer(url)


def test_a_read_after_a_fast_failure_sends_a_new_request(make_reader, large):
    store = FailingStore()
    ref = store.put(URL, large[:10])
    store.fail(StoreUnavailable("refused"), times=1)
    reader = make_reader(store)
    with pytest.raises(StoreUnavailable):
        read(reader, ref, 0, 10)
    assert read(reader, ref, 0, 10) == large[:10]


def test_closing_ends_reads_that_wait_for_what_hangs(stalling, large, monkeypatch):
    monkeypatch.setattr(fetch_pool, "CLOSE_S", 0.2)
    store, reader = stalling
    ref = store.put(URL, large[:1000])
    with ThreadPoolExecutor(1) as pool:
        data = pool.submit(read, reader, ref, 0, 10)
        assert store.requested.wait(10)
        reader.close()
        assert isinstance(data.exception(10), StoreUnavailable)


@pytest.mark.fault(
    area="processes",
    fault="a lower layer hangs while the filesystem is closed",
    face="all",
    sees="the filesystem is closed",
    deadline="4 s",
)
def test_a_filesystem_is_closed_although_a_lower_layer_hangs(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(session, "CLOSE_S", 0.2)
    monkeypatch.setattr(BlockCache, "close", lambda *_: gate.wait(600))
    (tmp_path / "mirror").mkdir()
    manifests = tmp_path / "mirror/ego4d-consortium-sharing/public/v2/annotations"
    manifests.mkdir(parents=True)
    (manifests / "manifest.csv").write_text("file_uid,type,s3_path\n")
    settings = {"source": tmp_path / "mirror", "cache_dir": tmp_path / "cache"}
    config = resolve({**settings, "datasets": ["annotations"], "version": "v2"})
    opened = open_vfs(config)
    opened.close()
    gate.set()


def test_memory_reserved_for_requests_that_hang_is_given_to_others():
    budget = ByteBudget(100, lambda: 80)
    assert budget.acquire(90, wait=True)
    assert budget.acquire(50, wait=True)
    assert not budget.acquire(50, wait=False)


def test_memory_that_never_becomes_free_is_an_error(monkeypatch):
    monkeypatch.setattr(arrivals, "ANSWER_S", 0.2)
    budget = ByteBudget(100)
    assert budget.acquire(90, wait=True)
    with pytest.raises(StoreUnavailable, match="disk"):
        budget.acquire(50, wait=True)


@pytest.mark.fault(
    area="processes",
    fault="no more threads can be started",
    face="all",
    sees="reads continue, one after the other",
    deadline="none: nothing fails",
)
def test_reads_without_an_available_thread_are_served(make_reader, large, monkeypatch):
    store = CountingStore()
    ref = store.put(URL, large)
    reader, window = make_reader(store), Window()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for at in range(0, 20 * BLOCK_SIZE, BLOCK_SIZE):
        assert read(reader, ref, at, BLOCK_SIZE, window) == large[at : at + BLOCK_SIZE]
    assert set(store.blocks_requested(BLOCK_SIZE).values()) == {1}


LATE = """
import atexit, os, sys, threading, time
sys.path[:0] = sys.argv[2:]
import fsspec
from pathlib import Path

source, when = Path(sys.argv[1]), os.environ["WHEN"]
fs = fsspec.filesystem(
    "ego4d", source=str(source), cache_dir=str(source.parent / "cache"), cache_size="64MiB",
    datasets=["annotations"], version="v2",
)
fs.ls("v2/annotations", detail=False)

def late():
    if when == "thread":
        threading.main_thread().join()
        time.sleep(0.3)
    data = fs.cat_ranges(["v2/annotations/a.json"] * 3, [0, 4, 8], [4, 8, 12])
    assert data == [b"0123", b"4567", b"89ab"], data
    assert fs.cat_file("v2/annotations/b.json") == b"b" * 3_000_000
    print("read", flush=True)
    if when == "thread":
        fs.close()

if when == "thread":
    threading.Thread(target=late).start()
else:
    atexit.register(late)
"""


@pytest.mark.fault(
    area="processes",
    fault="reads at the end of the interpreter",
    face="ego4d://",
    sees="threads that outlive the main thread, and atexit handlers, can still read",
    deadline="at once",
)
@pytest.mark.parametrize("when", ["thread", "atexit"])
def test_uncached_bytes_are_read_at_the_end_of_the_interpreter(tmp_path, when):
    base = "s3://ego4d-consortium-sharing/public/v2/annotations"
    place = tmp_path / "mirror" / base.removeprefix("s3://")
    place.mkdir(parents=True)
    (place / "a.json").write_bytes(b"0123456789abcdef")
    (place / "b.json").write_bytes(b"b" * 3_000_000)
    rows = "".join(f"{name},json,{base}/{name}.json\n" for name in "ab")
    (place / "manifest.csv").write_text(f"file_uid,type,s3_path\n{rows}")
    command = [sys.executable, "-c", LATE, str(tmp_path / "mirror"), str(Path.cwd())]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "WHEN": when}
    done = subprocess.run(
        command, env=environment, timeout=100, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr
