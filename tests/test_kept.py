"""Manifests on disk: believed when whole, fetched anew when not."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import FailingStore

from ego4dfs.catalog import Catalog, KeptManifests, Selection, manifest_url
from ego4dfs.errors import StoreUnavailable

MANIFEST = b"video_uid,s3_path\na,s3://b/a\n"
DAMAGED = MANIFEST.replace(b"s3://b/a", b"s3://b/X")


@pytest.fixture
def store() -> FailingStore:
    return FailingStore({manifest_url("v2", "clips"): MANIFEST})


@pytest.fixture
def kept(store: FailingStore, tmp_path: Path) -> KeptManifests:
    """A keeper that has fetched one manifest."""
    keeper = KeptManifests(tmp_path, store)
    keeper.fetch("v2", "clips")
    return keeper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifests" / "v2" / "clips" / "manifest.csv"


def test_a_kept_manifest_is_served_when_the_store_is_gone(kept, store):
    store.fail(StoreUnavailable("gone"))
    assert kept.is_kept("v2", "clips")
    assert kept.fetch("v2", "clips").content == MANIFEST


def test_a_damaged_copy_is_fetched_anew(kept, path):
    """Its length is right, and its ETag would be confirmed for ever."""
    path.write_bytes(DAMAGED)
    assert not kept.is_kept("v2", "clips")
    assert kept.fetch("v2", "clips").content == path.read_bytes() == MANIFEST


def test_a_damaged_copy_is_not_served_when_the_store_is_gone(kept, store, path):
    path.write_bytes(DAMAGED)
    store.fail(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        kept.fetch("v2", "clips")


@pytest.mark.parametrize("facts", [b"", b"5", b"[]", b"{}", b'{"etag": "x"}', b"\xff"])
def test_damaged_facts_are_a_reason_to_fetch_anew(kept, path, facts):
    path.with_suffix(".json").write_bytes(facts)
    assert not kept.is_kept("v2", "clips")
    assert kept.fetch("v2", "clips").content == MANIFEST
    assert json.loads(path.with_suffix(".json").read_bytes())["digest"]


def test_two_threads_never_write_one_partial_file(store, tmp_path, path, monkeypatch):
    """Two filesystems in one process may keep the same manifest at the same time."""
    partials, both, write = [], threading.Barrier(2), Path.write_bytes

    def write_together(self: Path, content: bytes) -> int:
        partials.append(self.name)
        both.wait(10)
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_together)
    with ThreadPoolExecutor(2) as pool:
        keepers = [KeptManifests(tmp_path, store) for _ in range(2)]
        list(pool.map(lambda keeper: keeper.fetch("v2", "clips"), keepers))
    assert len(partials) == len(set(partials)) == 4
    assert path.read_bytes() == MANIFEST


def test_a_failure_that_is_told_again_does_not_grow(store, tmp_path):
    """For half a minute the same answer is given to everybody who asks."""
    catalog = Catalog(KeptManifests(tmp_path, store), "v2", Selection())
    store.fail(StoreUnavailable("gone", url="s3://b/a", hint="wait"))
    told = []
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="gone") as caught:
            catalog.listing("clips")
        told.append((len(caught.traceback), caught.value.url, caught.value.hint))
    assert len(store.reads) == 1
    assert set(told[1:]) == {(told[1][0], "s3://b/a", "wait")}
