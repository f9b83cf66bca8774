"""Watches: which keys change while a thread reads a value without a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager


class Watches:
    """The keys that changed during each of several slow reads.

    A thread that reads from disk or from the network, and then records what it found, must not
    replace what another thread has recorded since. Changes are noted under the lock of the owner,
    which also guards the watches.
    """

    def __init__(self, lock: threading.Lock) -> None:
        """Use the lock of the owner."""
        self._lock = lock
        self._changed: list[set[str]] = []

    @contextmanager
    def changes(self) -> Iterator[AbstractSet[str]]:
        """Collect the keys that change within the block; read the set under the owner's lock."""
        changed: set[str] = set()
        with self._lock:
            self._changed.append(changed)
        try:
            yield changed
        finally:
            with self._lock:
                self._changed = [other for other in self._changed if other is not changed]

    def note(self, key: str) -> None:
        """Record that a key changes now; the owner's lock is held."""
        for changed in self._changed:
            changed.add(key)
