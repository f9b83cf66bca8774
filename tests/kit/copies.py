"""A prefetch over a store in memory: layout, journal, cache and facts in one directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ego4dfs.catalog import Listing
from ego4dfs.copies import Journal, Layout
from ego4dfs.manifest import CompressedBytes, parse
from ego4dfs.prefetch import Fetcher, Plan, Planner, Report
from kit.fakes import CountingStore, FailingStore
from kit.sessions import session_over


class Bench:
    """The parts of one prefetch: a store in memory, and a directory for all others."""

    def __init__(self, root: Path, store: CountingStore) -> None:
        self.store = store
        self.layout = Layout(root / "out", "v9_1")
        self.layout.prepare(("clips",))
        self.session = session_over(store, root, version=self.layout.version)
        self.cache, self.facts = self.session.cache, self.session.facts
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
        planner = Planner(self.session, self.layout, self.journal, **settings)
        return planner.plan([self.listing(names)])

    def fetch(self, plan: Plan | None = None) -> Report:
        fetcher = Fetcher(self.session, self.layout, self.journal, plan or self.plan())
        assert fetcher.run()
        return fetcher.report

    def close(self) -> None:
        self.journal.close()
        self.session.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, FailingStore())
    yield made
    made.close()
