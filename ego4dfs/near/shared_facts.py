"""SharedFacts: facts of objects and videos that one node has fetched and all nodes can read."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice

from ego4dfs.blocks import ObjectRef
from ego4dfs.near.chunks import Damaged, encoded, media_name, table_name
from ego4dfs.near.fact_table import Row, directory_of, is_possible, merged, packed, unpacked
from ego4dfs.near.tier import NearFailed, NearTier
from ego4dfs.near.writes import Writes
from ego4dfs.runtime.recent import Recent
from ego4dfs.store import ObjectFacts
from ego4dfs.store.response_checks import pin_of

log = logging.getLogger(__name__)

REREAD_S = 30.0
"""A table is read again after this time at the earliest; unchanged, it is not sent again."""
MAX_TABLES = 16
"""How many tables are read for one question; facts in more of them count as unknown."""
MAX_UNWRITTEN = 100_000
"""How many facts wait to be written; facts of more objects are not shared."""
WRITE_AFTER_S = 5.0
"""Facts are collected for this time before they are written."""
WRITE_BYTES_PER_S = 200_000
"""The collection takes longer for long tables, so that a node writes not more than this."""
MAX_KEYS = 4096
"""How many objects or tables are remembered, for what is known of them."""
_TRIES = 5
_BETWEEN_TRIES_S = 0.2


@dataclass(frozen=True, slots=True)
class _Read:
    """When a table was read, by time.monotonic, and its ETag, or '' if there was none."""

    at_s: float
    etag: str = ""


class SharedFacts:
    """Facts in the near tier: a table for each directory of the store, and media facts by video.

    They save requests and are never trusted further: bytes are requested with the ETag of their
    facts, so wrong ones cost one more request. With `fills`, facts are written: a thread merges
    what was collected into the table, and replaces it on condition that no other node has
    meanwhile. Safe from several threads; `_lock` guards all state and is not held during I/O.
    """

    def __init__(self, source: str, tier: NearTier, writes: Writes, *, fills: bool) -> None:
        """Use the facts of `source` in `tier`, and write by the threads of `writes`."""
        self._source = source
        self._tier = tier
        self._writes = writes
        self._fills = fills
        self._read: Recent[_Read] = Recent(MAX_KEYS)  # by directory
        self._asked: Recent[bool] = Recent(MAX_KEYS)  # names of media facts
        self._distrusted: Recent[bool] = Recent(MAX_KEYS)  # URLs
        self._unwritten: dict[str, dict[str, Row]] = {}  # by directory, then by URL
        self._longest = 0  # bytes of a table
        self._timer: threading.Timer | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def facts(self, urls: Iterable[str]) -> dict[str, ObjectFacts]:
        """Return all facts in the tables of these objects, by URL; also those of other objects.

        A table is returned once, and again when it has changed: the caller keeps its facts. Facts
        that are not there are unknown; nothing is raised.
        """
        wanted = dict.fromkeys(directory_of(url) for url in urls if url not in self._distrusted)
        wanted.pop("", None)
        found = {}
        for directory in islice(wanted, MAX_TABLES):
            for url, row in self._rows(directory).items():
                if url not in self._distrusted:
                    found[url] = row.facts
        return found

    def add(self, url: str, facts: ObjectFacts, said_s: float) -> None:
        """Write facts later that the store said at `said_s`, in seconds since the epoch.

        Facts that the table has are not replaced by those that were said before. Not written are
        those of empty objects, whose size no GET confirms, those that name no version, and those
        that a reader of the table would refuse.
        """
        directory, row = directory_of(url), Row(facts, int(said_s))
        is_useful = directory and facts.is_lasting and is_possible(url, row)
        if not (self._fills and is_useful):
            return
        with self._lock:
            if self._is_closed or sum(map(len, self._unwritten.values())) >= MAX_UNWRITTEN:
                return
            self._unwritten.setdefault(directory, {})[url] = row
            self._write_later()

    def distrust(self, url: str) -> None:
        """Read no more facts of an object: a response has shown that what was known is wrong."""
        self._distrusted.put(url, True)

    def media(self, url: str, size: int, etag: str) -> bytes | None:
        """Return the media facts of a version of a video, or None; each is requested once."""
        name = media_name(ObjectRef.of(self._source, url, size, etag))
        if name in self._asked or not pin_of(etag):
            return None
        self._asked.put(name, True)
        try:
            content = self._tier.get(name)
        except NearFailed:
            return None
        return None if content is None else bytes(content)

    def add_media(self, url: str, size: int, etag: str, content: bytes) -> None:
        """Write the media facts of a version of a video in the background."""
        if self._fills and pin_of(etag):
            name = media_name(ObjectRef.of(self._source, url, size, etag))
            self._writes.put(name, content, None)

    def write(self) -> None:
        """Begin to write what was collected; `Writes.flush` waits for it."""
        with self._lock:
            timer, self._timer = self._timer, None
            directories = list(self._unwritten)
        if timer is not None:
            timer.cancel()
        for directory in directories:
            self._writes.submit(partial(self._write_table, directory))

    def close(self) -> None:
        """Begin to write what was collected, and collect no more."""
        with self._lock:
            self._is_closed = True  # first: a write that fails starts no timer then
        self.write()

    def _rows(self, directory: str) -> Mapping[str, Row]:
        """Read a table, unless it was read lately or has not changed since."""
        now_s = time.monotonic()
        with self._lock:
            last = self._read.get(directory)
            if last is not None and now_s < last.at_s + REREAD_S:
                return {}
            last = _Read(now_s, last.etag if last is not None else "")
            self._read.put(directory, last)
        try:
            name = table_name(self._source, directory)
            found = self._tier.get_version(name, unless_etag=last.etag)
            if found is None or found.data is None:
                return {}
            rows = unpacked(directory, found.data)
        except (NearFailed, Damaged):
            return {}
        with self._lock:
            self._read.put(directory, _Read(now_s, found.etag))
        log.info("near tier: the facts of %d objects in %s were read", len(rows), directory)
        return rows

    def _write_later(self) -> None:
        """Start the timer if it does not run, as after a fork. `_lock` is held."""
        if self._timer is None or not self._timer.is_alive():
            after_s = WRITE_AFTER_S + self._longest / WRITE_BYTES_PER_S
            timer = threading.Timer(after_s, self.write)
            timer.daemon = True
            with suppress(RuntimeError):  # no thread can be started: `close` writes
                timer.start()
                self._timer = timer

    def _write_table(self, directory: str) -> None:
        with self._lock:
            rows = self._unwritten.pop(directory, {})
        try:
            is_written = not rows or self._merge(directory, rows)
        except NearFailed:
            is_written = False
        if is_written:
            return
        with self._lock:
            newer = self._unwritten.get(directory, {})
            self._unwritten[directory] = {**rows, **newer}
            if not self._is_closed:
                self._write_later()

    def _merge(self, directory: str, rows: Mapping[str, Row]) -> bool:
        """Add rows to the table; False if other nodes replace it all the time."""
        name = table_name(self._source, directory)
        for _ in range(_TRIES):
            stored: dict[str, Row] = {}
            try:
                found = self._tier.get_version(name)
                if found is not None and found.data is not None:
                    stored = unpacked(directory, found.data)
            except Damaged as damage:
                if not damage.is_intact:  # the store may have the right table of all nodes
                    raise NearFailed from None
                self._tier.delete(name)
                found = None
            new = merged(stored, rows)
            if new == stored:
                return True
            content = packed(new)
            if content is None:
                log.info("near tier: the facts of %s are too long to be shared", directory)
                return True
            etag = found.etag if found is not None else ""
            if self._tier.put_if(name, encoded(name, content), etag=etag):
                with self._lock:
                    self._longest = max(self._longest, len(content))
                return True
            time.sleep(random.uniform(0, _BETWEEN_TRIES_S))  # noqa: S311 - so that nodes differ
        return False
