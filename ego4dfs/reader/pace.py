"""Pace: how fast a reader goes on, and how long it has waited for the store. Pure."""

from __future__ import annotations


class Pace:
    """The pace of one sequential run of reads.

    It changes under the lock of its window; `bytes_in_a_wait` needs no lock.

    The time from the first read to the second is taken for a wait for the store, and the time after
    that for the reader's own work, such as decoding: later waits make a reader slower.
    """

    __slots__ = ("_began_s", "_last_s", "_second_s")

    def __init__(self) -> None:
        """Begin with no read."""
        self.restart()

    def restart(self) -> None:
        """Forget the run: the next read is the first of another one."""
        self._began_s: float | None = None
        self._second_s: float | None = None
        self._last_s = 0.0

    def add(self, now_s: float) -> None:
        """Record a read that arrives now."""
        if self._began_s is None:
            self._began_s = now_s
        elif self._second_s is None:
            self._second_s = now_s
        self._last_s = now_s

    def bytes_in_a_wait(self, read_bytes: int) -> int:
        """Return how many bytes a reader that has read so many goes on by during such a wait.

        0 until its pace is known.
        """
        began_s, second_s, last_s = self._began_s, self._second_s, self._last_s
        if began_s is None or second_s is None or last_s <= second_s:
            return 0
        return int(read_bytes / (last_s - second_s) * max(0.0, second_s - began_s))
