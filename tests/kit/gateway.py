"""A reverse proxy in front of the S3 server: it records requests and injects faults.

Switches are attributes and may be changed while requests run. Loopback only.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from kit.gateway_handler import Handler, reset_connection

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Reply:
    """An answer that is not the store's."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Faults:
    """The faults to inject; by default none, and `only` limits them to matching keys."""

    hide_missing: bool = False  # 404 becomes 403 AccessDenied, as for licensees
    refuse_listing: bool = False  # LIST and GetBucketLocation answer 403
    slow_down_every: int = 0  # every nth request answers `slow_down`; 1 = all
    slow_down: tuple[int, str] = (503, "SlowDown")
    retry_after_s: int = 0  # sent with it
    trickle_s: float = 0.0  # bodies come in pieces of `piece_bytes`, one in this time
    gate: threading.Event | None = None  # requests wait until it is set
    cut_body_at: int | None = None  # bodies end after this many bytes, and the connection is closed
    cut_body_every: int = 1  # every nth of the bodies that could be cut
    reset_every: int = 0  # every nth request has its connection reset without an answer
    stall_s: float = 0.0  # silence before the answer
    stall_body_s: float = 0.0  # silence in the middle of the body
    stall_body_every: int = 1  # in every nth piece of all bodies
    latency_s: float = 0.0  # added before the first byte
    piece_bytes: int = PIECE_BYTES  # bodies are sent in pieces of this many bytes
    bytes_per_s: float = 0.0  # of one connection; 0 = unlimited
    rejected_keys: dict[str, str] = field(default_factory=dict)  # access key -> S3 error code
    region: str = ""  # the only region a signature may name
    region_in_body: bool = True
    region_in_header: bool = True
    redirect: bool = False  # the wrong region answers 301 PermanentRedirect instead of 400
    hide_range: bool = False  # 206 becomes 200 without Content-Range, as without support of Range
    reply: Reply | None = None  # sent in the store's place
    headers: dict[str, str] = field(default_factory=dict)  # sent instead of true ones; '' = none
    head_size_off: int = 0  # added to the Content-Length of a HEAD
    etag: str = ""  # sent instead of the true one, as without support of If-Match
    flip_byte: bool = False  # one bit in the first byte of each piece of a body is flipped
    flip_every: int = 1  # of every nth piece of all bodies
    close_every: int = 0  # every nth request has its connection closed in order, without an answer
    garbage: bytes = b""  # sent in place of an answer, then the connection is closed
    trickle_headers_s: float = 0.0  # the headers of an answer do not end; one in this time
    range_off: int = 0  # added to the first and last byte in Content-Range
    extra: bytes = b""  # sent behind the body, beyond its Content-Length
    times: int | None = None  # how many more requests the counted faults may hit
    only: str = ""
    method: str = ""  # only requests of this method


class Gateway:
    """The proxy as a context manager; `url` is the endpoint for clients."""

    def __init__(self, upstream: str, *, port: int = 0, host: str = "127.0.0.1") -> None:
        parts = urlsplit(upstream)
        assert host.startswith("127.")
        self.host = host
        assert parts.hostname in {"127.0.0.1", "localhost"}
        self.upstream = (parts.hostname, parts.port)
        self.faults = Faults()
        self.methods: Counter[str] = Counter()
        self.log: list[tuple[str, str, int]] = []  # method, path, status
        self.arrivals_s: list[float] = []  # of requests, by time.monotonic
        self.bytes_sent = 0
        self.concurrent = 0
        self.answering = 0  # requests whose answers have not ended
        self.peak = 0
        self.extras_sent = 0  # how often `extra` was sent
        self.abandoned = 0  # how often all connections were abandoned: older ones get no answer
        self._faulty: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._port = port
        self.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._port}"

    def __enter__(self) -> Gateway:  # noqa: PYI034 - typing.Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before; does nothing while it listens."""
        if self._server is not None:
            return
        self._server = Server((self.host, self._port), Handler)
        self._server.gateway = self
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections and cut the existing ones, as if the server were gone."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            server.drop_all()

    def abandon_connections(self) -> None:
        """Answer on new connections only, as after a change of network."""
        self.abandoned += 1

    @property
    def connections(self) -> int:
        """Number of connections that clients hold open."""
        return self._server.open_connections if self._server else 0

    @property
    def bucket_of(self) -> dict[int, str]:
        """The bucket of the last request of each open connection, by the client's port."""
        return dict(self._server.bucket_of) if self._server else {}

    def reset(self) -> None:
        """Remove all faults, and restart the counts."""
        with self._lock:
            self.faults = Faults()
            self.methods.clear()
            self.log.clear()
            self.arrivals_s.clear()
            self._faulty.clear()
            self.bytes_sent = self.peak = 0

    @property
    def requests(self) -> int:
        return sum(self.methods.values())

    def record_request(self, method: str) -> None:
        """Count a request that has arrived."""
        with self._lock:
            self.methods[method] += 1
            self.arrivals_s.append(time.monotonic())
            self.concurrent += 1
            self.answering += 1
            self.peak = max(self.peak, self.concurrent)

    def record_answer(self, method: str, path: str, status: int) -> None:
        """Record an answer before its first byte is sent: the client may check at once."""
        with self._lock:
            self.concurrent -= 1
            self.log.append((method, path, status))

    def record_end(self) -> None:
        """Count an answer as ended: its last byte was sent, or its client is gone."""
        with self._lock:
            self.answering -= 1

    def record_sent(self, count: int) -> None:
        """Count bytes of bodies."""
        with self._lock:
            self.bytes_sent += count

    def is_hit(self, every: int, kind: str = "") -> bool:
        """Return whether a counted fault hits this request; each `kind` has its own count."""
        with self._lock:
            if not every or self.faults.times == 0:
                return False
            self._faulty[kind] += 1
            hit = self._faulty[kind] % every == 0
            if hit and self.faults.times is not None:
                self.faults.times -= 1
            return hit


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    gateway: Gateway

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self.bucket_of: dict[int, str] = {}
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
            with contextlib.suppress(OSError):  # a reset connection has no peer
                self.bucket_of.pop(request.getpeername()[1], None)
        super().shutdown_request(request)

    @property
    def open_connections(self) -> int:
        with self._open_lock:
            return len(self._open)

    def drop_all(self) -> None:
        with self._open_lock:
            for connection in self._open:
                reset_connection(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close the connection."""
