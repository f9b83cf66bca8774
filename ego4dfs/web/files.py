"""A file of the tree as an HTTP response: its headers, and its bytes as they are sent."""

from __future__ import annotations

import errno
import hashlib
import mimetypes
import os
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from ego4dfs.errors import ObjectChanged, StoreUnavailable
from ego4dfs.reader import ExactWindow
from ego4dfs.vfs import VFS, Handle
from ego4dfs.web.conditions import (
    Failed,
    Version,
    failed_condition,
    is_range_valid,
    requested_slice,
)
from ego4dfs.web.threads import Threads

CHUNK_BYTES = 512 << 10
"""Bytes of one read, and at most held for each client."""

# What a browser shows without running anything; all else is offered as a download.
_SHOWN_TYPES = ("video/", "audio/", "image/png", "image/jpeg", "text/csv", "application/json")
_CACHED = {"Cache-Control": "private, no-cache"}


Read = Callable[[int, int], bytes]
"""Return the bytes of [offset, offset + size) that a file has."""


class Portion(NamedTuple):
    """What one answer has, and where the bytes end that are fetched for it."""

    sent: range
    fetched_stop: int


class Portions(Protocol):
    """How much of what a client asks for one answer has."""

    def __call__(self, wanted: range, size: int, read: Read) -> Portion:
        """Return a part of `wanted` that begins where it does, for a file of `size` bytes.

        `read` reads the file. Raises what it raises.
        """


def joined(headers: Headers) -> Headers:
    """Return headers with one line each: several of one name are one list, says RFC 9110, 5.3."""
    return Headers({name: ", ".join(headers.getlist(name)) for name in headers})


def known_version(vfs: VFS, path: str) -> Version | None:
    """Return the version of an object if it is known without a request; None for other files.

    Raises IsADirectoryError, and what `VFS.resolve` raises.
    """
    origin = vfs.origin(path)
    if origin is None and vfs.stat(path).is_dir:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    facts = vfs.session.facts.peek(origin.url) if origin is not None else None
    stat = vfs.stat(path) if facts is not None else None
    if facts is None or stat is None or not stat.is_known:
        return None
    return Version(facts.size, facts.etag, facts.mtime_ns)


def current_version(vfs: VFS, path: str) -> Version:
    """Return the version of a file; of an object, no bytes are fetched.

    Raises what `VFS.open` and `VFS.stat` raise.
    """
    vfs.stat(path)
    return known_version(vfs, path) or _version(vfs, vfs.open(path))


def head(path: str, headers: Mapping[str, str], version: Version) -> Response:
    """Return the headers of a file."""
    failed = failed_condition(headers, version)
    if failed is not None:
        return _unsent(failed, version)
    return Response(headers={**_headers(path, version), "Content-Length": str(version.size)})


def get(
    vfs: VFS,
    path: str,
    headers: Mapping[str, str],
    threads: Threads,
    portions: Portions | None = None,
) -> Response:
    """Return a file, or the range of it that a request wants, or the part that `portions` says.

    The first bytes are read here, so that a file that cannot be read has the status of its error.
    Raises what `VFS.open` and `VFS.read` raise.
    """
    try:
        return _get(vfs, path, headers, threads, portions)
    except ObjectChanged:  # or its size was wrong; nothing was sent yet
        return _get(vfs, path, headers, threads, portions)


def _get(
    vfs: VFS, path: str, headers: Mapping[str, str], threads: Threads, portions: Portions | None
) -> Response:
    asked = requested_slice(headers)
    handle = vfs.open(path, first_offset=(asked.start or 0) if asked else 0)
    version = _version(vfs, handle)
    failed = failed_condition(headers, version)
    is_part = asked is not None and is_range_valid(headers, version)
    wanted = range(version.size)[asked if is_part and asked else slice(None)]
    if not wanted or failed is not None:
        vfs.confirm(handle)
    if failed is not None:
        return _unsent(failed, version)
    if is_part and not wanted:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{version.size}"})
    fetched_stop = wanted.stop
    if is_part and portions is not None:
        wanted, fetched_stop = portions(wanted, version.size, partial(vfs.read, handle))
    if handle.window is not None and wanted.stop < version.size:
        handle.window = ExactWindow(fetched_stop)
    first = [_read(vfs, handle, wanted[:CHUNK_BYTES])]
    sent = {**_headers(path, version), "Content-Length": str(len(wanted))}
    if is_part:
        sent["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{version.size}"
    body = _body(partial(_read, vfs, handle), wanted, first, threads)
    return StreamingResponse(body, 206 if is_part else 200, sent)


async def _body(
    read: Callable[[range], bytes], wanted: range, first: list[bytes], threads: Threads
) -> AsyncIterator[bytes]:
    """Yield the bytes; an error after the first ones ends the connection before its last byte.

    The first bytes are taken out of their list, so that they are not held until the end.
    """
    yield first.pop()
    for at in range(CHUNK_BYTES, len(wanted), CHUNK_BYTES):
        yield await threads.run(partial(read, wanted[at : at + CHUNK_BYTES]))


def _read(vfs: VFS, handle: Handle, part: range) -> bytes:
    data = vfs.read(handle, part.start, len(part))
    if len(data) < len(part):
        raise StoreUnavailable(f"{handle.path}: ends at {part.start + len(data)}")
    return data


def _version(vfs: VFS, handle: Handle) -> Version:
    if handle.made is not None:  # of a video: its bytes are others than those with that ETag
        etag = f"{handle.etag}-{handle.size}"
    elif handle.ref is None:
        etag = hashlib.blake2b(handle.content, digest_size=16).hexdigest()
    else:
        etag = handle.etag
    return Version(handle.size, etag, vfs.stat(handle.path).mtime_ns)


def _headers(path: str, version: Version) -> dict[str, str]:
    kind = mimetypes.guess_type(path)[0] or ""
    shown = kind if kind.startswith(_SHOWN_TYPES) else "application/octet-stream"
    return {**version.headers, **_CACHED, "Content-Type": shown}


def _unsent(status: Failed, version: Version) -> Response:
    return Response(status_code=status, headers={**version.headers, **_CACHED})
