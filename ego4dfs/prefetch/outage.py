"""Outages of the store: how long requests are retried before a run ends (`--retry-for`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.prefetch.failure_limit import FailureLimit
from ego4dfs.store import Interrupted

_ROUNDS = 3
_PAUSES_S = (2.0, 4.0, 5.0)
"""Between attempts; each attempt has the store's own retries inside it."""
_SLICE_S = 0.5

Result = TypeVar("Result")


class OutageTooLong(StoreUnavailable):
    """The store gave no usable answer in the time that a run waits for it."""


class Outage:
    """Whether the store answers, by the requests of one run. Safe from several threads.

    `retry_for_s` bounds one outage; with 0 only a few rounds are tried. A request that fails
    while others are answered is not an outage, and is tried for these few rounds too. Once
    `stopping` is set, no thread waits. `on_wait` is called twice a second by each thread that
    waits.
    """

    def __init__(
        self,
        retry_for_s: float = 0.0,
        stopping: threading.Event | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.retry_for_s = retry_for_s
        self.on_wait = on_wait
        self._stopping = stopping or threading.Event()
        self._lock = threading.Lock()
        self._answered_s = 0.0  # of the monotonic clock, as all times here
        self._began_s = 0.0

    @property
    def lasts_s(self) -> float:
        """How long the outage has lasted, in seconds; 0 while the store answers."""
        with self._lock:
            return time.monotonic() - self._began_s if self._began_s else 0.0

    def answered(self) -> None:
        """Record that the store gave a usable answer."""
        with self._lock:
            self._answered_s = time.monotonic()
            self._began_s = 0.0

    def retry_budget(self) -> RetryBudget:
        """Return the retry state of one request that is about to be sent."""
        return RetryBudget(self)

    def attempt(self, call: Callable[[], Result]) -> Result:
        """Return the result of `call`, retried while permitted. Raises StoreError."""
        budget = self.retry_budget()
        while not (results := self._results(call, budget)):
            pass
        return results[0]

    def _results(self, call: Callable[[], Result], budget: RetryBudget) -> list[Result]:
        """Return the result of one call, or nothing if it has to be repeated."""
        try:
            result = call()
        except StoreUnavailable as error:
            if not budget.allows(error):
                raise
            return []
        except StoreError:
            self.answered()
            raise
        self.answered()
        return [result]

    def has_begun(self, sent_s: float) -> bool:
        """Return whether no request was answered since a failed one was sent; record it."""
        with self._lock:
            if self._answered_s > sent_s:
                return False
            self._began_s = self._began_s or sent_s
            return True

    def pause(self, seconds: float) -> bool:
        """Wait; return whether the run continues."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self.on_wait()
            if self._stopping.wait(min(left_s, _SLICE_S)):
                return False
        return not self._stopping.is_set()


class RetryBudget:
    """How often and how long one request is tried again; used from one thread."""

    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._rounds = 0
        self._failure_limit = FailureLimit(_ROUNDS)
        self._sent_s = self._first_s = time.monotonic()

    def allows(self, error: StoreUnavailable, *, is_further: bool = False) -> bool:
        """Wait after a failed attempt, and return whether to try again.

        `is_further` says that the attempt fetched some bytes: then the retries start again. False
        means that the run is being stopped. Raises `error` after the last retry, or OutageTooLong.
        """
        if is_further:
            self._outage.answered()
            self._rounds = 0
            self._failure_limit.succeeded()
            self._first_s = self._sent_s = time.monotonic()
            return self._outage.pause(0.0)
        self._rounds += 1
        # Truncated answers are never an outage, even if there are many for one object.
        is_outage = not isinstance(error, Interrupted) and self._outage.has_begun(self._sent_s)
        waits = is_outage and self._outage.retry_for_s
        if not waits and self._failure_limit.failed():
            raise error
        waited_s = time.monotonic() - self._first_s
        if is_outage and self._rounds >= _ROUNDS and waited_s >= self._outage.retry_for_s:
            raise _too_long(waited_s, error) from error
        goes_on = self._outage.pause(_PAUSES_S[min(self._rounds, len(_PAUSES_S)) - 1])
        self._sent_s = time.monotonic()
        return goes_on


def _too_long(waited_s: float, error: StoreUnavailable) -> OutageTooLong:
    since = time.strftime("%H:%M:%S", time.localtime(time.time() - waited_s))
    return OutageTooLong(
        f"no usable answer from the store since {since}: {error}",
        url=error.url,
        hint="check the network; --retry-for says how long to wait for the store",
    )
