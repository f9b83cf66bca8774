"""An index of object metadata: size, ETag, version id and time by URL.

Manifests have no sizes, so each object costs one HEAD request, once. The index outlives the mount.
Objects of a release do not change; if one does, a read with If-Match fails, and its facts are
removed. `FactsIndex.media` are the media facts, in the same database.

The rows are in SQLite, not in diskcache: three to four times as fast to write, and queried by URL.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from pathlib import Path

from ego4dfs.errors import (
    AccessDenied,
    CacheError,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    detach,
    renewed,
)
from ego4dfs.facts.batch_head import Sweeps
from ego4dfs.facts.media_table import MediaTable
from ego4dfs.facts.shared_sweep import WRITE_URLS, SharedSweep
from ego4dfs.facts.table import INSERT_WAIT_S, LOCK_WAIT_S, FactsTable
from ego4dfs.facts.write_queue import WriteQueue
from ego4dfs.near import SharedFacts
from ego4dfs.runtime.deadline import (
    ANSWER_S,
    CLOSE_S,
    QUIET_S,
    THROTTLED_S,
    Deadline,
    call_remaining_s,
)
from ego4dfs.runtime.range_locks import RangeLocks
from ego4dfs.runtime.watch import Watches
from ego4dfs.store import ObjectFacts, ObjectStore, WrongSize

log = logging.getLogger(__name__)

REFUSAL_VALID_S = 3600.0
"""How long a recorded refusal, or missing object, is valid for a stat; for an open it is less."""

CLOSE_WAIT_S = CLOSE_S / 4
"""How long `close` waits for HEAD requests in progress."""

_BATCH = 100  # rows; after a kill at most this many requests are repeated
_UNWRITTEN_IN_SWEEPS = 2 * WRITE_URLS  # rows; a sweep writes what it has fetched

_Fetch = Callable[[str], ObjectFacts]


class FactsIndex:
    """ObjectFacts by URL: from memory, from disk, from other nodes, or by one HEAD request.

    Safe from several threads and processes. One thread of one process fetches the facts of a URL,
    and others wait for its result; what is fetched ahead waits for no other process. What was
    read from disk or by a HEAD request never replaces what another thread has recorded or removed
    since that began. `_lock` guards `_in_flight`, and the changes of `_known` and `_queue`; it is
    never held during I/O. While another process has locked the table, its rows count as unknown,
    and writes are deferred. `_recalling` is held while one thread reads what other nodes share, for
    a bounded time: else the others would send the requests that this saves.
    """

    def __init__(
        self, directory: Path, store: ObjectStore, shared: SharedFacts | None = None
    ) -> None:
        """Open `facts.sqlite` in the directory of one source; `shared` are facts of other nodes.

        Raises CacheError.
        """
        self._store = store
        self._shared = shared
        self._recalling = threading.Lock()
        self._known: dict[str, ObjectFacts] = {}
        self._in_flight: dict[str, Future[ObjectFacts]] = {}
        self._lock = threading.Lock()
        self._watches = Watches(self._lock)
        self._totals = (0, 0)
        self._sweeps = Sweeps(self.flush)
        self._table = FactsTable(directory / "facts.sqlite")
        self._queue = WriteQueue(self._table)
        self._requests = RangeLocks(directory / "requests.lock")
        self.media = MediaTable(self._table, shared)

    def peek(self, url: str) -> ObjectFacts | None:
        """Return the facts if they are known; never makes a request."""
        return self._known.get(url) or self.peek_many([url]).get(url)

    def peek_many(self, urls: Iterable[str]) -> dict[str, ObjectFacts]:
        """Return the known facts of these URLs; never makes a request."""
        wanted = dict.fromkeys(urls)
        unread = [url for url in wanted if url not in self._known]
        if unread:
            self._read(unread)
        return {url: facts for url in wanted if (facts := self._known.get(url)) is not None}

    def get(
        self,
        url: str,
        *,
        refusal_valid_s: float = REFUSAL_VALID_S,
        fetch: Callable[[str], ObjectFacts] | None = None,
    ) -> ObjectFacts:
        """Return the facts; fetch unknown ones by `fetch`, or by a HEAD request.

        Raises StoreError; a refusal not older than `refusal_valid_s` is raised without a request.
        """
        facts = self.peek(url)
        if facts is not None:
            return facts
        self._raise_if_refused(url, refusal_valid_s)
        if url in self._in_flight:  # by a sweep, which has locked it until it is on disk
            return self._fetch_once(url, fetch or self._store.head, batch=1)
        asked_s = time.time()
        with self._requests.held(url, partial(self._queue.write, [url])) as was_held:
            self._read([url])  # another process may have recorded them since
            if was_held:
                self._raise_if_refused(url, time.time() - asked_s)
            self._recall([url])
            return self._fetch_once(url, fetch or self._store.head, batch=1)

    def get_unread(self, url: str, fetch: Callable[[str], ObjectFacts]) -> ObjectFacts:
        """Return the facts from memory, or else by `fetch`: neither disk nor refusals are read.

        They are written with a later batch, or by `flush`. Raises what `fetch` raises.
        """
        return self._fetch_once(url, fetch, batch=_BATCH)

    def flush(self) -> None:
        """Write what is unwritten now, or later if another process has locked the table."""
        self._queue.flush()

    def record(self, url: str, facts: ObjectFacts) -> None:
        """Record facts from another response, such as that of the first GET."""
        with self._lock:
            unwritten = self._set(url, facts)
        if unwritten:
            self.flush()

    def add_unknown(
        self, facts: Mapping[str, ObjectFacts], *, wait_s: float = INSERT_WAIT_S
    ) -> set[str]:
        """Record facts that another machine has fetched, of objects about which nothing is known.

        What this machine has fetched stays, a refusal that is valid too, even if another process
        records it meanwhile. A size of 0 is not added: no GET would show that it is wrong. Returns
        the URLs whose facts were added. Raises CacheError, also if another process has locked the
        table for `wait_s`.
        """
        self.flush()
        known = {*self.peek_many(facts), *self._refused(REFUSAL_VALID_S)}
        new = ((url, f) for url, f in facts.items() if f.size and url not in known)
        rows = [(url, f.size, f.etag, f.version_id, f.mtime_ns) for url, f in new]
        return self._table.insert("facts", rows, wait_s)

    def remove(self, url: str) -> None:
        """Remove facts that a response has shown to be wrong."""
        with self._lock:
            self._known.pop(url, None)
            self._watches.note(url)
            self._queue.add(url, None)
        if self._shared is not None:
            self._shared.distrust(url)
        self.flush()

    def correct(self, url: str, error: ObjectChanged) -> None:
        """Remove facts that a response has shown to be wrong; record the true ones if it had them.

        Another HEAD request would not help if the responses to HEAD requests are wrong.
        """
        self.remove(url)
        if isinstance(error, WrongSize):
            self.record(url, error.facts)

    def confirm(self, url: str, size: int, etag: str) -> None:
        """Record that the response to a GET had this size; written with a later batch.

        Ignored if other facts are known, or none are.
        """
        facts = self._known.get(url)
        if facts is None or facts.has_confirmed_size:
            return
        with self._lock:
            facts = self._known.get(url)
            if facts is None or (facts.size, facts.etag) != (size, etag):
                return
            self._known[url] = confirmed = facts.confirmed()
            self._watches.note(url)
            unwritten = self._queue.confirm(url, confirmed) if confirmed.is_lasting else 0
        if unwritten >= _BATCH:
            self._queue.write_batches(_BATCH)

    def totals(self) -> tuple[int, int]:
        """Return how many objects are known, and the sum of their bytes.

        While another process has locked the table, these are the results of the last query.
        """
        self.flush()
        with suppress(sqlite3.Error):
            self._totals = self._table.totals()
        return self._totals

    def unknown(self, urls: Iterable[str], *, refusal_valid_s: float) -> list[str]:
        """Return the URLs of which neither facts nor a valid refusal are known, each once."""
        wanted = list(dict.fromkeys(urls))
        known = {*self.peek_many(wanted), *self._refused(refusal_valid_s)}
        return [url for url in wanted if url not in known]

    def recall(self, urls: Iterable[str]) -> None:
        """Read what other nodes share of unknown objects, and send no request to the store."""
        self._recall([url for url in urls if url not in self._known])

    def sweep(self, urls: Iterable[str], *, refusal_valid_s: float = REFUSAL_VALID_S) -> None:
        """Fetch all unknown facts by concurrent HEAD requests in the background.

        Those that other nodes share are read first. What other processes fetch at the moment is
        left to them. Stops if the store cannot be reached or rejects the key: each further request
        would fail in the same way.
        """
        unread = partial(self.unknown, refusal_valid_s=refusal_valid_s)
        fetch = partial(self._fetch_for_sweep, fetch=self._store.head, batch=_UNWRITTEN_IN_SWEEPS)
        unknown = self._recall(unread(urls))
        sweep = SharedSweep(unknown, self._requests, unread, fetch, self._queue.write)
        self._sweeps.add(unknown, sweep.run)

    def fetch_ahead(self, url: str, fetch: _Fetch, done: Callable[[], None]) -> bool:
        """Fetch unknown facts in the background by `fetch`, unless they were refused lately.

        Sweeps over directories go on after it. Nothing is fetched while another process fetches
        them. `done` is called at the end, whatever happens. Returns False, and does nothing, if
        there is no thread for it.
        """

        def run(url: str) -> bool:
            try:
                when_written = partial(self._queue.write, [url])
                with self._requests.held_if_free(url, when_written) as is_free:
                    if not is_free or self.peek(url) or self._refusal(url, REFUSAL_VALID_S):
                        return True
                    return self._fetch_for_sweep(url, fetch, batch=1)
            finally:
                done()

        return self._sweeps.add([url], run, before_others=True)

    def close(self) -> None:
        """End the sweeps and close the index, within two seconds even if something hangs."""
        self._sweeps.close(CLOSE_WAIT_S)
        self._queue.close()
        self._table.close()
        self._requests.close()

    def _fetch_for_sweep(self, url: str, fetch: _Fetch, *, batch: int) -> bool:
        """Fetch the facts of one URL; return False if each further request would fail as well."""
        try:
            self._fetch_once(url, fetch, batch=batch)
        except (StoreUnavailable, CredentialsRejected):
            return False
        except StoreError:
            pass  # recorded as a refusal, which a stat of that file reports
        except Exception:
            log.exception("the facts of %s could not be recorded", url)
        return True

    def _fetch_once(self, url: str, fetch: _Fetch, *, batch: int) -> ObjectFacts:
        """Fetch unless another thread does; return its result or ours.

        A request of another thread is waited for at most ANSWER_S, then another one is sent.
        """
        deadline = Deadline.after(THROTTLED_S)
        while not deadline.has_passed:
            with self._lock:
                result = self._in_flight.get(url)
                is_first = result is None
                if result is None:
                    result = self._in_flight[url] = Future()
            if is_first:
                self._fetch(url, result, fetch, batch)
            try:
                error = result.exception(min(ANSWER_S, deadline.remaining_s))
            except FutureTimeoutError:
                if call_remaining_s() > 0:  # else other calls may have more time than this one
                    self._end_flight(url, result)
                continue
            if error is not None:
                raise renewed(error)  # other threads wait for it too
            return result.result()
        text = f"{url}: the request of another thread has no response"
        raise StoreUnavailable(text, url=url)

    def _fetch(self, url: str, result: Future[ObjectFacts], fetch: _Fetch, batch: int) -> None:
        try:
            result.set_result(self._fetch_and_record(url, fetch, batch))
        except BaseException as error:  # noqa: BLE001 - raised in the waiting threads
            if isinstance(error, (AccessDenied, ObjectMissing)) and url not in self._known:
                self._refuse(url, error)
            result.set_exception(detach(error))
        finally:
            self._end_flight(url, result)

    def _end_flight(self, url: str, result: Future[ObjectFacts]) -> None:
        """Let later calls send a request: this one has ended, or takes too long to wait for."""
        with self._lock:
            if self._in_flight.get(url) is result:
                del self._in_flight[url]

    def _fetch_and_record(self, url: str, fetch: _Fetch, batch: int) -> ObjectFacts:
        known = self._known.get(url)  # another thread may have recorded them since
        if known is not None:
            return known
        with self._watches.changes() as changed:
            facts = fetch(url)
            with self._lock:
                if url in changed:
                    return self._known.get(url, facts)
                unwritten = self._set(url, facts)
        if unwritten and batch == 1:
            self.flush()
        elif unwritten >= batch:
            self._queue.write_batches(batch)
        return facts

    def _read(self, urls: Iterable[str]) -> None:
        """Read rows into memory, except those that another thread changes meanwhile."""
        with self._watches.changes() as changed:
            found = self._table.facts([url for url in urls if not self._queue.is_changed(url)])
            with self._lock:
                self._known |= {url: facts for url, facts in found.items() if url not in changed}

    def _recall(self, urls: Sequence[str]) -> Sequence[str]:
        """Read what other nodes know of unknown objects; return those that are still unknown.

        Their tables also have objects that were not asked for: they are written to disk, as those
        of an index file are. What comes from other nodes replaces nothing.
        """
        if self._shared is None or not urls:
            return urls
        if not self._recalling.acquire(timeout=max(0.0, min(QUIET_S, call_remaining_s()))):
            return urls
        try:
            self._read(urls)  # another thread may have added them since
            with self._watches.changes() as changed:
                found = self._shared.facts(url for url in urls if url not in self._known)
                if found:
                    with suppress(CacheError):
                        self.add_unknown(found, wait_s=LOCK_WAIT_S)
                with self._lock:
                    for url in urls:
                        if url in found and url not in changed:
                            self._known.setdefault(url, found[url])
        finally:
            self._recalling.release()
        return [url for url in urls if url not in self._known]

    def _set(self, url: str, facts: ObjectFacts) -> int:
        """Record facts in memory; return how many changes are unwritten. `_lock` is held."""
        self._known[url] = facts
        self._watches.note(url)
        return self._queue.add(url, facts) if facts.is_lasting else 0

    def _refuse(self, url: str, error: AccessDenied | ObjectMissing) -> None:
        if isinstance(error, CredentialsRejected):
            return  # this concerns the key, not the object
        is_missing = isinstance(error, ObjectMissing)
        self._table.record_refusal(url, str(error), time.time(), is_missing=is_missing)

    def _refused(self, kept_s: float) -> set[str]:
        now_s = time.time()
        return self._table.refused_urls(now_s - kept_s, now_s)

    def _raise_if_refused(self, url: str, valid_s: float) -> None:
        refusal = self._refusal(url, valid_s)
        if refusal is not None:
            raise refusal

    def _refusal(self, url: str, valid_s: float) -> AccessDenied | ObjectMissing | None:
        """Return a recorded refusal that is not older than `valid_s`."""
        refusal = self._table.refusal(url) if valid_s else None
        if refusal is None or not 0 <= time.time() - refusal[2] < valid_s:
            return None
        kind = ObjectMissing if refusal[0] else AccessDenied
        return kind(refusal[1], url=url)
