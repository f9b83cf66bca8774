"""Small files are fetched ahead of programs that read a directory, within bounds."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.cache import ReadaheadLimit
from ego4dfs.store import ObjectFacts
from ego4dfs.vfs.directory_readahead import (
    AHEAD_KEPT_S,
    EPOCH_AFTER,
    MAX_AHEAD_BYTES,
    MAX_IN_ORDER,
    DirectoryReadahead,
)
from ego4dfs.vfs.tree import ObjectFile, Tree
from kit.data import seeded
from kit.processes import wait_until

COUNT = 500
SIZE = 58_000
NAMES = [f"{number:04}.pt" for number in random.Random(0).sample(range(COUNT), COUNT)]


class Directory:
    """A directory of small files, and a record of those that were fetched ahead."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.sizes = dict.fromkeys(map(self.url, NAMES), size)
        tree = Tree.of("v2", ["features"])
        tree.attach(tree.directory("v2/features", "features"), ((n, self.url(n)) for n in NAMES))
        self.copies: set[str] = set()
        self._readahead = DirectoryReadahead(
            tree, self._has_copy, self._peek, self._fetch, lambda: self.limit
        )
        self.fetched: list[str] = []
        self.opened: list[str] = []
        self.has_room = True
        self.limit = ReadaheadLimit(10_000, 1 << 30)  # of a large cache

    @staticmethod
    def url(name: str) -> str:
        return f"s3://b/{name}"

    def _has_copy(self, file: ObjectFile) -> bool:
        return file.url in self.copies

    def _peek(self, url: str) -> ObjectFacts | None:
        size = self.sizes.get(url)
        return ObjectFacts(size, "e", "", 0) if size is not None else None

    def _fetch(self, file: ObjectFile, facts: ObjectFacts | None) -> bool:
        assert (facts.size if facts else None) == self.sizes.get(file.url)
        if self.has_room:
            self.fetched.append(file.path.rpartition("/")[2])
        return self.has_room

    def open(self, *names: str) -> None:
        for name in names:
            self._readahead.opened(ObjectFile(f"v2/features/{name}", self.url(name)), self.size)
            self.opened.append(name)

    @property
    def unasked(self) -> list[str]:
        return [name for name in self.fetched if name not in self.opened]


ORDERS = {"listed": NAMES, "by name": sorted(NAMES)}


@pytest.mark.parametrize("order", ORDERS)
def test_files_opened_in_order_were_fetched_ahead_once(order):
    directory = Directory()
    for number, name in enumerate(ORDERS[order]):
        assert number < 4 or name in directory.fetched
        directory.open(name)
    assert len(directory.fetched) == len(set(directory.fetched)) == COUNT - 4


@pytest.mark.parametrize("workers", [2, 4, 16])
@pytest.mark.parametrize("share", ["dealt", "batches"])
def test_files_are_fetched_ahead_of_workers_that_share_an_order(workers, share):
    names = sorted(NAMES)[: COUNT // workers // 8 * workers * 8]
    jobs = [names[start::workers] for start in range(workers)]
    if share == "batches":
        batches = [names[at : at + 8] for at in range(0, len(names), 8)]
        jobs = [list(chain(*batches[start::workers])) for start in range(workers)]
    directory = Directory()
    turns = random.Random(workers)
    met = 0
    while jobs := [job for job in jobs if job]:
        for job in turns.sample(jobs, len(jobs)):
            met += job[0] in directory.fetched
            directory.open(job.pop(0))
    assert met >= 0.8 * len(names)
    assert len(directory.fetched) == len(set(directory.fetched))


def test_files_are_fetched_ahead_in_the_first_half_of_a_random_epoch():
    directory = Directory()
    names = random.Random(5).sample(NAMES, COUNT)
    directory.open(*names[: COUNT // 2])
    assert set(names) == {*directory.fetched, *directory.opened}


def test_a_few_scattered_opens_fetch_little_ahead():
    directory = Directory()
    directory.open(*random.Random(5).sample(NAMES, EPOCH_AFTER - 1))
    assert len(directory.fetched) <= 8  # a run by accident


@pytest.mark.parametrize("count", [4, 10, 20, 100])
@pytest.mark.parametrize("order", [*ORDERS, "random"])
def test_at_most_twice_as_many_files_are_fetched_unnecessarily_as_were_opened(order, count):
    directory = Directory()
    names = ORDERS.get(order) or random.Random(count).sample(NAMES, COUNT)
    directory.open(*names[:count])
    assert len(directory.unasked) <= 2 * count + MAX_IN_ORDER


def test_three_files_in_order_start_no_read_ahead():
    directory = Directory()
    directory.open(*sorted(NAMES)[:3])
    assert directory.fetched == []


def test_unnecessary_bytes_are_bounded_and_large_files_are_excluded():
    directory = Directory(BLOCK_SIZE)
    directory.open(*sorted(NAMES)[:150])
    assert len(directory.unasked) == MAX_AHEAD_BYTES // BLOCK_SIZE
    directory.open(directory.unasked[0])
    assert len(directory.unasked) == MAX_AHEAD_BYTES // BLOCK_SIZE
    large = Directory(BLOCK_SIZE + 1)
    large.open(*sorted(NAMES)[:60])
    assert large.fetched == []


def test_no_more_is_fetched_ahead_than_the_cache_would_keep():
    directory = Directory(SIZE)
    directory.limit = ReadaheadLimit(7, 1 << 30)
    directory.open(*sorted(NAMES)[:100])
    assert len(directory.unasked) == 7
    directory = Directory(SIZE)
    directory.limit = ReadaheadLimit(10_000, 5 * SIZE)
    directory.open(*sorted(NAMES)[:100])
    assert len(directory.unasked) == 5


def test_files_with_copies_are_not_fetched_ahead():
    directory = Directory()
    directory.copies = set(directory.sizes)
    directory.open(*sorted(NAMES)[:60])
    assert directory.fetched == []


def test_files_without_room_are_fetched_ahead_later():
    directory = Directory()
    directory.has_room = False
    names = random.Random(5).sample(NAMES, COUNT)
    directory.open(*names[:200])
    directory.has_room = True
    directory.open(*names[200:400])
    assert set(names) == {*directory.fetched, *directory.opened}


@pytest.mark.parametrize("order", [*ORDERS, "random"])
def test_files_of_unknown_size_are_fetched_ahead_as_if_they_were_small(order):
    directory = Directory()
    directory.sizes.clear()
    names = ORDERS.get(order) or random.Random(5).sample(NAMES, COUNT)
    directory.open(*names[: COUNT // 2])
    assert len(directory.fetched) == len(set(directory.fetched)) >= COUNT // 4


def test_a_file_of_unknown_size_counts_as_the_largest_that_was_opened():
    directory = Directory()
    directory.sizes.clear()
    directory.limit = ReadaheadLimit(10_000, 5 * SIZE)
    directory.open(*sorted(NAMES)[:100])
    assert len(directory.unasked) == 5


def test_files_that_stay_unopened_for_long_free_the_budget(monkeypatch):
    now_s = 1000.0
    monkeypatch.setattr("ego4dfs.vfs.directory_readahead.time.monotonic", lambda: now_s)
    directory = Directory()
    directory.limit = ReadaheadLimit(7, 1 << 30)
    directory.open(*sorted(NAMES)[:100])
    assert len(directory.unasked) == 7
    now_s += AHEAD_KEPT_S + 1
    directory.open(*sorted(NAMES)[200:204])
    assert len(directory.unasked) == 14


def test_the_next_epoch_has_the_full_budget_again():
    directory = Directory()
    directory.limit = ReadaheadLimit(7, 1 << 30)
    first = sorted(NAMES)[:100]
    directory.open(*first)
    directory.fetched.clear()
    directory.open(*first)
    assert len(directory.fetched) >= 7


def test_threads_that_open_together_fetch_nothing_twice():
    directory = Directory()
    names = random.Random(5).sample(NAMES, COUNT)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(directory.open, names))
    assert len(directory.fetched) == len(set(directory.fetched))


def test_the_next_epoch_fetches_evicted_files_ahead_too():
    directory = Directory()
    names = random.Random(5).sample(NAMES, COUNT)
    directory.open(*names)
    directory.fetched.clear()
    directory.open(*names[:300])
    assert len(directory.fetched) >= 150


def test_opening_a_file_twice_in_a_row_starts_no_new_epoch():
    directory = Directory()
    for name in random.Random(5).sample(NAMES, 100):
        directory.open(name, name, name)
    assert len(directory.fetched) >= 100


def test_a_directory_read_in_order_costs_one_get_for_each_file(open_tree, release):
    files = {f"{number:03}.pt": seeded(str(number), 10_000) for number in range(60)}
    release.dataset("annotations", files)
    vfs = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    top = f"{release.version}/annotations"
    for name in files:
        vfs.stat(f"{top}/{name}")
    for name, content in list(files.items())[:10]:
        assert vfs.read(vfs.open(f"{top}/{name}"), 0, 10_000) == content
        wait_until(lambda: vfs.session.reader.downloads.speculative == 0)
    assert vfs.session.metrics.requests["get"] == 30  # 10, and twice as many ahead
    assert vfs.session.metrics.bytes_fetched == 30 * 10_000
    for name, content in files.items():
        assert vfs.read(vfs.open(f"{top}/{name}"), 0, 10_000) == content
    assert vfs.session.metrics.requests["get"] == len(files)
    assert vfs.session.metrics.bytes_fetched == sum(map(len, files.values()))
