"""The HTTP server of a tree: it runs in the caller's thread until a signal ends it."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from ego4dfs.errors import Ego4DError
from ego4dfs.vfs import VFS
from ego4dfs.web.app import application

log = logging.getLogger(__name__)

END_S = 2
"""Seconds in which running answers may end after a signal; then their connections are closed."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve_tree(vfs: VFS, listener: socket.socket, token: str) -> None:
    """Serve a tree to the clients of `listener` until SIGINT or SIGTERM."""
    with _signals_again():
        server_of(vfs, token).run([listener])


def server_of(vfs: VFS, token: str) -> uvicorn.Server:
    """Return a server that does not run yet; its attribute `should_exit` ends it."""
    config = uvicorn.Config(
        application(vfs, token),
        lifespan="off",
        log_config=None,
        access_log=False,  # it would have the token
        server_header=False,
        timeout_graceful_shutdown=END_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_error_of_a_file)
    return uvicorn.Server(config)


@contextmanager
def _signals_again() -> Iterator[None]:
    """Ignore the signals that Uvicorn sends again to its process after it has ended by them."""
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_no_error_of_a_file(record: logging.LogRecord) -> bool:
    """Replace the traceback of an answer that a read has ended by one line."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, Ego4DError):
        return True
    log.warning("an answer ended before its last byte: %s", error)
    return False
