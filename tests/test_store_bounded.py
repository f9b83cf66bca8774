"""A mirror whose library hangs, or is slow."""

from __future__ import annotations

import threading
import time

import pytest
from fakes import CountingStore, StallingStore

from ego4dfs.errors import StoreUnavailable
from ego4dfs.store import bounded
from ego4dfs.store.bounded import Bounded

URL = "s3://bucket/a"
DATA = bytes(range(256)) * (1 << 13)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounded, "ATTEMPT_S", 0.2)
    store = StallingStore({URL: DATA})
    yield store
    store.gate.set()


@pytest.mark.fault(
    area="network",
    fault="a mirror whose library never returns",
    face="all",
    sees="the request is given up and tried again, then it fails",
    deadline="40 s",
)
def test_a_call_that_never_returns_is_given_up(hanging):
    mirror = Bounded(hanging)
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
    mirror, came = Bounded(CountingStore({URL: DATA})), bytearray()
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


def test_pieces_grow_while_they_are_fast_and_shrink_when_one_is_late(hanging):
    mirror = Bounded(CountingStore({URL: DATA * 4}))
    mirror.read_range(URL, 0, len(DATA) * 4)
    assert mirror._piece_bytes > bounded.FIRST_BYTES
    late = Bounded(hanging)
    with pytest.raises(StoreUnavailable):
        late.read_range(URL, 0, len(DATA))
    assert late._piece_bytes == bounded.LEAST_BYTES


def test_a_call_without_a_thread_to_be_had_is_made_in_its_own(monkeypatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Bounded(CountingStore({URL: DATA})).head(URL).size == len(DATA)
