"""The HTTP server of a tree: it runs in the caller's thread until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from ego4dfs.errors import Ego4DError
from ego4dfs.runtime.signals import handled_by
from ego4dfs.vfs import VFS
from ego4dfs.web.app import HEADERS, Application, Pages
from ego4dfs.web.hosts import is_loopback
from ego4dfs.web.refuser import BACKLOG, Refuser

log = logging.getLogger(__name__)

END_S = 2
"""Seconds in which running answers may end after a signal; then their connections are closed."""
CONNECTIONS = 1000
"""Connections at a time. A request on another one is answered with 503."""


def serve_tree(vfs: VFS, listener: socket.socket, token: str, pages: Pages | None = None) -> None:
    """Serve a tree to the clients of `listener` until SIGINT, SIGTERM, or SIGHUP if not ignored."""
    server = server_of(vfs, listener, token, pages)
    with _ended_by_signals(server):
        server.run([listener])


def server_of(
    vfs: VFS, listener: socket.socket, token: str, pages: Pages | None = None
) -> uvicorn.Server:
    """Return a server that does not run yet; its attribute `should_exit` ends it."""
    has_any_host = bool(token) or not is_loopback(listener.getsockname()[0])
    config = uvicorn.Config(
        Application(vfs, token, pages, has_any_host=has_any_host),
        headers=HEADERS,
        http="h11",  # whatever else is installed
        loop="asyncio",
        backlog=1,  # asyncio tries as often again to accept if it cannot
        ws="none",
        lifespan="off",
        proxy_headers=False,  # the client of a log is the one that is connected
        limit_concurrency=CONNECTIONS,
        log_config=None,
        log_level="error",  # its warnings are about what clients send
        access_log=False,  # it would have the token
        server_header=False,
        timeout_graceful_shutdown=END_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_unexpected)
    return _Server(config, Refuser(listener))


class _Server(uvicorn.Server):
    """A server whose event loop reports errors to a Refuser."""

    def __init__(self, config: uvicorn.Config, refuser: Refuser) -> None:
        super().__init__(config)
        self._refuser = refuser

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        asyncio.get_running_loop().set_exception_handler(self._refuser.handle)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        await super().shutdown(sockets)
        self._refuser.close()


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """End the server also by a signal that comes before Uvicorn handles signals itself.

    Uvicorn sends those that it has handled again to its process; they do nothing then.
    """

    def end(*_: object) -> None:
        server.should_exit = True

    with handled_by(end, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Replace the traceback of an answer that a read has ended by one line.

    Answers that are cancelled at the end of the server are no errors.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, (Ego4DError, OSError)):
        log.warning("an answer ended before its last byte: %s", error)
        return False
    return not (isinstance(error, CancelledError) or str(record.msg).startswith("Cancel "))
