"""This machine's clock beside the store's: S3 refuses requests that are 15 minutes off."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ego4dfs.text import human_time

if TYPE_CHECKING:
    from email.message import Message

CODE = "RequestTimeTooSkewed"
HINT = "set the clock, for instance with `timedatectl set-ntp true`"
ALLOWED_S = 900

_DATE_DIGITS = 14
_TIMES = re.compile(r"<(RequestTime|ServerTime)>([^<]{1,80})</")
_UNTIMELY = re.compile(
    r"certificate has expired|certificate is not yet valid"  # OpenSSL
    r"|InvalidCertificate\(\s*(?:Expired|NotValidYet)"  # rustls
)


def now_text() -> str:
    """Return this machine's time, for messages."""
    return f"{datetime.fromtimestamp(time.time(), timezone.utc):%Y-%m-%d %H:%M} UTC"


def ahead_in(body: str) -> float | None:
    """Return by how many seconds a request was ahead, by the times in S3's refusal of it."""
    return ahead_by(dict(_TIMES.findall(body)))


def ahead_by(error: Mapping[str, object]) -> float | None:
    """Return the same from the elements of a refusal by name; None if it has no such times."""
    request, server = _time_s(error.get("RequestTime")), _time_s(error.get("ServerTime"))
    return None if request is None or server is None else request - server


def ahead_of(headers: Message) -> float | None:
    """Return by how many seconds this machine is ahead of a server that answers now, or None.

    An answer of a cache is as old as its Age.
    """
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - only doctor needs it

    try:
        sent_s = parsedate_to_datetime(headers.get("Date", "")).timestamp()
        return time.time() - sent_s - int(headers.get("Age", "0"))
    except (ValueError, TypeError, OverflowError):
        return None


def skew_text(ahead_s: float | None) -> str:
    """Return what is wrong with the clock."""
    if ahead_s is None:
        return f"this machine's time, {now_text()}, is too far from the store's"
    where = "ahead of" if ahead_s > 0 else "behind"
    return f"this machine's time is {human_time(abs(ahead_s))} {where} the store's"


def untimely_certificate(text: str) -> str:
    """Return a reason if a library's error is due to the dates of a certificate, or ''."""
    if not _UNTIMELY.search(text):
        return ""
    return (
        f"the certificate has expired or is not valid yet, by this machine's clock ({now_text()});"
        f" if that is wrong, {HINT}"
    )


def _time_s(text: object) -> float | None:
    """Return a time of S3, such as 20260131T235959Z or 2026-01-31T23:59:59Z, in seconds."""
    digits = re.sub(r"\D", "", str(text), flags=re.ASCII)[:_DATE_DIGITS]
    try:
        return datetime.strptime(f"{digits}+0000", "%Y%m%d%H%M%S%z").timestamp()
    except ValueError:
        return None
