"""Recent: the last values by key, in memory that is limited."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

MAX_KEYS = 4096

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values of the last MAX_KEYS keys. Safe from several threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Value | None:
        """Return the value of a key, or None."""
        return self._values.get(key)

    def put(self, key: str, value: Value) -> None:
        """Set the value of a key."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > MAX_KEYS:
                self._values.popitem(last=False)
