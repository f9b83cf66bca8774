"""Reading of windows in background threads, ahead of the program that iterates over them."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ego4dfs.runtime.daemon_threads import DaemonThreadPool

log = logging.getLogger(__name__)

_THREADS = 8
_PIECE_BYTES = 4 << 20

Item = TypeVar("Item")


class SizedFile(Protocol):
    """A file of which any part can be read."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of [offset, offset + length) that exist."""


def prefetched(
    items: Iterable[Item], open_file: Callable[[Item], SizedFile], *, ahead: int, max_bytes: int
) -> Iterator[Item]:
    """Yield items in order, each after its file was read, so that its bytes are cached.

    Up to `ahead` files after that of the yielded item are read or have been read, and these and
    that of the yielded item have `max_bytes` at most; a longer file is read alone. An item whose
    file cannot be read is yielded, too: who reads it gets the error. `items` is iterated in the
    caller's thread, and its errors are raised at once, before the items ahead are yielded. The
    threads end with the generator, as soon as the reads that they are in return. In a forked child,
    threads of the child go on.
    """
    source, queue = iter(items), deque[_Task[Item]]()
    reads, pool = _Reads(max_bytes), DaemonThreadPool("windows")
    atexit.register(reads.close)  # before the pool waits for its threads
    try:
        while True:
            for item in itertools.islice(source, ahead + 1 - len(queue)):
                task = reads.add(item)
                queue.append(task)
                if not pool.submit(partial(reads.run, task, open_file), limit=_THREADS):
                    reads.end(task)  # no thread can be started
            if not queue:
                return
            first = queue.popleft()
            reads.wait_for(first)
            yield first.item
            if not reads.is_of_this_process:  # pragma: no cover -- a child is not measured
                rest = itertools.chain((task.item for task in queue), source)
                yield from prefetched(rest, open_file, ahead=ahead, max_bytes=max_bytes)
                return
            reads.release(first)
    finally:
        atexit.unregister(reads.close)
        if reads.is_of_this_process:  # pragma: no branch -- a child is not measured
            reads.close()
            pool.close()


@dataclass(slots=True, eq=False)
class _Task(Generic[Item]):
    """The read of one file; `size` counts as used until the task is released."""

    item: Item
    size: int = 0
    has_ended: bool = False


class _Reads:
    """Runs the tasks of one iteration, within a number of bytes. Safe from several threads.

    Tasks get room in their order, so the first of them gets it when the caller waits for it.
    `_changed` guards all state, and is not held while a file is read.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._used = 0
        self._without_room = deque[_Task[Any]]()
        self._closed = threading.Event()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this is no forked child, in which `_changed` may be held for ever."""
        return os.getpid() == self._pid

    def add(self, item: Item) -> _Task[Item]:
        """Return a new task, the last one."""
        task = _Task(item)
        with self._changed:
            self._without_room.append(task)
        return task

    def run(self, task: _Task[Item], open_file: Callable[[Item], SizedFile]) -> None:
        """Read the file of a task, unless this is closed before."""
        try:
            if self._closed.is_set():
                return
            file = open_file(task.item)
            if self._takes_room(task, file.size):
                for offset in range(0, file.size, _PIECE_BYTES):
                    if self._closed.is_set():
                        return
                    file.read(offset, _PIECE_BYTES)
        except Exception as error:  # noqa: BLE001 - the program that reads it gets it, too
            log.info("%r is not read ahead: %s", task.item, error)
        finally:
            self.end(task)

    def end(self, task: _Task[Any]) -> None:
        """Let the caller have the item of a task."""
        with self._changed:
            task.has_ended = True
            if task in self._without_room:
                self._without_room.remove(task)
            self._changed.notify_all()

    def wait_for(self, task: _Task[Any]) -> None:
        """Wait until a task has ended."""
        with self._changed:
            self._changed.wait_for(lambda: task.has_ended)

    def release(self, task: _Task[Any]) -> None:
        """Give the room of a task to others."""
        with self._changed:
            self._used -= task.size
            self._changed.notify_all()

    def close(self) -> None:
        """Let all tasks end; in a forked child nothing is done."""
        if self.is_of_this_process:  # pragma: no branch -- a child is not measured
            with self._changed:
                self._closed.set()
                self._changed.notify_all()

    def _takes_room(self, task: _Task[Any], size: int) -> bool:
        """Wait for room for a file; return False if this was closed before there was."""

        def has_room() -> bool:
            is_next = self._without_room[0] is task
            fits = not self._used or self._used + size <= self._max_bytes
            return self._closed.is_set() or (is_next and fits)

        with self._changed:
            self._changed.wait_for(has_room)
            if self._closed.is_set():
                return False
            self._without_room.popleft()
            task.size = size
            self._used += size
            self._changed.notify_all()
            return True
