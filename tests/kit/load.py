"""Operations of a load: counted, timed, compared with the right bytes; shared by the long runs."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from kit.data import Seeded, read_whole

MAX_LINES = 50
_bytes_of = lru_cache(maxsize=128)(Seeded)  # to make them takes longer than a read


@dataclass
class Load:
    """What operations have found, by kind. Safe from several threads.

    An OSError is a valid result. Wrong bytes, an end of file inside a file, a size that an open
    file does not have, and any other exception are not.
    """

    reads: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    wrong_bytes: list[str] = field(default_factory=list)
    false_ends: list[str] = field(default_factory=list)
    wrong_sizes: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, tuple[str, float]] = {}

    @contextmanager
    def operation(self, kind: str) -> Iterator[None]:
        """Count one operation, and the error that ends it."""
        error = ""
        try:
            yield
        except OSError as caught:
            error = errno.errorcode.get(caught.errno or 0, type(caught).__name__)
        except Exception as caught:  # noqa: BLE001 - reported as a broken promise
            error = type(caught).__name__
            self.note(self.unexpected, f"{kind}: {caught!r}")
        finally:
            with self._lock:
                self.operations[kind] += 1
                if error:
                    self.failed[kind] += 1
                    self.errors[error] += 1

    @contextmanager
    def call(self, kind: str) -> Iterator[None]:
        """Time one call, also one that fails; `waiting` shows it meanwhile."""
        began_s, thread = time.monotonic(), threading.get_ident()
        with self._lock:
            self._running[thread] = (kind, began_s)
        try:
            yield
        finally:
            took_s = time.monotonic() - began_s
            with self._lock:
                del self._running[thread]
                self.slowest[kind] = max(self.slowest.get(kind, 0.0), took_s)

    def pread(self, kind: str, fd: int, name: str, offset: int, count: int) -> None:
        """Read bytes that are inside the file `name`, and compare them."""
        with self.call(kind):
            found = read_whole(fd, count, offset)
        self.compare(
            f"{kind}: {name}: {offset}+{count}", found, _bytes_of(name).part(offset, count)
        )

    def compare(self, what: str, found: bytes, wanted: bytes) -> None:
        """Count one read, and compare its bytes."""
        with self._lock:
            self.reads += 1
        if len(found) < len(wanted):
            self.note(self.false_ends, f"{what}: {len(found)} bytes")
        if found != wanted[: len(found)]:
            self.note(self.wrong_bytes, what)

    def note(self, lines: list[str], line: str) -> None:
        """Add a line about a broken promise to one of the lists."""
        with self._lock:
            if len(lines) < MAX_LINES:
                lines.append(line)

    @property
    def total(self) -> int:
        """Number of operations so far."""
        with self._lock:
            return sum(self.operations.values())

    @property
    def slowest_s(self) -> float:
        """The slowest call of all kinds, in seconds."""
        return max(self.slowest.values(), default=0.0)

    def waiting(self) -> tuple[str, float]:
        """Return the oldest running call: its kind, and for how many seconds it has run."""
        with self._lock:
            kind, began_s = min(
                self._running.values(), key=lambda call: call[1], default=("", time.monotonic())
            )
        return kind, time.monotonic() - began_s

    def snapshot(self) -> dict[str, object]:
        """Return all of it as JSON has it, with the oldest running call as `waiting`."""
        with self._lock:
            found = {entry.name: copy(getattr(self, entry.name)) for entry in fields(Load)}
        return {**found, "waiting": self.waiting()}

    def add(self, found: dict[str, Any]) -> None:
        """Add what another process has found, by its snapshot."""
        self.reads += found["reads"]
        for name in ("operations", "failed", "errors"):
            getattr(self, name).update(found[name])
        for name in ("wrong_bytes", "false_ends", "wrong_sizes", "unexpected"):
            getattr(self, name).extend(found[name])
        for kind, slowest_s in found["slowest"].items():
            self.slowest[kind] = max(self.slowest.get(kind, 0.0), slowest_s)
