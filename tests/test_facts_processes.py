"""The facts index of several processes: one request for each object, whatever its answer.

Each index has locks of its own, as those of two processes have.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from ego4dfs.errors import AccessDenied, ObjectMissing, StoreUnavailable
from ego4dfs.facts import FactsIndex
from ego4dfs.runtime.range_locks import RangeLocks
from kit.fakes import CountingStore, StallingStore
from kit.lock_waits import waiting_threads
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

URL = "s3://b/k"
MANY = {f"s3://b/{number}": b"data" for number in range(450)}
STUCK = "s3://b/203"


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
    waiting = waiting_threads(monkeypatch)
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


def swept(index: FactsIndex) -> bool:
    return index._sweeps.wait(60)


def test_processes_that_sweep_the_same_objects_send_one_head_for_each(open_index):
    """Each takes groups that no other one fetches now, and reads what others have recorded."""
    store = StallingStore(MANY)
    indexes = [open_index(store) for _ in range(3)]
    for number, index in enumerate(indexes, 1):
        index.sweep(MANY)
        wait_until(lambda most=number: len(store.heads) >= min(len(MANY), 96 * most))
    store.gate.set()
    assert all(map(swept, indexes))
    assert Counter(store.heads) == Counter(list(MANY))
    for index in indexes:
        assert set(index.peek_many(MANY)) == set(MANY)


def test_a_stat_waits_for_the_sweep_of_another_process(open_index, monkeypatch):
    store = StallingStore(MANY)
    first, second = open_index(store), open_index(store)
    first.sweep(MANY)
    wait_until(lambda: len(store.heads) == 96)
    waiting = waiting_threads(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(second.get, next(iter(MANY)))
        wait_until(lambda: waiting)
        store.gate.set()
        assert found.result(60) == store.facts_of(next(iter(MANY)))
    assert swept(first)
    assert Counter(store.heads) == Counter(list(MANY))


def test_a_stat_that_joins_a_sweep_of_its_process_unlocks_nothing(open_index, monkeypatch):
    """Else another process requests the object again before its facts are on disk."""
    store = StallingStore(MANY)
    index, url = open_index(store), next(iter(MANY))
    index.sweep(MANY)
    wait_until(lambda: len(store.heads) == 96)
    joins = threading.Event()
    fetch_once = index._fetch_once

    def joined(*arguments, **options):
        joins.set()
        return fetch_once(*arguments, **options)

    monkeypatch.setattr(index, "_fetch_once", joined)
    monkeypatch.delattr(RangeLocks, "held")
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(index.get, url)
        assert joins.wait(60)
        store.gate.set()
        assert found.result(60) == store.facts_of(url)
    assert swept(index)


class OneHangs(StallingStore):
    """Answers all requests but those for one object."""

    def before_answer(self, url: str) -> None:
        if url == STUCK:
            super().before_answer(url)


def test_a_request_that_hangs_delays_no_stat_of_another_object(open_index):
    store = OneHangs(MANY)
    first, second = open_index(store), open_index(store)
    first.sweep(MANY)
    others = set(MANY) - {STUCK}
    wait_until(lambda: len(store.heads) == len(MANY))
    wait_until(lambda: all(map(second._requests.acquire_name, others)))
    assert set(second.peek_many(MANY)) == others
    assert not second._requests.acquire_name(STUCK)
    store.gate.set()
    assert swept(first)


@pytest.mark.parametrize("error", [StoreUnavailable("no network"), AccessDenied("no")])
def test_a_sweep_that_has_ended_has_unlocked_all(open_index, error):
    store = StallingStore()
    store.fail(error)
    first, second = open_index(store), open_index(store)
    first.sweep(MANY)
    wait_until(lambda: len(store.heads) == 96)
    assert not second._requests.acquire_name(store.heads[0])
    store.gate.set()
    assert swept(first)
    assert all(second._requests.acquire_name(url) for url in MANY)


LOOK = """
import sys
import fsspec
from ego4dfs.runtime import range_locks

range_locks.NAME_WAIT_S = 600  # on a busy machine, too
fs = fsspec.filesystem("ego4d", version=sys.argv[1], datasets=[sys.argv[2]], metadata=False)
names = [name for name in fs.ls(f"{sys.argv[1]}/{sys.argv[2]}", detail=False) if ".pt" in name]
print(sum(fs.info(name)["size"] for name in names))
"""


def test_workers_that_look_at_all_files_divide_the_requests(front, release):
    dataset, files = "slowfast8x8_r101_k400", {f"{n:03}.pt": bytes(n) for n in range(1, 150)}
    release.dataset(dataset, files)
    command = [sys.executable, "-c", LOOK, release.version, dataset]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(6)
        ]
        totals = {worker.communicate()[0].strip() for worker in workers}
    assert totals == {str(sum(map(len, files.values())))}
    assert front.methods["GET"] == 1
    assert len(files) <= front.methods["HEAD"] <= 1.05 * len(files)  # some are sent again
