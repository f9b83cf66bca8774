"""Hedged requests: when a GET is late, how many second ones are sent, and whose bytes are read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from math import inf

import pytest

from ego4dfs.blocks import PART_SIZE
from ego4dfs.config import resolve
from ego4dfs.errors import AccessDenied, ObjectMissing, StoreError, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Hedging, Reader, hedging
from ego4dfs.reader.hedging import HedgedGet, Overtaken
from ego4dfs.reader.window import Window
from ego4dfs.session import _hedging
from ego4dfs.store import Fetched
from kit.cache import open_cache
from kit.data import seeded
from kit.fakes import CountingStore
from kit.gateway import Faults, Gateway
from kit.processes import wait_until
from kit.reader import URL, bytes_requested, read, settle

KIND = ("bucket", 0)
DATA = seeded("hedging", 8 * PART_SIZE)


class AlwaysLate(Hedging):
    """Each request is late at once, and `allowed` second ones may be sent."""

    allowed = 1

    def delay_s(self, kind: hedging.Kind) -> float:
        return 0.0

    def allows(self, size: int) -> bool:
        self.allowed -= 1
        return self.allowed >= 0


def answered(policy: Hedging, *seconds: float, size: int = 100) -> None:
    for one in seconds:
        policy.record(KIND, size, one)


def test_a_request_is_late_after_twice_the_95th_percentile_of_its_like():
    policy = Hedging(Metrics())
    answered(policy, *(0.01 * number for number in range(1, 101)))
    assert policy.delay_s(KIND) == pytest.approx(2 * 0.96)
    assert policy.delay_s(("other", 0)) == policy.delay_s(("bucket", 1)) == inf


def test_no_request_is_late_before_some_were_answered_or_within_what_a_busy_machine_takes():
    policy = Hedging(Metrics())
    answered(policy, *[0.001] * (hedging.MIN_SAMPLES - 1))
    assert policy.delay_s(KIND) == inf
    answered(policy, 0.001)
    assert policy.delay_s(KIND) == hedging.MIN_DELAY_S


def test_old_answers_do_not_count():
    policy = Hedging(Metrics())
    answered(policy, *[10.0] * 128, *[1.0] * 128)
    assert policy.delay_s(KIND) == 2.0


def test_second_requests_are_a_small_part_of_all_requests_and_bytes():
    policy, sent = Hedging(Metrics()), 0
    for _ in range(1000):
        answered(policy, 0.01)
        sent += policy.allows(100)
    assert sent == hedging.SHARE * 1000
    assert not policy.allows(0)


def test_a_large_second_request_waits_for_its_share_of_bytes():
    policy = Hedging(Metrics())
    answered(policy, *[0.01] * 100)
    assert not policy.allows(201)
    assert policy.allows(200)


def test_an_outage_sends_few_second_requests_even_after_a_long_healthy_time():
    policy = Hedging(Metrics())
    answered(policy, *[0.01] * 10_000)
    assert sum(policy.allows(1) for _ in range(100)) == 4


class Gets:
    """Sends GETs that wait until the test lets them answer or fail."""

    def __init__(
        self, policy: Hedging | None = None, *, threads: bool = True, queued: bool = False
    ) -> None:
        self.ready = [threading.Event(), threading.Event()]
        self.errors: list[Exception | None] = [None, None]
        self.taken: list[int] = []
        self.ended: list[int] = []
        self.result: BaseException | None = None
        self.queue: list[Callable[[], None]] | None = [] if queued else None
        self.pieces = 1
        self._sent = 0
        self._has_threads = threads
        self.hedged = HedgedGet(
            policy or AlwaysLate(Metrics()), KIND, 100, self._send, self._submit
        )
        self.first = threading.Thread(target=self._run_first, daemon=True)
        self.first.start()
        wait_until(lambda: self._sent == 1)

    def _run_first(self) -> None:
        try:
            self.hedged.send_first()
        except (Overtaken, StoreError) as error:
            self.result = error

    def _send(self, take: Callable[[], None]) -> None:
        number = self._sent
        self._sent += 1
        try:
            assert self.ready[number].wait(600)
            if error := self.errors[number]:
                raise error
            for _ in range(self.pieces):
                take()
            self.taken.append(number + 1)
        finally:
            self.ended.append(number + 1)

    def _submit(self, call: Callable[[], None]) -> bool:
        if self.queue is not None:
            self.queue.append(call)
        elif self._has_threads:
            threading.Thread(target=call, daemon=True).start()
            wait_until(lambda: self._sent == 2)
        return self._has_threads

    def end(self) -> BaseException | None:
        """Return what the first GET raised, or None."""
        self.first.join(600)
        assert not self.first.is_alive()
        return self.result


def test_the_second_request_brings_the_bytes_while_the_first_is_late():
    gets = Gets()
    assert gets.hedged.late_in_s == 0
    gets.hedged.send_second()
    assert gets.hedged.late_in_s == inf
    gets.ready[1].set()
    wait_until(lambda: gets.ended == [2])
    gets.ready[0].set()
    assert isinstance(gets.end(), Overtaken)
    assert gets.taken == [2]


def test_the_first_request_brings_the_bytes_if_it_is_faster():
    gets = Gets()
    gets.hedged.send_second()
    gets.ready[0].set()
    assert gets.end() is None
    gets.ready[1].set()
    wait_until(lambda: gets.ended == [1, 2])
    assert gets.taken == [1]


@pytest.mark.parametrize("error", [ObjectMissing, AccessDenied])
def test_a_refusal_of_the_first_request_does_not_wait_for_the_second(error):
    gets = Gets()
    gets.errors[0] = error("refused")
    gets.hedged.send_second()
    gets.ready[0].set()
    assert isinstance(gets.end(), error)
    gets.ready[1].set()
    wait_until(lambda: gets.ended == [1, 2])
    assert gets.taken == []


def test_a_second_request_that_waits_for_a_thread_is_not_waited_for_and_not_sent_later():
    gets = Gets(queued=True)
    gets.errors[0] = StoreUnavailable("first")
    gets.hedged.send_second()
    gets.ready[0].set()
    assert str(gets.end()) == "first"
    [queued] = gets.queue
    queued()
    assert gets.ended == [1]


def test_the_pieces_of_one_answer_are_recorded_once():
    policy = AlwaysLate(Metrics())
    gets = Gets(policy)
    gets.pieces = 3
    gets.ready[0].set()
    assert gets.end() is None
    assert len(policy._samples[KIND]) == 1


def test_no_second_request_is_sent_while_the_store_asks_to_slow_down():
    metrics = Metrics()
    policy = Hedging(metrics)
    answered(policy, *[0.01] * 100)
    metrics.add_throttled_answer(time.monotonic() + 600)
    assert not policy.allows(1)


def test_one_second_request_is_sent_at_most_and_none_once_bytes_have_arrived():
    policy = AlwaysLate(Metrics())
    policy.allowed = 5
    gets = Gets(policy)
    for event in gets.ready:
        event.set()
    gets.end()
    gets.hedged.send_second()
    assert policy.allowed == 5
    gets = Gets(policy)
    for _ in range(3):
        gets.hedged.send_second()
    assert policy.allowed == 4
    for event in gets.ready:
        event.set()
    gets.end()


def test_an_error_of_the_first_request_waits_for_the_bytes_of_the_second():
    gets = Gets()
    gets.errors[0] = StoreUnavailable("first")
    gets.hedged.send_second()
    gets.ready[0].set()
    wait_until(lambda: gets.ended == [1])
    assert gets.first.is_alive()
    gets.ready[1].set()
    assert str(gets.end()) == "first"  # the caller sees that all bytes are there
    assert gets.taken == [2]


def test_an_error_of_the_second_request_leaves_the_first_one_alone():
    gets = Gets()
    gets.errors[1] = StoreUnavailable("second")
    gets.hedged.send_second()
    gets.ready[1].set()
    wait_until(lambda: gets.ended == [2])
    gets.ready[0].set()
    assert gets.end() is None
    assert gets.taken == [1]


@pytest.mark.parametrize("policy", ["no share", "no thread"])
def test_without_a_share_or_a_thread_the_first_request_is_the_only_one(policy):
    share = AlwaysLate(Metrics())
    share.allowed = int(policy != "no share")
    gets = Gets(share, threads=policy != "no thread")
    gets.errors[0] = StoreUnavailable("first")
    gets.hedged.send_second()
    gets.ready[0].set()
    assert str(gets.end()) == "first"
    assert gets.ended == [1]


class LateStore(CountingStore):
    """Holds the first GET back until `gate` is set, and lets it fail then if there is `error`.

    The second one fails with `second_error`, after half of its bytes if it is streamed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.error: Exception | None = None
        self.second_error: Exception | None = None
        self._numbers = count(1)

    def read_range(self, url, start, stop, *, etag="", size=None) -> Fetched:
        number, fetched = self._answer(url, start, stop)
        if number == 2:
            self._fail_second()
        return fetched

    def stream_range(self, url, start, stop, sink, *, etag, size=None) -> None:
        number, fetched = self._answer(url, start, stop)
        half = len(fetched.data) // 2
        sink(start, fetched.data[:half])
        if number == 2:
            self._fail_second()
        sink(start + half, fetched.data[half:])

    def _answer(self, url: str, start: int, stop: int) -> tuple[int, Fetched]:
        number = next(self._numbers)
        fetched = super().read_range(url, start, stop)
        if number == 1:
            assert self.gate.wait(600), "the test never opened the gate"
            if self.error:
                raise self.error
        return number, fetched

    def _fail_second(self) -> None:
        if self.second_error:
            self.gate.set()
            raise self.second_error


@pytest.fixture
def store() -> LateStore:
    return LateStore()


@pytest.fixture
def reader(tmp_path, store):
    cache = open_cache(tmp_path, 64 << 20)
    made = Reader(store, cache, Metrics(), hedging=AlwaysLate(Metrics()))
    with closing(cache), closing(made):
        yield made


STREAMED = pytest.mark.parametrize("window", [None, Window()], ids=["whole", "streamed"])


@STREAMED
def test_a_late_request_is_read_from_a_second_one(reader, store, window):
    ref = store.put(URL, DATA)
    assert read(reader, ref, 10, 1000, window) == DATA[10:1010]
    store.gate.set()
    settle(reader)
    assert len(store.gets) == 2
    assert bytes_requested(store) == 2 * (store.gets[0][2] - store.gets[0][1])
    assert read(reader, ref, 0, 1000) == DATA[:1000]
    assert len(store.gets) == 2
    assert reader.downloads.memory_bytes == 0


@STREAMED
def test_what_a_second_request_that_fails_has_not_brought_is_read_from_the_first(
    reader, store, window
):
    ref = store.put(URL, DATA)
    store.second_error = StoreUnavailable("no answer", url=URL)
    size = 900_000 if window else 1000
    assert read(reader, ref, 10, size, window) == DATA[10 : 10 + size]
    settle(reader)
    assert reader.downloads.memory_bytes == 0


@STREAMED
def test_a_late_request_that_fails_in_the_end_harms_no_read(reader, store, window):
    ref = store.put(URL, DATA)
    store.error = StoreUnavailable("no answer", url=URL)
    assert read(reader, ref, 10, 1000, window) == DATA[10:1010]
    store.gate.set()
    settle(reader)
    assert len(store.gets) == 2
    assert read(reader, ref, 0, 1000) == DATA[:1000]
    assert len(store.gets) == 2


def test_if_both_requests_fail_the_error_of_the_first_one_is_raised(reader, store):
    ref = store.put(URL, DATA)
    store.error = StoreUnavailable("the first", url=URL)
    store.second_error = StoreUnavailable("the second", url=URL)
    with pytest.raises(StoreUnavailable, match="the first"):
        read(reader, ref, 0, 1_000_000)
    settle(reader)
    assert reader.downloads.memory_bytes == 0


def test_what_no_reader_waits_for_is_not_requested_again(reader, store):
    ref = store.put(URL, DATA)
    assert reader.prefetch_small(ref)
    wait_until(lambda: len(store.gets) == 1)
    store.gate.set()
    settle(reader)
    assert len(store.gets) == 1


def answer_after(gateway: Gateway, count: int, call: Callable[[], None]) -> None:
    """Once more than `count` requests have arrived, answer later ones at once, and call `call`."""
    wait_until(lambda: gateway.requests > count)
    gateway.faults = Faults()
    call()


@pytest.mark.fault(
    area="answers",
    fault="one answer is far later than the others",
    face="mount, `ego4d://`",
    sees="right bytes, from a second request",
    deadline="twice what 95 % of the requests take, at least 50 ms, and one request more",
)
@pytest.mark.parametrize(("hedge", "second_requests"), [("auto", 1), ("off", 0)])
def test_a_late_answer_of_a_server_is_read_from_a_second_request_unless_hedging_is_off(
    open_tree, release, gateway, monkeypatch, hedge, second_requests
):
    """A request is late once another one would be answered."""
    is_late = threading.Event()
    monkeypatch.setattr(hedging, "SHARE", 10.0)
    monkeypatch.setattr(hedging, "MIN_SAMPLES", 1)
    late_in_s = property(lambda _: 0.0 if is_late.is_set() else 0.01)
    monkeypatch.setattr(HedgedGet, "late_in_s", late_in_s)
    release.dataset("clips", {"a.bin": DATA})
    options = {"version": release.version, "datasets": ["clips"], "metadata": False}
    vfs = open_tree(**options, endpoint_url=gateway.url, hedge=hedge)
    handle = vfs.open(f"{release.version}/clips/a.bin")
    assert vfs.read(handle, 0, 1000) == DATA[:1000]
    assert vfs.read(handle, 3 * PART_SIZE, 1000) == DATA[3 * PART_SIZE :][:1000]
    wait_until(lambda: not vfs.session.reader.downloads.in_flight)
    before, gate = gateway.requests, threading.Event()
    gateway.faults = Faults(gate=gate)

    release_first = gate.set if hedge == "off" else is_late.set
    holding = threading.Thread(target=answer_after, args=[gateway, before, release_first])
    holding.start()
    assert vfs.read(handle, 6 * PART_SIZE, 1000) == DATA[6 * PART_SIZE :][:1000]
    holding.join()
    gate.set()
    wait_until(lambda: not vfs.session.reader.downloads.in_flight)
    assert vfs.session.metrics.hedged_requests == second_requests
    assert gateway.requests == before + 1 + second_requests
    wait_until(lambda: sum(vfs.session.metrics.results["get"].values()) >= 3 + second_requests)
    assert vfs.session.metrics.results["get"]["failed"] == 0


@pytest.mark.parametrize(
    "options",
    [{"hedge": "off"}, {"limit_rate": "1MB/s"}, {"limit_requests": "10/s"}, {"near": "s3://a/b"}],
    ids=lambda options: next(iter(options)),
)
def test_nothing_is_hedged_where_a_second_request_would_wait_for_the_same(tmp_path, options):
    config = resolve({"cache_dir": tmp_path, **options}, environ={})
    assert _hedging(config, Metrics()) is None
    assert _hedging(resolve({"cache_dir": tmp_path}, environ={}), Metrics()) is not None
