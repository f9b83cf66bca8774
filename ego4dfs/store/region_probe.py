"""Region probe: an unsigned HEAD request for a bucket, whose answer names the bucket's region."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.response_checks import is_intercepted

if TYPE_CHECKING:
    from email.message import Message

AWS_URL = "https://s3.amazonaws.com"
TIMEOUT_S = 5.0


class Obstacle(enum.Enum):
    """Why there was no answer from the store."""

    NO_ANSWER = "no answer"
    PROXY_LOGIN = "the proxy requires a login"
    INTERCEPTED = "something else answered"


class ProbeError(Exception):
    """The store did not answer the probe.

    `status` is the HTTP status of what answered, or 0; `cause` is the exception of the connection
    where there was no answer.
    """

    def __init__(
        self, obstacle: Obstacle, *, status: int = 0, cause: BaseException | None = None
    ) -> None:
        super().__init__(obstacle.value)
        self.obstacle = obstacle
        self.status = status
        self.cause = cause


def probe_base(endpoint_url: str) -> str:
    """Return the URL that probes are sent to: the endpoint, or AWS."""
    return (endpoint_url or AWS_URL).rstrip("/")


def bucket_region(network: NetworkSettings, endpoint_url: str, bucket: str) -> str:
    """Return the region that the endpoint names for a bucket, or '' if it names none.

    Raises as `probe` does.
    """
    return region_in(probe(network, endpoint_url, bucket))


def region_in(headers: Message) -> str:
    """Return the region of a bucket in the answer to a probe, or ''."""
    return str(headers.get("x-amz-bucket-region", ""))


def probe(network: NetworkSettings, endpoint_url: str, bucket: str) -> Message:
    """Return the headers of the answer to a HEAD for a bucket, without a signature.

    S3 names the region there, even when it answers 403. Raises ProbeError when the store does not
    answer, and ConfigError for a proxy or certificates that cannot be used.
    """
    from http.client import HTTPException  # noqa: PLC0415
    from urllib.parse import quote  # noqa: PLC0415

    url = f"{probe_base(endpoint_url)}/{quote(bucket)}"
    try:
        status, headers = network.head(url, TIMEOUT_S)
    except (OSError, HTTPException, ValueError) as error:
        if "failed: 407" in str(error):  # the error of a tunnel has no status, only this text
            raise ProbeError(Obstacle.PROXY_LOGIN, status=407) from None
        cause = getattr(error, "reason", error)  # urllib wraps the cause
        is_exception = isinstance(cause, BaseException)
        raise ProbeError(Obstacle.NO_ANSWER, cause=cause if is_exception else error) from None
    if status == 407:
        raise ProbeError(Obstacle.PROXY_LOGIN, status=407)
    if is_intercepted(status, headers):
        raise ProbeError(Obstacle.INTERCEPTED, status=status)
    return headers
