"""Manifests on disk: used if complete, fetched again if not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ego4dfs.catalog import Catalog, ManifestCache, Selection, manifest_cache, manifest_url
from ego4dfs.catalog.manifest_cache import CachedManifest
from ego4dfs.errors import ManifestError, StoreUnavailable
from ego4dfs.files import write_atomic
from ego4dfs.store import Fetched
from ego4dfs.store.etag import is_md5
from ego4dfs.store.fsspec_mirror import FsspecMirror
from ego4dfs.store.s3_url import mirror_path
from kit.fakes import CountingStore, FailingStore, StallingStore
from kit.lock_waits import waiting_threads
from kit.processes import wait_until

MANIFEST = b"video_uid,s3_path\na,s3://b/a\n"
DAMAGED = MANIFEST.replace(b"s3://b/a", b"s3://b/X")


@pytest.fixture
def store() -> FailingStore:
    return FailingStore({manifest_url("v2", "clips"): MANIFEST})


@pytest.fixture
def manifests(store: FailingStore, tmp_path: Path) -> ManifestCache:
    """A keeper that has fetched one manifest."""
    keeper = ManifestCache(tmp_path, store)
    keeper.fetch("v2", "clips")
    return keeper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifests" / "v2" / "clips" / "manifest.csv"


def test_a_cached_manifest_is_served_during_an_outage(manifests, store):
    store.fail(StoreUnavailable("gone"))
    assert manifests.is_cached("v2", "clips")
    assert manifests.fetch("v2", "clips").content == MANIFEST


def test_a_damaged_copy_is_fetched_again(manifests, path):
    """Its length is right, and the store would always confirm its ETag."""
    path.write_bytes(DAMAGED)
    assert not manifests.is_cached("v2", "clips")
    assert manifests.fetch("v2", "clips").content == path.read_bytes() == MANIFEST


def test_a_damaged_copy_is_not_served_during_an_outage(manifests, store, path):
    path.write_bytes(DAMAGED)
    store.fail(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        manifests.fetch("v2", "clips")


@pytest.mark.parametrize("facts", [b"", b"5", b"[]", b"{}", b'{"etag": "x"}', b"\xff"])
def test_a_manifest_with_damaged_facts_is_fetched_again(manifests, path, facts):
    path.with_suffix(".json").write_bytes(facts)
    assert not manifests.is_cached("v2", "clips")
    assert manifests.fetch("v2", "clips").content == MANIFEST
    assert json.loads(path.with_suffix(".json").read_bytes())["digest"]


def test_two_threads_never_write_one_partial_file(store, tmp_path, path, monkeypatch):
    """Two filesystems in one process may keep the same manifest at the same time."""
    partials, both, rename = [], threading.Barrier(2), Path.replace

    def rename_together(self: Path, target: Path) -> Path:
        partials.append(self.name)
        both.wait(10)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", rename_together)
    with ThreadPoolExecutor(2) as pool:
        keepers = [ManifestCache(tmp_path, store) for _ in range(2)]
        list(pool.map(lambda keeper: keeper.revalidate("v2", "clips"), keepers))
    assert len(partials) == len(set(partials)) == 4
    assert path.read_bytes() == MANIFEST


def test_an_error_that_is_raised_again_does_not_grow(store, tmp_path):
    """All requests within half a minute get the same error."""
    catalog = Catalog(ManifestCache(tmp_path, store), "v2", Selection())
    store.fail(StoreUnavailable("gone", url="s3://b/a", hint="wait"))
    raised = []
    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="gone") as caught:
            catalog.listing("clips")
        raised.append((len(caught.traceback), caught.value.url, caught.value.hint))
    assert len(store.reads) == 1
    assert set(raised[1:]) == {(raised[1][0], "s3://b/a", "wait")}


PORTAL = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>\n"
NO_MANIFESTS = (PORTAL, b"\n", b"\0" * 5000, b'{"error": "quota"}', b"name,size\na,1\n")


@pytest.mark.fault(
    area="answers",
    fault="a captive portal's page, or another text, in place of a manifest",
    face="all",
    sees="the cached manifest is used and stays, with a warning; without one, the answer is shown",
    deadline="at once",
)
@pytest.mark.parametrize("answer", NO_MANIFESTS)
def test_an_answer_that_is_not_a_manifest_never_replaces_the_cached_one(
    manifests, store, path, answer, caplog
):
    store.objects[manifest_url("v2", "clips")] = answer
    assert manifests.fetch("v2", "clips").content == MANIFEST
    assert "the cached one is used" in caplog.text
    store.fail(StoreUnavailable("gone"))
    assert ManifestCache(path.parents[3], store).fetch("v2", "clips").content == MANIFEST


@pytest.mark.parametrize("answer", NO_MANIFESTS)
def test_without_a_cached_manifest_the_error_shows_the_answer(store, tmp_path, answer):
    store.objects[manifest_url("v2", "clips")] = answer
    keeper = ManifestCache(tmp_path, store)
    with pytest.raises(ManifestError, match="manifest v2/clips") as caught:
        keeper.fetch("v2", "clips")
    assert ("<!DOCTYPE html>" in str(caught.value)) == (answer == PORTAL)
    assert not keeper.is_cached("v2", "clips")


def test_a_web_page_cached_by_an_earlier_version_is_fetched_again(store, tmp_path, path):
    facts = {
        "etag": "e",
        "mtime_ns": 0,
        "digest": hashlib.blake2b(PORTAL, digest_size=16).hexdigest(),
    }
    path.parent.mkdir(parents=True)
    path.write_bytes(PORTAL)
    path.with_suffix(".json").write_text(json.dumps(facts))
    assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == MANIFEST


@pytest.mark.fault(
    area="disk",
    fault="a power cut, or kill -9, while a manifest is replaced",
    face="all",
    sees="the old manifest or the new one, also offline",
    deadline="at once",
)
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_crash_between_two_renames_leaves_the_old_manifest_or_the_new(
    manifests, store, path, renames, monkeypatch
):
    new = MANIFEST + b"b,s3://b/b\n"
    store.objects[manifest_url("v2", "clips")] = new
    left, replace = [None] * renames, Path.replace

    def crash(self: Path, target: Path) -> Path:
        if not left:
            raise OSError("crashed")
        left.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    assert manifests.fetch("v2", "clips").content == new
    monkeypatch.undo()
    store.fail(StoreUnavailable("gone"))
    after = ManifestCache(path.parents[3], store).fetch("v2", "clips").content
    assert after == (new if renames == 2 else MANIFEST)
    assert sorted(p.name for p in path.parent.iterdir()) == ["manifest.csv", "manifest.json"]


@pytest.mark.fault(
    area="disk",
    fault="a changed byte in the stored facts of a manifest",
    face="all",
    sees="the manifest is fetched again",
    deadline="at once",
)
def test_a_manifest_with_a_changed_byte_in_its_facts_is_fetched_again(manifests, path, store):
    facts_path = path.with_suffix(".json")
    content = facts_path.read_bytes()
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1
        facts_path.write_bytes(flipped)
        found = manifests.fetch("v2", "clips")
        assert (found.content, found.mtime_ns) == (MANIFEST, 1_600_000_000 * 10**9)
        store.reads.clear()
        facts_path.write_bytes(content)


def test_facts_of_an_earlier_version_without_a_checksum_are_used(manifests, path, store):
    facts_path = path.with_suffix(".json")
    facts = json.loads(facts_path.read_bytes())
    del facts["proof"]
    facts_path.write_text(json.dumps(facts))
    store.fail(StoreUnavailable("gone"))
    assert manifests.fetch("v2", "clips").content == MANIFEST


@pytest.mark.fault(
    area="disk",
    fault="a cached manifest that cannot be read",
    face="all",
    sees="it is fetched again, with a warning",
    deadline="at once",
)
@pytest.mark.parametrize("name", ["manifest.csv", "manifest.json"])
def test_an_unreadable_cached_manifest_is_fetched_again(manifests, path, name, caplog):
    """A directory in its place is unreadable for root, too."""
    path.with_name(name).unlink()
    path.with_name(name).mkdir()
    assert manifests.fetch("v2", "clips").content == MANIFEST
    assert "cannot be read" in caplog.text


class ChangingStore(CountingStore):
    """One that sends a manifest with one byte changed, for the next `times` requests."""

    times = 1

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        fetched = super().read(url, unless_etag=unless_etag)
        if fetched is None or not self.times:
            return fetched
        self.times -= 1
        return Fetched(memoryview(DAMAGED), 0, fetched.facts)


def test_a_manifest_changed_in_transit_is_fetched_again(tmp_path):
    """Its ETag shows it; once cached, the store would confirm that ETag for ever."""
    store = ChangingStore({manifest_url("v2", "clips"): MANIFEST})
    assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == MANIFEST
    assert store.renewed == [manifest_url("v2", "clips")]


def test_a_bucket_without_md5s_in_its_etags_is_read_as_it_is(tmp_path):
    """Each of its answers disagrees with the ETag in the same way."""
    store = ChangingStore({manifest_url("v2", "clips"): MANIFEST})
    store.times = 1000
    assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == DAMAGED


def test_a_proxy_that_changes_manifests_does_not_replace_a_proven_one(tmp_path):
    store = ChangingStore({manifest_url("v2", "clips"): MANIFEST})
    store.times = 0
    ManifestCache(tmp_path, store).fetch("v2", "clips")
    store.objects[manifest_url("v2", "clips")] = MANIFEST + b"b,s3://b/b\n"
    store.times = 1000
    with pytest.raises(StoreUnavailable):
        ManifestCache(tmp_path, store).revalidate("v2", "clips")
    assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == MANIFEST


def test_a_bucket_that_is_changed_to_kms_is_read_after_the_remedy_of_the_hint(tmp_path, caplog):
    """Nothing tells its answers from those of a proxy that changes them."""
    url = manifest_url("v2", "clips")
    store = CountingStore({url: MANIFEST})
    ManifestCache(tmp_path, store).fetch("v2", "clips")
    store.objects[url] = MANIFEST + b"b,s3://b/b\n"
    store.etags[url] = (store.objects[url], "f" * 32)
    with pytest.raises(StoreUnavailable) as error:
        ManifestCache(tmp_path, store).revalidate("v2", "clips")
    assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == MANIFEST
    assert error.value.hint in caplog.text
    directory = error.value.hint.rpartition("then remove ")[2]
    shutil.rmtree(directory)
    assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == store.objects[url]


def test_a_manifest_of_a_mirror_without_etags_is_read_once(tmp_path, caplog):
    """What is derived from time and size is not compared with the bytes."""
    url = manifest_url("v2", "clips")
    place = tmp_path.joinpath("mirror", *mirror_path(url))
    place.parent.mkdir(parents=True)
    place.write_bytes(MANIFEST)
    mirror = FsspecMirror(f"file://{tmp_path}/mirror")
    manifest = ManifestCache(tmp_path / "cache", mirror).revalidate("v2", "clips")
    assert manifest.content == MANIFEST
    assert not is_md5(manifest.etag)
    assert not caplog.records


def in_a_child(do) -> None:
    """Run something in a forked child, which must succeed."""
    pid = os.fork()
    if not pid:
        try:
            do()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_answer_to_another_process_is_used_for_a_minute_where_it_is_shared(
    tmp_path, store, path
):
    in_a_child(lambda: ManifestCache(tmp_path, store).fetch("v2", "clips"))
    shared = ManifestCache(tmp_path, store, is_shared=True)
    assert shared.fetch("v2", "clips").content == MANIFEST
    assert store.reads == []
    shared.revalidate("v2", "clips")
    assert len(store.reads) == 1, "a request that was asked for is not sent"
    shared.fetch("v2", "clips")
    assert len(store.reads) == 2, "this process has asked before, and asks again"
    ManifestCache(tmp_path, store).fetch("v2", "clips")
    assert len(store.reads) == 3
    in_a_child(lambda: ManifestCache(tmp_path, store).fetch("v2", "clips"))
    shared.fetch("v2", "clips")
    assert len(store.reads) == 3, "a confirmation of another process counts, too"
    os.utime(path, (time.time() - 61,) * 2)
    shared.fetch("v2", "clips")
    assert len(store.reads) == 4


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_answer_between_the_look_at_the_disk_and_the_lock_is_used(
    tmp_path, store, monkeypatch, is_shared
):
    load = ManifestCache._load
    others = iter([lambda: ManifestCache(tmp_path, store).fetch("v2", "clips")])

    def load_slowly(self, version: str, dataset: str) -> CachedManifest | None:
        found = load(self, version, dataset)
        for other in others:  # once
            in_a_child(other)
        return found

    monkeypatch.setattr(ManifestCache, "_load", load_slowly)
    keeper = ManifestCache(tmp_path, store, is_shared=is_shared)
    assert keeper.fetch("v2", "clips").content == MANIFEST
    assert store.reads == []


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_manifest_that_could_not_be_replaced_is_no_answer(tmp_path, is_shared):
    """Its facts are written first, and describe both manifests; the one on disk is the old one."""
    url, new = manifest_url("v2", "clips"), MANIFEST.replace(b"a,", b"b,")
    store = CountingStore({url: MANIFEST})
    keeper = ManifestCache(tmp_path, store, is_shared=is_shared)
    keeper.fetch("v2", "clips")
    path = tmp_path / "manifests" / "v2" / "clips" / "manifest.csv"
    os.utime(path, (time.time() - 61,) * 2)
    store.put(url, new)

    def write_facts_only() -> None:
        def fail(path: Path, content: bytes) -> None:
            if path.suffix == ".csv":
                raise OSError(errno.ENOSPC, "no space left")
            write_atomic(path, content)

        manifest_cache.write_atomic = fail
        assert ManifestCache(tmp_path, store).fetch("v2", "clips").content == new

    in_a_child(write_facts_only)
    assert path.read_bytes() == MANIFEST
    assert keeper.fetch("v2", "clips").content == new


def test_a_manifest_that_was_imported_is_asked_for(tmp_path, store):
    keeper = ManifestCache(tmp_path, store, is_shared=True)
    assert keeper.add("v2", "clips", CachedManifest(MANIFEST, "", 1))
    keeper.fetch("v2", "clips")
    assert len(store.reads) == 1


def test_those_that_ask_at_the_same_moment_share_one_request(tmp_path, monkeypatch):
    store = StallingStore({manifest_url("v2", "clips"): MANIFEST})
    waiting = waiting_threads(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        keepers = [ManifestCache(tmp_path, store) for _ in range(4)]
        found = [pool.submit(keeper.fetch, "v2", "clips") for keeper in keepers]
        wait_until(lambda: len(waiting) == 3)  # so that no thread begins after the answer
        store.gate.set()
        assert {one.result(60).content for one in found} == {MANIFEST}
    assert len(store.reads) == 1
