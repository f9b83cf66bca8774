"""Flights and memory bounds: waits that end, bytes that arrive in pieces, and overdue requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import Extent
from ego4dfs.errors import ObjectChanged, StoreUnavailable
from ego4dfs.reader import arrivals, flights
from ego4dfs.reader import flight as flight_module
from ego4dfs.reader.flight import Flight, GivenUpError, Request
from ego4dfs.reader.flights import ByteBudget, Flights
from ego4dfs.reader.response_sink import ResponseSink
from ego4dfs.runtime.deadline import FLOOR_BYTES, call_within

DATA = bytes(range(100))


@pytest.fixture
def flight() -> Flight:
    """A flight of 100 bytes, whose request was sent."""
    made = Flight(Extent("key", 1000, 1100))
    Request([made]).start()
    return made


def filled(flight: Flight, start: int, size: int) -> bytes:
    view = memoryview(bytearray(size))
    flight.read_into(start, view)
    return bytes(view)


def test_bytes_are_read_as_they_arrive_and_more_than_the_extent_is_left(flight):
    assert flight.append(memoryview(DATA)[:30]) == 30
    assert filled(flight, 10, 20) == DATA[10:30]
    assert flight.append(memoryview(DATA)[30:99]) == 69
    assert flight.append(memoryview(DATA[99:] + b"rest")) == 1
    assert filled(flight, 0, 100) == DATA
    assert flight.data == DATA


def test_an_error_reaches_only_readers_of_bytes_that_have_not_arrived(flight):
    flight.append(memoryview(DATA)[:30])
    kept = ObjectChanged("replaced", url="s3://b/k")
    flight.fail(kept)
    assert filled(flight, 0, 30) == DATA[:30]
    for _ in range(2):
        with pytest.raises(ObjectChanged, match="replaced") as caught:
            filled(flight, 0, 31)
        assert caught.value is not kept
        assert caught.value.url == "s3://b/k"


def test_a_reader_does_not_wait_without_end_and_the_others_request_again(flight, monkeypatch):
    monkeypatch.setattr(flight_module, "THROTTLED_S", 0.05)
    for _ in range(2):  # the first time it was sent less than 40 s ago
        with pytest.raises(StoreUnavailable, match="did not send enough in time"):
            filled(flight, 0, 1)
        assert not flight.is_given_up
        monkeypatch.setattr(flight_module, "ANSWER_S", 0.0)
        flight.request.is_started = not flight.request.is_started  # the second time not at all
    flight.request.start()
    with pytest.raises(StoreUnavailable, match="did not send enough in time"):
        filled(flight, 0, 1)
    monkeypatch.setattr(flight_module, "THROTTLED_S", 1000.0)
    with pytest.raises(GivenUpError, match="did not send enough in time"):
        filled(flight, 0, 1)
    with pytest.raises(StoreUnavailable, match="did not send enough in time"):
        flight.wait_stored(60)


def test_a_call_with_less_time_than_others_fails_alone(flight):
    with call_within(0.05), pytest.raises(StoreUnavailable, match="did not send enough"):
        filled(flight, 0, 1)
    threading.Timer(0.1, flight.complete, [memoryview(DATA)]).start()
    assert filled(flight, 0, 100) == DATA


@pytest.mark.parametrize("wait", [lambda f: filled(f, 0, 100), lambda f: f.wait_stored(0)])
def test_a_large_read_has_more_time_than_a_small_one(flight, monkeypatch, wait):
    monkeypatch.setattr(flight_module, "THROTTLED_S", 0.05)
    monkeypatch.setattr(flight_module, "SECONDS_PER_MIB", 10.0 * 2**20 / 100)
    threading.Timer(0.3, flight.complete, [memoryview(DATA)]).start()
    wait(flight)


def test_a_request_that_does_not_leave_the_queue_fails_its_reader(monkeypatch):
    monkeypatch.setattr(arrivals, "ANSWER_S", 0.05)
    flight = Flight(Extent("key", 1000, 1100))
    with pytest.raises(StoreUnavailable, match="did not send enough in time"):
        filled(flight, 0, 1)


@pytest.mark.parametrize("is_stored", [True, False])
def test_whoever_waits_for_the_disk_is_told_whether_the_cache_has_the_bytes(flight, is_stored):
    with ThreadPoolExecutor(1) as pool:
        stored = pool.submit(flight.wait_stored, 60)
        flight.complete(memoryview(DATA))
        flight.report_stored(is_stored=is_stored)
        assert stored.result(60) is is_stored


def test_a_disk_that_hangs_counts_as_not_stored(flight):
    flight.complete(memoryview(DATA))
    assert flight.wait_stored(0.01) is False
    flight.fail(StoreUnavailable("too late"))
    assert flight.wait_stored(0.01) is False


def test_a_flight_that_was_given_up_is_claimed_again_and_both_end():
    """What has arrived is still found; readers of the first one fail when all do."""
    made, (begun, end) = Flights(), (Extent("a", 0, 4), Extent("b", 4, 8))
    first, second = made.claim([(begun, ("a",)), (end, ("b",))])
    request = Request([first, second])
    request.give_up()
    assert made.get("b") is second, "it was not sent"
    request.start()
    first.complete(memoryview(b"data"))
    request.give_up()
    assert made.get("a") is first
    assert made.get("b") is None
    (again,) = made.claim([(begun, ("a",)), (end, ("b",))])
    assert made.get("b") is again
    assert len(made) == 3
    made.fail_all(StoreUnavailable("closed"))
    for flight in (second, again):
        with pytest.raises(StoreUnavailable, match="closed"):
            filled(flight, 0, 1)
    made.remove(second)
    assert made.get("b") is again
    for flight in (first, again):
        made.remove(flight)
    assert len(made) == 0


def test_waiting_for_the_disk_raises_the_error_of_the_request(flight):
    flight.append(memoryview(DATA)[:99])
    flight.fail(StoreUnavailable("cut"))
    with pytest.raises(StoreUnavailable, match="cut"):
        flight.wait_stored(60)


def test_a_flight_is_overdue_while_next_to_nothing_has_arrived(monkeypatch):
    made = Flights()
    extents = [Extent(str(size), 0, size) for size in (FLOOR_BYTES, 2 * FLOOR_BYTES)]
    small, large = made.claim([(extent, (extent.key,)) for extent in extents])
    assert made.overdue_bytes() == 0
    monkeypatch.setattr(flight_module, "OVERDUE_S", 0.0)
    assert made.overdue_bytes() == 3 * FLOOR_BYTES
    large.append(memoryview(bytes(FLOOR_BYTES - 1)))
    small.append(memoryview(bytes(FLOOR_BYTES)))
    assert made.overdue_bytes() == 2 * FLOOR_BYTES
    large.append(memoryview(b"1"))
    assert made.overdue_bytes() == 0


def test_only_a_caller_that_can_wait_uses_the_memory_of_overdue_requests():
    overdue = [0]
    budget = ByteBudget(100, lambda: overdue[0])
    assert budget.acquire(90, wait=True)
    overdue[0] = 50
    assert not budget.acquire(60, wait=False)
    assert budget.acquire(60, wait=True)
    assert budget.used_bytes == 150
    budget.release(90)
    assert budget.used_bytes == 60


def test_a_budget_that_stays_full_is_an_error(monkeypatch):
    monkeypatch.setattr(arrivals, "ANSWER_S", 0.05)
    monkeypatch.setattr(flights, "_POLL_S", 0.01)
    budget = ByteBudget(100, lambda: 39)
    assert budget.acquire(90, wait=True)
    assert budget.acquire(10, wait=True)
    with pytest.raises(StoreUnavailable, match="memory"):
        budget.acquire(40, wait=True)
    assert budget.used_bytes == 100


def sink_of(*sizes: int) -> tuple[ResponseSink, list[bytes]]:
    """Return a sink of adjacent flights from byte 1000 on, and the bytes of the complete ones."""
    made, start = [], 1000
    for size in sizes:
        made.append(Flight(Extent(str(start), start, start + size)))
        start += size
    complete: list[bytes] = []
    sink = ResponseSink(
        "s3://b/k", made, lambda one, _: complete.append(bytes(one.data)), lambda: None
    )
    return sink, complete


@pytest.mark.parametrize("piece", [1, 7, 30, 31, 60, 100])
def test_a_response_in_pieces_fills_its_flights_in_order(piece):
    sink, complete = sink_of(30, 1, 69)
    for start in range(0, 100, piece):
        sink(1000 + start, memoryview(DATA)[start : start + piece])
    sink.check_complete()
    assert complete == [DATA[:30], DATA[30:31], DATA[31:]]


@pytest.mark.parametrize("offset", [999, 1001, 1039, 1041])
def test_a_piece_that_is_not_the_next_one_is_refused(offset):
    sink, complete = sink_of(30, 70)
    if offset > 1030:
        sink(1000, memoryview(DATA)[:40])
    with pytest.raises(StoreUnavailable, match="another range") as caught:
        sink(offset, memoryview(b"x"))
    assert caught.value.url == "s3://b/k"
    assert complete == [DATA[:30]][: offset > 1030]


def test_bytes_after_the_last_flight_and_a_missing_end_are_refused():
    sink, _ = sink_of(100)
    sink(1000, memoryview(DATA)[:99])
    with pytest.raises(StoreUnavailable):
        sink.check_complete()
    with pytest.raises(StoreUnavailable):
        sink(1099, memoryview(b"xy"))


@pytest.mark.parametrize(("start", "size"), [(999, 100), (1001, 99), (1000, 99), (1000, 101)])
def test_a_whole_response_of_another_range_is_ignored(start, size):
    sink, complete = sink_of(30, 70)
    sink.take_all(start, 1100, memoryview(bytes(size)))
    assert complete == []
    with pytest.raises(StoreUnavailable):
        sink.check_complete()
    sink.take_all(1000, 1100, memoryview(DATA))
    sink.check_complete()
    assert complete == [DATA[:30], DATA[30:]]


def test_bytes_that_are_cached_and_fetched_in_turns_fill_their_flights_in_order():
    """Only flights without any fetched byte count as cached."""
    made = [Flight(Extent(str(start), 1000 + start, 1020 + start)) for start in range(0, 100, 20)]
    fetched: list[tuple[bytes, bool]] = []
    sink = ResponseSink(
        "s3://b/k",
        made,
        lambda one, is_new: fetched.append((bytes(one.data), is_new)),
        lambda: None,
    )
    data = memoryview(DATA)
    sink.add_cached(data[:30])
    sink(1030, data[30:50])
    sink.add_cached(data[50:70])
    sink.take_all(1070, 1090, data[70:90])
    sink.add_cached(data[90:])
    sink.check_complete()
    wanted = [False, True, True, True, True]
    assert fetched == [(DATA[20 * n : 20 * n + 20], is_new) for n, is_new in enumerate(wanted)]
