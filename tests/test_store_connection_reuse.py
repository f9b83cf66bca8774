"""A connection on which the server sent more than a response does not carry the next request."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from ego4dfs.errors import StoreUnavailable
from ego4dfs.store import ObjectStore
from kit.data import seeded
from kit.gateway import Faults, Gateway, Reply
from kit.processes import wait_until
from kit.stores import Aws, Bucket

pytestmark = pytest.mark.usefixtures("no_retry_waits")

SIZES = {"a": 1_000, "b": 3_000}
HEADERS = (
    b"Content-Length: 7\r\n"
    b'ETag: "0123456789abcdef0123456789abcdef"\r\n'
    b"Last-Modified: Sun, 01 Nov 2026 10:00:00 GMT\r\n"
    b"x-amz-request-id: 1\r\n"
)
EXTRA = {
    "a response without a body": b"HTTP/1.1 200 OK\r\n" + HEADERS + b"\r\n",
    "a response with a body": b"HTTP/1.1 200 OK\r\n" + HEADERS + b"\r\n" + b"another",
    "a range of another object": b"HTTP/1.1 206 Partial Content\r\n"
    b"Content-Range: bytes 0-6/7\r\n" + HEADERS + b"\r\n" + b"another",
    "a part of a response": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("extra", list(EXTRA))
def test_bytes_after_a_response_are_not_the_next_response(
    gateway: Gateway,
    bucket: Bucket,
    licensed: Aws,
    opened: Callable[..., ObjectStore],
    extra: str,
) -> None:
    """Through s3fs: the thread of obstore needs a moment to notice, and then tries again."""
    del licensed
    store = opened(endpoint_url=gateway.url, transport="s3fs")
    urls = {name: bucket.put(name, seeded(name, size)) for name, size in SIZES.items()}
    gateway.faults = Faults(extra=EXTRA[extra])

    def sent() -> bool:
        return gateway.extras_sent == gateway.methods["GET"]

    for _ in range(3):
        for name, size in SIZES.items():
            facts = store.head(urls[name])
            assert facts.size == size
            fetched = store.read_range(urls[name], 0, size, etag=facts.etag, size=size)
            assert bytes(fetched.data) == seeded(name, size)
            wait_until(sent)
            whole = store.read(urls[name])
            assert whole is not None
            assert bytes(whole.data) == seeded(name, size)
            wait_until(sent)
    assert len(gateway.log) == 18


def test_a_range_is_not_the_response_to_a_request_without_one(
    gateway: Gateway, bucket: Bucket, licensed: Aws, opened: Callable[..., ObjectStore]
) -> None:
    """Through s3fs: obstore does not report the status."""
    del licensed
    store = opened(endpoint_url=gateway.url, transport="s3fs")
    headers = dict(line.split(": ") for line in HEADERS.decode().split("\r\n") if line)
    del headers["Content-Length"]
    gateway.faults = Faults(reply=Reply(206, headers, b"another"))
    for call in (store.head, store.read):
        with pytest.raises(StoreUnavailable, match="the response to a request for a range"):
            call(bucket.url("a"))


class _Mirror(BaseHTTPRequestHandler):
    """Sends `extra` after each response; an object has as many bytes as its path."""

    protocol_version = "HTTP/1.1"
    extra = b""
    begun = 0
    ended = 0

    def do_HEAD(self) -> None:
        type(self).begun += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        time.sleep(0.02)  # so that aiohttp has most likely read the response
        self.wfile.write(self.extra)
        type(self).ended += 1

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def mirror() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mirror)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("extra", list(EXTRA))
def test_bytes_after_a_response_of_a_mirror_are_not_the_next_response(
    aws: Aws,
    opened: Callable[..., ObjectStore],
    mirror: str,
    monkeypatch: pytest.MonkeyPatch,
    extra: str,
) -> None:
    del aws
    store = opened(source=mirror)
    monkeypatch.setattr(_Mirror, "extra", EXTRA[extra])
    for name in ("ab", "c", "ab", "c"):
        with contextlib.suppress(StoreUnavailable):  # if they arrive together with the response
            assert store.head(f"s3://bucket/{name}").size == len(f"/bucket/{name}")
        wait_until(lambda: _Mirror.begun == _Mirror.ended)
