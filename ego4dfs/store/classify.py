"""Classification of failed requests: the one table from S3's codes to our errors.

Each adapter reduces the error of its library to an `Answer`. Nothing else of it is passed on,
because such errors quote requests, and requests contain signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.store import clock
from ego4dfs.store.network_settings import INTERCEPTED_HINT, PROXY_LOGIN, PROXY_LOGIN_HINT
from ego4dfs.text import masked

RENEW = (
    "Ego4D licence keys expire 14 days after approval: sign the licence again at "
    "https://ego4ddataset.com with the same e-mail, then enter the new key with `aws configure`"
)

PAST_END = "starts at or past the object's end"
"""The end of the text of `past_end`."""
TOO_SLOW = "the store did not send enough in time"
"""The text of errors for bytes that did not arrive in time."""

RENEW_LOGIN = f"renew the keys of a role or a login with `aws sso login` or `aws login`. {RENEW}"

_REJECTED = {
    "InvalidAccessKeyId": ("unknown key: the store does not know this access key", RENEW),
    "ExpiredToken": ("expired: the session token is no longer valid", RENEW_LOGIN),
    "TokenRefreshRequired": ("expired: the session token must be refreshed", RENEW_LOGIN),
    "InvalidToken": ("the session token is not valid for this access key", RENEW_LOGIN),
    "SignatureDoesNotMatch": (
        "wrong secret: the secret key does not belong to this access key",
        "copy both halves of the key again from the Ego4D e-mail with `aws configure`",
    ),
    "AccountProblem": ("the account behind this access key has a problem", RENEW),
    "NotSignedUp": ("the account behind this access key is not signed up for S3", RENEW),
}
_REJECTED["ExpiredTokenException"] = _REJECTED["ExpiredToken"]
_WRONG_REGION = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
}
_TRANSIENT = {"InternalError", "RequestTimeout", "RequestTimeoutException"}
_THROTTLED = {
    "SlowDown",
    "ServiceUnavailable",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
_MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound"}


_CODE = re.compile(r"[\w .]{1,80}")
_REGION = re.compile(r"[\w-]{1,64}", re.ASCII)
_SHOWN_CHARACTERS = 200


def valid_code(text: str) -> str:
    """Return an error code of an answer, or '' for a text that is none."""
    return text if _CODE.fullmatch(text) else ""


def valid_region_name(text: str) -> str:
    """Return the name of a region in an answer, or '' for a text that is none."""
    return text if _REGION.fullmatch(text) else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of a store: HTTP status, S3's error code, and the region that it names.

    Status 0 means that no complete response arrived: `reason` is why, `begun` whether a part of
    one did, and `connected` whether there was a connection. `foreign` is why a response cannot be
    the store's, `location` the target of a redirect, and `has_body` whether a refusal could have
    contained S3's error code. `ahead_s` is by how much a request was ahead of the store's clock, if
    it was refused for that and the refusal says so.
    """

    status: int = 0
    code: str = ""
    region: str = ""
    reason: str = ""
    begun: bool = False
    connected: bool = True
    retry_after_s: float = 0.0
    foreign: str = ""
    location: str = ""
    has_body: bool = False
    ahead_s: float | None = None


TOO_MANY_FILES = Answer(begun=True, reason="too many open files in this process; see `ulimit -n`")
CANNOT_CONNECT = Answer(reason="cannot connect to the store", connected=False)
NO_PROXY = Answer(reason="cannot connect to the proxy", connected=False)
UNTRUSTED = Answer(
    connected=False, reason="the certificate is not trusted; AWS_CA_BUNDLE can name one that is"
)


def untrusted(text: str) -> Answer:
    """Return the answer for a certificate that a library refuses with this text."""
    reason = clock.untimely_certificate(text)
    return Answer(connected=False, reason=reason) if reason else UNTRUSTED


class Unreachable(StoreUnavailable):
    """The endpoint did not answer at all; a 503 is an answer."""


class NoConnection(Unreachable):
    """No connection to the endpoint could be made."""


class Interrupted(StoreUnavailable):
    """A response began and was cut: the store can be reached."""


class Stalled(Interrupted):
    """A response began, and then almost no bytes arrived."""


class Throttled(StoreUnavailable):
    """The store throttles; `retry_after_s` is its Retry-After, 0 if there was none."""

    def __init__(self, message: str, *, url: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, url=url)
        self.retry_after_s = retry_after_s


class Outpaced(Stalled):
    """A response is far slower than a later one of its bucket: its connection is bad."""


class ForeignAnswer(Unreachable):
    """Something in front of the store answered: a captive portal, or a proxy."""


class Unexplained(StoreError):  # noqa: N818 - a state
    """A HEAD was refused with 400; only the body of a GET contains the reason."""


class WrongRegion(StoreError):  # noqa: N818 - a state
    """The bucket is in another region than the request was signed for.

    `region` is that of the bucket, or empty when the response did not name it.
    """

    def __init__(self, message: str, *, url: str = "", hint: str = "", region: str = "") -> None:
        super().__init__(message, url=url, hint=hint)
        self.region = region


def error_of(answer: Answer, url: str) -> StoreError:
    """Return the error that `answer` means for the object `url`."""
    return _intercepted(answer, url) or _by_code(answer, url)


def _by_code(answer: Answer, url: str) -> StoreError:
    if answer.code == clock.CODE:
        text = f"{url}: clock: {clock.skew_text(answer.ahead_s)} ({answer.code})"
        return CredentialsRejected(text, url=url, hint=clock.HINT)
    if answer.code in _REJECTED:
        text, hint = _REJECTED[answer.code]
        return CredentialsRejected(f"{url}: {text} ({answer.code})", url=url, hint=hint)
    if answer.code in _WRONG_REGION or answer.status in {301, 307, 308} or answer.region:
        return _wrong_region(answer, url)
    if answer.code in _MISSING or answer.status == 404:
        what = "bucket" if answer.code == "NoSuchBucket" else "object"
        return ObjectMissing(f"{url}: no such {what} in the store", url=url)
    return _transient(answer, url) or _refused(answer, url)


def _transient(answer: Answer, url: str) -> StoreUnavailable | None:
    """Return the error for a transient failure, or None."""
    message = f"{url}: the store answered {answer.status} {answer.code or 'an error'}"
    if answer.code in _THROTTLED or answer.status in {429, 503}:
        return Throttled(message, url=url, retry_after_s=answer.retry_after_s)
    if answer.code in _TRANSIENT or answer.status in {408, 425} or answer.status >= 500:
        return StoreUnavailable(message, url=url)
    if answer.status:
        return None
    silent = Unreachable if answer.connected else NoConnection
    kind = Interrupted if answer.begun else silent
    return kind(f"{url}: {answer.reason or 'no answer from the store'}", url=url)


def foreign(url: str, reason: str) -> ForeignAnswer:
    """Return the error for a response that cannot be the store's."""
    return ForeignAnswer(
        f"{url}: the answer is not the store's: {reason}", url=url, hint=INTERCEPTED_HINT
    )


def _intercepted(answer: Answer, url: str) -> StoreError | None:
    """Return the error for a response that did not come from the store, or None."""
    if answer.status == 407:
        return NoConnection(f"{url}: {PROXY_LOGIN}", url=url, hint=PROXY_LOGIN_HINT)
    reason = answer.foreign or _foreign(answer)
    return foreign(url, reason) if reason else None


def _foreign(answer: Answer) -> str:
    """Return why a response without an object cannot be from S3, or ''."""
    if answer.status == 511:
        return "the network requires a login (511)"
    if answer.code or answer.region:
        return ""
    if answer.location:
        return f"it redirects to {masked(answer.location)[:_SHOWN_CHARACTERS]!r}"
    if answer.status in {401, 403, 404} and answer.has_body:
        return f"{answer.status} without S3's error code"
    return ""


def _refused(answer: Answer, url: str) -> StoreError:
    if answer.status == 401:
        text = f"{url}: the store does not accept this access key (401 {answer.code})".rstrip()
        return CredentialsRejected(text, url=url, hint=RENEW)
    if answer.status == 403:
        reason = "" if answer.code in {"", "AccessDenied"} else f" ({answer.code})"
        return AccessDenied(
            f"{url}: refused{reason}: not licensed, not published or not there",
            url=url,
            hint="licensees get 403 for a missing key too; check the dataset and your licence",
        )
    if answer.status == 400 and not answer.code:
        return Unexplained(f"{url}: the store answered 400", url=url)
    if answer.status == 412:
        return ObjectChanged(f"{url}: the object was replaced since it was first seen", url=url)
    if answer.status == 416:
        return past_end(url)
    status = f"{answer.status} {answer.code}".strip()
    return StoreError(f"{url}: the store answered {status}", url=url)


def _wrong_region(answer: Answer, url: str) -> WrongRegion:
    named = f"is in region {answer.region}" if answer.region else "is in another region"
    return WrongRegion(
        f"{url}: the bucket {named}",
        url=url,
        region=answer.region,
        hint="" if answer.region else "set AWS_REGION to the bucket's region",
    )


def past_end(url: str) -> StoreError:
    """Return the error for a range that has no bytes; it ends with PAST_END."""
    return StoreError(f"{url}: the range {PAST_END}", url=url)


def is_past_end(error: Exception) -> bool:
    """Return whether an error says that a range has no bytes; an empty object has none."""
    return str(error).endswith(PAST_END)


def too_slow(url: str, *, is_outpaced: bool = False) -> Stalled:
    """Return the error for a response that began and is too slow, in itself or beside others."""
    kind = Outpaced if is_outpaced else Stalled
    return kind(f"{url}: {TOO_SLOW}", url=url)


def is_too_many_files(text: str) -> bool:
    """Return whether an error of a library is due to the limit of open files."""
    return "Too many open files" in text


def truncated(url: str, got: int, wanted: int) -> Interrupted:
    """Return the error for a response of `got` bytes, or more, in place of `wanted`."""
    if got > wanted:
        return Interrupted(f"{url}: the answer has more than {wanted} bytes", url=url)
    return Interrupted(f"{url}: the answer was cut after {got} of {wanted} bytes", url=url)
