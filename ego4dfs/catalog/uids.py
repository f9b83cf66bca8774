"""Search for uids in an annotation file, JSON or CSV, as a stream: some files have 2 GB."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from ego4dfs.config.text_files import as_utf8, text_stream
from ego4dfs.manifest import read_rows

VIDEO_KEYS = ("video_uid", "parent_video_uid")
CLIP_KEYS = ("clip_uid", "exported_clip_uid")

# Both patterns begin with a rare string: a search for it is ten times as fast as one for quotes.
_VALUE = re.compile(rb'_uid"\s*:\s*"([^"\\]{1,128})"')
_END_OF_KEY = re.compile(rb'-[0-9a-fA-F]{12}"\s*:\s*\{')
_KEY = re.compile(rb'"((?:grp-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$')
_KEY_BYTES = 64  # more than a key before `_uid`, or a uid with its quote, takes
_LINE_CHARACTERS = 16 << 20  # the most that is read at a time from a file without line ends
_OVERLAP_BYTES = 512  # more than a match takes


@dataclass(frozen=True, slots=True)
class NamedUids:
    """Uids of videos and of clips, in lower case."""

    videos: frozenset[str]
    clips: frozenset[str]


def uids_in(chunks: Iterable[bytes]) -> NamedUids:
    """Return the uids in a JSON or CSV file, given as chunks of bytes of any size.

    In JSON these are the values of `VIDEO_KEYS` and `CLIP_KEYS` at any depth, and uids that are
    keys of objects, as in narration.json; in CSV the columns of those names. The encoding is
    UTF-8, or UTF-16 with a byte order mark. Damaged quotes are read as in manifests.
    """
    stream = as_utf8(chunks)
    first = next((chunk for chunk in stream if chunk.strip()), b"")
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
        quote = before.rfind(b'"')
        key = before[quote + 1 :].decode(errors="replace") + "_uid" if quote >= 0 else ""
        if key in VIDEO_KEYS or key in CLIP_KEYS:
            yield key, found[1].decode(errors="replace")
    for found in _END_OF_KEY.finditer(window):
        stop = window.index(b'"', found.start())
        uid = _KEY.search(window[max(0, stop - _KEY_BYTES) : stop])
        if uid:
            yield VIDEO_KEYS[0], uid[1].decode()


def _in_csv(first: bytes, rest: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    text = text_stream(itertools.chain((first,), rest))
    records = read_rows(iter(partial(text.readline, _LINE_CHARACTERS), ""))
    header = next((record.fields for record in records if any(record.fields)), [])
    names = [column.strip().lstrip("\ufeff") for column in header]
    places = [(key, names.index(key)) for key in (*VIDEO_KEYS, *CLIP_KEYS) if key in names]
    for record in records if places else ():
        yield from ((key, record.fields[at]) for key, at in places if at < len(record.fields))
