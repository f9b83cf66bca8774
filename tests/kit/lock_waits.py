"""Threads that wait for a lock of another process, as RangeLocks has them."""

from __future__ import annotations

import threading

import pytest

from ego4dfs.runtime import range_locks


def waiting_threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the ids of the threads that have begun to wait, which they now do for very long."""
    waiting: set[int] = set()
    pause = range_locks.LockWait.pause

    def counted_pause(wait: range_locks.LockWait) -> bool:
        waiting.add(threading.get_ident())
        return pause(wait)

    monkeypatch.setattr(range_locks, "NAME_WAIT_S", 600.0)
    monkeypatch.setattr(range_locks.LockWait, "pause", counted_pause)
    return waiting
