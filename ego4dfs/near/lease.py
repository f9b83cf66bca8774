"""Leases: of several nodes that miss the same chunk at once, one fetches it and the others wait."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from ego4dfs.near.chunks import lease_name
from ego4dfs.near.tier import NearFailed, NearTier
from ego4dfs.runtime.deadline import ATTEMPT_S, call_remaining_s

log = logging.getLogger(__name__)

Found = TypeVar("Found")

FIRST_POLL_S, MAX_POLL_S = 0.02, 0.25


class Lease:
    """The right to fetch what belongs to a name, until all that holds it has let it go.

    Safe from several threads.
    """

    def __init__(self, tier: NearTier, name: str) -> None:
        """Hold the lease once."""
        self._tier = tier
        self._name = name
        self._holds = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Hold it once more."""
        with self._lock:
            self._holds += 1

    def let_go(self) -> bool:
        """Let it go once; return whether nothing holds it now, so that it must be deleted."""
        with self._lock:
            self._holds -= 1
            return not self._holds

    def delete(self) -> None:
        """Remove it from the near tier; if that fails, it expires."""
        with suppress(NearFailed):
            self._tier.delete(self._name)


class Leases:
    """Leases of this process.

    A lease is an object that is written by a conditional PUT (`If-None-Match: *`), of which a store
    accepts one. It expires `lease_s` after it was written, by the clock of the store; then the
    first waiting node replaces it (`If-Match`). A store that ignores the condition is recognized by
    the first lease, and no more are written. Safe from several threads.
    """

    def __init__(self, tier: NearTier) -> None:
        """Write leases into `tier`."""
        self._tier = tier
        self._owner = f"{socket.gethostname()} {os.getpid()}"
        self._is_exclusive: bool | None = None  # None: not known yet

    def acquire(
        self, name: str, look: Callable[[], Found | None]
    ) -> tuple[Lease | None, Found | None]:
        """Return a lease on `name`, or what `look` finds while another node fetches it.

        `look` is also called once the lease is acquired. Without both, the near tier gives no
        leases now, or another node has not come to an end in time: fetch without one.
        """
        if self._is_exclusive is False or not self._tier.is_fillable():
            return None, None
        key, token = lease_name(name), f"{self._owner} {uuid.uuid4()}".encode()
        try:
            found = self._wait(key, token, look)
        except NearFailed:
            return None, None
        if isinstance(found, Lease):
            try:
                seen = look()
            except BaseException:
                found.delete()  # others need not wait until it expires
                raise
            if seen is None:
                return found, None
            found.delete()
            return None, seen
        return None, found

    def _wait(
        self, key: str, token: bytes, look: Callable[[], Found | None]
    ) -> Lease | Found | None:
        poll_s, lease_s = FIRST_POLL_S, self._tier.limits.lease_s
        ends_s = time.monotonic() + min(2 * lease_s, call_remaining_s() - ATTEMPT_S)
        while True:
            if self._tier.put_if(key, token):
                return self._checked(key, token)
            if time.monotonic() >= ends_s:
                return None
            held = self._tier.held(key)
            if held is not None and held.age_s >= lease_s:
                log.info("near tier: a lease has expired; its node may have ended")
                if self._tier.put_if(key, token, etag=held.etag):
                    return Lease(self._tier, key)
            time.sleep(poll_s)
            poll_s = min(2 * poll_s, MAX_POLL_S)
            found = look()
            if found is not None:
                return found

    def _checked(self, key: str, token: bytes) -> Lease | None:
        """Return the lease that was written, unless the store accepts a second one too."""
        if self._is_exclusive is None:
            self._is_exclusive = not self._tier.put_if(key, token)
            if not self._is_exclusive:
                log.warning(
                    "near tier: the store ignores If-None-Match; nodes that miss the same bytes"
                    " at once fetch them once each"
                )
                Lease(self._tier, key).delete()
                return None
        return Lease(self._tier, key)
