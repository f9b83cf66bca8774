"""Fact table: facts of the objects in one directory of all buckets, as content of one object.

It is JSON, compressed by zlib: a list of rows with URL, size, ETag, version id, time of
modification in ns, and when the store said so, in seconds since the epoch.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ego4dfs.near.chunks import Damaged
from ego4dfs.store import MAX_OBJECT_BYTES, MAX_TIME_NS, ObjectFacts
from ego4dfs.store.response_checks import is_etag

MAX_ROWS = 200_000
"""How many objects a table has at most; facts of more are not shared."""
MAX_JSON_BYTES = 64 << 20
_MAX_COMMAS = 8 * MAX_ROWS
_DIRECTORIES = 3  # such as public/v2/full_scale
_MAX_AHEAD_S = 86400  # clocks of nodes differ
_MAX_URL = 2048  # keys of S3 have at most 1024 bytes


class Row(NamedTuple):
    """The facts of one object, and when the store said them."""

    facts: ObjectFacts
    said_s: int


def directory_of(url: str) -> str:
    """Return which table has an object: the first three directories of its key.

    Each university has a bucket of its own for the same directories. It is empty for objects above,
    such as ego4d.json: they change within a version, so each node asks the store for them.
    """
    _, _, key = url.removeprefix("s3://").partition("/")
    parts = key.split("/", _DIRECTORIES)
    return "/".join(parts[:-1]) if len(parts) > _DIRECTORIES and parts[-1] else ""


def packed(rows: Mapping[str, Row]) -> bytes | None:
    """Return rows by URL as the content of a table, or None if `unpacked` would refuse it."""
    listed = [
        (url, f.size, f.etag, f.version_id, f.mtime_ns, said_s) for url, (f, said_s) in rows.items()
    ]
    data = json.dumps(listed, separators=(",", ":")).encode()
    return zlib.compress(data) if _is_short(data) else None


def unpacked(directory: str, content: bytes) -> dict[str, Row]:
    """Return the rows of the table of a directory by URL, except impossible ones. Raises Damaged.

    A size of 0 is impossible too: no GET would show that it is wrong. So is what was said in the
    future: no true facts would replace it.
    """
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, MAX_JSON_BYTES)
        listed = json.loads(data) if unpacker.eof and _is_short(data) else None
    except (zlib.error, ValueError, RecursionError):
        raise Damaged from None
    if not isinstance(listed, list) or len(listed) > MAX_ROWS:
        raise Damaged
    return {url: row for url, row in _possible(listed) if directory_of(url) == directory}


def merged(stored: Mapping[str, Row], new: Mapping[str, Row]) -> dict[str, Row]:
    """Return stored rows with those of `new` that have other facts which were said later."""
    found = dict(stored)
    for url, row in new.items():
        old = found.get(url)
        if old is None:
            if len(found) < MAX_ROWS:
                found[url] = row
        elif old.facts != row.facts and old.said_s <= row.said_s:
            found[url] = row
    return found


def is_possible(url: str, row: Row) -> bool:
    """Return whether `unpacked` returns a row, of any values."""
    facts, said_s = row
    return (
        0 < facts.size <= MAX_OBJECT_BYTES
        and 0 <= facts.mtime_ns <= MAX_TIME_NS
        and is_etag(facts.etag)
        and facts.version_id.isprintable()
        and url.isprintable()
        and len(url) <= _MAX_URL
        and said_s <= time.time() + _MAX_AHEAD_S
    )


def _is_short(data: bytes) -> bool:
    return len(data) <= MAX_JSON_BYTES and data.count(b",") <= _MAX_COMMAS  # a list may take 1 GiB


def _possible(listed: list[Any]) -> Iterator[tuple[str, Row]]:
    for values in listed:
        with suppress(TypeError, ValueError, AttributeError):
            url, size, etag, version_id, mtime_ns, said_s = values
            row = Row(ObjectFacts(size, etag, version_id, mtime_ns), said_s)
            if type(size) is type(mtime_ns) is type(said_s) is int and is_possible(url, row):
                yield url, row
