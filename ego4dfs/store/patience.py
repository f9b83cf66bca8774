"""How often and how long a request is tried again.

tenacity is imported with this module, not at the first failure: without a descriptor left, an
import fails too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import TypeVar

import tenacity

from ego4dfs.errors import StoreUnavailable
from ego4dfs.runtime.deadline import BEGIN_S, FLOOR_BYTES, QUIET_S, THROTTLED_S
from ego4dfs.store.breaker import CircuitOpen
from ego4dfs.store.classify import Throttled

Result = TypeVar("Result")

WAIT_MAX_S = 4.0


def _nothing() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Patience:
    """At most `attempts`, none begun later than `timeout_s` after the first.

    While the store throttles, attempts go on for `throttled_s`; the pause between them is the
    bucket's.
    """

    attempts: int
    timeout_s: float
    wait_initial_s: float = 0.25
    throttled_s: float = THROTTLED_S

    def spend(
        self, call: Callable[[], Result], stop: Event, position: Callable[[], int] = _nothing
    ) -> Result:
        """Return what `call` returns, tried again with back-off and jitter while it may pass.

        `position` is how many bytes have come: an attempt that is given up for its time, but
        brought some on, counts as none. Once `stop` is set nothing is waited for or tried again:
        the last failure is raised.
        """
        limits = _Limits(self, position, stop)
        try:
            return call()  # nearly always that is all, and building what follows takes 18 µs
        except StoreUnavailable as error:
            first = [error]
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            stop=lambda state: limits.are_reached(_failure(state)),
            wait=lambda state: self._pause_s(_failure(state), state.attempt_number),
            sleep=limits.pause,
            reraise=True,
        )
        return attempts(partial(_after, first, call))

    def _pause_s(self, failed: StoreUnavailable, failures: int) -> float:
        """Return how long to wait after so many failures; for a throttled one the bucket waits."""
        if isinstance(failed, Throttled):
            return 0.0
        step_s = min(WAIT_MAX_S, self.wait_initial_s * 2.0 ** min(failures - 1, 10))
        jitter_s = random.uniform(0, min(self.wait_initial_s, WAIT_MAX_S))  # noqa: S311 - no secret
        return step_s + jitter_s


class _Limits:
    """When to try no more: counts of one `spend`."""

    def __init__(self, patience: Patience, position: Callable[[], int], stop: Event) -> None:
        self._patience = patience
        self._position = position
        self._stop = stop
        self._failed: StoreUnavailable | None = None
        self._began_s = self._since_s = self._failed_s = time.monotonic()
        self._failures = 0
        self._reached = position()

    def are_reached(self, error: StoreUnavailable) -> bool:
        """Tell whether the attempt that failed with `error` was the last."""
        if self._stop.is_set():
            # What fails because of the end says less than what failed before it.
            raise self._failed or error
        self._failed = error
        now_s, reached = time.monotonic(), self._position()
        lasted_s, self._failed_s = now_s - self._failed_s, now_s
        came, self._reached = reached - self._reached, reached
        if isinstance(error, Throttled):
            self._since_s, self._failures = now_s, 0
            return now_s - self._began_s >= self._patience.throttled_s
        if came >= FLOOR_BYTES and lasted_s >= QUIET_S / 2:  # a slow line, no failure
            self._since_s, self._failures = now_s, 0
            return False
        self._failures += 1
        if self._failures >= self._patience.attempts:
            return True
        return now_s - self._since_s >= self._patience.timeout_s

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt; raise the last failure if the end comes meanwhile."""
        if self._stop.wait(seconds) and self._failed is not None:
            raise self._failed


def _after(first: list[StoreUnavailable], call: Callable[[], Result]) -> Result:
    """Fail as the first attempt did, and then make further ones."""
    if first:
        raise first.pop()
    return call()


def _failure(state: tenacity.RetryCallState) -> StoreUnavailable:
    """Return what the last attempt failed with; `passing` lets nothing else come here."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, StoreUnavailable):
        raise TypeError(f"an attempt ended with {error!r}")
    return error


def passing(error: BaseException) -> bool:
    """Tell whether another attempt may succeed."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, CircuitOpen)


OBJECTS = Patience(attempts=5, timeout_s=BEGIN_S)
# A manifest that was read before is kept: better that copy soon than the newest late.
MANIFESTS = Patience(attempts=2, timeout_s=BEGIN_S, throttled_s=30.0)
