"""The ASGI application: which answer a path gets, and the status of each error."""

from __future__ import annotations

import hmac
import logging
import os
from functools import partial
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from ego4dfs.errors import (
    AccessDenied,
    Ego4DError,
    NotFound,
    ObjectMissing,
    StoreUnavailable,
)
from ego4dfs.vfs import VFS
from ego4dfs.web import files, listing

log = logging.getLogger(__name__)

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (ObjectMissing, 404),
    (NotADirectoryError, 404),
    (UnicodeDecodeError, 404),  # no path of the tree has such bytes
    (AccessDenied, 403),
    (StoreUnavailable, 503),
    (Ego4DError, 502),
)
_RETRY_AFTER_S = 10
# A page shows names of others. It may load nothing, run nothing, and tell no one its address,
# which has the token.
_HEADERS = {
    "Content-Security-Policy": listing.CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def application(vfs: VFS, token: str = "") -> Starlette:
    """Return the application that serves a tree at `/TOKEN/`; without a token, at `/`.

    GET and HEAD. A request without the token is answered with 403, whatever it asks for.
    """
    tree = _Tree(vfs, os.fsencode(token))
    return Starlette(routes=[Route("/{path:path}", tree.answer, methods=["GET"])])


class _Tree:
    """Answers requests. All reads of the tree are done in threads."""

    def __init__(self, vfs: VFS, token: bytes) -> None:
        self._vfs = vfs
        self._token = token
        self._threads = files.Threads()

    async def answer(self, request: Request) -> Response:
        response = await self._threads.run(partial(self._answer, request))
        response.headers.update(_HEADERS)
        return response

    def _answer(self, request: Request) -> Response:
        raw = unquote_to_bytes(request.scope["raw_path"]).removeprefix(b"/")
        if self._token:
            given, slash, raw = raw.partition(b"/")
            if not hmac.compare_digest(given, self._token):
                return _text(403, "open the address that `ego4dfs serve` has printed")
            if not slash:
                return RedirectResponse(f"{given.decode()}/", 308)
        path = os.fsdecode(raw)
        try:
            return (
                self._listing(path, request)
                if path.endswith("/") or not path
                else self._file(path, request)
            )
        except (Ego4DError, OSError, UnicodeDecodeError) as error:
            return _failure(path, error)

    def _listing(self, path: str, request: Request) -> Response:
        rows = self._vfs.listdir_known(path)
        headers = {"Cache-Control": "no-store"}
        if _wants_json(request):
            return Response(listing.json_listing(rows), 200, headers, "application/json")
        page = listing.html_page(path.rstrip("/"), rows)
        return Response(page, 200, headers, "text/html")

    def _file(self, path: str, request: Request) -> Response:
        try:
            if request.method == "HEAD":
                return files.head(self._vfs, path, request.headers)
            return files.get(self._vfs, path, request.headers, self._threads)
        except IsADirectoryError:
            name = path.rpartition("/")[2]
            return RedirectResponse(listing.link(name, is_dir=True), 308)


def _wants_json(request: Request) -> bool:
    given = request.query_params.get("format")
    return given == "json" if given else "application/json" in request.headers.get("Accept", "")


def _failure(path: str, error: Exception) -> Response:
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), 500)
    hint = getattr(error, "hint", "")
    response = _text(status, f"{error}\n{hint}" if hint else str(error))
    if status == 503:
        response.headers["Retry-After"] = str(_RETRY_AFTER_S)
    if status >= 500:
        log.warning("%s: %s", path, error)
    return response


def _text(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)
