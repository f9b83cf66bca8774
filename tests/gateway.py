"""A reverse proxy in front of a real S3 server: it counts, and it misbehaves as told.

Switches are attributes and may be changed while requests run. Loopback only.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PIECE_BYTES = 1 << 20
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}
_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/")


@dataclass
class Faults:
    """What goes wrong; the defaults are an honest proxy, `only` limits faults to matching keys."""

    hide_missing: bool = False  # 404 becomes 403 AccessDenied, as for licensees
    refuse_listing: bool = False  # LIST and GetBucketLocation answer 403
    slow_down_every: int = 0  # every nth request answers 503 SlowDown; 1 = all
    cut_body_at: int | None = None  # bodies end after so many bytes, the connection closed
    reset_every: int = 0  # every nth request has its connection reset without an answer
    stall_s: float = 0.0  # silence before the answer
    stall_body_s: float = 0.0  # silence in the middle of the body
    latency_s: float = 0.0  # added before the first byte
    piece_bytes: int = PIECE_BYTES  # bodies are sent in pieces of so many bytes
    bytes_per_s: float = 0.0  # of one connection; 0 = as fast as it goes
    rejected_keys: dict[str, str] = field(default_factory=dict)  # access key -> S3 error code
    region: str = ""  # the only region a signature may name
    region_in_body: bool = True
    region_in_header: bool = True
    redirect: bool = False  # the wrong region answers 301 PermanentRedirect instead of 400
    hide_range: bool = False  # 206 becomes 200 without Content-Range, as if Range were unknown
    etag: str = ""  # told instead of the true one, as if If-Match were unknown
    times: int | None = None  # how many more requests the counted faults may hit
    only: str = ""


class Gateway:
    """The proxy as a context manager; `url` is what clients are given as endpoint."""

    def __init__(self, upstream: str, *, port: int = 0) -> None:
        parts = urlsplit(upstream)
        assert parts.hostname in {"127.0.0.1", "localhost"}
        self.upstream = (parts.hostname, parts.port)
        self.faults = Faults()
        self.methods: Counter[str] = Counter()
        self.log: list[tuple[str, str, int]] = []  # method, path, status
        self.bytes_sent = 0
        self.concurrent = 0
        self.peak = 0
        self._faulty = 0
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = port
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Gateway:  # noqa: PYI034 - typing.Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.gateway = self
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and cut those that exist: the server is gone."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            server.drop_all()

    def reset(self) -> None:
        """Behave, and count from zero."""
        with self._lock:
            self.faults = Faults()
            self.methods.clear()
            self.log.clear()
            self.bytes_sent = self.peak = self._faulty = 0

    @property
    def requests(self) -> int:
        return sum(self.methods.values())

    def enter(self, method: str) -> None:
        with self._lock:
            self.methods[method] += 1
            self.concurrent += 1
            self.peak = max(self.peak, self.concurrent)

    def leave(self, method: str, path: str, status: int, sent: int) -> None:
        with self._lock:
            self.concurrent -= 1
            self.bytes_sent += sent
            self.log.append((method, path, status))

    def strikes(self, every: int) -> bool:
        """Tell whether a counted fault hits this request."""
        with self._lock:
            if not every or self.faults.times == 0:
                return False
            self._faulty += 1
            hit = self._faulty % every == 0
            if hit and self.faults.times is not None:
                self.faults.times -= 1
            return hit


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    gateway: Gateway

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def drop_all(self) -> None:
        with self._open_lock:
            for connection in self._open:
                _sever(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def setup(self) -> None:
        super().setup()
        self.onward: http.client.HTTPConnection | None = None

    def finish(self) -> None:
        if self.onward is not None:
            self.onward.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        gateway = self.server.gateway
        gateway.enter(self.command)
        self.status = self.sent = 0
        try:
            self._answer(gateway)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            gateway.leave(self.command, self.path, self.status, self.sent)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _answer(self, gateway: Gateway) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if gateway.faults.only in self.path and self._struck(gateway, gateway.faults):
            return
        self._forward(gateway, body)

    def _struck(self, gateway: Gateway, faults: Faults) -> bool:
        """Misbehave before the request is forwarded; tell whether it has been dealt with."""
        time.sleep(faults.latency_s + faults.stall_s)
        if gateway.strikes(faults.reset_every):
            _sever(self.connection)
            self.close_connection = True
        elif gateway.strikes(faults.slow_down_every):
            self._refuse(503, "SlowDown")
        elif faults.refuse_listing and self._lists():
            self._refuse(403, "AccessDenied")
        else:
            return self._identity_refused(faults)
        return True

    def _lists(self) -> bool:
        path, _, query = self.path.partition("?")
        names_bucket = path.strip("/").count("/") == 0
        return self.command == "GET" and names_bucket and not query.startswith("versionId")

    def _identity_refused(self, faults: Faults) -> bool:
        scope = _SCOPE.search(self.headers.get("Authorization", ""))
        key, region = (scope[1], scope[2]) if scope else ("", "")
        if key in faults.rejected_keys:
            code = faults.rejected_keys[key]
            self._refuse(400 if code == "ExpiredToken" else 403, code)
        elif faults.region and not scope:
            self._refuse(403, "AccessDenied", region=faults.region)
        elif faults.region and region != faults.region:
            if faults.redirect:
                self._refuse(301, "PermanentRedirect", region=faults.region)
            else:
                self._refuse(400, "AuthorizationHeaderMalformed", region=faults.region)
        else:
            return False
        return True

    def _refuse(self, status: int, code: str, *, region: str = "") -> None:
        """Answer as S3 does: an XML body to GET, nothing but the status to HEAD."""
        named = region if self.server.gateway.faults.region_in_body else ""
        inner = f"<Region>{named}</Region>" if named and status == 400 else ""
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
            f"<Message>told so by the gateway</Message>{inner}</Error>"
        ).encode()
        self.status = status
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        if region and self.server.gateway.faults.region_in_header:
            self.send_header("x-amz-bucket-region", region)
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _forward(self, gateway: Gateway, body: bytes) -> None:
        answer = self._ask_upstream(gateway, body)
        if answer.status == 404 and gateway.faults.hide_missing and self.command in {"GET", "HEAD"}:
            answer.read()
            self._refuse(403, "AccessDenied")
            return
        self.status = answer.status
        hide_range = gateway.faults.hide_range and answer.status == 206
        self.send_response_only(200 if hide_range else answer.status)
        self._send_headers(answer, {"content-range"} if hide_range else set(), gateway.faults)
        bodiless = self.command == "HEAD" or answer.status in {204, 304}
        unsized = answer.getheader("Content-Length") is None and not bodiless
        data = answer.read() if unsized or bodiless else b""
        if unsized:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if not unsized and not bodiless:
            self._stream(answer, gateway.faults)
        self.wfile.flush()

    def _send_headers(
        self, answer: http.client.HTTPResponse, hidden: set[str], faults: Faults
    ) -> None:
        for name, value in answer.getheaders():
            if name.lower() == "etag" and faults.etag:
                self.send_header(name, f'"{faults.etag}"')
            elif name.lower() not in _HOP_BY_HOP | hidden:
                self.send_header(name, value)

    def _ask_upstream(self, gateway: Gateway, body: bytes) -> http.client.HTTPResponse:
        """Ask over the kept connection, or a new one when that was closed while idle."""
        kept = self.onward
        try:
            return self._upstream(gateway, body)
        except (http.client.HTTPException, ConnectionError):
            if kept is None:
                raise
            kept.close()
            self.onward = None
            return self._upstream(gateway, body)

    def _upstream(self, gateway: Gateway, body: bytes) -> http.client.HTTPResponse:
        """Send the request on with the client's Host, which its signature covers."""
        if self.onward is None:
            self.onward = http.client.HTTPConnection(*gateway.upstream, timeout=60)
        self.onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP | {"expect"}:
                self.onward.putheader(name, value)
        self.onward.endheaders(body or None)
        return self.onward.getresponse()

    def _stream(self, answer: http.client.HTTPResponse, faults: Faults) -> None:
        mine = faults.only in self.path
        left = faults.cut_body_at if mine and faults.cut_body_at is not None else None
        buffer = memoryview(bytearray(faults.piece_bytes))
        while count := answer.readinto(buffer):
            if mine and faults.stall_body_s:
                self.wfile.flush()
                time.sleep(faults.stall_body_s)
            if left is not None and count >= left:
                self._cut(buffer[:left])
                return
            self.wfile.write(buffer[:count])
            self.sent += count
            left = None if left is None else left - count
            if faults.bytes_per_s:
                self.wfile.flush()
                time.sleep(count / faults.bytes_per_s)

    def _cut(self, rest: memoryview) -> None:
        self.wfile.write(rest)
        self.wfile.flush()
        self.sent += len(rest)
        self.close_connection = True
        self.onward.close()
        self.onward = None


def _sever(connection: socket.socket) -> None:
    """Reset the connection instead of closing it in order."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
