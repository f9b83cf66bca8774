"""Small files are fetched ahead of programs that go through a directory in order, and no others."""

from __future__ import annotations

import random
from itertools import chain

import pytest
from mountkit import seeded, wait_until

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.store import ObjectFacts
from ego4dfs.tree import ObjectFile, Tree
from ego4dfs.vfs.neighbours import MAX_BYTES, MAX_FILES, Neighbours

COUNT = 500
SIZE = 58_000
NAMES = [f"{number:04}.pt" for number in random.Random(0).sample(range(COUNT), COUNT)]


class Directory:
    """A directory of small files, and what would be fetched of it."""

    def __init__(self, size: int = SIZE) -> None:
        self.sizes = dict.fromkeys(map(self.url, NAMES), size)
        tree = Tree.of("v2", ["features"])
        tree.attach(tree.directory("v2/features", "features"), ((n, self.url(n)) for n in NAMES))
        self._neighbours = Neighbours(tree, self._peek)
        self.fetched: list[str] = []

    @staticmethod
    def url(name: str) -> str:
        return f"s3://b/{name}"

    def _peek(self, url: str) -> ObjectFacts | None:
        return ObjectFacts(self.sizes[url], "e", "", 0) if url in self.sizes else None

    def open(self, name: str) -> list[str]:
        found = self._neighbours.opened(ObjectFile(f"v2/features/{name}", self.url(name)))
        names = [url.rpartition("/")[2] for url, _ in found]
        self.fetched += names
        return names


ORDERS = {"listed": NAMES, "by name": sorted(NAMES)}


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_opened_in_order_is_named_before(order):
    directory = Directory()
    for number, name in enumerate(ORDERS[order]):
        assert number < 4 or name in directory.fetched
        directory.open(name)
    assert len(directory.fetched) <= 1.2 * COUNT  # files in a row of the other order, by accident


@pytest.mark.parametrize("workers", [2, 4, 16])
@pytest.mark.parametrize("share", ["dealt", "batches"])
def test_workers_that_share_an_order_are_ahead_of_as_well(workers, share):
    names = sorted(NAMES)[: COUNT // workers // 8 * workers * 8]
    jobs = [names[start::workers] for start in range(workers)]
    if share == "batches":
        batches = [names[at : at + 8] for at in range(0, len(names), 8)]
        jobs = [list(chain(*batches[start::workers])) for start in range(workers)]
    directory = Directory()
    turns = random.Random(workers)
    while jobs := [job for job in jobs if job]:
        for job in turns.sample(jobs, len(jobs)):
            directory.open(job.pop(0))
    assert len(set(directory.fetched)) >= 0.7 * len(names)


def test_a_run_fetches_no_more_than_twice_what_was_opened_in_it():
    directory = Directory()
    opened = sorted(NAMES)[:20]
    for number, name in enumerate(opened, start=1):
        directory.open(name)
        ahead = set(directory.fetched) - set(opened[:number])
        assert len(ahead) <= min(MAX_FILES, 2 * number)


def test_three_files_in_order_are_no_run():
    directory = Directory()
    assert [directory.open(name) for name in sorted(NAMES)[:3]] == [[], [], []]


def test_random_order_fetches_hardly_anything_ahead():
    directory = Directory()
    names = random.Random(5).sample(NAMES, COUNT)[: COUNT // 2]
    for name in names:
        directory.open(name)
    assert len(set(directory.fetched) - set(names)) <= COUNT // 10


def test_bytes_ahead_are_bounded_and_large_files_left_out():
    directory = Directory(BLOCK_SIZE // 2)
    for name in sorted(NAMES)[:60]:
        found = directory.open(name)
        assert len(found) * BLOCK_SIZE // 2 <= MAX_BYTES
    large = Directory(BLOCK_SIZE + 1)
    assert not any(large.open(name) for name in sorted(NAMES)[:60])


def test_files_of_unknown_size_are_not_asked_about():
    directory = Directory()
    directory.sizes.clear()
    assert not any(directory.open(name) for name in sorted(NAMES)[:60])


def test_a_directory_read_in_order_costs_one_get_a_file(open_tree, release):
    files = {f"{number:03}.pt": seeded(str(number), 10_000) for number in range(60)}
    release.dataset("annotations", files)
    vfs = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    top = f"{release.version}/annotations"
    for name in files:
        vfs.stat(f"{top}/{name}")
    for name in list(files)[:10]:
        assert vfs.read(vfs.open(f"{top}/{name}"), 0, 10_000) == files[name]
    wait_until(lambda: vfs.metrics.bytes_fetched == 30 * 10_000)  # 10, and twice as many ahead
    assert vfs.metrics.requests["get"] == 30
    for name, content in files.items():
        assert vfs.read(vfs.open(f"{top}/{name}"), 0, 10_000) == content
    assert vfs.metrics.requests["get"] == len(files)
    assert vfs.metrics.bytes_fetched == sum(map(len, files.values()))
