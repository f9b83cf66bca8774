"""Hedged requests: a second GET of a range whose first one takes far longer than its like.

Some requests of an object store take a hundred times as long as others, with no sign of a failure.
A second one, sent when the first is late, is usually answered at once (Dean and Barroso, "The Tail
at Scale", Communications of the ACM 56(2), 2013).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from math import inf

from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.deadline import ATTEMPT_S, call_within
from ego4dfs.store import SinkEnded

log = logging.getLogger(__name__)

SHARE = 0.02
"""The largest part of all requests, and of their bytes, that second ones may add."""
LATE_FACTOR = 2.0
"""A request is late after this many times the 95th percentile of its like."""
MIN_DELAY_S = 0.05
"""No request is late before: a busy machine delays all threads by some milliseconds."""
_SAMPLES = 128
MIN_SAMPLES = 32
"""No request is late before this many of its kind were answered."""
_MAX_SAVED = 4  # second requests that quiet times allow later: an outage makes all requests late

Kind = tuple[str, int]
"""Requests that take equally long: the bucket, and the size class of what must arrive first."""


class Overtaken(SinkEnded):
    """The other request for these bytes was faster; the sink of this one takes no more."""


class Hedging:
    """When requests are late, and how many second ones may be sent. Safe from several threads."""

    def __init__(self, metrics: Metrics) -> None:
        """Know of no requests: none is late before MIN_SAMPLES of its kind were answered."""
        self._metrics = metrics
        self._samples: dict[Kind, deque[float]] = defaultdict(lambda: deque(maxlen=_SAMPLES))
        self._requests = 0.0
        self._bytes = 0.0
        self._lock = threading.Lock()

    def record(self, kind: Kind, size: int, seconds: float) -> None:
        """Record that a request for `size` bytes had its first bytes after `seconds`."""
        with self._lock:
            self._samples[kind].append(seconds)
            self._requests = min(_MAX_SAVED, self._requests + SHARE)
            self._bytes += SHARE * size

    def delay_s(self, kind: Kind) -> float:
        """Return after which time a request is late; `inf` as long as too few are known."""
        with self._lock:
            ordered = sorted(self._samples[kind])
        if len(ordered) < MIN_SAMPLES:
            return inf
        return max(MIN_DELAY_S, LATE_FACTOR * ordered[len(ordered) * 95 // 100])

    def allows(self, size: int) -> bool:
        """Return whether one more request, for `size` bytes, may be sent now.

        If so, it is taken from the share. None may while the store asks to slow down.
        """
        if self._metrics.is_throttled:
            return False
        with self._lock:
            is_allowed = self._requests >= 1 and self._bytes >= size
            if is_allowed:
                self._requests -= 1
                self._bytes -= size
            return is_allowed

    def count(self) -> None:
        """Count a second request that is sent."""
        self._metrics.add_hedged_request()


class HedgedGet:
    """A GET, and a second one for the same bytes if the first is late.

    The first that brings bytes goes on; the other one ends with Overtaken. Safe from several
    threads; `_lock` guards what follows it in the constructor.
    """

    def __init__(
        self,
        hedging: Hedging,
        kind: Kind,
        size: int,
        send: Callable[[Callable[[], None]], None],
        submit: Callable[[Callable[[], None]], bool],
    ) -> None:
        """Begin now. `send` sends a GET for `size` bytes and waits for them.

        It calls its argument before it passes bytes on; what that raises ends it. `submit` runs a
        function in another thread, or returns False.
        """
        self._hedging = hedging
        self._kind = kind
        self._size = size
        self._send = send
        self._submit = submit
        self._began_s = time.monotonic()
        self._late_s = self._began_s + hedging.delay_s(kind)
        self._second_ended = threading.Event()
        self._lock = threading.Lock()
        self._winner = 0  # the number of the one that passes its bytes on
        self._is_asked = False  # whether a second one was asked for
        self._second_runs = False

    @property
    def late_in_s(self) -> float:
        """Seconds until it is late, at least 0; `inf` if no second request will be sent."""
        if self._winner or self._is_asked:
            return inf
        return max(0.0, self._late_s - time.monotonic())

    def send_first(self) -> None:
        """Send the first GET. Raises what `send` raises.

        If it is overtaken, or the store cannot be reached by it, the second one has ended then.
        """
        is_transient = False
        try:
            self._send(partial(self._take, 1))
        except StoreUnavailable:
            is_transient = True
            raise
        finally:
            with self._lock:
                may_have_bytes = is_transient and self._second_runs and not self._winner
                waits = may_have_bytes or self._winner == 2
                if not waits:
                    self._winner = 1  # a second one that is still in a queue is not sent
            if waits:
                self._second_ended.wait()

    def send_second(self) -> None:
        """Send the second GET, once, if nothing has arrived yet and Hedging allows it."""
        with self._lock:
            if self._winner or self._is_asked:
                return
            self._is_asked = True
        if self._hedging.allows(self._size):
            self._submit(self._run_second)

    def _run_second(self) -> None:
        with self._lock:
            if self._winner:
                return
            self._second_runs = True
        try:
            self._hedging.count()
            with call_within(ATTEMPT_S):  # it is not worth as long a wait as the first one
                self._send(partial(self._take, 2))
        except Overtaken:
            pass
        except StoreError as error:  # the first one decides what readers get
            log.debug("the second request for late bytes: %s", error)
        finally:
            self._second_ended.set()

    def _take(self, number: int) -> None:
        """Let one of the two pass its bytes on. Raises Overtaken if the other one does."""
        with self._lock:
            is_first_piece = not self._winner
            if is_first_piece:
                self._winner = number
        if self._winner != number:
            raise Overtaken
        if is_first_piece:
            self._hedging.record(self._kind, self._size, time.monotonic() - self._began_s)
