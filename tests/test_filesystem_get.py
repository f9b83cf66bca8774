"""fsspec's own tests of `get`, unmodified, on objects of a real S3 server.

They lay out their scenario by writing through the filesystem; ours refuses that, so the one under
test here takes `touch`, `pipe` and `mkdir` as orders to publish an object and to list it.
"""

from __future__ import annotations

import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from ego4dfs.cache import BlockCache, prepare_directory, source_directory
from ego4dfs.catalog import Catalog, ManifestCache, Selection
from ego4dfs.facts import FactsIndex
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader
from ego4dfs.session import Session
from ego4dfs.store import open_store
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import ObjectFile, Tree
from kit.server import Release


class LaidOut(Ego4DFileSystem):
    """An Ego4DFileSystem on a tree laid out by hand."""

    cachable = False

    def lay_out(self, tree: Tree, vfs: VFS, release: Release) -> None:
        self._tree, self._vfs, self._release = tree, vfs, release

    @property
    def vfs(self) -> VFS:
        return self._vfs

    def mkdir(self, path: str, *_: object, **__: object) -> None:
        self._tree.directory(self._strip_protocol(path))

    makedirs = mkdir

    def touch(self, path: str, *_: object, **__: object) -> None:
        self.pipe(path, b"")

    def pipe(self, path: str, value: bytes, **_: object) -> None:
        path = self._strip_protocol(path)
        self._tree.add(ObjectFile(path, self._release.put(path, value)))

    def rm(self, path: str, *_: object, **__: object) -> None:
        """Leave it: the tree ends with the test."""


class TestGet(AbstractFixtures, AbstractGetTests):
    @pytest.fixture
    def fs(self, licensee, release, tmp_path):
        metrics, tree = Metrics(), Tree()
        store = open_store(metrics=metrics)
        inner = prepare_directory(tmp_path / "cache")
        directory = source_directory(inner, store.source)
        catalog = Catalog(ManifestCache(directory, store), release.version, Selection())
        cache = BlockCache(inner, metrics, max_bytes=1 << 26)
        facts, reader = FactsIndex(directory, store), Reader(store, cache, metrics)
        vfs = VFS(Session(store, catalog, cache, facts, reader, metrics), tree)
        fs = LaidOut(version=release.version)
        fs.lay_out(tree, vfs, release)
        yield fs
        vfs.close()

    @pytest.fixture
    def fs_path(self):
        return "base"
