"""What one file says of those beside it: that they will be looked at, or opened, next.

A small file costs a round trip, whatever it holds. Programs that go through a directory, be it in
the order of its listing, of its names, or in none, and in several processes, need not wait for
each.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.store import ObjectFacts
from ego4dfs.tree import Node, ObjectFile, Tree

MAX_FILE_BYTES = BLOCK_SIZE
"""Larger files have a window of their own."""
MAX_UNASKED_BYTES = 128 * BLOCK_SIZE
"""So much of a directory may have been fetched without having been opened."""
MAX_IN_ORDER = 32
EPOCH_AFTER = 32
"""So many files of a directory, opened in any order, are the beginning of an epoch."""
WEIGH_AT = 2
"""At the how-manieth stat of a file of unknown size the others of the directory are asked about."""

_AHEAD = 2  # so many times as many files as were opened are fetched
_RUN = 4  # so many in order are hardly an accident: 1 open in 60 over 500 files at random
_REACH = 4  # processes that share a directory overtake each other
_REMEMBERED = 32

Fetch = Callable[[str, ObjectFacts], bool]


class _Order:
    """One order of a directory's files, and how long the runs are that end at places in it."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self._places = {url: place for place, url in enumerate(urls)}
        self._runs: OrderedDict[int, int] = OrderedDict()

    def behind(self, url: str) -> list[str]:
        """Note an open, and return the files behind it if it is one of a run."""
        place = self._places[url]
        run = 1 + max(self._runs.get(before, 0) for before in range(place - _REACH, place))
        self._runs[place] = run
        self._runs.move_to_end(place)
        if len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)
        ahead = min(MAX_IN_ORDER, _AHEAD * run) if run >= _RUN else 0
        return self.urls[place + 1 : place + 1 + ahead]


class _Files:
    """The small files of one directory: which were opened, and which were fetched unasked."""

    def __init__(self, children: Mapping[str, Node]) -> None:
        files = {name: node.url for name, node in children.items() if isinstance(node, ObjectFile)}
        listed, by_name = list(files.values()), [files[name] for name in sorted(files)]
        self._orders = [_Order(listed), *([_Order(by_name)] if by_name != listed else [])]
        self._rest = deque(listed)
        self._opened: set[str] = set()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._unasked: dict[str, int] = {}  # bytes by URL
        self._unasked_bytes = 0

    def opened(self, url: str) -> Iterator[str]:
        """Note an open, and yield what may be fetched now, best first."""
        if url in self._opened and url not in self._recent:
            self._opened.clear()  # the next epoch: what has left the cache is fetched again
            self._rest = deque(self._orders[0].urls)
        self._opened.add(url)
        self._recent[url] = None
        self._recent.move_to_end(url)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        self._forget(url)
        for order in self._orders:
            yield from (other for other in order.behind(url) if self._is_new(other))
        if len(self._opened) >= EPOCH_AFTER:
            for _ in range(_AHEAD):
                yield from self._next_one()

    def take(self, url: str, size: int) -> bool:
        """Note that a file is fetched unasked; False if it need not be, or there is no room."""
        if not self._is_new(url) or self._unasked_bytes + size > MAX_UNASKED_BYTES:
            return False
        self._unasked[url] = size
        self._unasked_bytes += size
        return True

    def give_back(self, url: str) -> None:
        """Note that a file could not be fetched now."""
        self._forget(url)
        self._rest.append(url)

    def _forget(self, url: str) -> None:
        self._unasked_bytes -= self._unasked.pop(url, 0)

    def _next_one(self) -> Iterator[str]:
        while self._rest:
            url = self._rest.popleft()
            if self._is_new(url):
                yield url
                return

    def _is_new(self, url: str) -> bool:
        return url not in self._opened and url not in self._unasked


class Neighbours:
    """Notes stats and opens, and has more fetched ahead. Safe from several threads."""

    def __init__(self, tree: Tree, peek: Callable[[str], ObjectFacts | None], fetch: Fetch) -> None:
        """Learn sizes from `peek`, which asks nobody; `fetch` says whether it has room."""
        self._tree = tree
        self._peek = peek
        self._fetch = fetch
        self._unknown: Counter[str] = Counter()
        self._files: dict[str, _Files] = {}
        self._lock = threading.Lock()  # guards both, and what is in them

    def are_to_be_weighed(self, path: str) -> bool:
        """Note a stat of an unknown file; tell, once, whether to ask about all others with it."""
        directory = path.rpartition("/")[0]
        with self._lock:
            self._unknown[directory] += 1
            return self._unknown[directory] == WEIGH_AT

    def opened(self, node: ObjectFile) -> None:
        """Note that a small file was opened, and fetch some of those that will be next."""
        directory = node.path.rpartition("/")[0]
        with self._lock:
            if directory not in self._files:
                self._files[directory] = _Files(self._tree.siblings(node.path))
            files = self._files[directory]
            candidates = files.opened(node.url)
        while True:
            with self._lock:
                url = next(candidates, "")
            if not url:
                return
            facts = self._peek(url)
            if facts is None or facts.size > MAX_FILE_BYTES:
                continue
            with self._lock:
                has_room = files.take(url, facts.size)
            if not (has_room and self._fetch(url, facts)):
                with self._lock:
                    files.give_back(url)
                return
