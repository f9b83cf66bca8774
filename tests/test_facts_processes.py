"""The facts index of several processes: one request for each object, whatever its answer.

Each index has locks of its own, as those of two processes have.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.errors import AccessDenied, ObjectMissing
from ego4dfs.facts import FactsIndex
from ego4dfs.runtime.range_locks import LockWait
from kit.fakes import CountingStore, StallingStore
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

URL = "s3://b/k"


@pytest.fixture
def open_index(tmp_path):
    opened = []

    def open_one(store: CountingStore) -> FactsIndex:
        opened.append(FactsIndex(tmp_path, store))
        return opened[-1]

    yield open_one
    for index in opened:
        index.close()


def ahead(index: FactsIndex, store: CountingStore) -> threading.Event:
    """Fetch facts ahead by a HEAD request; return what is set at the end."""
    done = threading.Event()
    assert index.fetch_ahead(URL, store.head, done.set)
    return done


def test_processes_that_need_the_same_facts_send_one_head(open_index):
    store = StallingStore({URL: b"data"})
    indexes = [open_index(store) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(index.get, URL) for index in indexes]
        assert store.requested.wait(60)
        store.gate.set()
        assert len({one.result(60) for one in found}) == 1
    assert store.heads == [URL]


@pytest.mark.parametrize("refusal", [AccessDenied, ObjectMissing])
@pytest.mark.parametrize("valid_s", [0.0, 60.0])
def test_a_refusal_that_comes_during_the_wait_is_that_of_all_processes(
    open_index, refusal, valid_s, monkeypatch
):
    store = StallingStore()
    store.fail(refusal("no", url=URL))
    indexes = [open_index(store) for _ in range(3)]
    waiting: set[int] = set()
    pause = LockWait.pause

    def counted_pause(wait: LockWait) -> bool:
        waiting.add(threading.get_ident())
        return pause(wait)

    monkeypatch.setattr(LockWait, "pause", counted_pause)
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(index.get, URL, refusal_valid_s=valid_s) for index in indexes]
        wait_until(lambda: len(waiting) == 2)
        store.gate.set()
        assert [type(one.exception(60)) for one in found] == [refusal] * 3
    assert store.heads == [URL]


def test_what_another_process_fetches_is_not_fetched_ahead_and_is_known_afterwards(open_index):
    store = StallingStore({URL: b"data"})
    first, second = open_index(store), open_index(store)
    fetched = ahead(first, store)
    assert store.requested.wait(60)
    assert ahead(second, store).wait(60)
    assert not fetched.is_set()
    store.gate.set()
    assert fetched.wait(60)
    assert second.peek(URL) == store.facts_of(URL)
    assert ahead(second, store).wait(60)
    assert store.heads == [URL]


def test_an_open_uses_what_another_process_fetches_ahead(open_index):
    store = StallingStore({URL: b"data"})
    first, second = open_index(store), open_index(store)
    fetched = ahead(first, store)
    assert store.requested.wait(60)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(second.get, URL)
        store.gate.set()
        assert found.result(60) == store.facts_of(URL)
    assert fetched.wait(60)
    assert store.heads == [URL]


def test_a_refused_object_is_not_fetched_ahead_and_its_refusal_gets_no_newer(
    open_index, monkeypatch
):
    now = [1_700_000_000.0]
    monkeypatch.setattr("ego4dfs.facts.index.time.time", lambda: now[0])
    store = CountingStore()
    index = open_index(store)
    with pytest.raises(ObjectMissing):
        index.get(URL)
    now[0] += 5
    assert ahead(index, store).wait(60)
    assert store.heads == [URL]
    with pytest.raises(ObjectMissing):
        index.get(URL, refusal_valid_s=4)
    assert store.heads == [URL, URL]
