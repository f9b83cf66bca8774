"""Capture of stderr while libfuse and fusermount mount, for the error message."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress


class StderrCapture:
    """Captures the stderr of the process until `release` or `finish`. Thread-safe."""

    def __init__(self) -> None:
        """Start the capture."""
        self._lock = threading.Lock()
        self._captured: int | None = None
        with suppress(OSError):
            self._captured = os.memfd_create("stderr")
            sys.stderr.flush()
            self._original = os.dup(2)
            os.dup2(self._captured, 2)

    def release(self) -> None:
        """Restore stderr, and write the captured text to it."""
        captured = self._end()
        with suppress(OSError):
            os.write(2, captured)

    def finish(self) -> str:
        """Restore stderr, and return the captured text as one line."""
        lines = self._end().decode(errors="replace").split("\n")
        return "; ".join(line.strip() for line in lines if line.strip())

    def _end(self) -> bytes:
        with self._lock:
            if self._captured is None:
                return b""
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(self._original, 2)
            text = os.pread(self._captured, 1 << 16, 0)
            os.close(self._original)
            os.close(self._captured)
            self._captured = None
            return text
