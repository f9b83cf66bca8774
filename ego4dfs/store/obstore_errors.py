"""Parser of obstore's error messages, which have no fields for status, code and region."""

from __future__ import annotations

import re

from ego4dfs.store import clock
from ego4dfs.store.classify import (
    CANNOT_CONNECT,
    TOO_MANY_FILES,
    UNTRUSTED,
    Answer,
    is_too_many_files,
    untrusted,
    valid_code,
    valid_region_name,
)

NOWHERE = "127.0.0.1:0"
"""The proxy for redirects to other hosts; nothing can listen on port 0."""

NOT_PARTIAL = "source: NotPartial"
"""Part of the message when a ranged GET was answered with 200."""

TIMED_OUT = Answer(reason="the store did not answer in time")

_STATUS = re.compile(r"status: (\d{3}),|status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_REGION = re.compile(r"<Region>([^<]*)</Region>")
_KIND = re.compile(r"kind: (Connect|Timeout|Interrupted|Decode|Request|Unknown)\b")
_BROKEN = {
    "Connect": CANNOT_CONNECT,
    "Timeout": TIMED_OUT,
    "Request": Answer(reason="the store closed the connection"),
}
_CUT = Answer(reason="the answer was cut", begun=True)
_MISSING_HEADER = re.compile(r"source: Missing(ContentLength|LastModified|Etag)")
_BY_WORD = {
    "BareRedirect": Answer(301),
    "InvalidCertificate": UNTRUSTED,
    f"{NOWHERE},": Answer(302, location="another host"),
}


def answer_in(text: str) -> Answer:
    """Return the status, code and region that a message of obstore contains."""
    status = _STATUS.search(text)
    code, region, kind = _CODE.search(text), _REGION.search(text), _KIND.search(text)
    if status:
        return Answer(
            int(status[1] or status[2]),
            valid_code(code[1]) if code else "",
            valid_region_name(region[1]) if region else "",
            has_body="method: GET" in text,
            ahead_s=clock.ahead_in(text),
        )
    if is_too_many_files(text):
        return TOO_MANY_FILES
    if missing := _MISSING_HEADER.search(text):
        return Answer(200, foreign=f"it has no {_header_name(missing[1])}")
    plain = next((answer for sign, answer in _BY_WORD.items() if sign in text), None)
    if plain is not None:
        return untrusted(text) if plain is UNTRUSTED else plain
    if kind and "HTTP error" in text:
        return _BROKEN.get(kind[1], _CUT)
    return Answer(200, "with something other than was requested")


def _header_name(name: str) -> str:
    """Return `ContentLength` as a header name, `Content-Length`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name)
