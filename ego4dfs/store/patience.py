"""How often and how long a request is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from ego4dfs.deadline import BEGIN_S, FLOOR_BYTES, QUIET_S, THROTTLED_S
from ego4dfs.errors import StoreUnavailable
from ego4dfs.store.breaker import CircuitOpen
from ego4dfs.store.classify import Throttled

if TYPE_CHECKING:
    import tenacity

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
        limits = _Limits(self, stop, position)
        try:
            return call()
        except StoreUnavailable as error:
            if stop.is_set() or not passing(error):
                raise
            return self._spend_rest(call, stop, limits, error)

    def _spend_rest(
        self, call: Callable[[], Result], stop: Event, limits: _Limits, failed: StoreUnavailable
    ) -> Result:
        """Go on after a first attempt that `failed`; tenacity's import is for this case only."""
        import tenacity  # noqa: PLC0415

        back_off = tenacity.wait_exponential(self.wait_initial_s, max=WAIT_MAX_S)
        jitter = tenacity.wait_random(0, min(self.wait_initial_s, WAIT_MAX_S))
        wait = back_off + jitter
        first = True
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            stop=limits.are_reached,
            wait=lambda state: 0.0 if _is_throttled(state) else wait(state),
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        ):
            with attempt:
                if first or stop.is_set():
                    first = False
                    raise failed
                try:
                    return call()
                except StoreUnavailable as error:
                    if not stop.is_set():
                        failed = error
                    raise failed from None
        raise failed


class _Limits:
    """When to try no more: counts of one `spend`."""

    def __init__(self, patience: Patience, stop: Event, position: Callable[[], int]) -> None:
        self._patience = patience
        self._stop = stop
        self._position = position
        self._began_s = self._since_s = self._failed_s = time.monotonic()
        self._failures = 0
        self._reached = position()

    def are_reached(self, state: tenacity.RetryCallState) -> bool:
        """Tell whether the attempt that failed was the last."""
        now_s, reached = time.monotonic(), self._position()
        lasted_s, self._failed_s = now_s - self._failed_s, now_s
        came, self._reached = reached - self._reached, reached
        if self._stop.is_set():
            return True
        if _is_throttled(state):
            self._since_s, self._failures = now_s, 0
            return now_s - self._began_s >= self._patience.throttled_s
        if came >= FLOOR_BYTES and lasted_s >= QUIET_S / 2:  # a slow line, no failure
            self._since_s, self._failures = now_s, 0
            return False
        self._failures += 1
        if self._failures >= self._patience.attempts:
            return True
        return now_s - self._since_s >= self._patience.timeout_s


def _is_throttled(state: tenacity.RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), Throttled)


def passing(error: BaseException) -> bool:
    """Tell whether another attempt may succeed."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, CircuitOpen)


OBJECTS = Patience(attempts=5, timeout_s=BEGIN_S)
# A manifest that was read before is kept: better that copy soon than the newest late.
MANIFESTS = Patience(attempts=2, timeout_s=BEGIN_S, throttled_s=30.0)
