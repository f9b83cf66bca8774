"""The log file of a background mount: rotated at 1 MiB, repeated lines limited, stderr included."""

from __future__ import annotations

import logging
import os
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from ego4dfs.mount.log_format import formatter_of
from ego4dfs.text import SanitizingHandler

MAX_LOG_BYTES = 1 << 20
"""A log that would become larger is renamed to `<name>.1`, which replaces the previous one."""

BURST = 50
PERIOD_S = 60.0
"""A statement logs at most `BURST` lines in a period of `PERIOD_S`; further ones are counted."""


class LogFile(RotatingFileHandler):
    """Appends lines with times to a file, and redirects stdout and stderr of the process to it.

    `log_format` is text or json. Output of C libraries is in it too, as it is, and counts towards
    its size at the next log line. Only a regular file is renamed.
    """

    def __init__(
        self, path: Path, max_bytes: int = MAX_LOG_BYTES, log_format: str = "text"
    ) -> None:
        """Open `path`. Raises OSError."""
        super().__init__(
            path, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="backslashreplace"
        )
        self.setFormatter(formatter_of(log_format))
        self.addFilter(RepeatFilter())
        self._redirect()

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        """Return whether this record would make the file too large."""
        return os.path.isfile(self.baseFilename) and bool(super().shouldRollover(record))  # noqa: PTH113

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Rename the file and start a new one."""
        super().doRollover()
        self._redirect()

    def _redirect(self) -> None:
        if self.stream is not None:
            for number in (1, 2):
                os.dup2(self.stream.fileno(), number)


class RepeatFilter(logging.Filter):
    """Passes `burst` records of each log statement in a period, and reports how many it dropped.

    Thread-safe: `_lock` guards the counts.
    """

    def __init__(self, burst: int = BURST, period_s: float = PERIOD_S) -> None:
        super().__init__()
        self._burst = burst
        self._period_s = period_s
        self._counts: dict[tuple[str, int], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the record; the first of a period says how many were dropped."""
        place, now = (record.pathname, record.lineno), time.monotonic()
        with self._lock:
            began, count = self._counts.get(place, (now, 0))
            dropped = 0
            if now - began >= self._period_s:
                dropped, began, count = max(0, count - self._burst), now, 0
            self._counts[place] = (began, count + 1)
        if dropped:
            record.msg = f"{record.getMessage()} ({dropped} lines like this were dropped)"
            record.args = ()
        if count + 1 == self._burst:
            record.msg = (
                f"{record.getMessage()} (further lines like this within a minute are only counted)"
            )
            record.args = ()
        return count < self._burst


def log_to(*handlers: logging.Handler) -> None:
    """Send the log of the package to `handlers` only, from level INFO on."""
    logger = logging.getLogger("ego4dfs")
    logger.handlers = [SanitizingHandler(), *handlers]
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
