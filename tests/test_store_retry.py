"""Retries of requests; limits of each bucket: how many at a time, and pauses after throttling."""

from __future__ import annotations

import random
from threading import Event

import pytest

from ego4dfs.errors import AccessDenied, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.deadline import ATTEMPT_S, FLOOR_BYTES, QUIET_S, call_within
from ego4dfs.store import retry
from ego4dfs.store.breaker import CircuitOpen
from ego4dfs.store.bucket_limits import ConcurrencyLimit, Throttle
from ego4dfs.store.classify import Outpaced, Throttled
from ego4dfs.store.retry import RetryPolicy
from kit.clock import Clock


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("ego4dfs.store.retry.time.monotonic", made)
    return made


class Request:
    """Fails with each of these errors in turn, then returns "data"; each attempt takes a time."""

    def __init__(self, clock: Clock, *errors: Exception, lasts_s: float = 0.0) -> None:
        self._clock, self._errors, self._lasts_s = clock, list(errors), lasts_s
        self.attempts = self.received = self.bytes_each = 0

    def __call__(self) -> str:
        self.attempts += 1
        self._clock.now_s += self._lasts_s
        if not self._errors:
            return "data"
        self.received += self.bytes_each
        raise self._errors.pop(0)

    def sent(self, policy: RetryPolicy, stop: Event | None = None) -> str:
        return policy.call(self, stop or Event(), lambda: self.received)


POLICY = RetryPolicy(max_attempts=3, timeout_s=20.0, first_wait_s=0.0, throttled_s=100.0)


def errors(count: int, kind: type[StoreUnavailable] = StoreUnavailable) -> list[StoreUnavailable]:
    return [kind(f"failure {number}") for number in range(count)]


def test_a_request_is_sent_again_until_it_succeeds(clock):
    request = Request(clock, *errors(2))
    assert request.sent(POLICY) == "data"
    assert request.attempts == 3


def test_the_last_failure_is_raised_after_the_last_attempt(clock):
    request = Request(clock, *errors(9))
    with pytest.raises(StoreUnavailable, match="failure 2"):
        request.sent(POLICY)
    assert request.attempts == 3


@pytest.mark.parametrize("error", [AccessDenied("no"), CircuitOpen("not sent"), ValueError("bug")])
@pytest.mark.parametrize("before", [0, 1])
def test_what_another_attempt_cannot_change_is_raised_at_once(clock, error, before):
    request = Request(clock, *errors(before), error)
    with pytest.raises(type(error)):
        request.sent(POLICY)
    assert request.attempts == before + 1


@pytest.mark.parametrize(("lasts_s", "attempts"), [(9.9, 3), (10.0, 2), (20.0, 1), (19.9, 2)])
def test_no_attempt_begins_after_the_time_of_the_policy(clock, lasts_s, attempts):
    request = Request(clock, *errors(9), lasts_s=lasts_s)
    with pytest.raises(StoreUnavailable):
        request.sent(POLICY)
    assert request.attempts == attempts


def test_a_bad_connection_takes_no_time_from_the_attempts_after_it(clock):
    """After 30 s of a response that others outpace, one over another connection may succeed."""
    request = Request(clock, *errors(1, Outpaced), lasts_s=30.0)
    assert request.sent(POLICY) == "data"
    request = Request(clock, *errors(9, Outpaced), lasts_s=30.0)
    with pytest.raises(Outpaced):
        request.sent(POLICY)
    assert request.attempts == POLICY.max_attempts


@pytest.mark.parametrize(("lasts_s", "attempts"), [(10.0, 10), (11.0, 10), (51.0, 2), (100.0, 1)])
def test_throttled_attempts_continue_for_a_time_of_their_own(clock, lasts_s, attempts):
    request = Request(clock, *errors(99, Throttled), lasts_s=lasts_s)
    with pytest.raises(Throttled):
        request.sent(POLICY)
    assert request.attempts == attempts


def test_failures_before_a_throttled_attempt_do_not_count(clock):
    request = Request(clock, *errors(2), *errors(1, Throttled), *errors(2))
    assert request.sent(POLICY) == "data"
    assert request.attempts == 6


@pytest.mark.parametrize(
    ("received", "lasts_s", "attempts"),
    [
        (FLOOR_BYTES, QUIET_S / 2, 10),
        (FLOOR_BYTES - 1, QUIET_S / 2, 3),
        (FLOOR_BYTES, QUIET_S / 2 - 0.1, 3),
    ],
)
def test_an_attempt_on_a_slow_line_that_received_bytes_does_not_count(
    clock, received, lasts_s, attempts
):
    request = Request(clock, *errors(9), lasts_s=lasts_s)
    request.bytes_each = received
    if attempts == 10:
        assert request.sent(POLICY) == "data"
    else:
        with pytest.raises(StoreUnavailable):
            request.sent(POLICY)
    assert request.attempts == attempts


@pytest.mark.parametrize(("left_s", "attempts"), [(ATTEMPT_S - 0.1, 1), (ATTEMPT_S, 3)])
def test_a_call_without_time_for_another_attempt_sends_none(clock, left_s, attempts):
    request = Request(clock, *errors(9))
    with call_within(left_s), pytest.raises(StoreUnavailable):
        request.sent(POLICY)
    assert request.attempts == attempts


def test_a_store_that_is_closed_sends_nothing_more_and_raises_the_failure_before(clock):
    stop = Event()

    class Closing(Request):
        def __call__(self) -> str:
            if self.attempts == 1:
                stop.set()
            return super().__call__()

    request = Closing(clock, *errors(9))
    with pytest.raises(StoreUnavailable, match="failure 0"):
        request.sent(POLICY, stop)
    assert request.attempts == 2


def test_the_wait_is_doubled_with_jitter_up_to_its_limit(clock, monkeypatch):
    waits: list[float] = []

    class Recording(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return False

    monkeypatch.setattr(random, "uniform", lambda low, high: low + high)
    policy = RetryPolicy(max_attempts=7, timeout_s=1000.0, first_wait_s=0.25)
    with pytest.raises(StoreUnavailable):
        Request(clock, *errors(9)).sent(policy, Recording())
    assert waits == [0.5, 0.75, 1.25, 2.25, 4.25, 4.25]
    waits.clear()
    Request(clock, *errors(2, Throttled)).sent(policy, Recording())
    assert waits == [0.0, 0.0]  # the bucket's Throttle waits


def test_transient_are_failures_of_the_store_that_were_sent():
    assert retry.is_transient(StoreUnavailable("gone"))
    assert not retry.is_transient(CircuitOpen("not sent"))
    assert not retry.is_transient(AccessDenied("no"))


def test_a_bucket_whose_requests_hang_refuses_others_and_not_those_of_another_bucket():
    limit = ConcurrencyLimit(2)
    first = limit.slot("a", "s3://a/1")
    assert limit.slot("a", "s3://a/2") is first
    with (
        call_within(ATTEMPT_S),
        pytest.raises(StoreUnavailable, match=r"2 requests.* within 0 s") as caught,
    ):
        limit.slot("a", "s3://a/3")
    assert caught.value.url == "s3://a/3"
    assert "fewer programs" in caught.value.hint
    assert limit.slot("b", "s3://b/1") is not first
    first.release()
    assert limit.slot("a", "s3://a/3") is first


@pytest.fixture
def pauses(monkeypatch) -> list[tuple[float, float]]:
    """Replace the jitter of pauses by none, and record its limits."""
    limits: list[tuple[float, float]] = []
    monkeypatch.setattr(random, "uniform", lambda *given: limits.append(given) or 0.0)
    return limits


def test_a_pause_is_doubled_and_halved_and_ends(pauses):
    clock = Clock()
    throttle = Throttle(Metrics(), clock)
    assert throttle.pause_s("a") == 0.0
    for expected_s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0):
        throttle.throttled("a")
        assert throttle.pause_s("a") == expected_s
        assert pauses[-1] == (0, expected_s)
        throttle.throttled("a")  # another request of the same moment
        assert throttle.pause_s("a") == expected_s
        clock.now_s += expected_s
        assert throttle.pause_s("a") == 0.0
    assert throttle.pause_s("b") == 0.0
    for _ in range(2):
        throttle.answered("a")  # 16 s, then 8 s and 4 s
    throttle.throttled("a")
    assert throttle.pause_s("a") == 8.0
    clock.now_s += 8.0
    for _ in range(5):
        throttle.answered("a")
    throttle.answered("a")
    throttle.throttled("a")
    assert throttle.pause_s("a") == 0.5


@pytest.mark.parametrize(
    ("retry_after_s", "pause_s"), [(0.4, 0.5), (0.75, 0.75), (60.0, 60.0), (3600.0, 60.0)]
)
def test_the_store_decides_how_long_a_pause_is_within_a_limit(pauses, retry_after_s, pause_s):
    clock, metrics = Clock(), Metrics()
    throttle = Throttle(metrics, clock)
    throttle.throttled("a", retry_after_s)
    assert throttle.pause_s("a") == pause_s
    throttle.throttled("a", 0.1)
    assert throttle.pause_s("a") == pause_s


def test_a_stop_during_a_wait_ends_it_and_no_further_attempt_is_made(clock, monkeypatch):
    stop = Event()

    def stopped(*_: float) -> float:
        stop.set()
        return 3600.0

    monkeypatch.setattr(retry.random, "uniform", stopped)
    request = Request(clock, *errors(2))
    with pytest.raises(StoreUnavailable, match="failure 0"):
        request.sent(POLICY, stop)
    assert request.attempts == 1
