"""Parser of the errors of s3fs: those of botocore, aiobotocore, aiohttp and the system."""

from __future__ import annotations

import asyncio

from ego4dfs.store import clock
from ego4dfs.store.classify import (
    CANNOT_CONNECT,
    NO_PROXY,
    TOO_MANY_FILES,
    Answer,
    is_too_many_files,
    untrusted,
    valid_code,
    valid_region_name,
)


def answer_in(error: Exception) -> Answer:
    """Return the store's response in an error of botocore, or what failed in its transport."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return _broken(error)
    details, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, headers = str(details.get("Code", "")), meta.get("HTTPHeaders", {})
    status = int(meta.get("HTTPStatusCode", 0))
    # Other answers may name the region that they were signed for.
    named = headers.get("x-amz-bucket-region", "") if status in {301, 307, 400} else ""
    return Answer(
        status=status,
        # Without a code, as for HEAD, botocore repeats the status.
        code="" if code.isdigit() else valid_code(code),
        retry_after_s=_seconds(headers.get("retry-after", "")),
        region=valid_region_name(str(details.get("Region") or named)),
        location=headers.get("location", "") if status // 100 == 3 else "",
        has_body=getattr(error, "operation_name", "") == "GetObject",
        ahead_s=clock.ahead_by(details),
    )


def _seconds(retry_after: str) -> float:
    """Return a Retry-After in seconds, or 0 if it is a date: then our own pauses apply."""
    is_number = retry_after.isascii() and retry_after.isdecimal()
    return float(retry_after) if is_number else 0.0


def is_timeout(error: Exception) -> bool:
    """Return whether an error is a time-out of any of the libraries."""
    timeouts = (TimeoutError, asyncio.TimeoutError)
    return isinstance(error, timeouts) or "Timeout" in type(error).__name__


def _broken(error: Exception) -> Answer:
    """Classify an error of one of four libraries."""
    from aiohttp import ClientError, ClientPayloadError  # noqa: PLC0415
    from botocore import exceptions  # noqa: PLC0415
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    if isinstance(error, exceptions.ProxyConnectionError):
        status = getattr(error.kwargs.get("error"), "status", 0)
        return Answer(407) if status == 407 else NO_PROXY
    if is_too_many_files(f"{error} {getattr(error, 'kwargs', '')}"):
        return TOO_MANY_FILES
    if is_timeout(error):
        return Answer(reason="the store did not answer in time")
    if "Certificate" in str(error):
        return untrusted(str(error))
    kinds: tuple[tuple[tuple[type[Exception], ...], Answer], ...] = (
        ((exceptions.SSLError,), untrusted(str(error))),
        ((ResponseParserError,), Answer(200, foreign="it does not have S3's format")),
        ((exceptions.EndpointConnectionError,), CANNOT_CONNECT),
        (
            (exceptions.ResponseStreamingError, ClientPayloadError),
            Answer(reason="the answer was cut", begun=True),
        ),
        (
            (exceptions.HTTPClientError, ClientError, OSError),
            Answer(reason="the store closed the connection"),
        ),
    )
    unknown = Answer(200, f"with something other than was requested ({type(error).__name__})")
    return next((answer for kind, answer in kinds if isinstance(error, kind)), unknown)
