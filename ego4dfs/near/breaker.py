"""NearBreaker: a near tier that fails, or is slow, is not asked for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ego4dfs.near.limits import NearLimits

log = logging.getLogger(__name__)


class NearBreaker:
    """Counts failures in a row, and pauses requests after `limits.failures` of them.

    After the pause one request is sent; its failure doubles the pause, and its success ends it.
    Damage is forgotten once right bytes have arrived: until then an answer without bytes, such as
    "there is no such object", ends a pause, and the next damage begins a longer one. Safe from
    several threads.
    """

    def __init__(
        self, what: str, limits: NearLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a failure; `what` names the requests in the log."""
        self._what = what
        self._limits = limits
        self._clock = clock
        self._failures = 0
        self._damages = 0  # since right bytes have arrived
        self._is_open = False
        self._pause_s = 0.0  # the last pause, 0 if there was none since the last success
        self._retry_at_s = 0.0
        self._is_probing = False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether requests pause."""
        return self._is_open

    def allows(self) -> bool:
        """Return whether a request may be sent now; after a pause, only one at a time may."""
        if not self._is_open:
            return True
        with self._lock:
            if self._is_open and (self._is_probing or self._clock() < self._retry_at_s):
                return False
            self._is_probing = self._is_open
            return True

    def answered(self, *, has_bytes: bool) -> None:
        """Record an answer in time, and whether it has bytes, which are right."""
        if not self._failures and not self._damages:
            return
        with self._lock:
            was_open, self._is_open, self._is_probing = self._is_open, False, False
            self._failures = 0
            if has_bytes:
                self._damages = 0
            if self._damages < self._limits.failures:
                self._pause_s = 0.0
        if was_open:
            log.warning("near tier: %s work again", self._what)

    def failed(self, reason: str, *, is_damage: bool = False) -> None:
        """Record a failure; `is_damage` if the bytes of an answer are wrong."""
        with self._lock:
            self._failures += 1
            self._damages += is_damage
            count = max(self._failures, self._damages if is_damage else 0)
            was_open = self._is_open
            if was_open and not self._is_probing:
                return  # it was sent before the pause
            if not was_open and count < self._limits.failures:
                return
            longer_s = max(self._limits.pause_s, 2 * self._pause_s)
            self._pause_s = min(longer_s, self._limits.max_pause_s)
            self._retry_at_s = self._clock() + self._pause_s
            self._is_open, self._is_probing = True, False
        if not was_open:
            text = "near tier: %s fail (%s); they pause, and S3 serves in their place"
            log.warning(text, self._what, reason)
