"""Which blocks were proved sound in this process."""

from __future__ import annotations

MOST = 200_000
"""So many keys take some 25 MiB; a mount that runs for weeks reads millions of blocks."""


class Checked(set[str]):
    """A set that forgets all once it is full: those blocks are proved once more.

    Safe from several threads, as single calls of a set are.
    """

    def note(self, *keys: str) -> None:
        """Add keys."""
        if len(self) + len(keys) > MOST:
            self.clear()
        self.update(keys)
