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

from ego4dfs.errors import StoreError

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


class Overtaken(Exception):  # noqa: N818 - a state
    """The other request for these bytes was faster; the sink of this one takes no more."""


class Hedging:
    """When requests are late, and how many second ones may be sent. Safe from several threads."""

    def __init__(self, count: Callable[[], None] = lambda: None) -> None:
        """Know of no requests: none is late before MIN_SAMPLES of its kind were answered.

        `count` is called for each second request.
        """
        self._count = count
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
        """Return whether one more request, for `size` bytes, may be sent; it is counted then."""
        with self._lock:
            is_allowed = self._requests >= 1 and self._bytes >= size
            if is_allowed:
                self._requests -= 1
                self._bytes -= size
        if is_allowed:
            self._count()
        return is_allowed


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
        self._second_ended = threading.Event()
        self._lock = threading.Lock()
        self._late_s = self._began_s + hedging.delay_s(kind)  # inf when no second one is sent
        self._winner = 0  # the number of the one that brings the bytes
        self._has_second = False

    @property
    def late_in_s(self) -> float:
        """Seconds until it is late, at least 0; `inf` if no second request will be sent."""
        return max(0.0, self._late_s - time.monotonic())

    def send_first(self) -> None:
        """Send the first GET. Raises what `send` raises, but not before the second has ended."""
        try:
            self._send(partial(self._take, 1))
        finally:
            with self._lock:
                self._late_s = inf
                must_wait = self._has_second and self._winner != 1
            if must_wait:
                self._second_ended.wait()

    def send_second(self) -> None:
        """Send the second GET, once, if nothing has arrived yet and Hedging allows it."""
        with self._lock:
            if self._late_s == inf:
                return
            self._late_s = inf
            self._has_second = self._hedging.allows(self._size)
        if self._has_second and not self._submit(self._run_second):
            self._second_ended.set()

    def _run_second(self) -> None:
        try:
            if not self._winner:
                self._send(partial(self._take, 2))
        except (Overtaken, StoreError) as error:  # the first one decides what readers get
            log.debug("the second request for late bytes has ended: %s", error)
        finally:
            self._second_ended.set()

    def _take(self, number: int) -> None:
        """Let one of the two pass its bytes on. Raises Overtaken if the other one does."""
        with self._lock:
            is_first = not self._winner
            if is_first:
                self._winner, self._late_s = number, inf
            is_winner = self._winner == number
        if is_first:
            self._hedging.record(self._kind, self._size, time.monotonic() - self._began_s)
        if not is_winner:
            raise Overtaken
