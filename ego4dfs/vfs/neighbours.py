"""What one file says of those beside it: that they will be looked at, or opened, next.

A small file costs a round trip, whatever it holds. Programs that go through a directory, be it in
the order of its listing or of its names, and be it in several processes, need not wait for each.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.store import ObjectFacts
from ego4dfs.tree import Node, ObjectFile, Tree

MAX_FILE_BYTES = BLOCK_SIZE
"""Larger files have a window of their own."""
MAX_FILES = 32
MAX_BYTES = 8 * BLOCK_SIZE
"""Where a run ends, at most so many files, and so many bytes, were fetched for nothing."""

WEIGH_AT = 2
"""At the how-manieth stat of a file of unknown size the others of the directory are asked about."""

_RUN = 4  # so many in order are hardly an accident: 1 open in 60 over 500 files at random
_REACH = 4  # processes that share a directory overtake each other
_REMEMBERED = 32


class _Step(NamedTuple):
    """How many files were opened in order up to a place, and up to where others were named."""

    run: int
    named: int


class _Order:
    """One order of a directory's files, and the places that were opened last."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self._places = {url: place for place, url in enumerate(urls)}
        self._steps: OrderedDict[int, _Step] = OrderedDict()

    def opened(self, url: str) -> range:
        """Note an open, and return the places to fetch now; each is named once in a run."""
        place = self._places[url]
        before = [self._steps.get(p, _Step(0, 0)) for p in range(place - _REACH, place)]
        run = 1 + max(step.run for step in before)
        named = max(place + 1, *(step.named for step in before))
        target = min(place + 1 + min(MAX_FILES, 2 * run), len(self.urls)) if run >= _RUN else 0
        self._steps[place] = _Step(run, max(named, target))
        self._steps.move_to_end(place)
        if len(self._steps) > _REMEMBERED:
            self._steps.popitem(last=False)
        return range(named, target)


class Neighbours:
    """Notes stats and opens, and names what to ask for ahead of more. Safe from several threads."""

    def __init__(self, tree: Tree, peek: Callable[[str], ObjectFacts | None]) -> None:
        """Learn sizes from `peek`, which asks nobody; files of unknown size are left out."""
        self._tree = tree
        self._peek = peek
        self._unknown: Counter[str] = Counter()
        self._orders: dict[str, list[_Order]] = {}
        self._lock = threading.Lock()  # guards both, and what is in them

    def are_to_be_weighed(self, path: str) -> bool:
        """Note a stat of an unknown file; tell, once, whether to ask about all others with it."""
        directory = path.rpartition("/")[0]
        with self._lock:
            self._unknown[directory] += 1
            return self._unknown[directory] == WEIGH_AT

    def opened(self, node: ObjectFile) -> list[tuple[str, ObjectFacts]]:
        """Note that a file was opened; return the objects to fetch ahead of those behind it.

        Together they are within MAX_FILES and MAX_BYTES.
        """
        directory = node.path.rpartition("/")[0]
        with self._lock:
            if directory not in self._orders:
                self._orders[directory] = list(_orders(self._tree.siblings(node.path)))
            wanted = [
                order.urls[place]
                for order in self._orders[directory]
                for place in order.opened(node.url)
            ]
        return list(self._within_bounds(wanted))

    def _within_bounds(self, urls: Iterable[str]) -> Iterator[tuple[str, ObjectFacts]]:
        room = MAX_BYTES
        for url in dict.fromkeys(urls):
            facts = self._peek(url)
            if facts is not None and facts.size <= min(room, MAX_FILE_BYTES):
                room -= facts.size
                yield url, facts


def _orders(children: Mapping[str, Node]) -> Iterator[_Order]:
    files = {name: node.url for name, node in children.items() if isinstance(node, ObjectFile)}
    listed, by_name = list(files.values()), [files[name] for name in sorted(files)]
    yield _Order(listed)
    if by_name != listed:
        yield _Order(by_name)
