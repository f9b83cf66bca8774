"""Many readers on one slow line: reads become slow, and none fails while bytes arrive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ego4dfs.blocks import Extent
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader import Window, arrivals, downloads, flights
from ego4dfs.reader import flight as flight_module
from ego4dfs.reader.arrivals import Arrivals
from ego4dfs.reader.flight import Flight, Request
from ego4dfs.reader.flights import ByteBudget
from ego4dfs.reader.window import FIRST_AT_START
from ego4dfs.runtime.deadline import ANSWER_S, FLOOR_BYTES
from kit.clock import Clock
from kit.data import MIB, seeded
from kit.fakes import CountingStore, StallingStore
from kit.processes import wait_until
from kit.reader import URL, bytes_requested, read, settle

pytestmark = pytest.mark.first_pass

TESTS = Path(__file__).parent


def costs(*arguments: object) -> dict[str, Any]:
    """Simulate in a process of its own: other threads of this one would see the virtual clock."""
    done = subprocess.run(
        [sys.executable, "-m", "simulation.slow_line", *map(str, arguments)],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": f"{TESTS}:.", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("readers", "mb_per_s", "limit_mib", "step_kib"),
    [(64, 2, 160, 128), (64, 1, 160, 1024), (128, 1, 0, 1024)],
)
def test_no_read_fails_while_bytes_arrive(readers, mb_per_s, limit_mib, step_kib):
    found = costs(
        readers, mb_per_s, "--limit-mib", limit_mib, "--step-kib", step_kib, "--size-mib", 3
    )
    assert found["failed"] == 0, found["errors"][:3]
    assert found["read"] == readers * 3 * MIB
    assert found["sent"] < 1.25 * found["read"]  # the bytes of 15 s are lost once


@pytest.mark.parametrize("limit_mib", [0, 160])
def test_a_line_that_goes_silent_ends_all_reads(limit_mib):
    """Those that wait for their turn wait no longer than those whose requests were sent."""
    found = costs(64, 1, "--limit-mib", limit_mib, "--size-mib", 2, "--silent-after-s", 60)
    assert found["failed"] == found["reads"] - found["read"] // MIB > 0
    assert found["longest_s"] < 60 + ANSWER_S


def test_memory_is_given_in_the_order_in_which_it_was_asked_for():
    budget, order = ByteBudget(100), []

    def acquire(amount: int) -> None:
        budget.acquire(amount, wait=True)
        order.append(amount)
        budget.release(amount)

    assert budget.acquire(60, wait=False)
    with ThreadPoolExecutor(2) as pool:
        for count, amount in enumerate((90, 20)):
            pool.submit(acquire, amount)
            wait_until(lambda count=count: len(budget._waiting) == count + 1)
        assert order == []  # although there is room for the small one
        budget.release(60)
    assert order == [90, 20]


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.monotonic", made)
    return made


def test_a_wait_has_time_as_long_as_bytes_arrive(clock):
    """For its turn in a bucket, only those of the bucket count."""
    arrived, began_s = Arrivals(), clock.now_s
    assert arrived.left_s(began_s) == arrived.left_s(began_s, "a") == ANSWER_S
    clock.now_s += ANSWER_S - 1
    arrived.note("a")
    clock.now_s += 2
    assert arrived.left_s(began_s) == arrived.left_s(began_s, "a") == ANSWER_S - 2
    assert arrived.left_s(began_s, "b") == 0
    clock.now_s += ANSWER_S
    assert arrived.left_s(began_s) == 0


def test_a_wait_for_memory_ends_even_if_bytes_arrive_for_ever(monkeypatch):
    monkeypatch.setattr(flights, "THROTTLED_S", 0.05)
    monkeypatch.setattr(flights, "_POLL_S", 0.01)
    monkeypatch.setattr(Arrivals, "left_s", lambda *_: ANSWER_S)
    budget = ByteBudget(100)
    assert budget.acquire(90, wait=True)
    with pytest.raises(StoreUnavailable, match="no memory became free") as caught:
        budget.acquire(40, wait=True)
    assert "ego4dfs status" in caught.value.hint


def test_reads_that_wait_for_memory_end_when_the_reader_is_closed(make_reader, monkeypatch):
    monkeypatch.setattr(downloads, "within_memory_limit", lambda _: 2 * MIB)
    store = StallingStore()
    ref = store.put(URL, bytes(3 * MIB))
    reader = make_reader(store)
    with ThreadPoolExecutor(3) as pool:
        try:
            for number in range(2):
                pool.submit(read, reader, ref, number * MIB, MIB)
            wait_until(lambda: reader.downloads.memory_bytes == 2 * MIB)
            waiting = pool.submit(read, reader, ref, 2 * MIB, MIB)
            wait_until(lambda: reader.downloads._budget._waiting)
            reader.close()
            with pytest.raises(StoreUnavailable, match="closed"):
                waiting.result(30)
        finally:
            store.gate.set()


def test_bytes_that_another_process_has_fetched_count_as_arrivals(make_reader):
    store = StallingStore()
    ref = store.put(URL, seeded("shared", MIB))
    first, second = make_reader(store), make_reader(store)
    with ThreadPoolExecutor(2) as pool:
        try:
            fetched = pool.submit(read, first, ref, 0, MIB)
            assert store.requested.wait(60)
            taken = pool.submit(read, second, ref, 0, MIB)
            wait_until(lambda: second.downloads.in_flight)
            assert not second.downloads._pool._arrivals._last_s
        finally:
            store.gate.set()
        assert fetched.result(60) == taken.result(60)
    assert bytes_requested(store) == MIB
    assert [*second.downloads._pool._arrivals._last_s] == [URL.split("/")[2]]


def test_a_read_waits_for_its_turn_as_long_as_bytes_arrive(monkeypatch):
    monkeypatch.setattr(arrivals, "ANSWER_S", 0.05)
    flight = Flight(Extent("key", 0, 4))
    Request([flight], queue_left_s=lambda _: 1000.0)
    threading.Timer(0.2, flight.complete, [memoryview(b"data")]).start()
    view = memoryview(bytearray(4))
    flight.read_into(0, view)
    assert bytes(view) == b"data"


def test_what_a_request_fills_next_is_in_use_while_its_bytes_come(monkeypatch):
    """On a slow line it was requested long ago; what follows it takes no memory yet."""
    monkeypatch.setattr(flight_module, "OVERDUE_S", 0.0)
    size = 2 * FLOOR_BYTES
    made = [Flight(Extent(str(n), n * size, (n + 1) * size)) for n in range(3)]
    Request(made).start()
    assert [one.is_overdue for one in made] == [True, True, True]
    made[0].append(memoryview(bytes(size)))
    assert [one.is_overdue for one in made] == [False, False, True]
    monkeypatch.setattr(flight_module, "ATTEMPT_S", 0.0)
    assert [one.is_overdue for one in made] == [False, True, True]


@pytest.mark.parametrize("is_scarce", [False, True])
def test_a_read_asks_for_no_more_than_it_needs_where_others_wait_long(
    make_reader, large, monkeypatch, is_scarce
):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    monkeypatch.setattr(ByteBudget, "is_scarce", is_scarce)
    acquired: list[int] = []
    acquire = reader.downloads._budget.acquire

    def note(amount: int, *, wait: bool) -> bool:
        acquired.append(amount) if wait else None
        return acquire(amount, wait=wait)

    monkeypatch.setattr(reader.downloads._budget, "acquire", note)
    assert read(reader, ref, 0, 10, Window()) == large[:10]
    settle(reader)
    assert acquired == [FIRST_AT_START // 2 if is_scarce else FIRST_AT_START]
    assert bytes_requested(store) == FIRST_AT_START  # the rest is read-ahead, where there is room


def test_memory_is_scarce_once_a_read_has_waited_for_a_second(monkeypatch):
    budget = ByteBudget(100)
    assert budget.acquire(60, wait=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.acquire, 60, wait=True)
        wait_until(lambda: budget._waiting)
        monkeypatch.setattr(flights, "SCARCE_S", 1000.0)
        assert not budget.is_scarce
        monkeypatch.setattr(flights, "SCARCE_S", 0.0)
        assert budget.is_scarce
        budget.release(60)
        assert waiting.result(10)
    assert not budget.is_scarce
