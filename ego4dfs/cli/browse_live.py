"""LiveTables: what the mounts of this machine do, for the live page of `ego4dfs browse`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from ego4dfs.cli.top import read_mounts, tables
from ego4dfs.cli.top_table import Statuses, error_lines
from ego4dfs.text import printable

LEAST_S = 1.0
"""Seconds between two readings of the mounts, however many pages ask."""


class LiveTables:
    """The tables of `ego4dfs top`. Safe from several threads: one reads, the others wait."""

    def __init__(self) -> None:
        """Begin without a reading: the first tables have no rates."""
        self._lock = threading.Lock()
        self._before: Statuses = {}
        self._now: Statuses = {}
        self._read_at_s = -LEAST_S

    def __call__(self) -> Mapping[str, object]:
        """Return tables of printable cells, and a line for each mount that has had errors."""
        with self._lock:
            if time.monotonic() - self._read_at_s >= LEAST_S:
                self._before, self._now = self._now, read_mounts([])
                self._read_at_s = time.monotonic()
            found = tables(self._before, self._now)
            errors = [printable(line) for line in error_lines(self._now)]
        return {
            "tables": [
                {
                    "header": header,
                    "right": [name in right for name in header],
                    "rows": [[printable(cell) for cell in row] for row in rows],
                }
                for rows, header, right, _ in found
            ],
            "errors": errors,
        }
