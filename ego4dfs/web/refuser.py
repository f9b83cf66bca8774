"""Refuser: connections that come when no more files can be opened are refused, not left waiting."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import closing, suppress
from typing import Any

from ego4dfs.runtime.resource_limits import limit_reached
from ego4dfs.runtime.throttled_log import ThrottledLog

log = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that wait to be accepted, at most."""

_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 20\r\n\r\ntoo many open files\n"
)
_REQUEST_BYTES = 64 << 10


class Refuser:
    """Handles the errors of an event loop: it refuses connections that asyncio cannot accept.

    At a limit of open files asyncio reports each accept that fails, with a traceback, and lets all
    clients wait for a second. A descriptor is held in reserve to accept their connections, answer
    them with 503 and close them. That is logged once a minute. asyncio accepts again within a
    second after files were closed. Used from the thread of the loop.
    """

    def __init__(self, listener: socket.socket) -> None:
        """Refuse connections to `listener`, which must not block when errors are handled."""
        self._listener = listener
        self._reserve = _opened()
        self._log = ThrottledLog(log)

    def close(self) -> None:
        """Give back the descriptor in reserve."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error, as an exception handler of asyncio; others are reported as usual."""
        error = context.get("exception")
        if isinstance(error, ValueError) and self._listener.fileno() < 0:
            return  # asyncio was about to accept again when the server ended
        limit = limit_reached(error) if isinstance(error, OSError) and "socket" in context else None
        if limit is None:
            loop.default_exception_handler(context)
            return
        self._log.warning("connections are refused: %s; %s", limit, limit.hint)
        self.close()
        try:
            with suppress(OSError):  # there are no more, or another thread took the descriptor
                for _ in range(BACKLOG):
                    self._refuse()
        finally:
            self._reserve = _opened()

    def _refuse(self) -> None:
        connection, _ = self._listener.accept()
        with closing(connection), suppress(OSError):  # the client may have ended it
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.recv(_REQUEST_BYTES)  # a close with unread bytes would drop the answer
            connection.send(_ANSWER)


def _opened() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
