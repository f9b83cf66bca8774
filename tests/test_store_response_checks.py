"""Answers that are not the store's, or not of the requested object, are never used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import ObjectChanged, StoreUnavailable
from ego4dfs.store import MAX_TIME_NS, ObjectStore, WrongSize, breaker
from ego4dfs.store.response_checks import header_of, is_etag, missing_headers, pin_of, time_ns
from kit.gateway import Gateway, Reply

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

DATA = bytes(range(256)) * 40
PAGE = b"<html><body>Welcome to the hotel. Please log in.</body></html>"
LASTING = {"ETag": '"5f-1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
pytestmark = pytest.mark.usefixtures("no_retry_waits", "unbroken")


@pytest.fixture
def unbroken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send each request, also while the circuit breaker is open."""
    monkeypatch.setattr(breaker, "OPEN_S", 0.0)


def every_call(store: ObjectStore, url: str) -> list[Callable[[], object]]:
    return [
        lambda: store.head(url),
        lambda: store.read(url),
        lambda: store.read_range(url, 0, 10),
        lambda: store.stream_range(url, 0, 10, lambda *_: pytest.fail("got bytes"), etag="x"),
    ]


@pytest.mark.fault(
    area="answers",
    fault="a captive portal or a proxy answers in the store's place",
    face="all",
    sees="the store is unavailable, and the hint names what may answer; nothing of it is kept",
    deadline="5 s, in 5 attempts",
)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"Content-Type": "text/html"}, PAGE),
        Reply(200, {"Content-Type": "text/html; charset=utf-8", **LASTING}, PAGE),
        Reply(200, {"Content-Type": "application/json"}, b"{}"),
        Reply(403, {"Content-Type": "text/html"}, PAGE),
        Reply(404, {"Content-Type": "text/html"}, PAGE),
        Reply(511, {"Content-Type": "text/html"}, PAGE),
        Reply(302, {"Location": "http://127.0.0.2:9/login"}),
    ],
    ids=["page", "page with ETag", "no ETag", "403", "404", "511", "302"],
)
def test_an_answer_in_the_store_s_place_is_not_used(
    store: ObjectStore, gateway: Gateway, url: str, reply: Reply
) -> None:
    gateway.faults.reply = reply
    for call in every_call(store, url)[:3]:
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert "captive portal" in caught.value.hint
    gateway.faults.reply = None


@pytest.mark.fault(
    area="answers",
    fault="an answer without ETag, Last-Modified or Content-Length",
    face="all",
    sees="the store is unavailable; the message names what is missing",
    deadline="5 s, in 5 attempts",
)
@pytest.mark.parametrize("name", ["ETag", "Last-Modified", "Content-Length"])
def test_an_answer_without_a_required_header_names_it(
    store: ObjectStore, gateway: Gateway, url: str, name: str
) -> None:
    gateway.faults.headers = {name: ""}
    for call in every_call(store, url)[:2]:
        with pytest.raises(StoreUnavailable, match=f"it has no {name}"):
            call()


def test_values_that_s3_never_sends_count_as_missing():
    right = {"etag": "e", "has_time": True, "size": 0}
    assert missing_headers(**right) == ""
    for change, name in (
        ({"etag": "\udcff"}, "ETag"),
        ({"etag": "é"}, "ETag"),
        ({"size": 1 << 63}, "Content-Length"),
        ({"size": None}, "Content-Length"),
    ):
        assert missing_headers(**{**right, **change}) == f"it has no {name}"
    assert time_ns(1_600_000_000.9) == 1_600_000_000 * 10**9
    assert time_ns(253_370_764_800) == MAX_TIME_NS  # the year 9999


@pytest.mark.fault(
    area="answers",
    fault='weak ETags (W/"x"), as of nginx that compresses',
    face="all",
    sees="reads work; the ETag of each answer is compared",
    deadline="none: no fault",
)
def test_an_object_with_a_weak_etag_is_read_and_pinned(
    store: ObjectStore, gateway: Gateway, url: str
) -> None:
    gateway.faults.headers = {"ETag": 'W/"abc"'}
    facts, got = store.head(url), bytearray()
    assert facts.etag == 'W/"abc"'
    fetched = store.read_range(url, 3, 9, etag=facts.etag, size=facts.size)
    assert bytes(fetched.data) == DATA[3:9]
    store.stream_range(url, 0, 100, lambda _, data: got.extend(data), etag=facts.etag)
    assert got == DATA[:100]
    gateway.faults.headers = {"ETag": 'W/"other"'}
    with pytest.raises(ObjectChanged):
        store.read_range(url, 3, 9, etag=facts.etag)


def test_a_weak_etag_is_not_sent_as_a_condition() -> None:
    assert (pin_of("abc"), pin_of('W/"abc"'), pin_of("")) == ('"abc"', "", "")
    assert header_of('W/"abc"') == 'W/"abc"'


@pytest.mark.fault(
    area="answers",
    fault="a size that is not the object's, by a wrong HEAD or a damaged index",
    face="all",
    sees="the read fails with ESTALE; opened again, the file has its true size",
    deadline="at once",
)
@pytest.mark.parametrize("off", [-137, 137, -len(DATA) + 1])
def test_the_total_of_each_answer_is_compared_with_the_assumed_size(
    store: ObjectStore, url: str, off: int
) -> None:
    facts, assumed = store.head(url), len(DATA) + off
    last = max(0, assumed - 10)
    with pytest.raises(WrongSize) as caught:
        store.read_range(url, last, assumed, etag=facts.etag, size=assumed)
    assert caught.value.facts == facts
    with pytest.raises(WrongSize) as caught:
        store.stream_range(
            url, last, assumed, lambda *_: pytest.fail("got bytes"), etag=facts.etag, size=assumed
        )
    assert caught.value.facts == facts


def test_a_head_with_size_0_is_confirmed_by_a_get(
    store: ObjectStore, gateway: Gateway, url: str
) -> None:
    """No bytes of an empty object are fetched, so no later answer would correct it."""
    gateway.faults.head_size_off = -len(DATA)
    assert store.head(url).size == len(DATA)


def test_an_empty_object_costs_no_second_request(
    store: ObjectStore, gateway: Gateway, bucket: Bucket
) -> None:
    assert store.head(bucket.put("empty", b"")).size == 0
    assert gateway.methods == {"HEAD": 1}


class Elsewhere:
    """A server that no request must reach; it would answer as S3 does."""

    def __init__(self, host: str) -> None:
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.command, self.headers.get("x-amz-security-token")))
                self.send_response(200)
                for name, value in {**LASTING, "x-amz-request-id": "1"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "5")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer((host, 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://{host}:{self.server.server_address[1]}/bucket/key"


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Elsewhere]:
    other = Elsewhere(request.param)
    yield other
    other.server.shutdown()
    other.server.server_close()


@pytest.mark.fault(
    area="keys",
    fault="a redirect to another host",
    face="all",
    sees="it is not followed: neither a request nor a session token is sent there",
    deadline="5 s, in 5 attempts",
)
@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
@pytest.mark.parametrize("elsewhere", ["127.0.0.2"], indirect=True)
def test_a_redirect_to_another_host_is_not_followed(
    gateway: Gateway,
    licensed: Aws,
    url: str,
    opened: Callable[..., ObjectStore],
    elsewhere: Elsewhere,
    transport: str,
    status: int,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.reply = Reply(status, {"Location": elsewhere.url})
    for call in every_call(store, url):
        with pytest.raises(StoreUnavailable, match="redirects to"):
            call()
    assert elsewhere.seen == []


@pytest.mark.parametrize("status", [307])
@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
@pytest.mark.parametrize("elsewhere", ["127.0.0.1"], indirect=True)
def test_a_session_token_is_not_sent_to_another_port_either(
    gateway: Gateway,
    aws: Aws,
    url: str,
    opened: Callable[..., ObjectStore],
    elsewhere: Elsewhere,
    transport: str,
    status: int,
) -> None:
    aws.variables(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_SESSION_TOKEN="c")  # noqa: S106 - made up
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.reply = Reply(status, {"Location": elsewhere.url})
    for call in every_call(store, url):
        with pytest.raises(StoreUnavailable):
            call()
    assert elsewhere.seen == []


@pytest.mark.parametrize("etag", ["5f-1", 'W/"5f"', "with blanks", "*"])
def test_a_recorded_etag_that_a_store_can_have_sent_is_used(etag: str) -> None:
    assert is_etag(etag)


@pytest.mark.parametrize("etag", ["", '"quoted"', "line\nend", "ä", "\0"])
def test_another_recorded_text_is_no_etag(etag: str) -> None:
    assert not is_etag(etag)
