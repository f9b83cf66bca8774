"""How fast each bucket's bodies come, to choose how to ask for the next one."""

from __future__ import annotations

import time

from ego4dfs.deadline import ATTEMPT_S

_MEASURED_BYTES = 32 << 10  # of less the time says nothing
_UNHURRIED_S = ATTEMPT_S / 3  # what is expected to take longer is read on the slow way


class Rates:
    """Bytes a second of the last body of each bucket. Safe from several threads."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def note(self, bucket: str, size: int, began_s: float) -> None:
        """Note a body of `size` bytes whose answer began at `began_s`, of the monotonic clock."""
        if size >= _MEASURED_BYTES:
            self._rates[bucket] = size / max(1e-6, time.monotonic() - began_s)

    def note_slow(self, bucket: str) -> None:
        """Note a body that was not there when its time was over."""
        self._rates[bucket] = 1.0

    def is_slow(self, bucket: str, size: int) -> bool:
        """Tell whether `size` bytes may take so long that they need watching."""
        rate = self._rates.get(bucket)
        return rate is not None and size > rate * _UNHURRIED_S
