"""The media facts on disk: rows in the facts' database, each of one version of a video."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ego4dfs.facts.media_facts import MediaFacts
from ego4dfs.facts.table import FactsTable, Row, batches, with_checksums
from ego4dfs.near import SharedFacts
from ego4dfs.store import MAX_OBJECT_BYTES

if TYPE_CHECKING:  # it imports numpy, which takes 0.1 s
    from ego4dfs.media import MediaIndex

_COLUMNS = "url, size, etag, index_start, index_stop, timescale, end_ticks, key_frames"
_VALUES = ", ".join("?" * 9)
_INSERT = f"INSERT OR REPLACE INTO media ({_COLUMNS}, proof) VALUES ({_VALUES})"  # noqa: S608 - only our own names are inserted
_MAX_STORED = 1 << 63
_NUMBERS = 4  # of a row, between the version and the groups


class IndexPlace(NamedTuple):
    """Where the index of an object of `size` bytes is."""

    size: int
    place: range


class MediaTable:
    """Media facts by URL; they are valid for one size and ETag. A damaged row counts as missing.

    Costs are those of FactsTable: if the table cannot be used, the facts are unknown. Facts that it
    does not have are read from `shared`, and those that are new are written there.
    """

    def __init__(self, table: FactsTable, shared: SharedFacts | None = None) -> None:
        """Use the database of `table`, and what other nodes share."""
        self._table = table
        self._shared = shared

    def get(self, url: str, size: int, etag: str) -> MediaFacts | None:
        """Return the facts of this version of an object, or None if they are unknown."""
        for row in self._table.rows_of("media", _COLUMNS, (url,)):
            if row[1:3] == (size, etag):
                return facts_in(row)
        content = self._shared.media(url, size, etag) if self._shared is not None else None
        shared = _shared_row((url, size, etag), content) if content is not None else None
        facts = facts_in(shared) if shared is not None else None
        if shared is not None and facts is not None:
            self._write(shared)
        return facts

    def record(self, url: str, size: int, etag: str, index: MediaIndex) -> MediaFacts | None:
        """Record the facts of an index, and return them; None if facts cannot describe it."""
        facts = self.get(url, size, etag)
        if facts is None:
            try:
                facts = MediaFacts.of(index)
            except ValueError:
                return None
            self.put(url, size, etag, facts)
        return facts

    def put(self, url: str, size: int, etag: str, facts: MediaFacts) -> None:
        """Record facts. Those that SQLite cannot store are not recorded."""
        if size > MAX_OBJECT_BYTES or max(facts.timescale, facts.end) >= _MAX_STORED:
            return
        try:
            f"{url}{etag}".encode()
        except UnicodeEncodeError:
            return
        index = facts.index
        values = (index.start, index.stop, facts.timescale, facts.end, facts.packed())
        row = (url, size, etag, *values)
        self._write(row)
        if self._shared is not None:
            self._shared.add_media(url, size, etag, _shared_content(row))

    def _write(self, row: Row) -> None:
        self._table.write((_INSERT, with_checksums([row])))

    def rows(self, urls: Iterable[str]) -> Iterator[Row]:
        """Yield the rows of these objects that have one, as `insert` takes them."""
        for some in batches(urls):
            yield from self._table.rows_of("media", _COLUMNS, some)

    def insert(self, rows: Sequence[Row]) -> set[str]:
        """Insert rows of objects that have none; return their URLs. Raises CacheError.

        A row has URL, size and ETag, then start and stop of the index, time scale, end and packed
        groups of its facts, which `facts_in` returns.
        """
        return self._table.insert("media", rows)

    def places(self, directory_url: str, limit: int) -> Iterator[IndexPlace]:
        """Yield the places of some indexes of objects whose URL is `directory_url` and a name."""
        for row in self._table.rows_below("media", _COLUMNS, directory_url, limit):
            size, start, stop = row[1], row[3], row[4]
            is_whole = all(type(number) is int for number in (size, start, stop))
            if is_whole and 0 <= start < stop <= size:
                yield IndexPlace(size, range(start, stop))


def facts_in(row: Row) -> MediaFacts | None:
    """Return the facts in a row of MediaTable, or None if they cannot be right."""
    size, index_start, index_stop, timescale, end, packed = row[1], *row[3:]
    try:
        facts = MediaFacts.unpacked(range(index_start, index_stop), timescale, end, packed)
    except (TypeError, ValueError):
        return None
    return facts if facts.is_within(size) else None


def _shared_content(row: Row) -> bytes:
    """Return a row as a line of JSON, and the packed groups after it."""
    return json.dumps(row[:-1]).encode() + b"\n" + bytes(row[-1])


def _shared_row(version: Row, content: bytes) -> Row | None:
    """Return the row of a version that `_shared_content` has made, or None if it is none."""
    line, _, packed = content.partition(b"\n")
    try:
        found = tuple(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = found[len(version) :]
    is_right = found[: len(version)] == version and len(numbers) == _NUMBERS
    if not is_right or not all(type(n) is int and 0 <= n < _MAX_STORED for n in numbers):
        return None
    return (*found, packed)
