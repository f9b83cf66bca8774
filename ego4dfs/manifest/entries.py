"""Entries of a manifest, packed in memory: a million take 150 MB, not 700 MB as objects.

Pure: no disk, no network.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, overload

_SEPARATOR = "\0"
_BASENAME, _UID_MP4 = "", "/"  # stand for a name; no real name is empty or has a slash
_SMALL_BYTES = 8 << 20
_MANY = 50_000  # more names are looked up in packed rows; fewer in a dict, ten times as fast


class Entry(NamedTuple):
    """One object of a dataset, as its manifest lists it.

    `name` is the file name, unique in the directory of the dataset. `uids` are all ids, in lower
    case, that select the row; empty for files that belong to no video. `benchmarks` is None if the
    manifest has no such column. `splits` are strings such as `fho:train`. A clip has the uid of its
    video as `parent`, and its start and end in that video, in seconds, as `window`, if the manifest
    has them.
    """

    row: int
    name: str
    uid: str
    url: str
    uids: frozenset[str]
    benchmarks: frozenset[str] | None
    universities: frozenset[str]
    annotation: str
    splits: frozenset[str] = frozenset()
    parent: str = ""
    window: tuple[float, float] | None = None

    @property
    def is_video(self) -> bool:
        """Whether the file is an MP4, by its name."""
        return self.name.lower().endswith(".mp4")


class _Table:
    """The packed rows: strings in one buffer, and one copy of the values that rows share."""

    def __init__(self) -> None:
        self.texts = bytearray()
        self.ends = array("Q", [0])
        self.rows = array("Q")
        self.shared = array("I")
        self.kinds: list[tuple[Any, ...]] = []
        self.kind_of: dict[tuple[Any, ...], int] = {}

    def text(self, place: int) -> list[str]:
        packed = self.texts[self.ends[place] : self.ends[place + 1]]
        return packed.decode("utf-8", "surrogatepass").split(_SEPARATOR)

    def name_and_url(self, place: int) -> tuple[str, str]:
        name, uid, url = self.text(place)[:3]
        return _name(name, uid, url), url

    def entry(self, place: int) -> Entry:
        name, uid, url, parent, start, stop, *uids = self.text(place)
        benchmarks, universities, annotation, splits = self.kinds[self.shared[place]]
        named = frozenset(found or uid.lower() for found in uids)
        window = (float(start), float(stop)) if start else None
        return Entry(
            self.rows[place],
            *(_name(name, uid, url), uid, url, named, benchmarks, universities),
            *(annotation, splits, parent, window),
        )


def _name(packed: str, uid: str, url: str) -> str:
    if packed == _BASENAME:
        return url.rpartition("/")[2]
    return f"{uid}.mp4" if packed == _UID_MP4 else packed


class Entries(Sequence[Entry]):
    """Entries in the order of their manifest; each access creates a new object.

    Safe from several threads once built.
    """

    def __init__(self, table: _Table | None = None, places: array[int] | None = None) -> None:
        """Contain the rows of a table at these places, or all rows."""
        self._table = table or _Table()
        self._places = places
        self._by_name: array[int] | None = None

    def __len__(self) -> int:
        return len(self._table.rows) if self._places is None else len(self._places)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Entries: ...
    def __getitem__(self, index: int | slice) -> Entry | Entries:
        places = range(len(self)) if self._places is None else self._places
        found = places[index]
        if isinstance(found, int):
            return self._table.entry(found)
        return Entries(self._table, array("I", found))

    def __iter__(self) -> Iterator[Entry]:
        return map(self._table.entry, self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield the name and URL of each entry."""
        return map(self._table.name_and_url, self._all())

    def filtered(self, admits: Callable[[Entry], bool]) -> Entries:
        """Return the entries that pass a filter."""
        entry = self._table.entry
        return Entries(self._table, array("I", (p for p in self._all() if admits(entry(p)))))

    def url_of(self, name: str) -> str | None:
        """Return the URL of the file with this name, or None."""
        if self._by_name is None:
            hashed = [_hash(found) << 32 | place for place, (found, _) in self._numbered()]
            hashed.sort()
            self._by_name = array("Q", hashed)
        at = bisect_left(self._by_name, _hash(name) << 32)
        while at < len(self._by_name) and self._by_name[at] >> 32 == _hash(name):
            found, url = self._table.name_and_url(self._by_name[at] & 0xFFFFFFFF)
            if found == name:
                return url
            at += 1
        return None

    def _all(self) -> Sequence[int]:
        return range(len(self._table.rows)) if self._places is None else self._places

    def _numbered(self) -> Iterator[tuple[int, tuple[str, str]]]:
        return ((place, self._table.name_and_url(place)) for place in self._all())


def filtered(entries: Sequence[Entry], admits: Callable[[Entry], bool]) -> Sequence[Entry]:
    """Return the entries that pass a filter."""
    if isinstance(entries, Entries):
        return entries.filtered(admits)
    return tuple(entry for entry in entries if admits(entry))


def names_and_urls(entries: Sequence[Entry]) -> Entries | Iterator[tuple[str, str]]:
    """Return names and URLs of entries for a tree; many packed entries stay packed."""
    if not isinstance(entries, Entries):
        return ((entry.name, entry.url) for entry in entries)
    return entries if len(entries) > _MANY else entries.files()


class EntryPacker:
    """Packs entries one by one, and finds the entry that has a name."""

    def __init__(self) -> None:
        self._table = _Table()
        # By hash, because names would take twice the memory; by name if two hashes are equal.
        self._place_of_hash: dict[int, int] = {}
        self._place_of_name: dict[str, int] = {}

    def add(self, entry: Entry) -> bool:
        """Pack an entry; return False if it has a NUL, which no name or URL may have."""
        row, name, uid, url, uids, *kind, parent, window = entry
        own = uid.lower()
        if name == url.rpartition("/")[2]:
            packed_name = _BASENAME
        else:
            packed_name = _UID_MP4 if name == f"{uid}.mp4" else name
        ends = map(repr, window) if window else ("", "")
        named = ("" if found == own else found for found in uids)
        texts = (packed_name, uid, url, parent, *ends, *named)
        text = _SEPARATOR.join(texts)
        if text.count(_SEPARATOR) != len(texts) - 1:
            return False
        table = self._table
        self._note(name, len(table.rows))
        table.texts += text.encode("utf-8", "surrogatepass")
        table.ends.append(len(table.texts))
        table.rows.append(row)
        shared = tuple(kind)
        number = table.kind_of.setdefault(shared, len(table.kinds))
        if number == len(table.kinds):
            table.kinds.append(shared)
        table.shared.append(number)
        return True

    def find(self, name: str) -> tuple[int, str] | None:
        """Return row and URL of the entry that has this name, or None."""
        place = self._place_of_hash.get(hash(name))
        if place is not None and self._table.name_and_url(place)[0] != name:
            place = self._place_of_name.get(name)
        if place is None:
            return None
        return self._table.rows[place], self._table.name_and_url(place)[1]

    def entries(self) -> Entries:
        """Return all packed entries."""
        return Entries(self._table)

    def _note(self, name: str, place: int) -> None:
        if self._place_of_hash.setdefault(hash(name), place) != place:
            self._place_of_name[name] = place


class CompressedBytes:
    """Bytes that are rarely read, compressed if they are large."""

    def __init__(self, content: bytes) -> None:
        """Store these bytes."""
        self.size = len(content)
        self._is_compressed = self.size > _SMALL_BYTES
        self._content = zlib.compress(content, 1) if self._is_compressed else content

    def content(self) -> bytes:
        """Return the bytes."""
        return zlib.decompress(self._content) if self._is_compressed else self._content


def _hash(name: str) -> int:
    return hash(name) & 0xFFFFFFFF
