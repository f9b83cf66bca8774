"""Which region each bucket is in: Ego4D's are in several, and licensees may not ask S3's API."""

from __future__ import annotations

import copy
import re
import socket
import threading
import time
from collections.abc import Callable

from ego4dfs.errors import StoreError
from ego4dfs.metrics import Metrics
from ego4dfs.store.classify import Answer, WrongRegion, error_of, foreign
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.response_checks import is_intercepted

DEFAULT = "us-east-1"
AWS_URL = "https://s3.amazonaws.com"
TIMEOUT_S = 5.0
_UNSET = {"", "none", "null", "global", "aws-global", "undefined", "default"}
_AWS_NAME = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


class Regions:
    """Remember the region of each bucket.

    Safe from several threads. `_lock` guards the tables and is never held over I/O; a bucket's
    gate is, so that the threads that need one answer send one question: its failure, too, is
    theirs.
    """

    def __init__(
        self,
        endpoint_url: str,
        configured: Callable[[], str],
        metrics: Metrics,
        network: NetworkSettings | None = None,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._network = network or NetworkSettings()
        self._configured = configured
        self._metrics = metrics
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._gates: dict[str, threading.Lock] = {}
        self._failed: dict[str, tuple[float, StoreError]] = {}

    def of(self, bucket: str) -> str:
        """Return the region to sign for, asking AWS once per bucket where it is not configured.

        Raises StoreUnavailable when it must ask and nothing answers.
        """
        if known := self._known.get(bucket):
            return known
        with self._lock:
            gate = self._gates.setdefault(bucket, threading.Lock())
        came_s = time.monotonic()
        with gate:
            if bucket not in self._known:
                self._find(bucket, came_s)
            return self._known.get(bucket, DEFAULT)

    def _find(self, bucket: str, since_s: float) -> None:
        """Ask, unless a question that was sent after `since_s` has failed: that failure is ours."""
        failed = self._failed.get(bucket)
        if failed is not None and failed[0] > since_s:
            raise copy.copy(failed[1])
        try:
            self.learn(bucket, self._first_guess(bucket))
        except StoreError as error:
            self._failed[bucket] = (time.monotonic(), error)
            raise

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
        from urllib.parse import quote  # noqa: PLC0415

        base = (self._endpoint_url or AWS_URL).rstrip("/")
        self._metrics.request("head")
        try:
            status, headers = self._network.head(f"{base}/{quote(bucket)}", TIMEOUT_S)
        except (OSError, HTTPException) as error:
            reason = f"{base} did not say where the bucket is ({type(error).__name__})"
            cause = getattr(error, "reason", error)
            connected = not isinstance(cause, (socket.gaierror, ConnectionRefusedError))
            proxied = "failed: 407" in str(error)  # of a tunnel there is no answer but this text
            answer = Answer(407) if proxied else Answer(reason=reason, connected=connected)
            raise error_of(answer, f"s3://{bucket}") from None
        if status == 407:
            raise error_of(Answer(407), f"s3://{bucket}")
        if is_intercepted(status, headers):
            raise foreign(f"s3://{bucket}", f"{status} where the bucket's region was asked")
        return str(headers.get("x-amz-bucket-region", ""))

    def _first_guess(self, bucket: str) -> str:
        configured = usable(self._configured(), aws=not self._endpoint_url)
        if self._endpoint_url:
            return configured or DEFAULT
        return self.ask(bucket) or configured or DEFAULT


def usable(region: str, *, aws: bool) -> str:
    """Return `region`, or '' when it is no region: people write 'none' and 'global' there."""
    region = region.strip()
    if region.lower() in _UNSET or not (_AWS_NAME if aws else _NAME).fullmatch(region):
        return ""
    return region
