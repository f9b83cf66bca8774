"""The recorder of a mount: its counters, once a minute, in a file of the cache directory.

<cache_dir>/v1/counters/<id of the mountpoint>.jsonl      a JSON object a line
<cache_dir>/v1/counters/<id of the mountpoint>.jsonl.1    the lines before them
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from ego4dfs.cache import private_directory
from ego4dfs.errors import CacheError
from ego4dfs.runtime.periodic_thread import PeriodicThread

log = logging.getLogger(__name__)

EVERY_S: Final = 60.0
MAX_FILE_BYTES: Final = 1 << 20
"""Of a file; then it replaces the one before it. About a day of a busy mount."""
MAX_FILES: Final = 32
MAX_AGE_S: Final = 30 * 86400.0
"""Files that are older, or more than MAX_FILES, are removed at the start of a mount."""

COUNTERS: Final = (
    "hedged_requests",
    "bytes_fetched",
    "bytes_served",
    "bytes_from_cache",
    "bytes_from_copies",
    "hits",
    "misses",
    "evictions",
    "errors",
    "throttled_answers",
)
"""Fields of the status that are recorded, besides requests, results and read errors."""
LEVELS: Final = ("cache_bytes", "cache_limit_bytes")

_CLOSE_S = 0.5

Status = Mapping[str, Any]
Patterns = Mapping[str, Mapping[str, Mapping[str, int]]]


class Recorder:
    """Appends a line a minute, in a thread of its own, and one at the end. Idle minutes have none.

    No failure ends the mount: it is logged, and the next minute tries again.
    """

    def __init__(
        self,
        directory: Path,
        mountpoint: Path,
        status: Callable[[], Status],
        patterns: Callable[[], Patterns],
    ) -> None:
        """Record what `status` and `patterns` return; `directory` is that of the cache's format."""
        self._directory = directory / "counters"
        digest = hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()
        self._path = self._directory / f"{digest}.jsonl"
        self._about = {"mountpoint": str(mountpoint), "mount": f"{os.getpid()}@{time.time_ns()}"}
        self._status, self._patterns = status, patterns
        self._last: Mapping[str, Any] = {}
        self._thread = PeriodicThread(
            partial(self._guarded, self.record),
            EVERY_S,
            name="recorder",
            begin=partial(self._guarded, self._prepare),
        )

    def start(self) -> None:
        """Start the thread; without one nothing is recorded."""
        self._thread.start()

    def close(self) -> None:
        """Record a last time, and wait _CLOSE_S for it at most: the disk may hang."""
        self._thread.close(_CLOSE_S)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, CacheError, ValueError) as error:
            log.warning("the counters cannot be recorded: %s", error)

    def _prepare(self) -> None:
        private_directory(self._directory)
        remove_old(self._directory)

    def record(self) -> None:
        """Append a line, unless no counter has changed. Raises OSError."""
        status = self._status()
        counters = {name: status[name] for name in COUNTERS}
        counters["requests"] = sum(status["requests"].values())
        counters["read_errors"] = sum(status["read_errors"].values())
        values = {
            "counters": counters,
            "results": {
                result: count
                for result in next(iter(status["results"].values()))
                if (count := sum(one[result] for one in status["results"].values()))
            },
            "patterns": self._patterns(),
        }
        if values == self._last or not any(counters.values()):
            return
        self._last = values
        levels = {name: status[name] for name in LEVELS}
        line = json.dumps({**self._about, "time": round(time.time(), 1), **values, **levels})
        self._append(f"{line}\n".encode())

    def _append(self, line: bytes) -> None:
        flags = (
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        )
        fd = os.open(self._path, flags, 0o600)
        try:
            os.write(fd, line)
            is_full = os.fstat(fd).st_size >= MAX_FILE_BYTES
        finally:
            os.close(fd)
        if is_full:
            self._path.replace(self._path.with_suffix(".jsonl.1"))


def remove_old(directory: Path) -> None:
    """Remove the files of counters that are too old, or too many."""
    files = []
    for path in directory.glob("*.jsonl*"):
        with suppress(OSError):
            files.append((path.lstat().st_mtime, path))
    files.sort(reverse=True)
    before_s = time.time() - MAX_AGE_S
    for number, (changed_s, path) in enumerate(files):
        if number >= MAX_FILES or changed_s < before_s:
            with suppress(OSError):
                path.unlink()
