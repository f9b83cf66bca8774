"""The promise, checked: right bytes or an error with a cause, in time, from a bounded cache."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    Ego4DError,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.facts import REFUSAL_VALID_S
from ego4dfs.runtime.deadline import ANSWER_S, THROTTLED_S
from ego4dfs.store import CircuitOpen
from ego4dfs.vfs import Handle, Stat
from simulation.disk import blocks
from simulation.faults import Faults
from simulation.s3 import Objects, Version
from simulation.scheduler import Scheduler

MEMORY_S: dict[type[Exception], float] = {
    CircuitOpen: 180.0,
    StoreUnavailable: 120.0,
    AccessDenied: 60.0,
    ObjectMissing: 60.0,
    CredentialsRejected: 60.0,
    StoreError: 60.0,
    ObjectChanged: float("inf"),
}
"""How long before a call the cause of its error may lie: failures and refusals are remembered for
some seconds, and one of a manifest for half a minute. The circuit of a bucket stays open for half
a minute after the last request."""


@dataclass
class Call:
    """A call of a user that has not ended."""

    text: str
    url: str
    began_s: float


@dataclass
class Oracle:
    """Knows what every call may return, and collects what broke the promise."""

    scheduler: Scheduler
    objects: Objects
    faults: Faults
    failures: list[str] = field(default_factory=list)
    longest_s: dict[str, float] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)

    def fail(self, text: str) -> None:
        self.failures.append(f"at {self.scheduler.now_s:.3f} s: {text}")
        self.scheduler.note(f"FAILED {text}")

    def error(self, call: Call, error: Exception) -> None:
        """Check the class of an error: there must be a fault that may cause it."""
        kinds = (k for k in type(error).__mro__ if k in MEMORY_S and k is not CircuitOpen)
        kind = next(kinds, None)
        self.scheduler.note(f"{call.text}: {type(error).__name__}")
        if kind is None or not isinstance(error, Ego4DError):
            self.fail(f"{call.text}: unexpected {error!r}")
        elif not self._has_cause(kind, call, is_refused=_is_unsent(error)):
            self.fail(f"{call.text}: {error!r} without a cause")

    def _has_cause(self, kind: type[Exception], call: Call, *, is_refused: bool) -> bool:
        since_s = call.began_s - MEMORY_S[CircuitOpen if is_refused else kind]
        last_s = self.faults.since_s(kind, call.url)
        if kind is StoreError:  # a range past the end of an object whose size was wrong
            last_s = max(last_s, self.faults.since_s(ObjectChanged, call.url))
        if kind in {StoreUnavailable, CredentialsRejected} or not call.url:
            last_s = self.faults.latest_s(kind)  # these concern a bucket, or all of them
        if kind is StoreUnavailable and "slow" in self.faults.last_fired_s:
            since_s -= THROTTLED_S  # a slow request may last until its reader gives it up
        if kind is AccessDenied:  # a HEAD that is refused does not say why
            last_s = max(last_s, self.faults.latest_s(CredentialsRejected))
        if kind is AccessDenied and not call.url:
            last_s = max(last_s, self.faults.latest_s(ObjectMissing))
        return last_s >= since_s

    def ended(self, call: Call) -> None:
        """Check how long a call took."""
        took_s = self.scheduler.now_s - call.began_s
        kind = call.text.split()[1]
        self.longest_s[kind] = max(took_s, self.longest_s.get(kind, 0.0))
        if took_s > self._limit_s(call):
            self.fail(f"{call.text} took {took_s:.1f} s")

    def _limit_s(self, call: Call) -> float:
        """Return the stated deadline of a call."""
        counts = self.faults
        slow = max(counts.last_fired_s.get(k, float("-inf")) for k in ("slow", "silent body"))
        throttled = counts.last_fired_s.get("throttled", float("-inf"))
        disk = counts.last_fired_s.get("slow disk", float("-inf"))
        limit_s = ANSWER_S
        if max(slow, throttled) >= call.began_s - THROTTLED_S:
            limit_s = 2 * THROTTLED_S + ANSWER_S
        if disk >= call.began_s - 60:
            limit_s += 120.0
        return limit_s + 1.0

    def read(self, call: Call, handle: Handle, offset: int, wanted: int, got: bytes) -> None:
        """Check the bytes that a read returned, and their number."""
        assert handle.ref is not None
        version = self.objects.find(call.url, handle.ref.etag)
        self.scheduler.note(f"{call.text}: {len(got)} bytes")
        if version is None:
            self.fail(f"{call.text}: an ETag that no version had")
            return
        if handle.size != version.size:
            self.fail(f"{call.text}: opened with {handle.size} bytes of {version.size}")
            return
        right = version.data[offset : offset + wanted]
        if len(got) != len(right):
            self.fail(f"{call.text}: {len(got)} of {len(right)} bytes, no error")
        elif got != bytes(right):  # a comparison with a memoryview is slow
            self._wrong(call, version, offset, got, right)

    def _wrong(
        self, call: Call, version: Version, offset: int, got: bytes, right: memoryview
    ) -> None:
        """Check wrong bytes: only those that were sent wrong may be wrong."""
        flips = self.objects.flips.get((call.url, version.etag), {})
        for index, byte in enumerate(got):
            if byte != right[index]:
                sent = {value for value, _ in flips.get(offset + index, ())}
                if byte not in sent:
                    self.fail(f"{call.text}: wrong byte at {offset + index}")
                    return

    def stat(self, call: Call, found: Stat) -> None:
        """Check a size: one that some version had, or that a response to a HEAD was wrong about."""
        self.scheduler.note(f"{call.text}: {found.size}")
        if not found.is_known:
            refused = [
                self.faults.since_s(kind, call.url) for kind in (AccessDenied, ObjectMissing)
            ]
            if max(refused) < call.began_s - REFUSAL_VALID_S:
                self.fail(f"{call.text}: unknown size without a refusal")
            return
        sizes = {version.size for version in self.objects.versions[call.url]}
        if found.size not in sizes | self.objects.wrong_sizes.get(call.url, set()):
            self.fail(f"{call.text}: wrong size {found.size} of {sizes}")

    def cache(self, directory: os.PathLike[str], limit_bytes: int) -> None:
        """Check the bound of the cache, by the files that are there and those that are counted."""
        used = sum(-(-path.stat().st_size // 4096) * 4096 for path in blocks(directory))
        if used > limit_bytes:
            self.fail(f"the cache has {used} bytes, its limit is {limit_bytes}")


def _is_unsent(error: Exception) -> bool:
    """Return whether a request was not sent because of an outage before, or this was remembered."""
    return isinstance(error, CircuitOpen) or "has not answered since" in str(error)
