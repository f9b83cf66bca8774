"""Pace: how fast a reader goes on, and how long it has waited for the store. Pure."""

from __future__ import annotations


class Pace:
    """The pace of one sequential run of reads. Used under the lock of its window.

    The longest time between two reads is taken for a wait for the store, and the rest of the time
    for the reader's own work, such as decoding.
    """

    __slots__ = ("_began_s", "_last_s", "_wait_s")

    def __init__(self) -> None:
        """Begin with no read."""
        self.restart(0.0)

    def restart(self, now_s: float) -> None:
        """Forget the run: the first read of another one arrives now."""
        self._began_s = self._last_s = now_s
        self._wait_s = 0.0

    def add(self, now_s: float) -> None:
        """Record a read that arrives now."""
        self._wait_s = max(self._wait_s, now_s - self._last_s)
        self._last_s = now_s

    def bytes_in_a_wait(self, read_bytes: int) -> int:
        """Return how many bytes a reader that has read so many goes on by during such a wait.

        0 until its pace is known.
        """
        busy_s = self._last_s - self._began_s - self._wait_s
        return int(read_bytes / busy_s * self._wait_s) if busy_s > 0 else 0
