"""S3's answers as our errors, and how the adapters find them in their libraries' errors."""

from __future__ import annotations

import pytest

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.store.classify import (
    TOO_MANY_FILES,
    Answer,
    ForeignAnswer,
    Interrupted,
    NoConnection,
    Stalled,
    Throttled,
    Unexplained,
    Unreachable,
    WrongRegion,
    error_of,
    too_slow,
    truncated,
)
from ego4dfs.store.obstore_s3 import answer_in, expressible

URL = "s3://bucket/key"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "InvalidAccessKeyId", CredentialsRejected),
        (403, "SignatureDoesNotMatch", CredentialsRejected),
        (400, "ExpiredToken", CredentialsRejected),
        (400, "InvalidToken", CredentialsRejected),
        (400, "TokenRefreshRequired", CredentialsRejected),
        (403, "RequestTimeTooSkewed", CredentialsRejected),
        (403, "AccountProblem", CredentialsRejected),
        (401, "", CredentialsRejected),
        (403, "AccessDenied", AccessDenied),
        (403, "AllAccessDisabled", AccessDenied),
        (403, "InvalidObjectState", AccessDenied),
        (403, "", AccessDenied),
        (404, "NoSuchKey", ObjectMissing),
        (404, "NoSuchBucket", ObjectMissing),
        (404, "", ObjectMissing),
        (412, "PreconditionFailed", ObjectChanged),
        (416, "InvalidRange", StoreError),
        (503, "SlowDown", Throttled),
        (503, "", Throttled),
        (500, "InternalError", StoreUnavailable),
        (502, "", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (429, "", Throttled),
        (400, "AuthorizationHeaderMalformed", WrongRegion),
        (301, "PermanentRedirect", WrongRegion),
        (307, "", WrongRegion),
        (400, "IllegalLocationConstraintException", WrongRegion),
        (400, "", Unexplained),
        (400, "InvalidRequest", StoreError),
        (418, "", StoreError),
        (0, "", Unreachable),
        (407, "", NoConnection),
        (511, "", ForeignAnswer),
        (499, "", StoreError),
        (408, "", StoreUnavailable),
        (425, "", StoreUnavailable),
    ],
)
def test_each_answer_has_its_error(status: int, code: str, kind: type[StoreError]) -> None:
    error = error_of(Answer(status, code), URL)
    assert type(error) is kind
    assert error.url == URL
    assert str(error).startswith(URL)
    assert "\n" not in str(error)


def test_a_key_with_a_line_end_is_printed_on_one_line() -> None:
    assert str(error_of(Answer(404), "s3://bucket/a\nb")).startswith("s3://bucket/a\\nb: no such")


def test_a_truncated_answer_does_not_count_as_an_outage() -> None:
    error = error_of(Answer(reason="the answer was cut", begun=True), URL)
    assert type(error) is Interrupted


def test_an_answer_that_was_cut_says_how_much_of_it_came() -> None:
    error = truncated(URL, 5, 10)
    assert (type(error), error.url) == (Interrupted, URL)
    assert "after 5 of 10 bytes" in str(error)
    assert "more than 10 bytes" in str(truncated(URL, 11, 10))
    assert (type(too_slow(URL)), too_slow(URL).url) == (Stalled, URL)


@pytest.mark.parametrize(
    ("connected", "begun", "kind"),
    [(False, False, NoConnection), (True, False, Unreachable), (False, True, Interrupted)],
)
def test_without_a_status_it_counts_whether_anything_was_connected_or_began(
    *, connected: bool, begun: bool, kind: type[StoreError]
) -> None:
    error = error_of(Answer(reason="why", connected=connected, begun=begun), URL)
    assert (type(error), str(error)) == (kind, f"{URL}: why")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_whose_body_has_no_code_is_not_the_store_s(status: int) -> None:
    error = error_of(Answer(status, has_body=True), URL)
    assert type(error) is ForeignAnswer
    assert f"{status} without S3's error code" in str(error)
    assert type(error_of(Answer(status, "AccessDenied", has_body=True), URL)) is not ForeignAnswer


def test_a_redirect_elsewhere_is_not_the_store_s_and_shows_no_password() -> None:
    error = error_of(Answer(302, location="http://me:secret@portal/" + "x" * 500), URL)
    assert type(error) is ForeignAnswer
    assert "'http://portal/x" in str(error)
    assert len(str(error)) < 300


def test_the_seconds_that_a_throttled_answer_asks_for_are_kept() -> None:
    error = error_of(Answer(503, "SlowDown", retry_after_s=7.0), URL)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == 7.0


def test_a_process_without_descriptors_is_no_outage_of_the_store() -> None:
    text = "Generic S3 error: error sending request: Too many open files (os error 24)"
    assert answer_in(text) == TOO_MANY_FILES
    assert type(error_of(answer_in(text), URL)) is Interrupted


def test_a_missing_bucket_is_reported_as_a_bucket() -> None:
    assert "no such bucket" in str(error_of(Answer(404, "NoSuchBucket"), URL))


def test_the_named_region_is_kept() -> None:
    error = error_of(Answer(400, "AuthorizationHeaderMalformed", "eu-south-1"), URL)
    assert isinstance(error, WrongRegion)
    assert error.region == "eu-south-1"


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken"])
def test_an_expired_licence_is_reported_with_how_to_renew_it(code: str) -> None:
    hint = error_of(Answer(403, code), URL).hint
    assert "14 days" in hint
    assert "ego4ddataset.com" in hint
    assert "same e-mail" in hint


def test_a_text_without_an_answer_and_without_a_broken_connection_is_not_retried() -> None:
    error = error_of(answer_in("Generic S3 error: something new"), URL)
    assert not isinstance(error, StoreUnavailable)


@pytest.mark.parametrize("key", ["a", "a b+c#d%e~f*", "日本/é", "a.b/..c", "x/y/z"])
def test_keys_obstore_can_name(key: str) -> None:
    assert expressible(key)


@pytest.mark.parametrize("key", ["/a", "a/", "a//b", ".", "a/./b", "a/../b", "a\tb", "a\x7f"])
def test_keys_obstore_cannot_name(key: str) -> None:
    assert not expressible(key)
