"""Requests counted by kind, result and duration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from ego4dfs.errors import AccessDenied, ObjectChanged, ObjectMissing
from ego4dfs.metrics import Metrics, RequestKind, RequestResult
from ego4dfs.store.classify import Interrupted, Throttled, Unreachable

Result = TypeVar("Result")

_FAILED: Final[RequestResult] = "failed"
_RESULTS: Final[tuple[tuple[type[Exception], RequestResult], ...]] = (
    (ObjectMissing, "missing"),
    (AccessDenied, "denied"),
    (ObjectChanged, "changed"),
    (Throttled, "throttled"),
    (Interrupted, "interrupted"),
    (Unreachable, "no answer"),
)


def counted(metrics: Metrics, kind: RequestKind, send: Callable[[], Result]) -> Result:
    """Send one request, and count it before, and its result and duration after it."""
    metrics.add_request(kind)
    began_s, result = time.monotonic(), _FAILED
    try:
        answer = send()
        result = "ok"
    except Exception as error:
        result = next((name for one, name in _RESULTS if isinstance(error, one)), _FAILED)
        raise
    finally:
        metrics.add_result(kind, result, time.monotonic() - began_s)
    return answer
