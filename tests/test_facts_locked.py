"""A facts index that another process has locked: it costs requests, and no time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from ego4dfs.facts import FactsIndex, index, table, write_queue
from ego4dfs.store import ObjectFacts
from kit.fakes import CountingStore, StallingStore
from kit.locked_sqlite import locked
from kit.processes import wait_until

URLS = [f"s3://b/{i}" for i in range(50)]
WHOM = ["writers", "all"]


@pytest.fixture
def store() -> CountingStore:
    return CountingStore({url: url.encode() for url in URLS})


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Retry deferred changes soon."""
    monkeypatch.setattr(table, "LOCKED_S", 0.5)
    monkeypatch.setattr(write_queue, "LOCKED_S", 0.5)


def filled(tmp_path, store) -> FactsIndex:
    """Return an index that has ten facts on disk, one of them in memory, and no connection now.

    This is the state after each fork; an existing connection could not be locked out.
    """
    first = FactsIndex(tmp_path, store)
    for url in URLS[:10]:
        first.get(url)
    first.close()
    store.heads.clear()
    second = FactsIndex(tmp_path, store)
    second.get(URLS[0])
    second._table.disconnect()
    return second


@pytest.mark.fault(
    area="disk",
    fault="another process locks the facts index and never releases it",
    face="all",
    sees="known files as before; each other file costs a request, and is recorded later",
    deadline="0.1 s, at most once in 3 s",
)
@pytest.mark.parametrize("against", WHOM)
def test_facts_are_available_while_another_process_locks_the_table(tmp_path, store, against):
    facts = filled(tmp_path, store)
    with locked(tmp_path / "facts.sqlite", against=against):
        # A wait of 30 s for each would end in pytest's timeout.
        assert [facts.get(url).size for url in URLS] == [len(url) for url in URLS]
        assert facts.totals()[0] >= 0
        facts.remove(URLS[1])
        facts.sweep([f"{url}-" for url in URLS])
        assert URLS[0] not in store.heads
    facts.close()


def test_a_hundred_threads_do_not_wait_for_each_other(tmp_path, store):
    """Each would hold a lock that the others need."""
    facts = filled(tmp_path, store)
    with locked(tmp_path / "facts.sqlite"):
        facts.sweep([f"s3://b/none{number}" for number in range(2000)])
        for _ in range(50):  # a wait of 18 s for each would end in pytest's timeout
            assert facts.peek_many(URLS[:10])
            facts.peek("s3://b/unknown")
    facts.close()


@pytest.mark.parametrize("against", WHOM)
def test_deferred_changes_are_written_after_the_lock_is_released(tmp_path, store, against):
    facts = filled(tmp_path, store)
    with locked(tmp_path / "facts.sqlite", against=against):
        for url in URLS[10:]:
            facts.get(url)
        store.objects[URLS[1]] = b"replaced"
        facts.remove(URLS[1])
        assert facts.peek(URLS[1]) is None
    wait_until(lambda: not facts._queue._changes)
    other = FactsIndex(tmp_path, CountingStore())
    assert set(other.peek_many(URLS)) == {*URLS} - {URLS[1]}
    facts.close()
    other.close()


def test_an_index_can_be_opened_while_another_process_locks_it(tmp_path, store):
    filled(tmp_path, store).close()
    with locked(tmp_path / "facts.sqlite", against="all"):
        facts = FactsIndex(tmp_path, store)
        assert facts.get(URLS[5]).size == len(URLS[5])
    wait_until(lambda: facts.peek(URLS[6]) is not None)
    facts.close()


def test_a_thread_that_waits_for_the_lock_does_not_delay_known_facts(tmp_path, store, monkeypatch):
    monkeypatch.setattr(table, "LOCK_STEP_S", 20.0)
    facts = filled(tmp_path, store)
    with locked(tmp_path / "facts.sqlite", against="all"):
        waiting = threading.Thread(target=facts.get, args=(URLS[1],))
        waiting.start()
        for _ in range(100):
            assert facts.get(URLS[0]).size == len(URLS[0])
        assert waiting.is_alive()
    waiting.join()
    facts.close()


@pytest.mark.fault(
    area="processes",
    fault="HEAD requests that are never answered, at the end of a process",
    face="all",
    sees="the process ends without waiting for them",
    deadline="2 s",
)
def test_close_does_not_wait_for_a_response_that_never_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "CLOSE_WAIT_S", 0.2)
    store = StallingStore()
    facts = FactsIndex(tmp_path, store)
    facts.sweep(URLS)
    assert store.requested.wait(10)
    facts.close()  # returns although the store does not answer before `gate` is set
    assert all(t.daemon for t in threading.enumerate() if t.name == "facts-head")
    store.gate.set()


def test_a_response_after_the_close_is_returned_without_a_warning(tmp_path, caplog):
    store = StallingStore({URLS[0]: b"abc"})
    facts = FactsIndex(tmp_path, store)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(facts.get, URLS[0])
        assert store.requested.wait(10)
        facts.close()
        store.gate.set()
        assert waiting.result(60).size == 3
    assert facts.peek(URLS[0]) == waiting.result()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("away", ["removed", "renamed"])
def test_facts_are_written_again_where_the_directory_was(tmp_path, store, away):
    home = tmp_path / "source"
    home.mkdir()
    facts = FactsIndex(home, store)
    facts.get(URLS[0])
    if away == "renamed":
        home.rename(tmp_path / "elsewhere")
    else:
        for path in home.iterdir():
            path.unlink()
        home.rmdir()
    facts.get(URLS[1])
    facts.close()
    again = FactsIndex(home, CountingStore())
    assert again.peek(URLS[1]) == store.head(URLS[1])
    again.close()


def test_deferred_facts_are_written_with_their_confirmation_unless_removed(tmp_path, store):
    def on_disk(url: str) -> ObjectFacts | None:
        with closing(FactsIndex(tmp_path, store)) as index:
            return index.peek(url)

    with closing(FactsIndex(tmp_path, store)) as facts:
        with locked(tmp_path / "facts.sqlite"):
            for url in URLS[:2]:
                facts.record(url, ObjectFacts(5, "etag", "v", 7))
                facts.confirm(url, 5, "etag")
            facts.remove(URLS[1])
        wait_until(lambda: on_disk(URLS[0]) is not None)
    assert on_disk(URLS[0]).has_confirmed_size
    assert on_disk(URLS[1]) is None
