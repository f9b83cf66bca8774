"""SharedSweep: a sweep of which the processes of a machine each fetch a part."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ego4dfs.runtime.range_locks import RangeLocks

log = logging.getLogger(__name__)

GROUP_URLS = 16
"""URLs that are locked and looked up at once; other processes wait for those that are locked."""
WRITE_URLS = 100
"""URLs that are written in one transaction; after a kill they are requested again."""
FEW_RUNNING = 4
"""So few requests at the end of a sweep may be those that hang."""
WRITE_AFTER_S = 0.5
"""How long an answer may wait for others, so that no process waits for it long."""


@dataclass(slots=True, eq=False)
class _Group:
    urls: Sequence[str]
    wanted: frozenset[str] = frozenset()
    """What this process fetches, and has locked."""
    is_begun: bool = False


class SharedSweep:
    """The URLs of one sweep, in groups of GROUP_URLS, which are fetched in order.

    What another process has locked when its group begins is left to it. The rest is locked, and
    what is on disk meanwhile is not fetched. A URL is unlocked when its facts are on disk, so no
    other process requests it again. Safe from several threads; `_lock` guards all state, and is
    held while a group begins.
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
        returns whether others can be fetched; `write` writes what was fetched, and calls its second
        argument when that of some URLs is on disk.
        """
        self._locks = locks
        self._unknown = unknown
        self._fetch = fetch
        self._write = write
        parts = (urls[at : at + GROUP_URLS] for at in range(0, len(urls), GROUP_URLS))
        groups = (_Group(part) for part in parts)
        self._groups = {url: group for group in groups for url in group.urls}
        self._left = len(urls)  # that were not passed to `run`
        self._running = 0
        self._locked: set[str] = set()
        self._answered: list[str] = []  # of those that are locked
        self._first_answer_s = 0.0
        self._is_over = False
        self._lock = threading.Lock()

    def run(self, url: str) -> bool:
        """Fetch one URL, if it is this process's turn; return False if the sweep must end.

        Each URL must be passed once, in the order of the sweep, unless it ends.
        """
        group, goes_on = self._groups[url], False
        try:
            with self._lock:
                self._left -= 1
                self._running += 1
                if not (group.is_begun or self._is_over):
                    self._begin(group)
            goes_on = url not in group.wanted or self._fetch(url)
        except Exception:
            log.exception("a sweep has ended early")
        finally:
            self._end(url, goes_on)
        return goes_on

    def _begin(self, group: _Group) -> None:
        """Lock what is free, and unlock again what other processes have recorded meanwhile."""
        group.is_begun = True
        locked = [url for url in group.urls if self._locks.acquire_name(url)]
        self._locked.update(locked)
        group.wanted = frozenset(self._unknown(locked))
        self._note_answers(url for url in locked if url not in group.wanted)

    def _end(self, url: str, goes_on: bool) -> None:  # noqa: FBT001 - a result of `fetch`
        with self._lock:
            self._running -= 1
            self._is_over |= not goes_on
            if url in self._groups[url].wanted:
                self._note_answers([url])
            written = self._due()
        if written:
            self._write(written, partial(self._unlock, written))

    def _note_answers(self, urls: Iterable[str]) -> None:
        if not self._answered:
            self._first_answer_s = time.monotonic()
        self._answered += urls

    def _due(self) -> list[str]:
        """Return what is to be written and unlocked now; all at the end of the sweep.

        When no URL is left, no answer waits for a request that hangs.
        """
        enough = WRITE_URLS
        if not self._left:
            enough = self._running if self._running > FEW_RUNNING else 1
        has_waited = time.monotonic() - self._first_answer_s >= WRITE_AFTER_S
        if self._is_over:
            due, self._answered = list(self._locked), []
        elif len(self._answered) >= enough or has_waited:
            due, self._answered = self._answered, []
        else:
            return []
        self._locked.difference_update(due)
        return due

    def _unlock(self, urls: Iterable[str]) -> None:
        for url in urls:
            self._locks.release_name(url)
