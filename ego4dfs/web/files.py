"""A file of the tree as an HTTP response: its headers, and its bytes as they are sent."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio.to_thread
from starlette.responses import Response, StreamingResponse

from ego4dfs.errors import ObjectChanged, StoreUnavailable
from ego4dfs.reader import ExactWindow
from ego4dfs.vfs import VFS, Handle
from ego4dfs.web.conditions import Version, failed_condition, is_range_valid, requested_slice

log = logging.getLogger(__name__)

CHUNK_BYTES = 512 << 10
"""Bytes of one read, and at most held for each client."""
THREADS = 128
"""Reads at a time. Another one waits; a client that takes its bytes slowly uses none."""

# What a browser shows without running anything; all else is offered as a download.
_SHOWN_TYPES = ("video/", "audio/", "image/png", "image/jpeg", "text/csv", "application/json")
_Result = TypeVar("_Result")


class Threads:
    """Threads that read for the event loop, at most THREADS at a time."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def run(self, read: Callable[[], _Result]) -> _Result:
        """Return what `read` returns. If the client is gone, nothing waits for it."""
        return await anyio.to_thread.run_sync(read, limiter=self._limiter, abandon_on_cancel=True)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, its version, the bytes that a request wants, and the first of them."""

    handle: Handle
    version: Version
    wanted: range
    first: bytes


def head(vfs: VFS, path: str, headers: Mapping[str, str]) -> Response:
    """Return the headers of a file; of an object, no bytes are fetched.

    Raises what `VFS.open` and `VFS.stat` raise.
    """
    version = _known_version(vfs, path)
    failed = failed_condition(headers, version)
    if failed is not None:
        return Response(status_code=failed, headers=version.headers)
    return Response(headers={**_headers(path, version), "Content-Length": str(version.size)})


def get(vfs: VFS, path: str, headers: Mapping[str, str], threads: Threads) -> Response:
    """Return a file, or the range of it that a request wants.

    The first bytes are read here, so that a file that cannot be read has the status of its error.
    Raises what `VFS.open` and `VFS.read` raise.
    """
    try:
        return _get(vfs, path, headers, threads)
    except ObjectChanged:  # or its size was wrong; nothing was sent yet
        return _get(vfs, path, headers, threads)


def _get(vfs: VFS, path: str, headers: Mapping[str, str], threads: Threads) -> Response:
    asked = requested_slice(headers)
    handle = vfs.open(path, first_offset=(asked.start or 0) if asked else 0)
    version = _version(vfs, handle)
    failed = failed_condition(headers, version)
    is_part = asked is not None and is_range_valid(headers, version)
    wanted = range(version.size)[asked if is_part and asked else slice(None)]
    if not wanted or failed is not None:
        vfs.confirm(handle)
    if failed is not None:
        return Response(status_code=failed, headers=version.headers)
    if is_part and not wanted:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{version.size}"})
    if handle.window is not None and wanted.stop < version.size:
        handle.window = ExactWindow(wanted.stop)
    opened = Opened(handle, version, wanted, _read(vfs, handle, wanted[:CHUNK_BYTES]))
    sent = {**_headers(path, version), "Content-Length": str(len(wanted))}
    if is_part:
        sent["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{version.size}"
    return StreamingResponse(_body(vfs, opened, threads), 206 if is_part else 200, sent)


async def _body(vfs: VFS, opened: Opened, threads: Threads) -> AsyncIterator[bytes]:
    """Yield the bytes; an error after the first ones ends the connection before its last byte."""
    yield opened.first
    rest = opened.wanted[len(opened.first) :]
    for at in range(0, len(rest), CHUNK_BYTES):
        part = rest[at : at + CHUNK_BYTES]
        yield await threads.run(partial(_read, vfs, opened.handle, part))


def _read(vfs: VFS, handle: Handle, part: range) -> bytes:
    data = vfs.read(handle, part.start, len(part))
    if len(data) < len(part):
        raise StoreUnavailable(f"{handle.path}: ends at {part.start + len(data)}")
    return data


def _known_version(vfs: VFS, path: str) -> Version:
    origin = vfs.origin(path)
    stat = vfs.stat(path) if origin is not None else None
    facts = vfs.session.facts.peek(origin.url) if origin is not None else None
    if stat is None or facts is None or not stat.is_known:
        return _version(vfs, vfs.open(path))
    return Version(facts.size, facts.etag, facts.mtime_ns)


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
    return {**version.headers, "Content-Type": shown, "Cache-Control": "private, no-cache"}
