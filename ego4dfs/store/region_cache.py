"""The region of each bucket, found by a probe and cached.

Ego4D's buckets are in several regions, and licensees may not call GetBucketLocation.
"""

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
from ego4dfs.store.region_probe import Obstacle, ProbeError, bucket_region, probe_base
from ego4dfs.store.request_results import counted

DEFAULT = "us-east-1"
_UNSET = {"", "none", "null", "global", "aws-global", "undefined", "default"}
_AWS_NAME = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


class Regions:
    """The region of each bucket.

    Safe from several threads. `_lock` guards the tables and is never held during I/O. The gate of
    a bucket is held during its probe: the threads that need its region send one probe, and share
    its failure too.
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
        """Return the region to sign for; one probe per bucket finds it on AWS.

        Raises StoreUnavailable when a probe is needed and nothing answers.
        """
        if known := self._known.get(bucket):
            return known
        with self._lock:
            gate = self._gates.setdefault(bucket, threading.Lock())
        since_s = time.monotonic()
        with gate:
            if bucket not in self._known:
                self._find(bucket, since_s)
            return self._known.get(bucket, DEFAULT)

    def _find(self, bucket: str, since_s: float) -> None:
        """Probe; if a probe that was sent after `since_s` has failed, raise its failure instead."""
        failed = self._failed.get(bucket)
        if failed is not None and failed[0] > since_s:
            raise copy.copy(failed[1])
        try:
            self.learn(bucket, self._first_guess(bucket))
        except StoreError as error:
            self._failed[bucket] = (time.monotonic(), error)
            raise

    def peek(self, bucket: str) -> str:
        """Return the region of `bucket` if it is known, or ''."""
        with self._lock:
            return self._known.get(bucket, "")

    def learn(self, bucket: str, region: str) -> None:
        """Keep the region that a server named for `bucket`; an invalid name is ignored."""
        if _NAME.fullmatch(region):
            with self._lock:
                self._known[bucket] = region

    def corrected(self, error: WrongRegion, bucket: str) -> WrongRegion:
        """Learn the region that a refusal names, or a probe; return the error with that region."""
        error.region = error.region or self.probe(bucket)
        self.learn(bucket, error.region)
        return error

    def probe(self, bucket: str) -> str:
        """Return the region that an unsigned HEAD of the bucket names, or ''.

        Raises StoreUnavailable when nothing answers.
        """

        def request() -> str:
            try:
                return bucket_region(self._network, self._endpoint_url, bucket)
            except ProbeError as error:
                raise self._unavailable(error, bucket) from None

        return counted(self._metrics, "head", request, f"s3://{bucket}")

    def _unavailable(self, error: ProbeError, bucket: str) -> StoreError:
        url = f"s3://{bucket}"
        if error.obstacle is Obstacle.PROXY_LOGIN:
            return error_of(Answer(407), url)
        if error.obstacle is Obstacle.INTERCEPTED:
            return foreign(url, f"{error.status} to the request for the bucket's region")
        base, kind = probe_base(self._endpoint_url), type(error.cause).__name__
        connected = not isinstance(error.cause, (socket.gaierror, ConnectionRefusedError))
        reason = f"{base} did not name the region of the bucket ({kind})"
        return error_of(Answer(reason=reason, connected=connected), url)

    def _first_guess(self, bucket: str) -> str:
        configured = valid_region(self._configured(), aws=not self._endpoint_url)
        if self._endpoint_url:
            return configured or DEFAULT
        return self.probe(bucket) or configured or DEFAULT


def valid_region(region: str, *, aws: bool) -> str:
    """Return `region`, or '' when it is not a region: some people configure 'none' or 'global'."""
    region = region.strip()
    if region.lower() in _UNSET or not (_AWS_NAME if aws else _NAME).fullmatch(region):
        return ""
    return region
