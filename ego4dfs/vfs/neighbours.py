"""What one file says of those beside it: that they will be looked at, or opened, next.

A small file costs a round trip, whatever it holds. Programs that go through a directory, be it in
the order of its listing, of its names, or in none, and in several processes, need not wait for
each.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.store import ObjectFacts
from ego4dfs.tree import Node, ObjectFile, Tree

MAX_FILE_BYTES = BLOCK_SIZE
"""Larger files have a window of their own."""
MAX_UNASKED_BYTES = 128 * BLOCK_SIZE
"""So much of a directory may have been fetched lately without having been opened; less where the
cache would not keep it until then."""
MAX_IN_ORDER = 32
EPOCH_AFTER = 32
"""So many files of a directory, opened in any order, are the beginning of an epoch."""
WEIGH_AT = 2
"""At the how-manieth stat of a file of unknown size the others of the directory are asked about."""
LATELY_S = 600.0

_AHEAD = 2  # so many times as many files as were opened are fetched
_RUN = 4  # so many in order are hardly an accident: 1 open in 60 over 500 files at random
_REACH = 4  # processes that share a directory overtake each other
_REMEMBERED = 32
_MAX_FILES = 200_000  # each takes half a kilobyte; nothing is guessed in larger directories

Peek = Callable[[ObjectFile], ObjectFacts | None]
Fetch = Callable[[ObjectFile, ObjectFacts], bool]
Bounds = Callable[[], tuple[int, int]]


class _Order:
    """One order of a directory's files, and how long the runs are that end at places in it."""

    def __init__(self, files: list[ObjectFile]) -> None:
        self.files = files
        self._places = {file.path: place for place, file in enumerate(files)}
        self._runs: OrderedDict[int, int] = OrderedDict()

    def behind(self, file: ObjectFile) -> list[ObjectFile]:
        """Note an open, and return the files behind it if it is one of a run."""
        place = self._places[file.path]
        run = 1 + max(self._runs.get(before, 0) for before in range(place - _REACH, place))
        self._runs[place] = run
        self._runs.move_to_end(place)
        if len(self._runs) > _REMEMBERED:
            self._runs.popitem(last=False)
        ahead = min(MAX_IN_ORDER, _AHEAD * run) if run >= _RUN else 0
        return self.files[place + 1 : place + 1 + ahead]


class _Directory:
    """The small files of one directory: which were opened, and which were fetched unasked."""

    def __init__(self, children: Mapping[str, Node]) -> None:
        files = {name: node for name, node in children.items() if isinstance(node, ObjectFile)}
        listed, by_name = list(files.values()), [files[name] for name in sorted(files)]
        self._orders = [_Order(listed), *([_Order(by_name)] if by_name != listed else [])]
        self._rest = deque(listed)
        self._opened: set[str] = set()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._unasked: dict[str, tuple[int, float]] = {}  # bytes and time by path, oldest first
        self._unasked_bytes = 0

    def opened(self, file: ObjectFile) -> Iterator[ObjectFile]:
        """Note an open, and yield what may be fetched now, best first."""
        if file.path in self._opened and file.path not in self._recent:
            self._begin_epoch()
        self._opened.add(file.path)
        self._recent[file.path] = None
        self._recent.move_to_end(file.path)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        self._forget(file.path)
        for order in self._orders:
            yield from (other for other in order.behind(file) if self.is_new(other))
        if len(self._opened) >= EPOCH_AFTER:
            for _ in range(min(_AHEAD, len(self._rest))):
                yield from self._next_one()

    def is_new(self, file: ObjectFile) -> bool:
        """Tell whether a file was neither opened in this epoch nor fetched for it."""
        return file.path not in self._opened and file.path not in self._unasked

    def take(self, file: ObjectFile, size: int, bounds: tuple[int, int]) -> bool:
        """Note that a file is fetched unasked; False if there is no room."""
        now_s = time.monotonic()
        while self._unasked and next(iter(self._unasked.values()))[1] < now_s - LATELY_S:
            self._forget(next(iter(self._unasked)))
        most, most_bytes = bounds
        has_room = self._unasked_bytes + size <= min(MAX_UNASKED_BYTES, most_bytes)
        if not has_room or len(self._unasked) >= most:
            return False
        self._unasked[file.path] = (size, now_s)
        self._unasked_bytes += size
        return True

    def give_back(self, file: ObjectFile) -> None:
        """Note that a file that was taken could not be fetched after all."""
        self._forget(file.path)

    def put_off(self, file: ObjectFile) -> None:
        """Let a file have another turn in this epoch."""
        if len(self._rest) < len(self._orders[0].files):
            self._rest.append(file)

    def _begin_epoch(self) -> None:
        """Begin anew: what has left the cache is fetched again, what is there is found there."""
        self._opened.clear()
        self._unasked.clear()
        self._unasked_bytes = 0
        self._rest = deque(self._orders[0].files)

    def _forget(self, path: str) -> None:
        self._unasked_bytes -= self._unasked.pop(path, (0, 0.0))[0]

    def _next_one(self) -> Iterator[ObjectFile]:
        while self._rest:
            file = self._rest.popleft()
            if self.is_new(file):
                yield file
                return


class Neighbours:
    """Notes stats and opens, and has more fetched ahead. Safe from several threads."""

    def __init__(self, tree: Tree, peek: Peek, fetch: Fetch, bounds: Bounds) -> None:
        """Learn sizes from `peek`, which asks nobody; `fetch` says whether it has room.

        `bounds` tells how many files, of how many bytes in all, the cache would keep unread.
        """
        self._tree = tree
        self._peek = peek
        self._fetch = fetch
        self._bounds = bounds
        self._unknown: Counter[str] = Counter()
        self._directories: dict[str, _Directory | None] = {}
        self._lock = threading.Lock()  # guards both, and what is in them

    def are_to_be_weighed(self, path: str) -> bool:
        """Note a stat of an unknown file; tell whether to ask about all others with it now.

        Not only once, for a sweep may end early, and ever more seldom.
        """
        directory = path.rpartition("/")[0]
        with self._lock:
            self._unknown[directory] += 1
            count = self._unknown[directory]
        return count >= WEIGH_AT and count & (count - 1) == 0

    def opened(self, file: ObjectFile) -> None:
        """Note that a small file was opened, and fetch some of those that will be next."""
        name = file.path.rpartition("/")[0]
        with self._lock:
            if name not in self._directories:
                siblings = self._tree.siblings(file.path)
                is_known = len(siblings) <= _MAX_FILES
                self._directories[name] = _Directory(siblings) if is_known else None
            directory = self._directories[name]
            if directory is None:
                return
            candidates = directory.opened(file)
        while candidate := self._next_of(candidates):
            if not self._fetched(directory, candidate):
                return

    def _next_of(self, candidates: Iterator[ObjectFile]) -> ObjectFile | None:
        with self._lock:
            return next(candidates, None)

    def _fetched(self, directory: _Directory, file: ObjectFile) -> bool:
        """Fetch a file if it is worth it; False when there is no room for more."""
        facts, bounds = self._peek(file), self._bounds()
        if facts is not None and facts.size > MAX_FILE_BYTES:
            return True
        with self._lock:
            if not directory.is_new(file):
                return True  # another thread was faster
            if facts is None:
                directory.put_off(file)
                return True
            has_room = directory.take(file, facts.size, bounds)
        if has_room and self._fetch(file, facts):
            return True
        with self._lock:
            if has_room:
                directory.give_back(file)
            directory.put_off(file)
        return False
