"""A mirror whose library hangs, or is slow."""

from __future__ import annotations

import threading
import time

import pytest

from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.store import fsspec_mirror, protocol, timeout_adapter
from ego4dfs.store.fsspec_mirror import FsspecMirror
from ego4dfs.store.timeout_adapter import TimeoutAdapter
from kit.fakes import CountingStore, StallingStore
from kit.processes import wait_until

URL = "s3://bucket/a"
DATA = bytes(range(256)) * (1 << 13)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timeout_adapter, "ATTEMPT_S", 0.2)
    store = StallingStore({URL: DATA})
    yield store
    store.gate.set()


@pytest.mark.fault(
    area="network",
    fault="a mirror whose library never returns",
    face="all",
    sees="the request is cancelled and retried, then it fails",
    deadline="40 s",
)
def test_a_call_that_never_returns_times_out(hanging):
    mirror = TimeoutAdapter(hanging)
    taken: list[int] = []
    for ask in (
        lambda: mirror.head(URL),
        lambda: mirror.read(URL),
        lambda: mirror.read_range(URL, 0, 10),
        lambda: mirror.stream_range(URL, 0, 10, lambda at, _: taken.append(at), etag=""),
    ):
        with pytest.raises(StoreUnavailable, match="in time"):
            ask()
    hanging.gate.set()
    time.sleep(0.1)
    assert not taken  # what comes too late is nobody's


def test_bytes_are_the_same_in_pieces():
    mirror, came = TimeoutAdapter(CountingStore({URL: DATA})), bytearray()
    mirror._piece_bytes = 100_000
    assert bytes(mirror.read_range(URL, 5, len(DATA) + 9).data) == DATA[5:]
    mirror._piece_bytes = 100_000
    found = mirror.read(URL)
    assert found is not None
    assert bytes(found.data) == DATA
    assert mirror.read(URL, unless_etag=found.facts.etag) is None
    mirror._piece_bytes = 100_000
    mirror.stream_range(URL, 7, len(DATA), lambda _, data: came.extend(data), etag=found.facts.etag)
    assert bytes(came) == DATA[7:]


def test_the_end_of_an_object_arrives_in_pieces():
    store = CountingStore({URL: DATA})
    mirror = TimeoutAdapter(store)
    mirror._piece_bytes = 100_000
    found = mirror.read_range(URL, -1_000_000, 0)
    assert (bytes(found.data), found.start) == (DATA[-1_000_000:], len(DATA) - 1_000_000)
    assert store.gets[0] == (URL, len(DATA) - 1_000_000, len(DATA) - 900_000)
    assert {found.facts.etag} == {mirror.head(URL).etag}


def test_pieces_grow_while_they_are_fast(monkeypatch):
    monkeypatch.setattr(timeout_adapter, "ATTEMPT_S", 180.0)
    monkeypatch.setattr(timeout_adapter, "_FAST_S", 60.0)
    mirror = TimeoutAdapter(CountingStore({URL: DATA * 4}))
    mirror.read_range(URL, 0, len(DATA) * 4)
    assert mirror._piece_bytes == 8 * timeout_adapter.FIRST_BYTES


def test_pieces_shrink_when_one_is_late(hanging):
    late = TimeoutAdapter(hanging)
    with pytest.raises(StoreUnavailable):
        late.read_range(URL, 0, len(DATA))
    assert late._piece_bytes == timeout_adapter.MIN_BYTES


def test_a_call_without_an_available_thread_runs_in_the_callers(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert TimeoutAdapter(CountingStore({URL: DATA})).head(URL).size == len(DATA)


def test_the_number_of_calls_that_hang_is_limited(hanging, monkeypatch):
    monkeypatch.setattr(timeout_adapter, "MAX_CALLS", 2)
    mirror = TimeoutAdapter(hanging)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="in time"):
            mirror.head(URL)
    with pytest.raises(StoreUnavailable, match="calls to the mirror hang"):
        mirror.head(URL)
    hanging.gate.set()
    wait_until(lambda: mirror._calls._value == 2)
    monkeypatch.setattr(timeout_adapter, "ATTEMPT_S", 60.0)
    assert mirror.head(URL).size == len(DATA)


def test_an_object_too_large_for_a_manifest_is_not_read(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_WHOLE_BYTES", 1000)
    store = CountingStore({URL: DATA})
    with pytest.raises(StoreError, match="a manifest has at most"):
        TimeoutAdapter(store).read(URL)
    assert not store.gets


def test_a_mirror_that_hangs_during_its_opening_blocks_neither_others_nor_the_end(monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(fsspec_mirror, "ATTEMPT_S", 0.1)
    monkeypatch.setattr(fsspec_mirror, "_filesystem", lambda *_: (gate.wait(60), ""))
    mirror = FsspecMirror("sftp://host")
    opening = threading.Thread(target=lambda: mirror._at(URL), daemon=True)
    opening.start()
    wait_until(mirror._lock.locked)
    mirror.renew(URL)
    mirror.close()
    with pytest.raises(StoreUnavailable, match="cannot be opened in time"):
        mirror.head(URL)
    gate.set()
    opening.join(10)
