"""LastBytes: the last bytes of an object, requested at the same time as its first ones.

The index of a video is often at its end, and a range can be counted from the end: so it need not
wait for the answer that says where the end is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ego4dfs.blocks import PART_SIZE, ObjectRef
from ego4dfs.errors import AccessDenied, ObjectMissing, StoreError
from ego4dfs.runtime.daemon_threads import DaemonThreadPool
from ego4dfs.runtime.deadline import ATTEMPT_S, call_within
from ego4dfs.session import Session
from ego4dfs.store import Fetched, ObjectFacts, is_past_end

log = logging.getLogger(__name__)

Keep = Callable[[ObjectFacts], None]

MAX_REQUESTS = 32
"""Requests at a time."""
WAIT_S = 1.0
"""How long to wait for the last bytes when the first ones have arrived."""
MAX_FAILURES = 3
"""After so many requests in a row that failed or came late, no more are sent."""


class LastBytes:
    """Requests for the ends of objects of which nothing is known. Safe from several threads.

    They are a guess: whatever goes wrong with one costs time, and no error. A store that does not
    answer such requests, or not in time, gets no more of them after MAX_FAILURES.
    """

    def __init__(self, session: Session) -> None:
        """Fetch from the store of `session`, into its cache."""
        self._session = session
        self._pool = DaemonThreadPool("last-bytes")
        self._slots = threading.BoundedSemaphore(MAX_REQUESTS)
        self._failures = 0  # in a row

    def request(self, url: str, count: int) -> Keep:
        """Request the last `count` bytes of an object, and do not wait.

        The function that is returned caches the whole parts of them, if they are of the version
        with its facts. It waits WAIT_S for them at most. Nothing is requested if MAX_REQUESTS run.
        """
        found: list[Fetched] = []
        has_ended = threading.Event()

        def fetch() -> None:
            try:
                found.extend(self._fetch(url, count))
            finally:
                self._slots.release()
                has_ended.set()

        def keep(facts: ObjectFacts) -> None:
            if not has_ended.wait(WAIT_S):
                self._failures += 1
            for fetched in found:
                self._put(url, facts, fetched)

        if self._failures < MAX_FAILURES and self._slots.acquire(blocking=False):
            if self._pool.submit(fetch, limit=MAX_REQUESTS):
                return keep
            self._slots.release()
        return lambda _: None

    def close(self) -> None:
        """Send no more requests; those that run end with the store."""
        self._pool.close(0)

    def _fetch(self, url: str, count: int) -> list[Fetched]:
        """Return the answer, or nothing if there is none."""
        try:
            with call_within(ATTEMPT_S):
                fetched = self._session.store.read_range(url, -count, 0)
        except StoreError as error:
            is_about_object = isinstance(error, (AccessDenied, ObjectMissing)) or is_past_end(error)
            self._failures += not is_about_object
            log.info("%s: its last bytes cannot be fetched ahead: %s", url, error)
            return []
        self._failures = 0
        return [fetched]

    def _put(self, url: str, facts: ObjectFacts, fetched: Fetched) -> None:
        if fetched.facts != facts:
            return  # the object was replaced between the two answers
        ref = ObjectRef.of(self._session.store.source, url, facts.size, facts.etag)
        start = -(-fetched.start // PART_SIZE) * PART_SIZE
        self._session.reader.put(ref, start, fetched.data[start - fetched.start :])
