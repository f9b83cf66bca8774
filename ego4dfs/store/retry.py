"""Retry policy: how often, and for how long, a request that failed is sent again.

tenacity is imported with this module, not at the first failure: when the process has no file
descriptor left, an import fails too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from threading import Event
from typing import Any, Generic, TypeVar, cast

import tenacity

from ego4dfs.errors import StoreUnavailable, detach
from ego4dfs.runtime.deadline import (
    ATTEMPT_S,
    BEGIN_S,
    FLOOR_BYTES,
    QUIET_S,
    THROTTLED_S,
    call_remaining_s,
)
from ego4dfs.store.breaker import CircuitOpen
from ego4dfs.store.classify import Outpaced, Throttled

Result = TypeVar("Result")

MAX_WAIT_S = 4.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts`, none begun later than `timeout_s` after the first.

    While the store throttles, attempts continue for `throttled_s`; the pause between them is that
    of the bucket's Throttle.
    """

    max_attempts: int
    timeout_s: float
    first_wait_s: float = 0.25
    throttled_s: float = THROTTLED_S

    def call(
        self, request: Callable[[], Result], stop: Event, position: Callable[[], int]
    ) -> Result:
        """Return what `request` returns; repeat it with back-off and jitter while that may help.

        `position` returns how many bytes were received: an attempt that timed out but received
        some is not counted. Once `stop` is set, the last failure is raised without a wait or a
        further attempt.
        """
        attempts = _Attempts(self, request, stop, position)
        try:
            return request()  # nearly all succeed, and tenacity's loop takes 20 µs
        except StoreUnavailable as error:
            if not is_transient(error):
                raise
            attempts.first_failure = detach(error)
        outcome = _retrying(stop)(attempts)
        if not isinstance(outcome, _Failure):
            return outcome
        try:
            raise outcome.error
        finally:
            del outcome, attempts  # else a cycle: the error refers to this frame from now on


@dataclass(frozen=True, slots=True)
class _Failure:
    """An exception as the result of an attempt.

    If it were raised through tenacity's loop, whose state keeps it, it would be in a cycle with
    the frame of the loop, and with all buffers that callers have.
    """

    error: Exception


class _Attempts(Generic[Result]):
    """The attempts of one call: makes one when called, and decides whether it was the last.

    `first_failure` is the failure of an attempt that was made before: the first call returns it.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        request: Callable[[], Result],
        stop: Event,
        position: Callable[[], int],
    ) -> None:
        self._policy = policy
        self._request = request
        self._stop = stop
        self._position = position
        self.first_failure: StoreUnavailable | None = None
        self._failed: StoreUnavailable | None = None
        self._began_s = self._since_s = self._failed_s = time.monotonic()
        self._failures = 0
        self._received = position()

    def __call__(self) -> Result | _Failure:
        """Make one attempt; return the previous failure instead if `stop` was set meanwhile."""
        if self.first_failure is not None:
            failure, self.first_failure = self.first_failure, None
            return _Failure(failure)
        if self._failed is not None and self._stop.is_set():
            return _Failure(self._failed)
        try:
            return self._request()
        except Exception as error:  # noqa: BLE001 - raised by `call`
            return _Failure(detach(error))

    def last(self, state: tenacity.RetryCallState) -> _Failure:
        """Return the failure to raise."""
        # A failure because the store was closed is less informative than the one before it.
        before = self._failed if self._stop.is_set() else None
        return _Failure(before or _failure(state))

    def is_last(self, state: tenacity.RetryCallState) -> bool:
        """Return whether the attempt that failed was the last one."""
        error = _failure(state)
        if self._stop.is_set():
            return True
        self._failed = error
        now_s, received = time.monotonic(), self._position()
        lasted_s, self._failed_s = now_s - self._failed_s, now_s
        new_bytes, self._received = received - self._received, received
        if call_remaining_s() < ATTEMPT_S:
            return True
        if isinstance(error, Throttled):
            self._since_s, self._failures = now_s, 0
            return now_s - self._began_s >= self._policy.throttled_s
        if new_bytes >= FLOOR_BYTES and lasted_s >= QUIET_S / 2:  # a slow line, not a failure
            self._since_s, self._failures = now_s, 0
            return False
        if isinstance(error, Outpaced):
            self._since_s = now_s  # its time says nothing about the next connection
        self._failures += 1
        if self._failures >= self._policy.max_attempts:
            return True
        return now_s - self._since_s >= self._policy.timeout_s

    def wait_s(self, state: tenacity.RetryCallState) -> float:
        """Return how long to wait before the next attempt; 0 if the bucket's Throttle waits."""
        if isinstance(_failure(state), Throttled):
            return 0.0
        first_s = self._policy.first_wait_s
        step_s = min(MAX_WAIT_S, first_s * 2.0 ** min(state.attempt_number - 1, 10))
        return step_s + random.uniform(0, min(first_s, MAX_WAIT_S))  # noqa: S311 - no secret


@lru_cache(maxsize=16)
def _retrying(stop: Event) -> tenacity.Retrying:
    """Return tenacity's loop. It is cached, because creating one takes 15 µs."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_result(_is_transient_failure),
        stop=lambda state: _attempts(state).is_last(state),
        wait=lambda state: _attempts(state).wait_s(state),
        sleep=tenacity.sleep_using_event(stop),
        retry_error_callback=lambda state: _attempts(state).last(state),
    )


def _is_transient_failure(outcome: object) -> bool:
    return isinstance(outcome, _Failure) and is_transient(outcome.error)


def _attempts(state: tenacity.RetryCallState) -> _Attempts[Any]:
    return cast("_Attempts[Any]", state.fn)


def _failure(state: tenacity.RetryCallState) -> StoreUnavailable:
    """Return what the last attempt failed with: `is_transient` admits nothing else."""
    outcome = cast("Future[_Failure]", state.outcome).result()
    return cast("StoreUnavailable", outcome.error)


def is_transient(error: BaseException) -> bool:
    """Return whether another attempt may succeed."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, CircuitOpen)


OBJECTS = RetryPolicy(max_attempts=5, timeout_s=BEGIN_S)
# Manifests that were read before are cached: few attempts, because the cached one is used then.
MANIFESTS = RetryPolicy(max_attempts=2, timeout_s=BEGIN_S, throttled_s=30.0)
