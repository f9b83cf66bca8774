"""The log of a background mount: a file of bounded size, where stderr of the process goes too."""

from __future__ import annotations

import logging
import os
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from ego4dfs.text import SanitizingHandler

MAX_LOG_BYTES = 1 << 20
"""A log that would become larger moves to `<name>.1`, and what was there is removed."""

BURST = 50
PERIOD_S = 60.0
"""One place in the code writes at most `BURST` lines in a period, and then counts them."""


class LogFile(RotatingFileHandler):
    """Appends lines with times to a file, and points stdout and stderr of the process there.

    What C libraries print is in it too, and counts for its size at the next line of ours. Only a
    regular file is ever moved away.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
        """Open `path`. Raises OSError."""
        super().__init__(
            path, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="backslashreplace"
        )
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.addFilter(RepeatFilter())
        self._redirect()

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        """Tell whether this record would make the file too large."""
        return os.path.isfile(self.baseFilename) and bool(super().shouldRollover(record))  # noqa: PTH113

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Move the file away and begin a new one."""
        super().doRollover()
        self._redirect()

    def _redirect(self) -> None:
        if self.stream is not None:
            for number in (1, 2):
                os.dup2(self.stream.fileno(), number)


class RepeatFilter(logging.Filter):
    """Pass `burst` records of each place in the code in a period; say how many were left out.

    Safe from several threads: `_lock` guards the counts.
    """

    def __init__(self, burst: int = BURST, period_s: float = PERIOD_S) -> None:
        super().__init__()
        self._burst = burst
        self._period_s = period_s
        self._counts: dict[tuple[str, int], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write the record; the first of a period carries the count of the last."""
        place, now = (record.pathname, record.lineno), time.monotonic()
        with self._lock:
            began, count = self._counts.get(place, (now, 0))
            left_out = 0
            if now - began >= self._period_s:
                left_out, began, count = max(0, count - self._burst), now, 0
            self._counts[place] = (began, count + 1)
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} lines like this were left out)"
            record.args = ()
        if count + 1 == self._burst:
            record.msg = f"{record.getMessage()} (more like this within a minute are counted only)"
            record.args = ()
        return count < self._burst


def log_to(*handlers: logging.Handler) -> None:
    """Write the package's log there and nowhere else, from INFO on."""
    logger = logging.getLogger("ego4dfs")
    logger.handlers = [SanitizingHandler(), *handlers]
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
