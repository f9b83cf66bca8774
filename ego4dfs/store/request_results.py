"""Requests counted by kind, result and duration, and the slowest of them recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ego4dfs.errors import AccessDenied, ObjectChanged, ObjectMissing
from ego4dfs.metrics import Metrics, RequestKind, RequestResult
from ego4dfs.store.classify import Interrupted, Throttled, Unreachable
from ego4dfs.store.protocol import SinkEnded

Result = TypeVar("Result")

_FAILED: Final[RequestResult] = "failed"
_RESULTS: Final[tuple[tuple[type[Exception], RequestResult], ...]] = (
    (ObjectMissing, "missing"),
    (AccessDenied, "denied"),
    (ObjectChanged, "changed"),
    (Throttled, "throttled"),
    (Interrupted, "interrupted"),
    (Unreachable, "no answer"),
    (SinkEnded, "ok"),
)


def counted(
    metrics: Metrics,
    kind: RequestKind,
    send: Callable[[], Result],
    url: str,
    wanted: range = range(0),
) -> Result:
    """Send one request, and count it before, and its result and duration after it.

    `wanted` are the bytes of `url` that it is for, if it is for a range.
    """
    metrics.add_request(kind)
    request, result = metrics.slow_requests.begin(kind, url, wanted), _FAILED
    try:
        answer = send()
        result = "ok"
    except Exception as error:
        result = next((name for one, name in _RESULTS if isinstance(error, one)), _FAILED)
        raise
    finally:
        metrics.add_result(kind, result, metrics.slow_requests.end(request, result))
    return answer
