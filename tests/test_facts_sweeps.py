"""Sweeps: HEAD requests for many objects by few threads, beside other threads that record facts."""

from __future__ import annotations

import threading

import pytest

from ego4dfs.errors import AccessDenied
from ego4dfs.facts import FactsIndex
from ego4dfs.facts.batch_head import Sweeps
from kit.fakes import FailingStore, StallingStore
from kit.processes import wait_until

URLS = [f"s3://b/{i}" for i in range(200)]


@pytest.fixture
def few_threads(monkeypatch):
    """Let three threads of sweeps start, and no more."""
    start, left = threading.Thread.start, [1, 1, 1]

    def scarce(thread: threading.Thread) -> None:
        if thread.name == "facts-head" and not (left and left.pop()):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)


def test_a_sweep_with_few_threads_fetches_all_facts(few_threads):
    fetched: list[str] = []
    all_started = threading.Event()

    def fetch(url: str) -> bool:
        assert all_started.wait(30)
        fetched.append(url)
        return True

    sweeps = Sweeps(lambda: None)
    sweeps.add(URLS, fetch)
    assert sweeps._threads == 3
    all_started.set()
    assert sweeps.wait(30)
    assert sorted(fetched) == sorted(URLS)


def test_facts_that_are_recorded_before_their_turn_are_not_requested(tmp_path):
    store = StallingStore(dict.fromkeys(URLS, b"data"))
    index = FactsIndex(tmp_path, store)
    index.sweep(URLS)
    wait_until(lambda: len(store.heads) == 96)
    index.record(URLS[150], store.facts_of(URLS[150]))
    store.gate.set()
    assert index._sweeps.wait(30)
    assert sorted(store.heads) == sorted({*URLS} - {URLS[150]})
    index.close()


def test_what_is_fetched_ahead_is_fetched_before_the_rest_of_a_sweep(tmp_path, monkeypatch):
    """A listing of 10,000 files would delay the files that a program opens next."""
    store = StallingStore(dict.fromkeys([*URLS, "s3://b/ahead"], b"data"))
    turns, done = threading.Semaphore(0), threading.Event()
    monkeypatch.setattr(store, "before_answer", lambda _: turns.acquire(timeout=30))
    index = FactsIndex(tmp_path, store)
    index.sweep(URLS)
    wait_until(lambda: len(store.heads) == 96)
    assert index.fetch_ahead("s3://b/ahead", store.head, done.set)
    turns.release()  # one thread is free
    wait_until(lambda: len(store.heads) == 97)
    assert store.heads[96] == "s3://b/ahead"
    turns.release(len(URLS))
    assert index._sweeps.wait(30)
    assert done.is_set()
    assert sorted(store.heads) == sorted([*URLS, "s3://b/ahead"])
    index.close()


def test_a_sweep_has_not_ended_while_one_of_several_threads_is_about_to_end(monkeypatch):
    at_once, gate = threading.Barrier(2, timeout=30), threading.Event()
    first, has_ended = threading.Lock(), threading.Event()
    sweeps = Sweeps(lambda: None)
    finish = sweeps._finish_if_last

    def finish_one_later() -> None:
        at_once.wait()
        if first.acquire(blocking=False):
            finish()
            has_ended.set()
        else:
            assert gate.wait(30)
            finish()

    monkeypatch.setattr(sweeps, "_finish_if_last", finish_one_later)
    sweeps.add(URLS[:2], lambda _url: bool(at_once.wait() + 1))
    assert has_ended.wait(30)
    assert not sweeps.wait(0)
    gate.set()
    assert sweeps.wait(30)


@pytest.mark.parametrize(("age_s", "requests"), [(0, 0), (99, 0), (101, 1), (-1, 1)])
def test_a_sweep_leaves_out_what_was_refused_a_short_time_ago(
    tmp_path, monkeypatch, age_s, requests
):
    now_s = [1_700_000_000.0]
    monkeypatch.setattr("ego4dfs.facts.index.time.time", lambda: now_s[0])
    store = FailingStore()
    store.fail(AccessDenied("no"))
    index = FactsIndex(tmp_path, store)
    with pytest.raises(AccessDenied):
        index.get(URLS[0])
    now_s[0] += age_s
    index.sweep(URLS[:1], refusal_valid_s=100)
    assert index._sweeps.wait(30)
    assert len(store.heads) == 1 + requests
    index.close()
