"""SharedSweep: a sweep of which the processes of a machine each fetch a part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ego4dfs.runtime.range_locks import RangeLocks

GROUP_URLS = 100


@dataclass(slots=True, eq=False)
class _Group:
    urls: Sequence[str]
    locked: Sequence[str] = ()
    """What no other process fetches until the group is on disk."""
    wanted: frozenset[str] = frozenset()
    """What of that is not known, and fetched."""
    is_begun: bool = False
    left: int = 0


class SharedSweep:
    """The URLs of one sweep, in groups of GROUP_URLS, which are fetched in order.

    What another process has locked when its group begins is left to it. The rest is locked, and
    what is on disk meanwhile is not fetched. It is unlocked when the group is on disk, so no other
    process requests it again. Safe from several threads; `_lock` guards the groups, and is held
    while one begins.
    """

    def __init__(
        self,
        urls: Sequence[str],
        locks: RangeLocks,
        unknown: Callable[[Sequence[str]], Sequence[str]],
        fetch: Callable[[str], bool],
        write: Callable[[Collection[str], Callable[[], None]], None],
    ) -> None:
        """Sweep `urls`, of which none occurs twice.

        `unknown` returns those of which nothing is known, on disk either; `fetch` fetches one and
        returns whether others can be fetched; `write` writes what was fetched, and
        calls its second argument when that of some URLs is on disk.
        """
        self._locks = locks
        self._unknown = unknown
        self._fetch = fetch
        self._write = write
        parts = (urls[at : at + GROUP_URLS] for at in range(0, len(urls), GROUP_URLS))
        groups = (_Group(part, left=len(part)) for part in parts)
        self._groups = {url: group for group in groups for url in group.urls}
        self._open: set[_Group] = set()
        self._is_over = False
        self._lock = threading.Lock()

    def run(self, url: str) -> bool:
        """Fetch one URL, if it is this process's turn; return False if the sweep must end.

        Each URL must be passed once, in the order of the sweep, unless it ends.
        """
        group, goes_on = self._groups[url], False
        try:
            with self._lock:
                if not (group.is_begun or self._is_over):
                    self._begin(group)
            goes_on = url not in group.wanted or self._fetch(url)
        finally:
            self._end_one(group, goes_on)
        return goes_on

    def _begin(self, group: _Group) -> None:
        group.is_begun = True
        group.locked = [url for url in group.urls if self._locks.acquire_name(url)]
        self._open.add(group)
        group.wanted = frozenset(self._unknown(group.locked))

    def _end_one(self, group: _Group, goes_on: bool) -> None:  # noqa: FBT001 - a result of `fetch`
        with self._lock:
            group.left -= 1
            self._is_over |= not goes_on
            ended = {one for one in self._open if self._is_over or not one.left}
            self._open -= ended
        for one in ended:
            self._write(one.locked, partial(self._unlock, one.locked))

    def _unlock(self, urls: Iterable[str]) -> None:
        for url in urls:
            self._locks.release_name(url)
