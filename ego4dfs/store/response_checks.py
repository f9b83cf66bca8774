"""What an answer must have to be believed, and what its ETag is good for.

S3 and everything that speaks for it send ETag, Last-Modified and a length with each object. An
answer without them comes from something else, and must not become facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ego4dfs.errors import ObjectChanged
from ego4dfs.store.protocol import ObjectFacts, WrongSize

if TYPE_CHECKING:
    from email.message import Message


def etag_of(header: str) -> str:
    """Return an ETag as ObjectFacts keep it: without quotes, a weak one as it came."""
    return header if is_weak(header) else header.strip('"')


def is_weak(etag: str) -> bool:
    """Tell whether an ETag is a weak one: it cannot be a condition of a ranged GET."""
    return etag.startswith("W/")


def header_of(etag: str) -> str:
    """Return an ETag as requests name it."""
    return etag if is_weak(etag) else f'"{etag}"'


def pin_of(etag: str) -> str:
    """Return what If-Match is to say for that version, or '' for nothing.

    If-Match compares strongly (RFC 9110, 13.1.1): a weak ETag never matches, and is compared with
    that of the answer instead.
    """
    return header_of(etag) if etag and not is_weak(etag) else ""


def lacking(*, etag: str, has_time: bool, has_length: bool = True) -> str:
    """Say what an object's answer lacks that S3 always sends, or ''."""
    if etag and has_time and has_length:
        return ""
    names = {"ETag": bool(etag), "Last-Modified": has_time, "Content-Length": has_length}
    missing = [name for name, is_there in names.items() if not is_there]
    return f"it has no {' and no '.join(missing)}"


def is_web_page(content_type: str) -> bool:
    """Tell whether an answer says that it is HTML: no object of Ego4D is."""
    return content_type.partition(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}


def is_intercepted(status: int, headers: Message) -> bool:
    """Tell whether an answer to a HEAD without a signature cannot be S3's.

    That is a page, a redirect or a network's login (511), without any header of S3.
    """
    if any(name.lower().startswith("x-amz-") for name in headers):
        return False
    leads = headers.get("Location", "") or is_web_page(headers.get("Content-Type", ""))
    return status == 511 or bool(leads)


def check_version(url: str, facts: ObjectFacts, *, etag: str, size: int | None) -> None:
    """Raise ObjectChanged or WrongSize unless an answer is of the version that was asked for."""
    if etag and facts.etag != etag:
        raise ObjectChanged(f"{url}: the store sent another version than asked", url=url)
    if size is not None and facts.size != size:
        raise WrongSize(url, size, facts.confirmed())
