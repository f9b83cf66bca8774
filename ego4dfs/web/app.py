"""The ASGI application: which answer a path gets, and the status of each error."""

from __future__ import annotations

import hmac
import logging
import os
from functools import partial
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes

import anyio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ego4dfs.errors import (
    AccessDenied,
    Ego4DError,
    NotFound,
    ObjectMissing,
    StoreUnavailable,
)
from ego4dfs.runtime.resource_limits import limit_reached
from ego4dfs.runtime.throttled_log import ThrottledLog
from ego4dfs.text import printable
from ego4dfs.vfs import VFS
from ego4dfs.vfs.windows import HIDDEN_DIRECTORY
from ego4dfs.web import files, listing
from ego4dfs.web.hosts import names_loopback
from ego4dfs.web.threads import Threads

log = logging.getLogger(__name__)
_limits = ThrottledLog(log)

READS = 128
"""Reads at a time. Another one waits; a client that takes its bytes slowly uses none."""
LOOKUPS = 16
"""Listings and lookups at a time that need no request to the store. They wait for no read."""

HEADERS = [("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")]
"""Headers of every answer: a page may tell no one its address, which has the token."""

_DEFAULTS = {
    "Cache-Control": "no-store",
    # A page shows names of others. It may load nothing and run nothing.
    "Content-Security-Policy": listing.CONTENT_SECURITY_POLICY,
}

PAGES_DIRECTORY = "browse"
"""Where the pages of `ego4dfs browse` are, beside the tree."""

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (ObjectMissing, 404),
    (NotADirectoryError, 404),
    (AccessDenied, 403),
    (StoreUnavailable, 503),
    (Ego4DError, 502),
)
_RETRY_AFTER_S = 10
_METHODS = ("GET", "HEAD")


class Pages(Protocol):
    """What is served below PAGES_DIRECTORY."""

    async def answer(self, path: str, request: Request) -> Response:
        """Answer a GET or HEAD request for a path below the directory. Raises Ego4DError."""


class Application:
    """Serves a tree at `/TOKEN/`, with `pages` if there are some; without a token, at `/`.

    GET and HEAD. A request without the token is answered with 403, whatever it asks for. So is,
    unless `has_any_host`, one whose Host header is not this machine. All reads of the tree are done
    in threads.
    """

    def __init__(
        self, vfs: VFS, token: str, pages: Pages | None = None, *, has_any_host: bool
    ) -> None:
        self._vfs = vfs
        self._pages = pages
        self._token = token
        self._has_any_host = has_any_host
        self._reads = Threads("ego4dfs-web-read", READS)
        self._lookups = Threads("ego4dfs-web-lookup", LOOKUPS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. If its client leaves, reads that have not begun are not done."""
        response: Response | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
            response = await self._answer(Request(scope))
            group.cancel_scope.cancel()
        if response is not None:
            for name, value in _DEFAULTS.items():
                response.headers.setdefault(name, value)
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw, given, slash = _target(request.scope["raw_path"]), b"", b"/"
        if self._token:
            given, slash, raw = raw.partition(b"/")
        refusal = self._refusal(request, given)
        if refusal is not None:
            return refusal
        path = os.fsdecode(raw)
        try:
            if not slash or (self._pages is not None and path == PAGES_DIRECTORY):
                return self._moved(path, request)
            if self._pages is not None and path.startswith(f"{PAGES_DIRECTORY}/"):
                return await self._pages.answer(path.partition("/")[2], request)
            if path.endswith("/") or not path:
                return await self._listing(path, request)
            return await self._file(path, request)
        except (Ego4DError, OSError) as error:
            return _failure(path, error)

    def _refusal(self, request: Request, token: bytes) -> Response | None:
        if not (self._has_any_host or names_loopback(request.headers.get("Host", ""))):
            return _text(403, "open the address that ego4dfs has printed, not another name")
        if not hmac.compare_digest(token, self._token.encode()):
            return _text(403, "open the address that ego4dfs has printed")
        if request.method not in _METHODS:
            return _text(405, "files can only be read", {"Allow": ", ".join(_METHODS)})
        return None

    async def _listing(self, path: str, request: Request) -> Response:
        rows = await self._threads(path).run(partial(listing.rows_of, self._vfs, path))
        form = listing.JSON if _wants_json(request) else listing.page(path.rstrip("/"))
        if request.method == "HEAD":
            rows = rows[:0]
        parts = listing.parts(form, rows, self._lookups)
        return StreamingResponse(parts, media_type=form.media_type)

    async def _file(self, path: str, request: Request) -> Response:
        headers = files.joined(request.headers)
        try:
            version = await self._threads(path).run(partial(files.known_version, self._vfs, path))
        except IsADirectoryError:
            return self._moved(path, request)
        if request.method == "GET":
            read = partial(files.get, self._vfs, path, headers, self._reads)
            return await self._reads.run(read)
        if version is None:
            version = await self._reads.run(partial(files.current_version, self._vfs, path))
        return files.head(path, headers, version)

    def _threads(self, path: str) -> Threads:
        """Return the threads for a lookup of a path: those of reads if it may need a request."""
        names = [name for name in path.split("/") if name][:2]
        is_known = len(names) < 2 or self._vfs.session.catalog.peek(names[1]) is not None
        return self._lookups if is_known and HIDDEN_DIRECTORY not in names else self._reads

    def _moved(self, path: str, request: Request) -> Response:
        names = [name for name in (self._token, *path.split("/")) if name]
        url = "".join(f"/{quote(os.fsencode(name), safe='')}" for name in names) + "/"
        query = request.url.query
        return RedirectResponse(f"{url}?{query}" if query else url, 308)


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _target(raw: bytes) -> bytes:
    """Return the decoded path of a request without its first slash.

    A client that takes the server for a proxy sends a URL: RFC 9112, section 3.2.2.
    """
    if not raw.startswith(b"/"):
        raw = b"/" + raw.partition(b"://")[2].partition(b"/")[2]
    return unquote_to_bytes(raw)[1:]


def _wants_json(request: Request) -> bool:
    given = request.query_params.get("format")
    return given == "json" if given else "application/json" in request.headers.get("Accept", "")


def _failure(path: str, error: Exception) -> Response:
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    text = "\n".join(filter(None, [str(error), getattr(error, "hint", "")]))
    if isinstance(error, OSError):  # its text may name a file of the cache
        text = f"{printable(path)}: {error.strerror or 'cannot be read'}"
    limit = limit_reached(error)
    if limit is not None:  # all requests fail then
        status, text = 503, f"{limit}\n{limit.hint}"
        _limits.warning("requests fail: %s; %s", limit, limit.hint)
    elif status >= 500:
        log.warning("%s: %s", printable(path), error)
    return _text(status, text, {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None)


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
