"""What libfuse and fusermount print on stderr while they mount, kept for the error message."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress


class StderrCapture:
    """Holds back the process's stderr until `release` or `finish`; safe from several threads."""

    def __init__(self) -> None:
        """Begin."""
        self._lock = threading.Lock()
        self._kept: int | None = None
        with suppress(OSError):
            self._kept = os.memfd_create("stderr")
            sys.stderr.flush()
            self._before = os.dup(2)
            os.dup2(self._kept, 2)

    def release(self) -> None:
        """Let stderr go where it went before, with all that was held back."""
        kept = self._end()
        with suppress(OSError):
            os.write(2, kept)

    def finish(self) -> str:
        """Let stderr go where it went before, and return as one line what was held back."""
        lines = self._end().decode(errors="replace").split("\n")
        return "; ".join(line.strip() for line in lines if line.strip())

    def _end(self) -> bytes:
        with self._lock:
            if self._kept is None:
                return b""
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(self._before, 2)
            said = os.pread(self._kept, 1 << 16, 0)
            os.close(self._before)
            os.close(self._kept)
            self._kept = None
            return said
