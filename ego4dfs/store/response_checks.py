"""Checks of responses: required headers, ETag forms, captive portals, the requested version.

S3 and compatible stores send ETag, Last-Modified and a length with each object. A response without
them comes from something else, and must not become the facts of an object.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ego4dfs.errors import ObjectChanged
from ego4dfs.store.protocol import MAX_OBJECT_BYTES, MAX_TIME_NS, ObjectFacts, WrongSize

if TYPE_CHECKING:
    from email.message import Message


def etag_of(header: str) -> str:
    """Return an ETag as in ObjectFacts: without quotes, but a weak one unchanged."""
    return header if is_weak(header) else header.strip('"')


def is_etag(etag: str) -> bool:
    """Return whether a store can have sent this ETag, so that a GET can be pinned to it."""
    is_text = bool(etag) and etag.isascii() and etag.isprintable()
    return is_text and etag_of(header_of(etag)) == etag


def is_weak(etag: str) -> bool:
    """Return whether an ETag is weak: it cannot be the condition of a ranged GET."""
    return etag.startswith("W/")


def header_of(etag: str) -> str:
    """Return an ETag in the form of a request header."""
    return etag if is_weak(etag) else f'"{etag}"'


def pin_of(etag: str) -> str:
    """Return the value of If-Match for that version, or '' for no such header.

    If-Match compares strongly (RFC 9110, 13.1.1): a weak ETag never matches, so it is
    compared with that of the response instead.
    """
    return header_of(etag) if etag and not is_weak(etag) else ""


def missing_headers(*, etag: str, has_time: bool, size: int | None) -> str:
    """Return which headers a response lacks that S3 always sends, or ''.

    An ETag that is not ASCII counts as missing, and so does an impossible length.
    """
    has_etag = bool(etag) and etag.isascii()
    has_length = size is not None and 0 <= size <= MAX_OBJECT_BYTES
    if has_etag and has_time and has_length:
        return ""
    names = {"ETag": has_etag, "Last-Modified": has_time, "Content-Length": has_length}
    missing = [name for name, is_present in names.items() if not is_present]
    return f"it has no {' and no '.join(missing)}"


def time_ns(seconds: float) -> int:
    """Return the time of a Last-Modified header in whole seconds, as nanoseconds."""
    return min(int(seconds) * 1_000_000_000, MAX_TIME_NS)


@lru_cache(maxsize=64)
def is_web_page(content_type: str) -> bool:
    """Return whether a response is declared as HTML: no object of Ego4D is."""
    return content_type.partition(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}


def is_intercepted(status: int, headers: Message) -> bool:
    """Return whether the response to an unsigned HEAD cannot be from S3.

    That is a web page, a redirect or a network login (511), without any header of S3.
    """
    if any(name.lower().startswith("x-amz-") for name in headers):
        return False
    is_elsewhere = headers.get("Location", "") or is_web_page(headers.get("Content-Type", ""))
    return status == 511 or bool(is_elsewhere)


def check_version(url: str, facts: ObjectFacts, *, etag: str, size: int | None) -> None:
    """Raise ObjectChanged or WrongSize unless a response is of the requested version."""
    if etag and facts.etag != etag:
        raise ObjectChanged(f"{url}: the store sent another version than requested", url=url)
    if size is not None and facts.size != size:
        raise WrongSize(url, size, facts.confirmed())
