"""What obstore's errors say: it has only text for them."""

from __future__ import annotations

import re

from ego4dfs.store.classify import CANNOT_CONNECT, SCARCE, UNTRUSTED, Answer, is_scarce

NOWHERE = "127.0.0.1:0"
"""The proxy that redirects to other hosts are sent to; nothing can listen on port 0."""

NOT_PARTIAL = "source: NotPartial"
"""In the text when a ranged GET was answered by 200."""

TIMED_OUT = Answer(reason="the store did not answer in time")

_STATUS = re.compile(r"status: (\d{3}),|status code: (\d{3})")
_CODE = re.compile(r"<Code>([\w .]{1,80})</Code>")
_REGION = re.compile(r"<Region>([\w-]{1,64})</Region>")
_KIND = re.compile(r"kind: (Connect|Timeout|Interrupted|Decode|Request|Unknown)\b")
_BROKEN = {
    "Connect": CANNOT_CONNECT,
    "Timeout": TIMED_OUT,
    "Request": Answer(reason="the store closed the connection"),
}
_CUT = Answer(reason="the answer was cut", begun=True)
_LACK = re.compile(r"source: Missing(ContentLength|LastModified|Etag)")
_SIGNS = {
    "BareRedirect": Answer(301),
    f"{NOWHERE},": Answer(302, location="another host"),
    "InvalidCertificate": UNTRUSTED,
}


def answer_in(text: str) -> Answer:
    """Find status, code and region in obstore's text, which has no fields for them."""
    status = _STATUS.search(text)
    code, region, kind = _CODE.search(text), _REGION.search(text), _KIND.search(text)
    if status:
        return Answer(
            int(status[1] or status[2]),
            code[1] if code else "",
            region[1] if region else "",
            has_body="method: GET" in text,
        )
    if is_scarce(text):
        return SCARCE
    if lack := _LACK.search(text):
        return Answer(200, foreign=f"it has no {_words(lack[1])}")
    plain = next((answer for sign, answer in _SIGNS.items() if sign in text), None)
    if plain is not None:
        return plain
    if kind and "HTTP error" in text:
        return _BROKEN.get(kind[1], _CUT)
    return Answer(200, "with something else than was asked")


def _words(name: str) -> str:
    """Return `ContentLength` as HTTP writes it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name)
