"""Lookups: whether programs open the files that they look up, or walk a directory.

A kernel looks up a file before each open and before each stat, and does not say which of them
follows. If an open follows, a GET request of the first bytes is one round trip for facts and bytes.
If none does, as when `ls -l` or `find` walks a directory, HEAD requests for all files at the same
time are faster. They also are if many lookups wait for a request, because a kernel has one lookup
of a directory at a time, unless libfuse is 3.17 or newer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

SWEEP_AT_WALKED = 2
"""Lookups of a walk after which the facts of the whole directory are fetched."""
SWEEP_AT_WAITED = 16
"""The same for lookups that are followed by opens, if they are a quarter of all opens: files that
are opened in order were fetched ahead."""
MAX_UNOPENED = 32
"""Lookups of a directory, by any programs, without an open, after which it counts as walked."""
_MAX_CALLERS = 4096  # of a directory; each takes 0.3 KB of memory


class FirstRequest(NamedTuple):
    """How to fetch the facts of an object that was looked up."""

    gets_bytes: bool
    """Whether by a GET request of its first bytes, instead of a HEAD request."""
    sweeps: bool
    """Whether those of the other objects of its directory are fetched too."""


@dataclass(slots=True)
class _Lookup:
    path: str
    is_opened: bool = False


@dataclass(slots=True)
class _Directory:
    opens_follow: bool = False
    walked: int = 0
    waited: int = 0
    opens: int = 0
    sweep_at: int = SWEEP_AT_WAITED
    by_caller: OrderedDict[int, _Lookup] = field(default_factory=OrderedDict)
    unopened: dict[str, _Lookup] = field(default_factory=dict)


class Lookups:
    """Records lookups of files of unknown facts, and opens. Safe from several threads."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._directories: dict[str, _Directory] = {}
        self._lock = threading.Lock()

    def add(self, path: str, caller: int | None) -> FirstRequest:
        """Record a lookup by a thread of a program, or a stat without an open for None.

        A program walks a directory if it did not open the last file that it looked up there. A
        sweep is due again after twice as many lookups, because it may end early.
        """
        with self._lock:
            directory = self._directories.setdefault(_parent(path), _Directory())
            is_new = path not in directory.unopened
            if caller is not None and not _is_walk(directory, path, caller):
                sweeps = is_new and _waits_too_often(directory)
                return FirstRequest(gets_bytes=directory.opens_follow, sweeps=sweeps)
            if caller is not None:
                directory.opens_follow = False
                directory.unopened.clear()
                directory.walked = max(directory.walked, SWEEP_AT_WALKED - 1)
            directory.walked += 1
            is_power_of_two = not directory.walked & (directory.walked - 1)
            sweeps = directory.walked >= SWEEP_AT_WALKED and is_power_of_two
            return FirstRequest(gets_bytes=False, sweeps=sweeps)

    def opened(self, path: str) -> None:
        """Record the open of a file."""
        with self._lock:
            directory = self._directories.get(_parent(path))
            if directory is None:
                return
            directory.opens += 1
            lookup = directory.unopened.pop(path, None)
            if lookup is not None:
                lookup.is_opened = directory.opens_follow = True


def _is_walk(directory: _Directory, path: str, caller: int) -> bool:
    lookup = directory.unopened.setdefault(path, _Lookup(path))
    last = directory.by_caller.pop(caller, lookup)
    directory.by_caller[caller] = lookup
    if len(directory.by_caller) > _MAX_CALLERS:
        directory.by_caller.popitem(last=False)
    return (last is not lookup and not last.is_opened) or len(directory.unopened) > MAX_UNOPENED


def _waits_too_often(directory: _Directory) -> bool:
    directory.waited += 1
    if directory.waited < max(directory.sweep_at, directory.opens // 4):
        return False
    directory.sweep_at = 2 * directory.waited
    return True


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
