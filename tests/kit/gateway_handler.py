"""The request handler of the gateway: injects a fault, or forwards the request."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kit.gateway import Faults, Gateway, Reply, Server

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"}
_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def setup(self) -> None:
        super().setup()
        self.upstream: http.client.HTTPConnection | None = None
        self.opened_after = self.server.gateway.abandoned

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _serve(self) -> None:
        gateway = self.server.gateway
        gateway.record_request(self.command)
        self.noted = False
        try:
            self._answer(gateway)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            self._note(0)
            gateway.record_end()

    def _note(self, status: int) -> None:
        if not self.noted:
            self.noted = True
            self.server.gateway.record_answer(self.command, self.path, status)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _answer(self, gateway: Gateway) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.bucket_of[self.client_address[1]] = self.path.split("/")[1]
        if self.opened_after < gateway.abandoned:
            self.connection.recv(1)  # until the client closes the connection
            self.close_connection = True
            return
        applies = gateway.faults.only in self.path and gateway.faults.method in {"", self.command}
        if applies and self._inject(gateway, gateway.faults):
            return
        self._forward(gateway, body)

    def _inject(self, gateway: Gateway, faults: Faults) -> bool:
        """Inject faults before the request is forwarded; return whether it was answered."""
        time.sleep(faults.latency_s + faults.stall_s)
        if faults.gate is not None:
            faults.gate.wait(60)
        if self._connection_broken(gateway, faults):
            self._note(0)
            self.close_connection = True
        elif faults.reply is not None:
            self._reply(faults.reply)
        elif gateway.is_hit(faults.slow_down_every, "slow"):
            self._refuse(*faults.slow_down)
        elif faults.refuse_listing and self._lists():
            self._refuse(403, "AccessDenied")
        else:
            return self._identity_refused(faults)
        return True

    def _connection_broken(self, gateway: Gateway, faults: Faults) -> bool:
        """Inject faults that end the connection without an answer of HTTP."""
        if gateway.is_hit(faults.reset_every, "reset"):
            reset_connection(self.connection)
        elif faults.garbage:
            self.wfile.write(faults.garbage)
            self.wfile.flush()
        elif faults.trickle_headers_s:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(60):
                self.wfile.write(b"X-Slow-%d: 1\r\n" % number)
                self.wfile.flush()
                time.sleep(faults.trickle_headers_s)
        else:
            return gateway.is_hit(faults.close_every, "close")
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
            f"<Message>refused by the gateway</Message>{inner}</Error>"
        ).encode()
        self._note(status)
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        if region and self.server.gateway.faults.region_in_header:
            self.send_header("x-amz-bucket-region", region)
        if status in {429, 503} and self.server.gateway.faults.retry_after_s:
            self.send_header("Retry-After", str(self.server.gateway.faults.retry_after_s))
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _reply(self, reply: Reply) -> None:
        self._note(reply.status)
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def _forward(self, gateway: Gateway, body: bytes) -> None:
        answer = self._request_upstream(gateway, body)
        if answer.status == 404 and gateway.faults.hide_missing and self.command in {"GET", "HEAD"}:
            answer.read()
            self._refuse(403, "AccessDenied")
            return
        self._note(answer.status)
        applies = gateway.faults.only in self.path
        hide_range = applies and gateway.faults.hide_range and answer.status == 206
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
        applies = faults.only in self.path
        replaced = {name.lower(): value for name, value in faults.headers.items() if applies}
        for name, value in answer.getheaders():
            low = name.lower()
            if low in replaced:
                self._send_replaced(name, replaced[low])
            elif low not in _HOP_BY_HOP | hidden:
                self.send_header(name, self._falsified(low, value, faults) if applies else value)

    def _falsified(self, name: str, value: str, faults: Faults) -> str:
        """Return the value of a header, or a false one if the faults say so."""
        if name == "content-length" and self.command == "HEAD":
            return str(max(0, int(value) + faults.head_size_off))
        if name == "etag" and faults.etag:
            return f'"{faults.etag}"'
        if name == "content-range" and faults.range_off:
            return _shifted(value, faults.range_off)
        return value

    def _send_replaced(self, name: str, value: str) -> None:
        if value:
            self.send_header(name, value)
        elif name.lower() == "content-length":
            self.send_header("Connection", "close")
            self.close_connection = True

    def _request_upstream(self, gateway: Gateway, body: bytes) -> http.client.HTTPResponse:
        """Send the request over the open connection, or a new one if that was closed while idle."""
        connection = self.upstream
        try:
            return self._send_upstream(gateway, body)
        except (http.client.HTTPException, ConnectionError):
            if connection is None:
                raise
            connection.close()
            self.upstream = None
            return self._send_upstream(gateway, body)

    def _send_upstream(self, gateway: Gateway, body: bytes) -> http.client.HTTPResponse:
        """Send the request on with the client's Host, which its signature covers."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(*gateway.upstream, timeout=60)
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP | {"expect"}:
                self.upstream.putheader(name, value)
        self.upstream.endheaders(body or None)
        return self.upstream.getresponse()

    def _stream(self, answer: http.client.HTTPResponse, faults: Faults) -> None:
        applies = faults.only in self.path
        cuts = (
            applies and faults.cut_body_at is not None and (answer.length or 0) > faults.cut_body_at
        )
        if cuts and faults.cut_body_every > 1:
            cuts = self.server.gateway.is_hit(faults.cut_body_every, "cut")
        remaining = faults.cut_body_at if cuts else None
        buffer = memoryview(bytearray(min(faults.piece_bytes, (answer.length or 0) + 1)))
        while count := answer.readinto(buffer):
            if applies and faults.flip_byte and self._hits_piece(faults.flip_every, "flip"):
                buffer[0] ^= 1
            stalls = applies and faults.stall_body_s
            if stalls and self._hits_piece(faults.stall_body_every, "stall"):
                self.wfile.flush()
                time.sleep(faults.stall_body_s)
            if remaining is not None and count >= remaining:
                self._cut(buffer[:remaining])
                return
            self.server.gateway.record_sent(count)
            self.wfile.write(buffer[:count])
            remaining = None if remaining is None else remaining - count
            if applies and faults.trickle_s:
                self.wfile.flush()
                time.sleep(faults.trickle_s)
            if faults.bytes_per_s:
                self.wfile.flush()
                time.sleep(count / faults.bytes_per_s)
        if applies and remaining is None and faults.extra:
            self._send_extra(faults.extra)

    def _send_extra(self, extra: bytes) -> None:
        """Send bytes after a response, when the client may have read all of that."""
        self.wfile.flush()
        try:
            self.wfile.write(extra)
            self.wfile.flush()
        finally:
            self.server.gateway.extras_sent += 1

    def _hits_piece(self, every: int, kind: str) -> bool:
        return every == 1 or self.server.gateway.is_hit(every, kind)

    def _cut(self, rest: memoryview) -> None:
        self.server.gateway.record_sent(len(rest))
        self.wfile.write(rest)
        self.wfile.flush()
        self.close_connection = True
        self.upstream.close()
        self.upstream = None


def _shifted(content_range: str, off: int) -> str:
    """Return a Content-Range that names other bytes of the same object."""
    return re.sub(r"\d+(?=-)|(?<=-)\d+", lambda found: str(int(found[0]) + off), content_range)


def reset_connection(connection: socket.socket) -> None:
    """Reset a connection (RST) instead of closing it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
