"""A directory of copies, a store in memory, and everything between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.catalog import Listing
from ego4dfs.copies import Journal, Layout
from ego4dfs.facts import FactsIndex
from ego4dfs.manifest import CompressedBytes, parse
from ego4dfs.metrics import Metrics
from ego4dfs.prefetch import Fetcher, Means, Plan, Planner, Report
from kit.fakes import CountingStore, FailingStore

MIB = 1 << 20


class Bench:
    """A directory of copies, a store in memory, and everything between them."""

    def __init__(self, root: Path, store: CountingStore) -> None:
        self.store = store
        self.layout = Layout(root / "out", "v9_1")
        self.layout.prepare(("clips",))
        inner = prepare_directory(root / "cache")
        self.cache = BlockCache(inner, Metrics(), max_bytes=256 * MIB)
        self.facts = FactsIndex(inner, store)
        self.journal = Journal(self.layout.state)
        self.directory = self.layout.dataset("clips")

    def listing(self, files: Iterable[str]) -> Listing:
        rows = [f"{name.partition('.')[0]},file,s3://b/{name}" for name in files]
        content = "\n".join(["video_uid,type,s3_path", *rows]).encode()
        manifest = parse(content, "clips")
        return Listing("clips", manifest.entries, CompressedBytes(content), 0, manifest)

    def put(self, **files: bytes) -> None:
        for name, data in files.items():
            self.store.objects[f"s3://b/{name}.mp4"] = data

    def plan(self, **settings: bool) -> Plan:
        names = [url.rpartition("/")[2] for url in self.store.objects]
        planner = Planner(self.layout, self.facts, self.journal, "memory", **settings)
        return planner.plan([self.listing(names)])

    def fetch(self, plan: Plan | None = None) -> Report:
        means = Means(
            self.store, self.facts, self.cache, self.journal, self.layout, self.layout.version
        )
        fetcher = Fetcher(means, plan or self.plan())
        assert fetcher.run()
        return fetcher.report

    def close(self) -> None:
        self.journal.close()
        self.facts.close()
        self.cache.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, FailingStore())
    yield made
    made.close()
