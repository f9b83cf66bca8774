"""The uids that an annotation file names, found while it streams by: some are 2 GB of JSON."""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ego4dfs.manifest import read_rows

VIDEO_KEYS = ("video_uid", "parent_video_uid")
CLIP_KEYS = ("clip_uid", "exported_clip_uid")

# Both begin with what is rare in a file: a search for that is ten times as fast as for quotes.
_VALUE = re.compile(rb'_uid"\s*:\s*"([^"\\]{1,128})"')
_END_OF_KEY = re.compile(rb'-[0-9a-fA-F]{12}"\s*:\s*\{')
_KEY = re.compile(rb'"((?:grp-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$')
_KEY_BYTES = 64  # more than a key before `_uid`, or a uid with its quote, takes
_MARK_BYTES = 3
_LINE_CHARACTERS = 16 << 20  # of a file that has no lines, so much is taken at a time
_OVERLAP_BYTES = 512  # more than any match takes, but for blanks that nobody writes


@dataclass(frozen=True, slots=True)
class NamedUids:
    """Uids in lower case, by what they name."""

    videos: frozenset[str]
    clips: frozenset[str]


def uids_in(chunks: Iterable[bytes]) -> NamedUids:
    """Return the uids that a JSON or CSV file names, given as its bytes in pieces of any size.

    In JSON these are the values of `VIDEO_KEYS` and `CLIP_KEYS` at any depth, and uids that are
    keys of objects, as in narration.json; in CSV the columns of those names. The text is UTF-8, or
    UTF-16 with its mark; a row with damaged quotes is read as manifests' are.
    """
    stream = _as_utf8(chunks)
    first = next(stream, b"")
    found = _in_json if first.lstrip()[:1] in (b"{", b"[") else _in_csv
    videos: set[str] = set()
    clips: set[str] = set()
    for key, uid in found(first, stream):
        (clips if key in CLIP_KEYS else videos).add(uid.strip().lower())
    return NamedUids(frozenset(videos - {""}), frozenset(clips - {""}))


def _in_json(first: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    window = b""
    for chunk in itertools.chain((first,), rest):
        window = window[-_OVERLAP_BYTES:] + chunk
        yield from _named(window)


def _named(window: bytes) -> Iterator[tuple[str, str]]:
    for found in _VALUE.finditer(window):
        before = window[max(0, found.start() - _KEY_BYTES) : found.start()]
        key = before[before.rfind(b'"') + 1 :].decode(errors="replace") + "_uid"
        if key in VIDEO_KEYS or key in CLIP_KEYS:
            yield key, found[1].decode(errors="replace")
    for found in _END_OF_KEY.finditer(window):
        stop = window.index(b'"', found.start())
        uid = _KEY.search(window[max(0, stop - _KEY_BYTES) : stop])
        if uid:
            yield VIDEO_KEYS[0], uid[1].decode()


def _in_csv(first: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    raw = io.BufferedReader(_Pieces(itertools.chain((first,), rest)))
    text = io.TextIOWrapper(raw, "utf-8", errors="replace", newline="")
    records = read_rows(iter(partial(text.readline, _LINE_CHARACTERS), ""))
    header = next((record.fields for record in records if any(record.fields)), [])
    names = [column.strip().lstrip("\ufeff") for column in header]
    places = [(key, names.index(key)) for key in (*VIDEO_KEYS, *CLIP_KEYS) if key in names]
    for record in records if places else ():
        yield from ((key, record.fields[at]) for key, at in places if at < len(record.fields))


class _Pieces(io.RawIOBase):
    """A stream of bytes in pieces, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


def _as_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same text in UTF-8, without its byte order mark, if it has one that says UTF-16."""
    stream = iter(chunks)
    first = b""
    while len(first) < _MARK_BYTES and (chunk := next(stream, b"")):
        first += chunk
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from stream
        return
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in itertools.chain((first,), stream):
        yield decoder.decode(chunk).encode()
