"""An HTTP server in a daemon thread, from which Prometheus reads the metrics of a mount."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector

from ego4dfs.mount.prometheus_metrics import MountCollector
from ego4dfs.runtime.listen import http_url, listening_socket

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
"""Connections at a time; another one ends the oldest, which may hang."""
CLIENT_S = 10.0
"""Limit of the wait for a client that sends or takes nothing."""

_PAUSE_S = 1.0


class MetricsServer:
    """Listens from the constructor on, and answers from `start` on, in threads of its own.

    Nothing waits for its threads: neither requests to the mount nor the unmount.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen at this address; port 0 finds a free port.

        Raises ConfigError if the address cannot be used. Starts no thread.
        """
        listener = listening_socket(host, port, "--metrics", backlog=MAX_CLIENTS)
        self._server = _Server(listener)
        self.url = f"{http_url(host, listener)}/metrics"

    def start(self, status: Callable[[], Mapping[str, Any]], about: Mapping[str, str]) -> None:
        """Answer with the metrics of the mount whose counters `status` returns.

        `about` are labels of the mount, by name.
        """
        registry = CollectorRegistry()
        registry.register(MountCollector(status, about))
        ProcessCollector(registry=registry)
        self._server.RequestHandlerClass = _Handler.factory(registry)
        threading.Thread(target=self._server.serve, name="metrics", daemon=True).start()
        log.info("metrics are at %s", self.url)

    def close(self) -> None:
        """Stop listening, and wait for nothing."""
        self._server.stop()


class _Handler(MetricsHandler):
    """One connection: one request, since the protocol is HTTP/1.0."""

    timeout = CLIENT_S


class _Server(ThreadingMixIn, TCPServer):
    """A thread for each of MAX_CLIENTS connections. `_lock` guards the list of them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket) -> None:
        self._lock = threading.Lock()
        self._clients: list[socket.socket] = []
        self._stopped = False
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()  # the one that the base class has made
        self.socket = listener

    def serve(self) -> None:
        """Accept connections until `stop`."""
        while not self._stopped:
            self.handle_request()
        self.server_close()

    def stop(self) -> None:
        """Let `serve` end; new connections are refused at once."""
        self._stopped = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; at the limit of open files, wait before the next attempt."""
        try:
            return super().get_request()
        except OSError:
            if not self._stopped:
                time.sleep(_PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, and end the oldest one if there are too many."""
        with self._lock:
            self._clients.append(request)
            oldest = self._clients.pop(0) if len(self._clients) > MAX_CLIENTS else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread then closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection whose request has ended."""
        with self._lock, suppress(ValueError):
            self._clients.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log it; the base class would print a traceback for each client that disconnects."""
        del request, client_address
        log.debug("a request for metrics failed: %r", sys.exc_info()[1])
