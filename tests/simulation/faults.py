"""Faults: which are active, for which objects, and which errors they may cause."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)

STORE = {
    "refused": StoreUnavailable,
    "silent": StoreUnavailable,
    "silent body": StoreUnavailable,
    "trickle": StoreUnavailable,
    "slow": StoreUnavailable,
    "cut": StoreUnavailable,
    "short": StoreUnavailable,
    "throttled": StoreUnavailable,
    "server error": StoreUnavailable,
    "sign-in page": StoreUnavailable,
    "no headers": StoreUnavailable,
    "whole object": StoreUnavailable,
    "another range": StoreError,
    "denied": AccessDenied,
    "expired key": CredentialsRejected,
    "missing": ObjectMissing,
    "stale": ObjectChanged,
    "wrong ETag": ObjectChanged,
    "wrong size of HEAD": ObjectChanged,
    "flipped": ObjectChanged,
}
"""Faults of the store, and the error that a call may end with because of one."""

DISK = ("no space", "cut writes", "unreadable", "slow disk", "index full", "index unreadable")
EVENTS = (
    "replace",
    "damage a block",
    "cut a block",
    "remove a block",
    "remove the blocks",
    "clear the cache",
    "tamper with facts",
    "lock the index",
    "lock the facts",
    "no threads",
    "kill",
    "restart",
    "forget",
)
"""What happens once, or for a while, beside the faults of store and disk."""

KINDS = (*STORE, *DISK, *EVENTS)

CHURN = ("clear the cache", "remove the blocks", "forget")
"""What makes the product send requests again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: active until `until_s`, for requests that it hits with `probability`."""

    kind: str
    url: str  # "" for all objects
    probability: float
    until_s: float
    amount: float = 0.0


@dataclass
class Faults:
    """The active faults of one run, and what they did."""

    dice: random.Random
    active: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    last_s: dict[tuple[type[Exception], str], float] = field(default_factory=dict)
    """When each object was last hit by a fault that may cause this error."""
    last_fired_s: dict[str, float] = field(default_factory=dict)

    def add(self, fault: Fault) -> None:
        self.active.append(fault)

    def stop(self) -> None:
        """End all faults."""
        self.active.clear()

    def of(self, kind: str, url: str, now_s: float) -> Fault | None:
        """Return the fault of a kind that hits this request, or None."""
        for fault in self._of(kind, url, now_s):
            if self.dice.random() < fault.probability:
                self.counts[kind] += 1
                self.last_fired_s[kind] = now_s
                if kind in STORE:
                    self.note(STORE[kind], url, now_s)
                return fault
        return None

    def _of(self, kind: str, url: str, now_s: float) -> Iterator[Fault]:
        for fault in self.active:
            if fault.kind == kind and fault.url in {"", url} and now_s < fault.until_s:
                yield fault

    def note(self, error: type[Exception], url: str, now_s: float) -> None:
        """Record that an error of this kind has a cause now."""
        self.last_s[error, url] = now_s

    def since_s(self, error: type[Exception], url: str) -> float:
        """Return when this error last had a cause, for this object."""
        return self.last_s.get((error, url), float("-inf"))

    def latest_s(self, error: type[Exception]) -> float:
        """Return when this error last had a cause, for any object."""
        times = [at for (kind, _), at in self.last_s.items() if kind is error]
        return max(times, default=float("-inf"))

    def latest_store_s(self) -> float:
        """Return when a fault of the store last hit."""
        return max(self.last_fired_s.get(kind, float("-inf")) for kind in STORE)

    def latest_disk_s(self) -> float:
        """Return when the disk last failed, or a database was locked."""
        return max(self.last_fired_s.get(kind, float("-inf")) for kind in (*DISK, "lock"))
