"""What objects weigh: size, ETag, version and time of every object that was ever asked about.

Manifests have no sizes, so each object costs one HEAD, once. The index outlives the mount; facts
of a release do not change, and where one does after all, a pinned read finds out and forgets it.

Rows in SQLite instead of diskcache: three to four times as fast to store, and queried by URL.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts.table import FactsTable
from ego4dfs.store import ObjectFacts, ObjectStore

log = logging.getLogger(__name__)

REFUSAL_KEPT_S = 3600.0
"""How long a stat believes that an object is refused or missing; an open believes it for less."""

_SWEEP_THREADS = 96
_ROWS_GATHERED = 100  # of a sweep: a killed process asks for so many again

_Ask = Callable[[str], ObjectFacts]
_Keep = Callable[[str, ObjectFacts], None]


@dataclass(slots=True)
class _Sweep:
    """A sweep under way; the `_lock` of its index guards what is left of it."""

    urls: Iterator[str]
    threads: int
    given_up: bool = False


class FactsIndex:
    """ObjectFacts by URL: in memory, then on disk, then by one HEAD.

    Safe from several threads and processes. Each URL is asked for by one thread while others
    wait for its answer. `_lock` guards what is in memory and each use of the table on disk; it is
    never held while the store works.
    """

    def __init__(self, directory: Path, store: ObjectStore) -> None:
        """Open `facts.sqlite` in the directory of one source. Raises CacheError."""
        self._store = store
        self._known: dict[str, ObjectFacts] = {}
        self._unwritten: list[tuple[str, ObjectFacts]] = []
        self._asking: dict[str, Future[ObjectFacts]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sweeps: ThreadPoolExecutor | None = None
        self._table = FactsTable(directory / "facts.sqlite")

    def peek(self, url: str) -> ObjectFacts | None:
        """Return the facts if they are known, without a request."""
        return self._known.get(url) or self.peek_many([url]).get(url)

    def peek_many(self, urls: Iterable[str]) -> dict[str, ObjectFacts]:
        """Return the facts that are known of any of these, by URL, without a request."""
        wanted = dict.fromkeys(urls)
        unread = [url for url in wanted if url not in self._known]
        with self._lock:
            found = dict(self._table.facts(unread))
        self._known |= {url: found[url] for url in unread if url in found}
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
        with self._lock:
            self._known.pop(url, None)
            self._flush()
            self._table.forget(url)

    def totals(self) -> tuple[int, int]:
        """Return how many objects are known, and the sum of their bytes."""
        with self._lock:
            self._flush()
            return self._table.totals()

    def sweep(self, urls: Iterable[str], *, refusal_kept_s: float = REFUSAL_KEPT_S) -> None:
        """Ask for all facts that are not known, concurrently and in the background.

        Stops by itself when the store cannot be reached or rejects the key: each further HEAD
        would end the same way.
        """
        with self._lock:
            if self._stop.is_set():
                return
            if self._sweeps is None:
                self._sweeps = ThreadPoolExecutor(_SWEEP_THREADS, thread_name_prefix="facts")
            sweeps = self._sweeps
        wanted = list(dict.fromkeys(urls))
        answered = {*self.peek_many(wanted), *self._refused(refusal_kept_s)}
        unknown = [url for url in wanted if url not in answered]
        sweep = _Sweep(iter(unknown), min(_SWEEP_THREADS, len(unknown)))
        planned, started = sweep.threads, 0
        try:
            while started < planned:  # and not a task for each: those take 1 KB of memory
                sweeps.submit(self._sweep, sweep)
                started += 1
        except RuntimeError as error:  # no more threads are to be had, or it was closed
            log.info("a sweep has %d of %d threads: %s", started, planned, error)
            self._leave(sweep, planned - started)

    def close(self) -> None:
        """End the sweeps and close the index."""
        with self._lock:
            self._stop.set()
            sweeps = self._sweeps
        if sweeps is not None:
            sweeps.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._flush()
            self._table.close()

    def _sweep(self, sweep: _Sweep) -> None:
        """Be one thread of a sweep; the last one writes what was gathered."""
        while url := self._next_of(sweep):
            self._sweep_one(url, sweep)
        self._leave(sweep)

    def _leave(self, sweep: _Sweep, threads: int = 1) -> None:
        with self._lock:
            sweep.threads -= threads
            if sweep.threads <= 0:
                self._flush()

    def _next_of(self, sweep: _Sweep) -> str:
        if sweep.given_up or self._stop.is_set():
            return ""
        with self._lock:
            return next(sweep.urls, "")

    def _sweep_one(self, url: str, sweep: _Sweep) -> None:
        try:
            self._asked_once(url, self._store.head, self._gather)
        except (StoreUnavailable, CredentialsRejected):
            sweep.given_up = True
        except StoreError:
            pass  # kept as a refusal; the stat of that file will say so
        except Exception:
            log.exception("the facts of %s could not be kept", url)

    def _asked_once(self, url: str, ask: _Ask, keep: _Keep) -> ObjectFacts:
        """Ask unless another thread does, and return its answer or ours."""
        with self._lock:
            asking = self._asking.get(url)
            mine = asking is None
            if asking is None:
                asking = self._asking[url] = Future()
        if mine:
            self._ask(url, asking, ask, keep)
        return asking.result()

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
        with self._lock:
            self._known[url] = facts
            if facts.is_lasting:
                self._unwritten.append((url, facts))
            if len(self._unwritten) >= most:
                self._flush()

    def _flush(self) -> None:
        """Write what was gathered; `_lock` is held."""
        rows, self._unwritten = self._unwritten, []
        if rows:
            self._table.keep(rows)

    def _refuse(self, url: str, error: AccessDenied | ObjectMissing) -> None:
        if isinstance(error, CredentialsRejected):
            return  # says something about the key, nothing about the object
        is_missing = isinstance(error, ObjectMissing)
        with self._lock:
            self._table.refuse(url, str(error), time.time(), is_missing=is_missing)

    def _refused(self, kept_s: float) -> set[str]:
        now_s = time.time()
        with self._lock:
            return self._table.refused(now_s - kept_s, now_s)

    def _raise_if_refused(self, url: str, kept_s: float) -> None:
        if not kept_s:
            return
        with self._lock:
            refusal = self._table.refusal(url)
        if refusal is not None and 0 <= time.time() - refusal[2] < kept_s:
            kind = ObjectMissing if refusal[0] else AccessDenied
            raise kind(refusal[1], url=url)
