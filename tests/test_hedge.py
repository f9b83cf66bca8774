"""Requests that take far longer than others are sent again: when, how often, what readers get."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE, Extent
from ego4dfs.reader.flight import Flight, GivenUpError, Request
from ego4dfs.reader.hedge import MAX_BYTES, MIN_LATE_S, Hedge
from kit.data import seeded
from kit.processes import wait_until

NEEDED, SAVED = 16, 4
DATA = bytes(range(100))


def noted(seconds: list[float]) -> Hedge:
    hedge = Hedge()
    for one in seconds:
        hedge.note(PART_SIZE, one)
    return hedge


def late_flight(hedge: Hedge) -> Flight:
    """Return a flight whose request was sent, and is late at once."""
    hedge._late_s = 0.0
    made = Flight(Extent("key", 0, len(DATA)))
    Request([made]).start(hedge, len(DATA))
    return made


def test_a_request_is_late_after_three_times_what_most_others_took():
    assert noted([1.0] * (NEEDED - 1)).late_s(PART_SIZE) is None
    assert noted([1.0] * NEEDED).late_s(PART_SIZE) == 3.0
    assert noted([1.0] * 58 + [60.0] * 6).late_s(PART_SIZE) == 3.0  # a tenth of them is ignored
    assert noted([0.001] * NEEDED).late_s(PART_SIZE) == MIN_LATE_S
    assert noted([9.0] * NEEDED + [1.0] * 64).late_s(PART_SIZE) == 3.0  # old ones are forgotten


def test_requests_for_many_bytes_are_never_late_and_say_nothing_of_others():
    hedge = noted([1.0] * NEEDED)
    assert hedge.late_s(MAX_BYTES + 1) is None
    for _ in range(100):
        hedge.note(MAX_BYTES + 1, 60.0)
    assert hedge.late_s(MAX_BYTES) == 3.0


def test_one_of_fifty_requests_is_sent_again_at_most():
    hedge = noted([1.0] * 1000)
    assert [hedge.take() for _ in range(SAVED + 1)] == [True] * SAVED + [False]
    for _ in range(51):
        hedge.note(PART_SIZE, 1.0)
    assert [hedge.take() for _ in range(2)] == [True, False]


def test_a_reader_of_a_late_request_asks_again_and_remembers_no_failure():
    made = late_flight(Hedge())
    made.request._on_give_up = pytest.fail
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, made) for _ in range(2)]
        assert [type(one.exception(10.0)) for one in readers] == [GivenUpError] * 2
    assert made.is_given_up


def read(flight: Flight) -> bytes:
    view = memoryview(bytearray(len(DATA)))
    flight.read_into(0, view)
    return bytes(view)


def spent() -> Hedge:
    hedge = Hedge()
    while hedge.take():
        pass
    return hedge


@pytest.mark.parametrize(("hedge", "arrived"), [(Hedge(), 1), (spent(), 0)])
def test_a_request_is_waited_for_if_it_answers_or_if_too_many_were_sent_again(hedge, arrived):
    made = late_flight(hedge)
    if arrived:
        made.append(memoryview(DATA)[:arrived])
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, made)
        wait_until(lambda: made.request.late_in_s > 0)  # it was considered
        made.append(memoryview(DATA)[arrived:])
        assert reading.result(10.0) == DATA


def test_what_waits_for_the_disk_does_not_ask_again():
    made = late_flight(Hedge())
    made.report_stored(is_stored=True)
    with ThreadPoolExecutor(1) as pool:
        stored = pool.submit(made.wait_stored, 10.0)
        made.append(memoryview(DATA))
        assert stored.result(10.0)
    assert not made.is_given_up


class FirstWaits:
    """A gate at which the first request waits until it is opened, and no other."""

    def __init__(self) -> None:
        self._opened, self._lock = threading.Event(), threading.Lock()
        self.waiting = 0

    def wait(self, timeout_s: float) -> None:
        with self._lock:
            self.waiting += 1
            is_first = self.waiting == 1
        if is_first:
            self._opened.wait(timeout_s)

    def open(self) -> None:
        self._opened.set()


@pytest.mark.fault(
    area="network",
    fault="one of many requests gets no answer for seconds, as 1 % of S3's do at times",
    face="mount, ego4d://",
    sees="right bytes, by a second request; at most 2 % of the requests are sent twice",
    deadline="3 x what others take",
)
def test_a_read_does_not_wait_for_the_one_request_that_gets_no_answer(open_tree, release, front):
    content = seeded("hedge", 24 * BLOCK_SIZE)
    release.dataset("annotations", {"large.bin": content})
    vfs = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    gate = FirstWaits()
    handle = vfs.open(f"{release.version}/annotations/large.bin")

    def read_at(offset: int) -> None:
        view = memoryview(bytearray(1000))
        vfs.read_into(handle, offset, view)
        assert bytes(view) == content[offset : offset + 1000]

    for number in range(20, 0, -1):
        read_at(number * BLOCK_SIZE + PART_SIZE)
    sent = front.methods["GET"]
    front.faults.gate = gate
    try:
        read_at(22 * BLOCK_SIZE)
        assert front.methods["GET"] == sent + 2
        assert front.answering == 1  # the first one still waits
    finally:
        gate.open()
        front.faults.gate = None
    wait_until(lambda: not front.answering)
    read_at(22 * BLOCK_SIZE)
    assert front.methods["GET"] == sent + 2
