"""The facts index: one HEAD request per object; refusals are used for a limited time."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from ego4dfs.errors import (
    AccessDenied,
    CacheError,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreUnavailable,
)
from ego4dfs.facts import REFUSAL_VALID_S, FactsIndex
from ego4dfs.facts.batch_head import Sweeps
from ego4dfs.facts.table import FactsTable
from ego4dfs.runtime.deadline import call_within
from ego4dfs.store import ObjectFacts, WrongSize
from kit.fakes import CountingStore, FailingStore, StallingStore
from kit.own_process import started_threads
from kit.processes import wait_until

URLS = [f"s3://b/{i}" for i in range(200)]


def objects() -> dict[str, bytes]:
    return {url: url.encode() for url in URLS}


@pytest.fixture
def open_index(tmp_path):
    opened = []

    def open_one(store, shared=None) -> FactsIndex:
        opened.append(FactsIndex(tmp_path, store, shared))
        return opened[-1]

    yield open_one
    for index in opened:
        index.close()


class Clock:
    """time.time() that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_700_000_000.0
        monkeypatch.setattr("ego4dfs.facts.index.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def test_an_object_costs_one_head_request(open_index):
    store = CountingStore(objects())
    index = open_index(store)
    first = index.get(URLS[0])
    assert first.size == len(URLS[0])
    assert all(index.get(URLS[0]) == first for _ in range(10))
    assert store.heads == [URLS[0]]


def test_facts_survive_a_restart(open_index):
    store = CountingStore(objects())
    first = open_index(store)
    before = [first.get(url) for url in URLS]
    first.close()
    second = open_index(store)
    assert [second.peek(url) for url in URLS] == before
    assert [second.get(url) for url in URLS] == before
    assert len(store.heads) == len(URLS)


def test_facts_are_stored_unchanged_whatever_their_values(open_index):
    facts = ObjectFacts(2**45, 'd41d8"-95é', "v.1_é", 2**62)
    first = open_index(CountingStore())
    first.record("s3://b/é +#", facts)
    first.close()
    assert open_index(CountingStore()).get("s3://b/é +#") == facts


def test_facts_that_are_not_lasting_end_with_the_index(open_index):
    """Without ETag and time a tag is valid for one process only."""
    first = open_index(CountingStore())
    passing = ObjectFacts(10, "salted", "", 0, is_lasting=False)
    first.record("s3://b/a", passing)
    assert first.peek("s3://b/a") == passing
    first.close()
    assert open_index(CountingStore()).peek("s3://b/a") is None


def test_threads_that_need_one_object_share_one_head_request(open_index):
    store = StallingStore(objects())
    index = open_index(store)
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(index.get, URLS[0]) for _ in range(16)]
        assert store.requested.wait(10)
        store.gate.set()
        assert len({answer.result(10) for answer in answers}) == 1
    assert store.heads == [URLS[0]]


def test_a_failure_reaches_all_waiting_threads_and_the_next_sends_a_new_request(open_index):
    store = StallingStore(objects())
    store.fail(StoreUnavailable("gone"), times=1)
    index = open_index(store)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(index.get, URLS[0]) for _ in range(4)]
        assert store.requested.wait(10)
        wait_until(pool._work_queue.empty)
        store.gate.set()
        errors = [answer.exception(10) for answer in answers]
    assert any(isinstance(error, StoreUnavailable) for error in errors)
    assert index.get(URLS[0]).size == len(URLS[0])
    assert len(store.heads) <= 2


def test_peek_makes_no_request(open_index):
    store = CountingStore(objects())
    assert open_index(store).peek(URLS[0]) is None
    assert store.heads == []


def test_peek_many_returns_all_known_facts_and_makes_no_request(open_index, monkeypatch):
    monkeypatch.setattr("ego4dfs.facts.table.ROWS_PER_QUERY", 7)
    store = CountingStore(objects())
    for url in URLS[:20]:
        open_index(store).get(url)
    index = open_index(store)
    index.get(URLS[50])
    store.heads.clear()
    found = index.peek_many([*URLS, URLS[0]])
    assert found == {url: index.peek(url) for url in [*URLS[:20], URLS[50]]}
    assert not store.heads


def test_recorded_facts_cost_no_head_request(open_index):
    store = CountingStore(objects())
    index = open_index(store)
    facts = ObjectFacts(7, "etag", "", 1)
    index.record(URLS[0], facts)
    assert index.get(URLS[0]) == facts
    assert store.heads == []


def test_removed_facts_are_fetched_again(open_index):
    store = CountingStore(objects())
    index = open_index(store)
    index.get(URLS[0])
    store.objects[URLS[0]] = b"replaced"
    index.remove(URLS[0])
    assert index.get(URLS[0]).size == len(b"replaced")
    index.close()
    assert open_index(store).get(URLS[0]).size == len(b"replaced")
    assert len(store.heads) == 2


def test_totals_count_objects_and_bytes(open_index):
    index = open_index(CountingStore(objects()))
    assert index.totals() == (0, 0)
    for url in URLS[:3]:
        index.get(url)
    assert index.totals() == (3, sum(map(len, URLS[:3])))


def test_a_sweep_fetches_each_object_once(open_index):
    store = CountingStore(objects())
    index = open_index(store)
    index.get(URLS[7])
    index.sweep(URLS)
    index.sweep(URLS)
    wait_until(lambda: index.totals()[0] == len(URLS))
    assert sorted(store.heads) == sorted(URLS)


def test_a_sweep_fetches_nothing_that_is_on_disk(open_index):
    store = CountingStore(objects())
    first = open_index(store)
    for url in URLS:
        first.get(url)
    first.close()
    second = open_index(store)
    second.sweep([*URLS, "s3://b/new"])
    wait_until(lambda: "s3://b/new" in store.heads)
    assert len(store.heads) == len(URLS) + 1


def test_results_of_a_sweep_are_on_disk_when_it_ends(open_index, monkeypatch):
    writes = []
    apply = FactsTable.apply

    def counted(table, changes, confirmed):
        writes.append(len(changes))
        return apply(table, changes, confirmed)

    monkeypatch.setattr(FactsTable, "apply", counted)
    index = open_index(CountingStore(objects()))
    index.sweep([*URLS, "s3://b/none"])
    assert index._sweeps.wait(60)
    assert sum(writes) == len(URLS)
    assert len(writes) <= 12  # and not one transaction for each
    other = open_index(CountingStore({}))
    assert other.peek_many(URLS) == index.peek_many(URLS)
    assert len(other.peek_many(URLS)) == len(URLS)


def test_facts_that_came_with_bytes_are_on_disk_after_a_flush(open_index):
    """`get_unread` reads no disk: the facts in memory are used, and else those of the request."""
    store = CountingStore(objects())
    index = open_index(store)
    facts = {url: index.get_unread(url, store.head) for url in URLS[:3]}
    assert facts == {url: index.get_unread(url, store.head) for url in URLS[:3]}
    assert store.heads == URLS[:3]
    index.flush()
    assert open_index(CountingStore({})).peek_many(URLS) == facts


def test_a_sweep_without_threads_requests_nothing_and_ends(open_index, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    store = CountingStore(objects())
    index = open_index(store)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        index.sweep(URLS)
        assert index._sweeps.wait(0)
    index.sweep(URLS[:1])
    assert index._sweeps.wait(10)
    assert store.heads == URLS[:1]


def test_a_sweep_that_is_interrupted_keeps_its_results(open_index):
    index = open_index(CountingStore(objects()))
    index.sweep(URLS[:5])
    index.sweep(URLS[5:])
    index.close()
    known = {url for url, facts in index._known.items() if facts}
    assert set(open_index(CountingStore({})).peek_many(URLS)) == known


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), CredentialsRejected("expired")])
def test_a_sweep_ends_when_every_request_would_fail(open_index, error):
    many = [f"s3://b/{i}" for i in range(5000)]
    store = StallingStore()
    store.fail(error)
    index = open_index(store)
    index.sweep(many)
    wait_until(lambda: len(store.heads) == 96)
    store.gate.set()
    assert index._sweeps.wait(60)
    assert len(store.heads) == 96  # those that were on their way


def test_a_sweep_continues_after_refused_objects(open_index):
    store = FailingStore(objects())
    store.fail(AccessDenied("no"), only="s3://b/1")
    index = open_index(store)
    index.sweep(URLS)
    assert index._sweeps.wait(60)
    assert len(store.heads) == len(URLS)
    assert index.totals()[0] == len([url for url in URLS if "s3://b/1" not in url])


@pytest.mark.parametrize("error", [AccessDenied("no", url=URLS[0]), ObjectMissing("gone")])
def test_a_refusal_is_repeated_without_a_request_for_an_hour(open_index, clock, error):
    store = FailingStore(objects())
    store.fail(error)
    index = open_index(store)
    for second in (0, 1, REFUSAL_VALID_S - 1):
        clock.now = 1_700_000_000.0 + second
        with pytest.raises(type(error), match=str(error)):
            index.get(URLS[0])
    assert len(store.heads) == 1
    clock.now = 1_700_000_000.0 + REFUSAL_VALID_S + 1
    store.fail(None)
    assert index.get(URLS[0]).size == len(URLS[0])


def test_a_refusal_survives_a_restart(open_index, clock):
    store = FailingStore(objects())
    store.fail(AccessDenied("no"))
    first = open_index(store)
    with pytest.raises(AccessDenied):
        first.get(URLS[0])
    first.close()
    with pytest.raises(AccessDenied):
        open_index(store).get(URLS[0])
    assert len(store.heads) == 1


def test_a_refusal_older_than_the_caller_accepts_is_fetched_again(open_index, clock):
    store = FailingStore(objects())
    store.fail(AccessDenied("no"), times=2)
    index = open_index(store)
    for second in (0, 1, 3):
        clock.now = 1_700_000_000.0 + second
        with pytest.raises(AccessDenied):
            index.get(URLS[0], refusal_valid_s=2.0)
    assert len(store.heads) == 2
    clock.now += 3
    assert index.get(URLS[0], refusal_valid_s=2.0).size == len(URLS[0])


def test_a_refusal_is_removed_by_a_success(open_index, clock):
    """Facts that a pinned read proves wrong later must not bring the old refusal back."""
    store = FailingStore(objects())
    store.fail(AccessDenied("no"), times=1)
    index = open_index(store)
    with pytest.raises(AccessDenied):
        index.get(URLS[0])
    clock.now += 10
    index.get(URLS[0], refusal_valid_s=2.0)
    index.remove(URLS[0])
    assert index.get(URLS[0]).size == len(URLS[0])


def test_a_refusal_from_the_future_is_ignored(open_index, clock):
    """The clock was set back: the age of the refusal is unknown."""
    store = FailingStore(objects())
    store.fail(AccessDenied("no"), times=1)
    index = open_index(store)
    with pytest.raises(AccessDenied):
        index.get(URLS[0])
    clock.now -= 10**6
    assert index.get(URLS[0]).size == len(URLS[0])


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), CredentialsRejected("expired")])
def test_errors_that_do_not_concern_the_object_are_not_recorded(open_index, error):
    store = FailingStore(objects())
    store.fail(error, times=1)
    index = open_index(store)
    with pytest.raises(type(error)):
        index.get(URLS[0])
    assert index.get(URLS[0]).size == len(URLS[0])


def test_two_indexes_on_one_directory_share_their_facts(open_index):
    store = CountingStore(objects())
    one, other = open_index(store), open_index(store)
    for url in URLS[:50]:
        assert one.get(url) == other.get(url)
    assert len(store.heads) == 50


def test_two_indexes_write_side_by_side(open_index):
    store = CountingStore(objects())
    indexes = [open_index(store), open_index(store)]
    threads = [
        threading.Thread(target=lambda i=i, p=p: [i.get(url) for url in URLS[p::2]])
        for p, i in enumerate(indexes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert open_index(store).totals()[0] == len(URLS)


def test_facts_that_an_answer_disproves_are_replaced_by_those_in_it(open_index):
    store = CountingStore(objects())
    index = open_index(store)
    index.get(URLS[0])
    true = ObjectFacts(99, "e", "v", 7, has_confirmed_size=True)
    index.correct(URLS[0], WrongSize(URLS[0], 5, true))
    assert index.peek(URLS[0]) == true
    assert open_index(CountingStore()).peek(URLS[0]) == true
    index.correct(URLS[0], ObjectChanged("another version", url=URLS[0]))
    assert index.peek(URLS[0]) is None
    assert open_index(CountingStore()).peek(URLS[0]) is None


def test_a_refusal_is_not_used_where_none_is_accepted(open_index, clock):
    store = FailingStore(objects())
    store.fail(AccessDenied("no"), times=1)
    index = open_index(store)
    with pytest.raises(AccessDenied):
        index.get(URLS[0])
    assert index.get(URLS[0], refusal_valid_s=0).size == len(URLS[0])


def test_facts_that_are_not_lasting_are_for_this_process_only(open_index):
    index = open_index(CountingStore(objects()))
    index.record(URLS[0], ObjectFacts(5, "e", "", 7, is_lasting=False))
    index.confirm(URLS[0], 5, "e")
    assert index.peek(URLS[0]).has_confirmed_size
    index.close()
    assert open_index(CountingStore()).peek(URLS[0]) is None


def test_a_sweep_continues_after_an_error_of_the_program(open_index, caplog):
    store = FailingStore(objects())
    store.fail(ValueError("a mistake"), only=URLS[0])
    index = open_index(store)
    index.sweep(URLS[:1] + URLS[-1:])
    assert index._sweeps.wait(10)
    assert "could not be recorded" in caplog.text
    assert index.peek(URLS[-1]) is not None


def test_a_request_that_another_thread_sent_is_not_waited_for_without_end(open_index, monkeypatch):
    monkeypatch.setattr("ego4dfs.facts.index.THROTTLED_S", 0.05)
    store = StallingStore(objects())
    index = open_index(store)
    index.sweep(URLS[:1])
    wait_until(lambda: store.heads)
    with pytest.raises(StoreUnavailable, match="another thread has no response"):
        index.get(URLS[0])
    store.gate.set()
    assert index._sweeps.wait(10)


class FirstStalls(CountingStore):
    """The first HEAD is answered late, with what the store had when it came."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.gate = threading.Event()

    def head(self, url: str) -> ObjectFacts:
        facts = self.facts_of(url)
        self.heads.append(url)
        if len(self.heads) == 1:
            assert self.gate.wait(60)
        return facts


def test_after_a_request_that_takes_too_long_another_one_is_sent(open_index, monkeypatch):
    """Its late answer does not replace that of the other one."""
    monkeypatch.setattr("ego4dfs.facts.index.ANSWER_S", 0.05)
    store = FirstStalls(objects())
    index = open_index(store)
    index.sweep(URLS[:1])
    wait_until(lambda: store.heads)
    with pytest.raises(StoreUnavailable), call_within(0.01):
        index.get(URLS[0])
    assert len(store.heads) == 1, "that call had less time than others"
    monkeypatch.setattr("ego4dfs.facts.index.THROTTLED_S", 60.0)
    store.objects[URLS[0]] = b"newer"
    assert index.get(URLS[0]).size == len(b"newer")
    store.gate.set()
    assert index._sweeps.wait(10)
    assert index.peek(URLS[0]).size == len(b"newer")
    assert len(store.heads) == 2


def test_sweeps_share_their_threads(open_index):
    store = StallingStore(objects())
    index = open_index(store)
    with started_threads() as started:
        for url in URLS:
            index.sweep([url])
    wait_until(lambda: len(store.heads) == 96)
    names = [thread.name for thread in started]
    assert names.count("facts-head") == 96
    store.gate.set()
    assert index._sweeps.wait(30)
    assert sorted(store.heads) == sorted(URLS)


class StallingNodes:
    """Other nodes: what they know is read once `gate` is set."""

    def __init__(self):
        self.asked, self.gate = threading.Event(), threading.Event()

    def facts(self, urls):
        self.asked.set()
        assert self.gate.wait(600), "the test never opened the gate"
        return {URLS[1]: ObjectFacts(99, "e", "v", 7)}


def test_a_stat_does_not_wait_long_for_what_another_thread_reads_of_other_nodes(
    open_index, monkeypatch
):
    monkeypatch.setattr("ego4dfs.facts.index.QUIET_S", 0)
    store, nodes = CountingStore(objects()), StallingNodes()
    index = open_index(store, nodes)
    with ThreadPoolExecutor(1) as pool:
        recalled = pool.submit(index.recall, URLS[:2])
        assert nodes.asked.wait(60)
        facts = index.get(URLS[0])
        nodes.gate.set()
        recalled.result(60)
    assert (facts, store.heads) == (store.facts_of(URLS[0]), URLS[:1])
    assert index.peek(URLS[1]).size == 99


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "facts.sqlite").write_bytes(b"this is no database" * 1000)
    with pytest.raises(CacheError) as caught:
        FactsIndex(tmp_path, CountingStore())
    assert str(tmp_path / "facts.sqlite") in str(caught.value)
    assert "cache clear" in caught.value.hint


def test_an_index_that_cannot_be_written_costs_heads_and_no_errors(open_index, tmp_path):
    store = CountingStore(objects())
    index = open_index(store)
    sqlite3.connect(tmp_path / "facts.sqlite").execute("DROP TABLE facts")
    assert index.get(URLS[0]).size == len(URLS[0])
    assert index.get(URLS[0]).size == len(URLS[0])
    assert len(store.heads) == 1


OLD, NEW = ObjectFacts(1, "a" * 32, "", 1), ObjectFacts(2, "b" * 32, "", 2)


def during(monkeypatch, owner, name: str, change) -> None:
    """Call `change` once, when the method has its result and has not returned it."""
    original, left = getattr(owner, name), [change]

    def changed(*arguments):
        result = original(*arguments)
        while left:
            left.pop()()
        return result

    monkeypatch.setattr(owner, name, changed)


def test_a_row_that_is_being_read_does_not_replace_newer_facts(open_index, monkeypatch):
    open_index(CountingStore()).record(URLS[0], OLD)
    index = open_index(CountingStore())
    during(monkeypatch, index._table, "facts", lambda: index.record(URLS[0], NEW))
    assert index.peek(URLS[0]) == index.peek(URLS[0]) == NEW


def test_facts_that_are_removed_while_they_are_read_stay_removed(open_index, monkeypatch):
    open_index(CountingStore()).record(URLS[0], OLD)
    index = open_index(CountingStore())
    during(monkeypatch, index._table, "facts", lambda: index.remove(URLS[0]))
    assert index.peek(URLS[0]) is None


def test_a_head_request_does_not_replace_facts_that_were_recorded_meanwhile(
    open_index, monkeypatch
):
    store = CountingStore(objects())
    index = open_index(store)
    during(monkeypatch, store, "head", lambda: index.record(URLS[0], NEW))
    assert index.get(URLS[0]) == NEW
    assert index._table.facts([URLS[0]]) == {URLS[0]: NEW}


def test_a_head_request_does_not_bring_back_facts_that_were_removed(open_index, monkeypatch):
    store = CountingStore(objects())
    index = open_index(store)
    during(monkeypatch, store, "head", lambda: index.remove(URLS[0]))
    index.get(URLS[0])
    assert index.peek(URLS[0]) is None


def test_a_sweep_has_not_ended_before_its_last_thread_has_written_the_facts(monkeypatch):
    seen: list[bool] = []
    sweeps = Sweeps(lambda: None)
    finish = sweeps._finish_if_last

    def finish_later() -> None:
        seen.append(sweeps.wait(0.0))
        finish()

    monkeypatch.setattr(sweeps, "_finish_if_last", finish_later)
    sweeps.add(URLS[:1], lambda _url: True)
    assert sweeps.wait(60.0)
    assert seen == [False]


def test_less_than_a_batch_stays_unwritten_when_threads_add_during_a_write(open_index, monkeypatch):
    apply, begun, released = FactsTable.apply, threading.Event(), threading.Event()

    def delayed(table, changes, confirmed):
        begun.set()
        assert released.wait(60)
        return apply(table, changes, confirmed)

    store = CountingStore(objects())
    index = open_index(store)
    known = {url: store.facts_of(url) for url in URLS}
    for url in URLS:
        index.record(url, known[url])
    monkeypatch.setattr(FactsTable, "apply", delayed)

    def confirm(urls):
        for url in urls:
            index.confirm(url, known[url].size, known[url].etag)

    first = threading.Thread(target=confirm, args=[URLS[:100]])
    first.start()
    assert begun.wait(60)
    confirm(URLS[100:200])  # returns while the other thread writes
    released.set()
    first.join(60)
    with closing(sqlite3.connect(index._table._path)) as database:
        assert database.execute("SELECT COUNT(*) FROM confirmed").fetchone() == (200,)
