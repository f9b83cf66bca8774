"""NearTier: reads and writes of the near tier that cost bounded time and never a wrong byte."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ego4dfs.errors import ConfigError, StoreError
from ego4dfs.metrics import NEAR_FAILING, NEAR_OK, Metrics
from ego4dfs.near import limits as near_limits
from ego4dfs.near.breaker import NearBreaker
from ego4dfs.near.chunks import Damaged, decoded, encoded
from ego4dfs.near.limits import NearLimits
from ego4dfs.runtime.deadline import call_remaining_s
from ego4dfs.store.bucket import Bucket, Held, Version

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class NearFailed(Exception):  # noqa: N818 - a state
    """The near tier was not asked, or has not answered in time."""


class NearTier:
    """The objects of the near tier, checked as they arrive.

    Reads and writes have a breaker each: a full store can still be read. Safe from several threads.
    """

    def __init__(self, bucket: Bucket, metrics: Metrics, limits: NearLimits | None = None) -> None:
        """Use the objects of `bucket`, and count in `metrics`."""
        self.limits = limits or near_limits.DEFAULT
        self.bucket = bucket
        self._metrics = metrics
        self._reads = NearBreaker("reads", self.limits)
        self._writes = NearBreaker("writes", self.limits)
        metrics.near = NEAR_OK

    @property
    def accepts_writes(self) -> bool:
        """Whether writes do not pause."""
        return not self._writes.is_open

    def is_fillable(self) -> bool:
        """Return whether to fetch whole chunks for other nodes, and to write them.

        It is not while reads pause: what is there would be written again, and other nodes probably
        cannot read it either.
        """
        return self.accepts_writes and not self._reads.is_open

    def get(self, name: str) -> memoryview | None:
        """Return the content of an object; None if there is none, or if it is damaged.

        Raises NearFailed.
        """
        try:
            content = self._timed(
                self._reads, partial(self._read, name), has_bytes=lambda read: read is not None
            )
        except Damaged:
            return None
        if content is not None:
            self._metrics.add_bytes_from_near(len(content))
        return content

    def get_version(self, name: str, *, unless_etag: str = "") -> Version | None:
        """Return what `Bucket.get_version` does, with the content as bytes.

        Raises NearFailed, and Damaged.
        """

        def request(limit_s: float) -> Version | None:
            found = self.bucket.get_version(name, limit_s, unless_etag=unless_etag)
            if found is None or found.data is None:
                return found
            return Version(bytes(_checked(name, found)), found.etag)

        found = self._timed(
            self._reads, request, has_bytes=lambda found: found is not None and bool(found.data)
        )
        if found is not None and found.data is not None:
            self._metrics.add_bytes_from_near(len(found.data))
        return found

    def put(self, name: str, content: memoryview | bytes) -> None:
        """Write an object. Raises NearFailed."""
        data = encoded(name, content)
        self._timed(self._writes, lambda limit_s: self.bucket.put(name, data, limit_s))
        self._metrics.add_bytes_to_near(len(content))

    def put_if(self, name: str, data: bytes, *, etag: str = "") -> bool:
        """Write bytes without a header, if there is no such object, or if it has this ETag.

        Raises NearFailed.
        """
        is_written = self._timed(
            self._writes, lambda limit_s: self.bucket.put_if(name, data, limit_s, etag=etag)
        )
        if is_written:
            self._metrics.add_bytes_to_near(len(data))
        return is_written

    def held(self, name: str) -> Held | None:
        """Return ETag and age of an object, or None. Raises NearFailed."""
        return self._timed(self._reads, lambda limit_s: self.bucket.held(name, limit_s))

    def delete(self, name: str) -> None:
        """Remove an object. Raises NearFailed."""
        self._timed(self._writes, lambda limit_s: self.bucket.delete(name, limit_s))

    def _read(self, name: str, limit_s: float) -> memoryview | None:
        found = self.bucket.get_version(name, limit_s)
        return None if found is None else _checked(name, found)

    def _timed(
        self,
        breaker: NearBreaker,
        request: Callable[[float], Result],
        *,
        has_bytes: Callable[[Result], bool] = lambda _: False,
    ) -> Result:
        limit_s = min(self.limits.request_s, call_remaining_s())
        if limit_s <= 0 or not breaker.allows():
            raise NearFailed
        began_s = time.monotonic()
        try:
            result = request(limit_s)
        except (StoreError, ConfigError) as error:
            self._failed(breaker, str(error))
            raise NearFailed from error
        except Damaged as damage:
            if damage.is_intact:
                log.info("near tier: an object was written with a wrong checksum")
                self._metrics.add_near_failure()
                breaker.answered(has_bytes=True)
            else:
                self._failed(breaker, "an object arrived damaged", is_damage=True)
            raise
        except BaseException:  # else a probe would never end
            self._failed(breaker, "a request ended by an exception")
            raise
        if time.monotonic() - began_s > self.limits.slow_s:
            self._failed(breaker, f"an answer took more than {self.limits.slow_s:g} s")
        else:
            breaker.answered(has_bytes=has_bytes(result))
            self._show_state()
        return result

    def _failed(self, breaker: NearBreaker, reason: str, *, is_damage: bool = False) -> None:
        log.info("near tier: %s", reason)
        breaker.failed(reason, is_damage=is_damage)
        self._metrics.add_near_failure()
        self._show_state()

    def _show_state(self) -> None:
        fails = self._reads.is_open or self._writes.is_open
        self._metrics.near = NEAR_FAILING if fails else NEAR_OK


def _checked(name: str, found: Version) -> memoryview:
    """Return the content of an object. Raises Damaged.

    The ETag of an object that was sent by one PUT is its MD5, with most stores: then it is known
    whether the bytes were changed on the disk or on the way, or were written like this.
    """
    data = found.data or b""
    try:
        return decoded(name, data)
    except Damaged:
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        raise Damaged(is_intact=digest == found.etag) from None
