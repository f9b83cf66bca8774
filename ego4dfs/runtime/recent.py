"""Recent: the last used values, by key, in memory that is limited."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The last used values whose sizes are at most `limit` in all. Safe from several threads."""

    def __init__(self, limit: int) -> None:
        """Begin with no value; `limit` is in the unit of the sizes."""
        self._limit = limit
        self._used = 0
        self._kept: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, key: str) -> Value | None:
        """Return the value of a key, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: str, value: Value, size: int = 1) -> Value:
        """Keep a value in place of those used longest ago, and return it."""
        with self._lock:
            self._used -= self._kept.pop(key, (None, 0))[1]
            if size <= self._limit:
                self._kept[key] = value, size
                self._used += size
            while self._used > self._limit:
                _, (_, freed) = self._kept.popitem(last=False)
                self._used -= freed
        return value
