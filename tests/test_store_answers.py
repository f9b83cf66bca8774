"""What is taken from answers: regions, ETags, lengths, codes; and what shows another server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from email.message import Message
from urllib.error import URLError

import pytest

from ego4dfs.errors import ObjectChanged, StoreError
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectFacts, WrongSize
from ego4dfs.store.classify import (
    Answer,
    ForeignAnswer,
    NoConnection,
    Unreachable,
    WrongRegion,
    error_of,
    valid_code,
    valid_region_name,
)
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.obstore_errors import answer_in
from ego4dfs.store.protocol import MAX_OBJECT_BYTES, MAX_TIME_NS
from ego4dfs.store.region_cache import Regions
from ego4dfs.store.response_checks import (
    check_version,
    etag_of,
    header_of,
    is_intercepted,
    is_weak,
    is_web_page,
    missing_headers,
    pin_of,
    time_ns,
)

ENDPOINT = "http://127.0.0.1:9"
URL = "s3://bucket/key"


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (OSError("Tunnel connection failed: 407 Login"), NoConnection, "proxy"),
        ((407, {}), NoConnection, "proxy"),
        ((511, {}), ForeignAnswer, "511 to the request for the bucket's region"),
        ((302, {"Location": "http://portal"}), ForeignAnswer, "302 to the request"),
        ((200, {"Content-Type": "text/html; charset=x"}), ForeignAnswer, "200 to the request"),
        (URLError(ConnectionRefusedError()), NoConnection, "ConnectionRefusedError"),
        (URLError(socket.gaierror()), NoConnection, "gaierror"),
        (URLError("unknown"), Unreachable, "URLError"),
        (TimeoutError(), Unreachable, "TimeoutError"),
        (ValueError("no header"), Unreachable, "ValueError"),
    ],
)
def test_whatever_answers_in_place_of_the_store_is_named(
    monkeypatch: pytest.MonkeyPatch, answer: object, kind: type[StoreError], text: str
) -> None:
    monkeypatch.setattr(NetworkSettings, "head", answering(answer))
    with pytest.raises(StoreError, match=text) as caught:
        Regions("", lambda: "eu-south-1", Metrics()).of("bucket")
    assert type(caught.value) is kind
    assert caught.value.url == "s3://bucket"


def answering(answer: object) -> Callable[..., object]:
    def head(_network: NetworkSettings, url: str, _timeout_s: float) -> object:
        assert url == "https://s3.amazonaws.com/bucket"
        if isinstance(answer, Exception):
            raise answer
        return answer

    return head


@pytest.mark.parametrize("status", [200, 301, 403])
def test_s3_names_a_region_with_any_status(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    headers = {"x-amz-bucket-region": "eu-south-1", "Location": "x", "Content-Type": "text/html"}
    monkeypatch.setattr(NetworkSettings, "head", answering((status, headers)))
    regions = Regions("", lambda: "", Metrics())
    assert regions.peek("bucket") == ""
    assert regions.of("bucket") == regions.peek("bucket") == "eu-south-1"


def test_a_region_that_a_refusal_names_replaces_the_known_one() -> None:
    regions = Regions(ENDPOINT, lambda: "eu-a-1", Metrics())
    assert regions.of("bucket") == "eu-a-1"
    error = WrongRegion("elsewhere", region="eu-b-1")
    assert regions.corrected(error, "bucket") is error
    assert (error.region, regions.of("bucket")) == ("eu-b-1", "eu-b-1")
    regions.learn("bucket", "not a name")
    assert regions.of("bucket") == "eu-b-1"


def test_a_refusal_that_names_no_region_causes_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (403, {"x-amz-bucket-region": "eu-c-1"})
    monkeypatch.setattr(NetworkSettings, "head", answering(answer))
    regions = Regions("", lambda: "", Metrics())
    assert regions.corrected(WrongRegion("elsewhere"), "bucket").region == "eu-c-1"
    assert regions.peek("bucket") == "eu-c-1"


def test_the_error_of_another_region_names_it_or_the_remedy() -> None:
    named = error_of(Answer(400, "AuthorizationHeaderMalformed", "eu-south-1"), URL)
    assert (str(named), named.hint) == (f"{URL}: the bucket is in region eu-south-1", "")
    unnamed = error_of(Answer(301), URL)
    assert str(unnamed) == f"{URL}: the bucket is in another region"
    assert "AWS_REGION" in unnamed.hint


@pytest.mark.parametrize(
    ("header", "etag", "sent", "pin"),
    [
        ('"abc"', "abc", '"abc"', '"abc"'),
        ("abc", "abc", '"abc"', '"abc"'),
        ('W/"abc"', 'W/"abc"', 'W/"abc"', ""),
    ],
)
def test_an_etag_has_no_quotes_unless_it_is_weak(
    header: str, etag: str, sent: str, pin: str
) -> None:
    assert (etag_of(header), header_of(etag), pin_of(etag)) == (etag, sent, pin)
    assert is_weak(header) == (not pin)
    assert pin_of("") == ""


@pytest.mark.parametrize(
    ("etag", "size", "missing"),
    [
        ("e", 0, ""),
        ("e", MAX_OBJECT_BYTES, ""),
        ("e", MAX_OBJECT_BYTES + 1, "it has no Content-Length"),
        ("e", -1, "it has no Content-Length"),
        ("e", None, "it has no Content-Length"),
        ("", 5, "it has no ETag"),
        ("\xe9", None, "it has no ETag and no Content-Length"),
    ],
)
def test_the_headers_that_s3_always_sends_are_required(
    etag: str, size: int | None, missing: str
) -> None:
    assert missing_headers(etag=etag, has_time=True, size=size) == missing
    without_time = missing_headers(etag=etag, has_time=False, size=size)
    assert "no Last-Modified" in without_time


@pytest.mark.parametrize(
    ("status", "name", "value", "expected"),
    [
        (511, "Server", "x", True),
        (512, "Server", "x", False),
        (302, "Location", "http://portal", True),
        (200, "Content-Type", "text/html; charset=utf-8", True),
        (200, "Content-Type", "application/xhtml+xml", True),
        (200, "Content-Type", "application/xml", False),
        (511, "X-Amz-Request-Id", "1", False),
    ],
)
def test_a_web_page_a_redirect_or_a_network_login_without_s3_s_headers_is_intercepted(
    *, status: int, name: str, value: str, expected: bool
) -> None:
    headers = Message()
    headers[name] = value
    assert is_intercepted(status, headers) == expected


def test_a_content_type_is_compared_without_its_parameters_and_case() -> None:
    assert is_web_page(" Text/HTML ;charset=utf-8")
    assert not is_web_page("text/htmlx")
    assert not is_web_page("")


def test_times_are_whole_seconds_within_the_limit() -> None:
    assert time_ns(1.9) == 10**9
    assert time_ns(10**12) == MAX_TIME_NS


def test_a_response_of_another_version_or_size_is_refused() -> None:
    facts = ObjectFacts(5, "e", "", 0)
    check_version(URL, facts, etag="e", size=5)
    check_version(URL, facts, etag="", size=None)
    with pytest.raises(ObjectChanged) as changed:
        check_version(URL, facts, etag="f", size=5)
    assert changed.value.url == URL
    with pytest.raises(WrongSize) as wrong:
        check_version(URL, facts, etag="e", size=6)
    assert (wrong.value.url, wrong.value.facts) == (URL, facts.confirmed())


BODY = "<Error><Code>{code}</Code><Region>{region}</Region></Error>"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_status_the_code_and_the_region_are_found_in_a_message_of_obstore(method: str) -> None:
    text = f"method: {method}, status: 400, body: {BODY.format(code='Bad.Name', region='eu-a-1')}"
    assert answer_in(text) == Answer(400, "Bad.Name", "eu-a-1", has_body=method == "GET")
    odd = f"status code: 403 {BODY.format(code='x' * 81, region='a/b')}"
    assert answer_in(odd) == Answer(403)


@pytest.mark.parametrize(
    ("text", "code", "region"),
    [
        *[("Slow.Down 1_a", True, False), ("eu-a-1", False, True), ("", False, False)],
        *[("x" * 64, True, True), ("x" * 65, True, False), ("x" * 81, False, False)],
        *[("\u202e", False, False), ("\xe9", True, False)],
    ],
)
def test_codes_and_regions_of_answers_are_short_names(
    *, text: str, code: bool, region: bool
) -> None:
    assert valid_code(text) == (text if code else "")
    assert valid_region_name(text) == (text if region else "")
