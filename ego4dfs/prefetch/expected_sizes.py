"""ExpectedSizes: the bytes that files of unknown size are expected to have, by those of others."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class ExpectedSizes:
    """Sizes of the files of one dataset, of which some are learnt as the files are fetched.

    The others are expected to have the mean of those that are known. Safe from several threads.
    """

    def __init__(self, sizes: Sequence[int], unknown: int) -> None:
        """Begin with the known `sizes`, and the number of files to fetch whose size is unknown."""
        self._known, self._known_bytes = len(sizes), sum(sizes)
        self._unknown = unknown
        self._lock = threading.Lock()
        self.learnt_bytes = 0
        """Sum of the sizes that were learnt."""

    @property
    def expected_bytes(self) -> int:
        """The bytes that are expected of the files that are not begun, and not known."""
        with self._lock:
            return self._unknown * self._known_bytes // max(1, self._known)

    def begin(self) -> int:
        """Count a file of unknown size as begun; return how many are left."""
        with self._lock:
            self._unknown -= 1
            return self._unknown

    def learn(self, size: int) -> None:
        """Record the size of a file that was begun."""
        with self._lock:
            self._known += 1
            self._known_bytes += size
            self.learnt_bytes += size
