"""A mirror on a web server: answers that are not the mirror's, and outages of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import ObjectMissing, StoreError, StoreUnavailable
from ego4dfs.store import ObjectStore, WrongSize

if TYPE_CHECKING:
    from kit.stores import Aws

pytestmark = pytest.mark.usefixtures("no_retry_waits", "aws")

DATA = b"0123456789"
URL = "s3://cmu/a.bin"


@dataclass
class Web:
    """A web server with one file; its answers can be replaced."""

    server: ThreadingHTTPServer
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    reported_size: int = len(DATA)
    requested: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        web: Web = self.server.web
        web.requested.append(self.path)
        first, body = 0, DATA
        if "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            body = DATA[first : last + 1]
        is_partial = "Range" in self.headers and web.status == 200
        self.send_response(206 if is_partial else web.status)
        size = web.reported_size if self.command == "HEAD" else len(body)
        headers = {"Content-Length": str(size), "Accept-Ranges": "bytes"}
        if is_partial:
            headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(DATA)}"
        for name, value in {**headers, **web.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def serve() -> Web:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    web = server.web = Web(server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return web


@pytest.fixture
def web() -> Iterator[Web]:
    web = serve()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Web]:
    web = serve()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def store(web: Web, opened: Callable[..., ObjectStore]) -> ObjectStore:
    return opened(source=web.url)


def test_a_mirror_without_etags_and_times_is_read(store: ObjectStore) -> None:
    facts = store.head(URL)
    assert bytes(store.read_range(URL, 2, 5, etag=facts.etag, size=10).data) == b"234"
    assert bytes(store.read(URL).data) == DATA


@pytest.mark.fault(
    area="answers",
    fault="a captive portal or a proxy answers in the place of an HTTP mirror",
    face="all",
    sees="the mirror is unavailable; nothing of the answer is kept",
    deadline="5 s, in 5 attempts",
)
def test_a_web_page_is_not_an_object_of_a_mirror(store: ObjectStore, web: Web) -> None:
    web.headers = {"Content-Type": "text/html"}
    with pytest.raises(StoreUnavailable, match="a web page") as caught:
        store.head(URL)
    assert "captive portal" in caught.value.hint


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_mirror_s_redirect_to_another_host_is_not_followed(
    store: ObjectStore, web: Web, elsewhere: Web, status: int
) -> None:
    web.status, web.headers = status, {"Location": f"{elsewhere.url}/cmu/a.bin"}
    with pytest.raises(StoreUnavailable, match="redirects to"):
        store.head(URL)
    assert elsewhere.requested == []


@pytest.mark.fault(
    area="network",
    fault="an HTTP mirror that is gone, or fails",
    face="all",
    sees="the mirror is unavailable, and no file is treated as missing",
    deadline="5 s, in 5 attempts",
)
@pytest.mark.parametrize("status", [0, 500, 503])
def test_an_outage_of_a_mirror_does_not_make_files_missing(
    store: ObjectStore, web: Web, status: int
) -> None:
    """Fsspec raises FileNotFoundError for everything that keeps it from a web server."""
    web.status = status
    if not status:
        web.server.shutdown()
        web.server.server_close()
    with pytest.raises(StoreUnavailable):
        store.head(URL)


def test_a_file_that_a_mirror_lacks_is_missing(store: ObjectStore, web: Web) -> None:
    web.status = 404
    with pytest.raises(ObjectMissing):
        store.head(URL)


@pytest.mark.parametrize("size", [7, 13])
def test_a_mirror_that_reports_a_wrong_size_is_an_error(
    store: ObjectStore, web: Web, size: int
) -> None:
    """One byte more than expected is requested, which shows that there is more."""
    web.reported_size = size
    with pytest.raises(StoreError):
        store.read(URL)


def test_an_assumed_size_is_compared(store: ObjectStore) -> None:
    facts = store.head(URL)
    with pytest.raises(WrongSize) as caught:
        store.read_range(URL, 0, 7, etag=facts.etag, size=7)
    assert caught.value.facts == facts


def test_a_mirror_is_read_through_the_proxy_of_the_environment(
    aws: Aws, web: Web, opened: Callable[..., ObjectStore]
) -> None:
    aws.variables(HTTP_PROXY=web.url, http_proxy=web.url)  # the small one has precedence
    store = opened(source="http://mirror.invalid")
    assert bytes(store.read(URL).data) == DATA
    assert set(web.requested) == {"http://mirror.invalid/cmu/a.bin"}
