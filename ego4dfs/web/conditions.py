"""Conditional and range requests: what of a file a request asks for. RFC 9110, sections 13 and 14.

Headers are parsed by Werkzeug. Several ranges in one request are answered with the whole file,
which section 14.2 allows: no reader of Ego4D sends them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from werkzeug.http import (
    http_date,
    parse_date,
    parse_etags,
    parse_if_range_header,
    parse_range_header,
)

_ETAG = re.compile(r"[\x21\x23-\x7e]+", re.ASCII)


NS = 1_000_000_000
_LAST_S = 253_402_300_799  # the end of the year 9999


def http_time(seconds: int) -> datetime:
    """Return a time since 1970 as HTTP can have it: that of a file may be any number."""
    return datetime.fromtimestamp(min(max(seconds, 0), _LAST_S), timezone.utc)


class Failed(enum.IntEnum):
    """The status of an answer to a request whose condition does not hold."""

    NOT_MODIFIED = 304
    PRECONDITION_FAILED = 412


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file: its size in bytes, its ETag without quotes, when it was modified."""

    size: int
    etag: str
    mtime_ns: int

    @property
    def modified(self) -> datetime:
        """When it was modified, in whole seconds, as HTTP has it."""
        return http_time(self.mtime_ns // NS)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe it. An ETag that HTTP cannot carry is left out."""
        etag = {"ETag": f'"{self.etag}"'} if _ETAG.fullmatch(self.etag) else {}
        return {**etag, "Last-Modified": http_date(self.modified), "Accept-Ranges": "bytes"}


def requested_slice(headers: Mapping[str, str]) -> slice | None:
    """Return the bytes that a request names, negative ones from the end; None for the whole file.

    A header that is malformed, or that names several ranges, counts as none.
    """
    found = parse_range_header(headers.get("Range"))
    if found is None or found.units != "bytes" or len(found.ranges) != 1:
        return None
    return slice(*found.ranges[0])


def failed_condition(headers: Mapping[str, str], version: Version) -> Failed | None:
    """Return which condition of a request for a file does not hold, in the order of 13.2.2."""
    if "If-Match" in headers:
        wanted = parse_etags(headers["If-Match"])
        if not (wanted.star_tag or wanted.is_strong(version.etag)):
            return Failed.PRECONDITION_FAILED
    elif (date := parse_date(headers.get("If-Unmodified-Since"))) and version.modified > date:
        return Failed.PRECONDITION_FAILED
    if "If-None-Match" in headers:
        known = parse_etags(headers["If-None-Match"])
        return Failed.NOT_MODIFIED if known.contains_weak(version.etag) else None
    date = parse_date(headers.get("If-Modified-Since"))
    return Failed.NOT_MODIFIED if date and version.modified <= date else None


def is_range_valid(headers: Mapping[str, str], version: Version) -> bool:
    """Return whether the range of a request is one of this version, as If-Range says.

    A date must be the exact one: an object may be replaced by an older one.
    """
    text = headers.get("If-Range")
    if text is None:
        return True
    wanted = parse_if_range_header(text)
    if wanted.date is not None:
        return bool(wanted.date == version.modified)
    return wanted.etag == version.etag and not text.upper().startswith("W/")
