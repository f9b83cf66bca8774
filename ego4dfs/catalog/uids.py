"""The uids that an annotation file names, found while it streams by: some are 2 GB of JSON."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VIDEO_KEYS = ("video_uid", "parent_video_uid")
CLIP_KEYS = ("clip_uid", "exported_clip_uid")

# Both begin with what is rare in a file: a search for that is ten times as fast as for quotes.
_VALUE = re.compile(rb'_uid"\s*:\s*"([^"\\]{1,128})"')
_END_OF_KEY = re.compile(rb'-[0-9a-fA-F]{12}"\s*:\s*\{')
_KEY = re.compile(rb'"((?:grp-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$')
_KEY_BYTES = 64  # more than a key before `_uid`, or a uid with its quote, takes
_OVERLAP_BYTES = 512  # more than any match takes, but for blanks that nobody writes


@dataclass(frozen=True, slots=True)
class NamedUids:
    """Uids in lower case, by what they name."""

    videos: frozenset[str]
    clips: frozenset[str]


def uids_in(chunks: Iterable[bytes]) -> NamedUids:
    """Return the uids that a JSON or CSV file names, given as its bytes in pieces of any size.

    In JSON these are the values of `VIDEO_KEYS` and `CLIP_KEYS` at any depth, and uids that are
    keys of objects, as in narration.json; in CSV the columns of those names.
    """
    stream = iter(chunks)
    first = next(stream, b"").removeprefix(b"\xef\xbb\xbf")
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
    for row in csv.DictReader(_lines(first, rest)):
        for key in (*VIDEO_KEYS, *CLIP_KEYS):
            yield key, row.get(key) or ""


def _lines(first: bytes, rest: Iterator[bytes]) -> Iterator[str]:
    pending = first
    for chunk in rest:
        *lines, pending = (pending + chunk).split(b"\n")
        yield from (f"{line.decode(errors='replace')}\n" for line in lines)
    yield from (f"{line.decode(errors='replace')}\n" for line in pending.split(b"\n"))
