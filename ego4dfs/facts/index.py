"""What objects weigh: size, ETag, version and time of every object that was ever asked about.

Manifests have no sizes, so each object costs one HEAD, once. The index outlives the mount; facts
of a release do not change, and where one does after all, a pinned read finds out and forgets it.

Rows in SQLite instead of diskcache: three to four times as fast to store, and queried by URL.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from pathlib import Path

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts.queue import WriteQueue
from ego4dfs.facts.sweeps import Sweeps
from ego4dfs.facts.table import FactsTable
from ego4dfs.runtime.deadline import CLOSE_S, THROTTLED_S
from ego4dfs.store import ObjectFacts, ObjectStore, WrongSize

log = logging.getLogger(__name__)

REFUSAL_KEPT_S = 3600.0
"""How long a stat believes that an object is refused or missing; an open believes it for less."""

CLOSE_WAIT_S = CLOSE_S / 4
"""How long an end waits for answers that are under way."""

_ROWS_GATHERED = 100  # of a sweep: a killed process asks for so many again

_Ask = Callable[[str], ObjectFacts]
_Keep = Callable[[str, ObjectFacts], None]


class FactsIndex:
    """ObjectFacts by URL: in memory, then on disk, then by one HEAD.

    Safe from several threads and processes. Each URL is asked for by one thread while others
    wait for its answer. `_lock` guards `_asking`; it is never held while the store or the disk
    works. What another process holds on disk is not known, and is written later.
    """

    def __init__(self, directory: Path, store: ObjectStore) -> None:
        """Open `facts.sqlite` in the directory of one source. Raises CacheError."""
        self._store = store
        self._known: dict[str, ObjectFacts] = {}
        self._asking: dict[str, Future[ObjectFacts]] = {}
        self._lock = threading.Lock()
        self._totals = (0, 0)
        self._sweeps = Sweeps(self._swept, self._flush)
        self._table = FactsTable(directory / "facts.sqlite")
        self._queue = WriteQueue(self._table)

    def peek(self, url: str) -> ObjectFacts | None:
        """Return the facts if they are known, without a request."""
        return self._known.get(url) or self.peek_many([url]).get(url)

    def peek_many(self, urls: Iterable[str]) -> dict[str, ObjectFacts]:
        """Return the facts that are known of any of these, by URL, without a request."""
        wanted = dict.fromkeys(urls)
        unread = [url for url in wanted if url not in self._known]
        found = self._table.facts(unread) if unread else {}
        self._known |= {url: f for url, f in found.items() if not self._queue.is_dropped(url)}
        return {url: facts for url in wanted if (facts := self._known.get(url)) is not None}

    def get(
        self,
        url: str,
        *,
        refusal_kept_s: float = REFUSAL_KEPT_S,
        ask: Callable[[str], ObjectFacts] | None = None,
    ) -> ObjectFacts:
        """Return the facts, asking the store once if they are not known: by `ask`, or by a HEAD.

        Raises StoreError; a refusal not older than `refusal_kept_s` is raised without a request.
        """
        facts = self.peek(url)
        if facts is not None:
            return facts
        self._raise_if_refused(url, refusal_kept_s)
        return self._asked_once(url, ask or self._store.head, self.learn)

    def learn(self, url: str, facts: ObjectFacts) -> None:
        """Keep facts that came with something else, such as the first GET."""
        self._gather(url, facts, most=1)

    def forget(self, url: str) -> None:
        """Drop facts that a pinned read has proved wrong, and what was believed before them."""
        self._queue.put(url, None)
        self._known.pop(url, None)

    def correct(self, url: str, error: ObjectChanged) -> None:
        """Drop facts that an answer has proved wrong, and keep the true ones if it told them.

        Asking again by a HEAD would not do where it is HEADs that are wrong.
        """
        self.forget(url)
        if isinstance(error, WrongSize):
            self.learn(url, error.facts)

    def totals(self) -> tuple[int, int]:
        """Return how many objects are known, and the sum of their bytes.

        While another process holds the index these are the last that were counted.
        """
        self._flush()
        with suppress(sqlite3.Error):
            self._totals = self._table.totals()
        return self._totals

    def sweep(self, urls: Iterable[str], *, refusal_kept_s: float = REFUSAL_KEPT_S) -> None:
        """Ask for all facts that are not known, concurrently and in the background.

        Stops by itself when the store cannot be reached or rejects the key: each further HEAD
        would end the same way.
        """
        wanted = list(dict.fromkeys(urls))
        answered = {*self.peek_many(wanted), *self._refused(refusal_kept_s)}
        self._sweeps.add([url for url in wanted if url not in answered])

    def close(self) -> None:
        """End the sweeps and close the index, in two seconds whatever hangs."""
        self._sweeps.close(CLOSE_WAIT_S)
        self._queue.close()
        self._table.close()

    def _swept(self, url: str) -> bool:
        """Ask for one URL of a sweep; False when each further question would end the same way."""
        try:
            self._asked_once(url, self._store.head, self._gather)
        except (StoreUnavailable, CredentialsRejected):
            return False
        except StoreError:
            pass  # kept as a refusal; the stat of that file will say so
        except Exception:
            log.exception("the facts of %s could not be kept", url)
        return True

    def _asked_once(self, url: str, ask: _Ask, keep: _Keep) -> ObjectFacts:
        """Ask unless another thread does, and return its answer or ours."""
        with self._lock:
            asking = self._asking.get(url)
            mine = asking is None
            if asking is None:
                asking = self._asking[url] = Future()
        if mine:
            self._ask(url, asking, ask, keep)
        try:
            return asking.result(THROTTLED_S)
        except FutureTimeoutError:
            text = f"{url}: another thread has asked for it, and has no answer"
            raise StoreUnavailable(text, url=url) from None

    def _ask(self, url: str, asking: Future[ObjectFacts], ask: _Ask, keep: _Keep) -> None:
        try:
            facts = self._known.get(url)  # it may have arrived between the look and the flight
            if facts is None:
                facts = ask(url)
                keep(url, facts)
            asking.set_result(facts)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            if isinstance(error, (AccessDenied, ObjectMissing)):
                self._refuse(url, error)
            asking.set_exception(error)
        finally:
            with self._lock:
                del self._asking[url]

    def _gather(self, url: str, facts: ObjectFacts, *, most: int = _ROWS_GATHERED) -> None:
        """Keep facts in memory, and bring them to the disk once there are `most`."""
        self._known[url] = facts
        if facts.is_lasting:
            self._queue.put(url, facts, most=most)

    def _flush(self) -> None:
        self._queue.flush()

    def _refuse(self, url: str, error: AccessDenied | ObjectMissing) -> None:
        if isinstance(error, CredentialsRejected):
            return  # says something about the key, nothing about the object
        is_missing = isinstance(error, ObjectMissing)
        self._table.refuse(url, str(error), time.time(), is_missing=is_missing)

    def _refused(self, kept_s: float) -> set[str]:
        now_s = time.time()
        return self._table.refused(now_s - kept_s, now_s)

    def _raise_if_refused(self, url: str, kept_s: float) -> None:
        if not kept_s:
            return
        refusal = self._table.refusal(url)
        if refusal is not None and 0 <= time.time() - refusal[2] < kept_s:
            kind = ObjectMissing if refusal[0] else AccessDenied
            raise kind(refusal[1], url=url)
