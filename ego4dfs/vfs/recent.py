"""Recent: the last used values, by key, in memory that is limited."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The last used values, of at most `max_bytes`. Safe from several threads."""

    def __init__(self, max_bytes: int) -> None:
        """Begin with no value."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Value | None:
        """Return the value of a key, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: str, value: Value, size: int) -> Value:
        """Keep a value of `size` bytes, unless the key has one, and return it."""
        with self._lock:
            if size <= self._max_bytes and key not in self._kept:
                self._kept[key] = value, size
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed
        return value
