"""The faults of a store and its network that tests of long runs inject, one after the other.

Each value is the arguments of `kit.gateway.Faults`. Under all of them a read returns the right
bytes or an error, so `FLIPPED_BYTES`, which only whole objects reveal, is apart.
"""

from __future__ import annotations

from kit.gateway import Reply

SIGN_IN = b"<!DOCTYPE html><title>Sign in</title>"
ERROR = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"
ELSEWHERE = {"Location": "http://127.0.0.1:9/"}
HTML, XML = {"Content-Type": "text/html"}, {"Content-Type": "application/xml"}
HIDDEN = "7"  # the first letter of the names that the store denies to have

KINDS: dict[str, dict[str, object]] = {
    "none": {},
    "503 SlowDown": {"slow_down_every": 2},
    "connections reset": {"reset_every": 3},
    "connections closed": {"close_every": 3},
    "bodies cut": {"cut_body_at": 70_000, "cut_body_every": 2},
    "late answers": {"latency_s": 0.4},
    "silence before the answer": {"stall_s": 7.0, "only": "/0"},
    "silence in the body": {"stall_body_s": 7.0, "stall_body_every": 4},
    "slow bodies": {"bytes_per_s": 300_000.0, "piece_bytes": 16 << 10},
    "ranges ignored": {"hide_range": True, "only": "/1"},
    "ranges of other bytes": {"range_off": 1000, "only": "/1"},
    "no Content-Range": {"headers": {"Content-Range": ""}, "only": "/1"},
    "another version": {"etag": "0" * 32, "only": "/2"},
    "503 with Retry-After": {"slow_down_every": 1, "retry_after_s": 1, "only": "/3"},
    "429 Too Many Requests": {"slow_down_every": 2, "slow_down": (429, "TooManyRequests")},
    "500 InternalError": {"slow_down_every": 2, "slow_down": (500, "InternalError")},
    "400 RequestTimeout": {"slow_down_every": 3, "slow_down": (400, "RequestTimeout")},
    "403 AccessDenied": {"slow_down_every": 1, "slow_down": (403, "AccessDenied"), "only": "/3"},
    "404 NoSuchKey": {"slow_down_every": 1, "slow_down": (404, "NoSuchKey"), "only": f"/{HIDDEN}"},
    "bodies that trickle": {"trickle_s": 2.0, "piece_bytes": 64, "only": "/4"},
    "headers that trickle": {"trickle_headers_s": 2.0, "only": "/4"},
    "bodies too long": {"extra": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
    "answers that are not HTTP": {"garbage": b"SSH-2.0-OpenSSH_9.2\r\n", "only": "/5"},
    "a sign-in page": {"reply": Reply(200, HTML, SIGN_IN)},
    "an error with status 200": {"reply": Reply(200, XML, ERROR), "only": "/6"},
    "an answer without content": {"reply": Reply(204), "only": "/6"},
    "416 for each range": {"reply": Reply(416), "only": "/8"},
    "407 of a proxy": {"reply": Reply(407, {"Proxy-Authenticate": "Basic"})},
    "a redirect": {"reply": Reply(302, ELSEWHERE)},
    "a permanent redirect": {"reply": Reply(301, ELSEWHERE), "only": "/1"},
    "a redirect that keeps the method": {"reply": Reply(307, ELSEWHERE), "only": "/2"},
    "sizes of HEAD too small": {"head_size_off": -137, "only": "/5"},
    "sizes of HEAD too large": {"head_size_off": 137, "only": "/6"},
    "no Content-Length": {"headers": {"Content-Length": ""}, "only": "/4"},
    "weak ETags": {"headers": {"ETag": 'W/"0"'}, "only": "/7"},
    "no ETag": {"headers": {"ETag": ""}, "only": "/8"},
    "no Last-Modified": {"headers": {"Last-Modified": ""}, "only": "/0"},
}
FLIPPED_BYTES: dict[str, object] = {"flip_byte": True, "flip_every": 2}
