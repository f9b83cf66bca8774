"""Which region each bucket is in: Ego4D's are in several, and licensees may not ask S3's API."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ego4dfs.errors import ConfigError
from ego4dfs.metrics import Metrics
from ego4dfs.store.classify import Answer, WrongRegion, error_of

if TYPE_CHECKING:
    import ssl

DEFAULT = "us-east-1"
AWS_URL = "https://s3.amazonaws.com"
TIMEOUT_S = 5.0
_UNSET = {"", "none", "null", "global", "aws-global", "undefined", "default"}
_AWS_NAME = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


class Regions:
    """Remember the region of each bucket.

    Safe from several threads. `_lock` guards the tables and is never held over I/O; a bucket's
    gate is, so that the threads that need one answer send one question.
    """

    def __init__(self, endpoint_url: str, configured: Callable[[], str], metrics: Metrics) -> None:
        self._endpoint_url = endpoint_url
        self._configured = configured
        self._metrics = metrics
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._gates: dict[str, threading.Lock] = {}

    def of(self, bucket: str) -> str:
        """Return the region to sign for, asking AWS once per bucket where it is not configured.

        Raises StoreUnavailable when it must ask and nothing answers.
        """
        with self._lock:
            known = self._known.get(bucket)
            gate = self._gates.setdefault(bucket, threading.Lock())
        if known:
            return known
        with gate:
            if bucket not in self._known:
                self.learn(bucket, self._first_guess(bucket))
            return self._known[bucket]

    def peek(self, bucket: str) -> str:
        """Return the region that is known of `bucket`, or ''."""
        with self._lock:
            return self._known.get(bucket, "")

    def learn(self, bucket: str, region: str) -> None:
        """Keep what a server said about `bucket`; a text that cannot be a region is ignored."""
        if _NAME.fullmatch(region):
            with self._lock:
                self._known[bucket] = region

    def corrected(self, error: WrongRegion, bucket: str) -> WrongRegion:
        """Learn from a server's objection, asking where it named no region; return it completed."""
        error.region = error.region or self.ask(bucket)
        self.learn(bucket, error.region)
        return error

    def ask(self, bucket: str) -> str:
        """Return the region a HEAD of the bucket names without a signature, or ''.

        S3 names it even when it answers 403. Raises StoreUnavailable when nothing answers.
        """
        from http.client import HTTPException  # noqa: PLC0415
        from urllib.error import HTTPError  # noqa: PLC0415
        from urllib.parse import quote  # noqa: PLC0415
        from urllib.request import Request, urlopen  # noqa: PLC0415

        base = self._endpoint_url or AWS_URL
        request = Request(f"{base.rstrip('/')}/{quote(bucket)}", method="HEAD")  # noqa: S310
        self._metrics.request("head")
        try:
            with urlopen(request, timeout=TIMEOUT_S, context=_trust()) as answer:  # noqa: S310
                return str(answer.headers.get("x-amz-bucket-region", ""))
        except HTTPError as error:
            return str(error.headers.get("x-amz-bucket-region", ""))
        except (OSError, HTTPException) as error:
            reason = f"{base} did not say where the bucket is ({type(error).__name__})"
            cause = getattr(error, "reason", error)
            connected = not isinstance(cause, (socket.gaierror, ConnectionRefusedError))
            raise error_of(Answer(reason=reason, connected=connected), f"s3://{bucket}") from None

    def _first_guess(self, bucket: str) -> str:
        configured = usable(self._configured(), aws=not self._endpoint_url)
        if self._endpoint_url:
            return configured or DEFAULT
        return self.ask(bucket) or configured or DEFAULT


def _trust() -> ssl.SSLContext | None:
    """Return what AWS_CA_BUNDLE says to trust, as AWS's own tools read it; None = as usual."""
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if not bundle:
        return None
    import ssl  # noqa: PLC0415

    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ConfigError(f"AWS_CA_BUNDLE {bundle!r}: {error.strerror}") from None


def usable(region: str, *, aws: bool) -> str:
    """Return `region`, or '' when it is no region: people write 'none' and 'global' there."""
    region = region.strip()
    if region.lower() in _UNSET or not (_AWS_NAME if aws else _NAME).fullmatch(region):
        return ""
    return region
