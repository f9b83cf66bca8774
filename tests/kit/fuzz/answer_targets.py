"""Targets: HTTP answers of any form, through both transports, and the text of their errors."""

from __future__ import annotations

import functools
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from ego4dfs.errors import StoreError
from ego4dfs.metrics import Metrics
from ego4dfs.store.aws_config_files import Keys
from ego4dfs.store.classify import error_of
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.obstore_errors import answer_in
from ego4dfs.store.obstore_s3 import ObstoreS3
from ego4dfs.store.protocol import Adapter, Fetched, ObjectFacts
from ego4dfs.store.region_cache import Regions
from ego4dfs.store.s3fs_s3 import S3fsS3
from kit.fuzz.inputs import soup
from kit.fuzz.target import Target, assert_clear

URL = "s3://bucket/key"
KEYS = Keys("AKIAFUZZ", "very-secret-key")
_PIECES = (
    *(
        "<Error>",
        "</Error>",
        "<Code>",
        "</Code>",
        "<Message>",
        "</Message>",
        "<Region>",
        "</Region>",
    ),
    *("AccessDenied", "NoSuchKey", "SlowDown", "ExpiredToken", "PermanentRedirect", "eu-west-1"),
    *(
        '<?xml version="1.0"?>',
        "<html>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "&b;",
        "&#0;",
        "]]>",
        "\0",
    ),
    *("x" * 3000, "\u202e", "\x1b[2J", "9" * 5000, "-1", "1" * 30),
)
_BODIES = st.one_of(
    st.sampled_from(["AccessDenied", "NoSuchKey", "InternalError", "\u202e\n", "x" * 3000, ""]).map(
        "<Error><Code>{0}</Code><Region>{0}</Region></Error>".format
    ),
    soup(*_PIECES),
    st.text(max_size=20),
).map(lambda text: text.encode("utf-8", "replace"))
_ANY = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12)
_VALUES = {
    "ETag": ['"abc"', "abc", 'W/"abc"', '""', "", '"', '"a"b"', "x" * 3000, "\x80"],
    "Last-Modified": [
        "Mon, 01 Jan 2024 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "x",
        "",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "1" * 400,
    ],
    "Content-Length": ["", "0", "5", "10", "-1", "5, 5", "9" * 30, "9" * 5000, "x", "1e3", "+5"],
    "Content-Range": [
        "bytes 0-4/10",
        "bytes 0-4/5",
        "bytes 0-9/10",
        "bytes 1-4/10",
        "bytes 4-0/3",
        "bytes */10",
        "bytes 0-4/*",
        f"bytes 0-4/{'9' * 5000}",
        "x",
        "",
    ],
    "Content-Type": ["text/html", "binary/octet-stream", "", "x"],
    "Content-Encoding": ["gzip", "identity", "x"],
    "Transfer-Encoding": ["chunked", "x"],
    "Retry-After": ["1", "0", "\u0663", "9" * 400, "-1", "Mon, 01 Jan 2024 00:00:00 GMT", "x"],
    "Location": ["/", "http://127.0.0.1:9/", "http://[", "//", "x" * 3000, "http://u:p@h/"],
    "x-amz-bucket-region": ["us-east-1", "", "evil.example/#", "x" * 300, "\x80"],
    "x-amz-version-id": ["v", "null", "", "\x80"],
    "x-amz-request-id": ["1"],
}
_NAMES = sorted(_VALUES)
_HEADERS = st.dictionaries(
    st.sampled_from(_NAMES), st.one_of(st.integers(0, 99), _ANY), max_size=len(_NAMES)
)
_STATUSES = st.one_of(
    st.sampled_from([200, 206, 206, 301, 304, 307, 400, 403, 404, 412, 416, 429, 500, 503]),
    st.integers(100, 999),
)


@dataclass(frozen=True)
class Reply:
    """One answer: a sound one to a ranged GET, with some of its parts changed."""

    status: int
    headers: dict[str, int | str]
    body: bytes
    is_sound: bool
    raw: bytes = b""

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers; a number chooses one of the values that matter."""
        sound = {
            "ETag": '"abc"',
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
            "Content-Length": str(len(self.body)),
            "Content-Range": f"bytes 0-{len(self.body) - 1}/{len(self.body)}",
        }
        given = {
            name: value if isinstance(value, str) else _VALUES[name][value % len(_VALUES[name])]
            for name, value in self.headers.items()
        }
        return (sound if self.is_sound else {}) | given

    def content(self) -> bytes:
        """Return the answer as it is sent."""
        if self.raw:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} X"]
        lines += [f"{name}: {value}" for name, value in self.all_headers.items() if value]
        head = "\r\n".join([*lines, "Connection: close", "", ""])
        return head.encode("latin-1", "replace") + self.body


_REPLIES = st.one_of(
    st.builds(Reply, _STATUSES, _HEADERS, _BODIES, st.booleans()),
    st.builds(Reply, st.sampled_from([200, 206]), _HEADERS, _BODIES, st.just(value=True)),
    st.builds(
        Reply, st.just(0), st.just({}), st.just(b""), st.just(value=False), st.binary(min_size=1)
    ),
)


class Server:
    """A server on loopback that answers every request with `reply`, and closes the connection."""

    def __init__(self) -> None:
        """Listen, and serve in a thread that ends with the process."""
        self.reply = b""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, suppress(OSError):
                connection.settimeout(5)
                request = b""
                while b"\r\n\r\n" not in request and (more := connection.recv(1 << 16)):
                    request += more
                head, separator, body = self.reply.partition(b"\r\n\r\n")
                is_head = request.startswith(b"HEAD ")
                connection.sendall(head + separator + (b"" if is_head else body))


@functools.cache
def _server() -> Server:
    return Server()


class _Credentials:
    def keys(self) -> Keys:
        return KEYS


@functools.cache
def _adapters() -> tuple[Adapter, Adapter]:
    url, network = _server().url, NetworkSettings()

    def regions() -> Regions:
        return Regions(url, lambda: "us-east-1", Metrics(), network)

    s3fs = S3fsS3(url, _Credentials(), regions(), network)  # type: ignore[arg-type]
    obstore = ObstoreS3(url, _Credentials(), regions(), network, s3fs)  # type: ignore[arg-type]
    return s3fs, obstore


def call_all(reply: Reply) -> Iterator[tuple[str, object]]:
    """Yield what each call of both transports returns for this answer, or its StoreError."""
    _server().reply = reply.content()
    for adapter in _adapters():
        yield from _call_all(adapter)


def _call_all(adapter: Adapter) -> Iterator[tuple[str, object]]:
    streamed = bytearray()

    def sink(_offset: int, data: memoryview) -> None:
        streamed.extend(data)

    calls: dict[str, Callable[[], object]] = {
        "head": lambda: adapter.head(URL),
        "read": lambda: adapter.read(URL),
        "read_if_changed": lambda: adapter.read(URL, unless_etag="old"),
        "read_range": lambda: adapter.read_range(URL, 0, 5, etag="abc"),
        "stream_range": lambda: adapter.stream_range(URL, 0, 5, sink, etag="abc"),
    }
    for name, call in calls.items():
        try:
            yield name, call()
        except StoreError as error:
            yield name, error
    yield "streamed", bytes(streamed)


def _check_reply(reply: Reply, _: Path) -> None:
    """Each transport returns what was sent, or one StoreError."""
    for name, found in call_all(reply):
        if isinstance(found, StoreError):
            assert_clear(found)
            assert KEYS.secret_key not in f"{found} {found.hint}"
        elif name == "streamed":
            assert len(found) <= 5
        else:
            _check_found(found, reply)


def _check_found(found: object, reply: Reply) -> None:
    facts = found.facts if isinstance(found, Fetched) else found
    if isinstance(facts, ObjectFacts):
        assert facts.etag
        assert facts.size >= 0
        assert facts.etag.strip('"') in reply.content().decode("latin-1")
    if isinstance(found, Fetched):
        assert reply.body.startswith(bytes(found.data)) or b"chunked" in reply.content()


_ERROR_PIECES = (
    *(
        "status: 403,",
        "status: 503,",
        "status code: 404",
        "method: GET",
        "HTTP error",
        "kind: Timeout",
    ),
    *("source: NotPartial", "source: MissingEtag", "kind: Connect", "BareRedirect", "127.0.0.1:0,"),
    *("Too many open files", "InvalidCertificate", *_PIECES),
)


def _check_text(text: str, _: Path) -> None:
    """Any text of obstore has one error."""
    assert_clear(error_of(answer_in(text), URL))
    assert re.match(re.escape(URL), str(error_of(answer_in(text), URL)))


TARGETS = (
    Target("answers", _REPLIES, _check_reply, 40),
    Target("texts of obstore", soup(*_ERROR_PIECES), _check_text),
)
