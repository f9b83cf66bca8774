"""Forks at moments when SQLite is idle.

SQLite remembers in the process's memory which files it has open and which locks it holds, and a
forked child inherits that memory. A connection that was open at the fork makes the child believe
in locks that only its parent holds: the child's own connections then take none, and the parent's
last close deletes the log that the child is writing. A transaction that was running makes it wait
for a lock that nobody will ever release. So every use of an index happens under `whole`, a fork
waits for it, and whatever is connected lets go first and connects again when it is next used: a
DataLoader may fork while the parent fills its cache.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from ego4dfs.sqliteerrors import is_locked

log = logging.getLogger(__name__)

whole = threading.RLock()
"""Held while an index is used, and while the process forks."""


LOCK_STEP_S = 0.1
"""How long a connection waits for another process at a time; `whole` is held meanwhile."""

_PAUSE_S = 0.02
_T = TypeVar("_T")


def use(operation: Callable[[], _T], *, wait_s: float) -> _T:
    """Use an index under `whole`, and again for `wait_s` while another process holds it.

    Between two attempts `whole` is free: who uses another index, or forks, waits for one step at
    most. The operation may be done in part, and then again. Raises what it raises.
    """
    until_s = time.monotonic() + wait_s
    while True:
        try:
            with whole:
                return operation()
        except Exception as error:
            if not is_locked(error) or time.monotonic() >= until_s:
                raise
        time.sleep(_PAUSE_S)


class Connected(Protocol):
    """Something that has a connection to SQLite."""

    def disconnect(self) -> None:
        """Close the connection, under `whole`; the next use opens another one."""


class Locked(Protocol):
    """Something that has a lock, which another thread may hold at the moment of a fork."""

    def renew_lock(self) -> None:
        """Take a new lock: called in the child, before anything else runs there."""


_connected: WeakValueDictionary[int, Connected] = WeakValueDictionary()
_locked: WeakValueDictionary[int, Locked] = WeakValueDictionary()


def disconnect_at_forks(connected: Connected) -> None:
    """Have `connected` let go of its connection before each fork of this process."""
    with whole:
        _connected[id(connected)] = connected


def renew_lock_in_children(locked: Locked) -> None:
    """Have `locked` take a new lock in each child of this process."""
    with whole:
        _locked[id(locked)] = locked


def _before() -> None:
    whole.acquire()
    for connected in list(_connected.values()):
        _let_go(connected)


def _let_go(connected: Connected) -> None:
    try:
        connected.disconnect()
    except Exception:  # the others must let go all the same
        log.exception("a connection was not closed before a fork")


def _in_child() -> None:
    for locked in list(_locked.values()):
        locked.renew_lock()
    whole.release()


os.register_at_fork(before=_before, after_in_parent=whole.release, after_in_child=_in_child)
