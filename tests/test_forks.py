"""Forks: writes of a child are kept, and no lock stays held, for any action of the parent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import fsspec

from ego4dfs.facts import FactsIndex
from ego4dfs.store import ObjectFacts
from kit.cache import bytes_of, got, key_of, open_cache, put
from kit.fakes import CountingStore
from kit.own_process import descriptors_below

UNIT = 64 << 10
FACTS = ObjectFacts(7, "etag", "", 1)


class Child:
    """A forked child that runs `steps` one after the other, each on request."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        orders, self._orders = os.pipe()
        self._done, done = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(orders)
            os.close(done)
            return
        try:
            signal.alarm(120)
            for step in steps:
                os.read(orders, 1)
                step()
                os.write(done, b".")
            os._exit(0)
        finally:
            os._exit(1)

    def step(self) -> None:
        """Run the next step."""
        os.write(self._orders, b".")
        assert os.read(self._done, 1) == b".", "the child failed"

    def end(self) -> None:
        """Wait for the child's end."""
        assert os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]) == 0
        os.close(self._orders)
        os.close(self._done)


def test_facts_that_a_child_records_survive_its_parents_index(tmp_path):
    """The parent's last close deletes the log, unless it knows that the child has it open."""
    index = FactsIndex(tmp_path, CountingStore())
    index.record("s3://b/parent", FACTS)
    opened: list[FactsIndex] = []
    child = Child(
        lambda: opened.append(FactsIndex(tmp_path, CountingStore())),
        lambda: opened[0].record("s3://b/early", FACTS),
        lambda: opened[0].record("s3://b/late", FACTS),
    )
    child.step()
    child.step()
    index.close()
    child.step()
    child.end()
    again = FactsIndex(tmp_path, CountingStore())
    assert [again.peek(f"s3://b/{n}") for n in ("parent", "early", "late")] == [FACTS] * 3
    again.close()


def test_blocks_that_a_child_caches_survive_its_parents_cache(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1)
    assert len(cache.admin) == 1  # this thread has used the index, and so has the writer
    opened: list = []
    child = Child(
        lambda: opened.append(open_cache(tmp_path)),
        lambda: put(opened[0], 2),
        lambda: put(opened[0], 3),
    )
    child.step()
    child.step()
    cache.close()
    child.step()
    child.end()
    again = open_cache(tmp_path)
    assert len(again.admin) == 3
    assert [got(again, n) for n in (1, 2, 3)] == [bytes_of(key_of(n), UNIT) for n in (1, 2, 3)]
    again.close()


def test_no_index_is_connected_at_a_fork(tmp_path):
    """Not even those that another thread uses."""
    cache, index = open_cache(tmp_path), FactsIndex(tmp_path, CountingStore())
    put(cache, 1)
    index.record("s3://b/k", FACTS)
    child = Child(lambda: check_nothing_is_open(tmp_path))
    child.step()
    child.end()
    put(cache, 2)
    index.record("s3://b/l", FACTS)
    assert (len(cache.admin), index.totals()[0]) == (2, 2)
    cache.close()
    index.close()


def check_nothing_is_open(directory: Path) -> None:
    assert descriptors_below(directory) == []


def test_a_fork_while_a_filesystem_opens_leaves_the_child_a_free_lock(licensee):
    """The thread that opens the tree does not exist in the child and cannot release the lock."""
    fs = fsspec.filesystem("ego4d", skip_instance_cache=True)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with fs._lock:
            held.set()
            free.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    child = Child(fs.close)
    try:
        child.step()
        child.end()
    finally:
        free.set()
        holder.join()
