"""The number of requests of the VFS, and its behaviour without objects or the store."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ego4dfs import session
from ego4dfs.blocks import BLOCK_SIZE, part_extents
from ego4dfs.cache import blockfile
from ego4dfs.demo.server import S3Server
from ego4dfs.errors import AccessDenied, ObjectChanged, ObjectMissing, StoreError
from ego4dfs.metrics import Metrics
from ego4dfs.mount.kernel_readahead import KernelReadahead
from ego4dfs.mount.operations import Operations
from ego4dfs.store import ObjectFacts
from ego4dfs.vfs import Handle, Stat
from kit.data import seeded
from kit.gateway import Gateway
from kit.processes import wait_until
from kit.server import SHARING

COUNT = 30
FILES = {f"{number:02}.json": bytes(number) for number in range(COUNT)}
LARGE = seeded("requests", 3 * BLOCK_SIZE + 5)
SESSION = SimpleNamespace(metrics=Metrics())


@pytest.fixture
def vfs(open_tree, release):
    release.dataset("annotations", {**FILES, "large.pt": LARGE})
    return open_tree(version=release.version, datasets=["annotations"], metadata=False)


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


def requests(vfs) -> tuple[int, int, int]:
    """Return how many HEADs, GETs and manifest requests there were."""
    counts = vfs.session.metrics.requests
    return counts["head"], counts["get"], counts["manifest"]


def test_opening_costs_one_request_for_each_named_dataset(vfs):
    assert requests(vfs) == (0, 0, 1)


def test_names_cost_no_request(vfs, top):
    assert len(vfs.listdir(top)) == COUNT + 2
    for name in FILES:
        vfs.resolve(f"{top}/{name}")
    assert vfs.stat(top).is_dir
    assert vfs.stat(f"{top}/manifest.csv").size > 0
    assert requests(vfs) == (0, 0, 1)


def test_one_stat_costs_one_head(vfs, top):
    for _ in range(5):
        assert vfs.stat(f"{top}/07.json").size == 7
    assert requests(vfs) == (1, 0, 1)


def test_a_second_stat_starts_a_sweep_with_one_head_for_each_other_file(vfs, top):
    for name in ("07.json", "08.json"):
        vfs.stat(f"{top}/{name}")
    wait_until(lambda: vfs.known_totals().objects == COUNT + 1)
    for name, data in FILES.items():
        assert vfs.stat(f"{top}/{name}").size == len(data)
    assert requests(vfs) == (COUNT + 1, 0, 1)


def test_sizes_are_kept_for_the_next_filesystem(vfs, top, open_tree, release):
    for name in FILES:
        vfs.stat(f"{top}/{name}")
    vfs.close()
    again = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    for name, data in FILES.items():
        assert again.stat(f"{top}/{name}").size == len(data)
    assert requests(again)[0] == 0


@pytest.mark.parametrize("offset", [0, 100, BLOCK_SIZE + 7, 3 * BLOCK_SIZE + 1])
def test_a_first_open_with_a_read_range_costs_one_get_and_no_head(vfs, top, offset):
    handle = vfs.open(f"{top}/large.pt", first_offset=offset)
    assert handle.size == len(LARGE)
    assert vfs.read(handle, offset, 50) == LARGE[offset : offset + 50]
    assert vfs.stat(f"{top}/large.pt").size == len(LARGE)
    assert requests(vfs) == (0, 1, 1)


def read_by_steps(vfs, path: str) -> bytes:
    handle = vfs.open(path)
    steps = (vfs.read(handle, at, 128 << 10) for at in range(0, handle.size, 128 << 10))
    return b"".join(steps)


def test_the_request_that_confirms_a_size_is_the_one_of_the_first_read(vfs, top):
    """Read in steps, the file takes three requests, as without a confirmation."""
    assert vfs.stat(f"{top}/07.json").size == 7
    assert read_by_steps(vfs, f"{top}/07.json") == FILES["07.json"]
    assert requests(vfs) == (1, 1, 1)
    assert read_by_steps(vfs, f"{top}/large.pt") == LARGE
    assert requests(vfs) == (1, 4, 1)
    assert vfs.session.metrics.bytes_fetched == 7 + len(LARGE)


def test_a_confirmed_size_is_remembered(vfs, top, open_tree, release):
    """Otherwise the next process would fetch the first bytes of a partly cached object."""
    handle = vfs.open(f"{top}/large.pt")
    vfs.read(handle, 2 * BLOCK_SIZE, 100)
    vfs.session.cache.remove(entry.key for entry in part_extents(handle.ref, 0, BLOCK_SIZE))
    vfs.close()
    again = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    handle = again.open(f"{top}/large.pt")
    assert vfs.read(handle, 2 * BLOCK_SIZE, 100) == LARGE[2 * BLOCK_SIZE :][:100]
    assert requests(again)[:2] == (0, 0)


def test_bytes_of_any_read_confirm_a_size(vfs, top):
    """Otherwise the next open would fetch the first bytes of a partly cached object."""
    assert vfs.stat(f"{top}/large.pt").size == len(LARGE)
    handle = vfs.open(f"{top}/large.pt", first_offset=2 * BLOCK_SIZE)
    vfs.read(handle, 2 * BLOCK_SIZE, 100)
    assert requests(vfs) == (1, 1, 1)
    wait_until(lambda: not vfs.session.reader.downloads.in_flight)
    vfs.session.cache.admin.clear()
    vfs.open(f"{top}/large.pt")
    assert requests(vfs) == (1, 1, 1)


def test_an_open_alone_does_not_count_as_a_miss(vfs, top):
    vfs.stat(f"{top}/large.pt")
    handle = vfs.open(f"{top}/large.pt")
    metrics = vfs.session.metrics
    assert (requests(vfs), metrics.hits, metrics.misses) == ((1, 1, 1), 0, 0)
    vfs.read(handle, 2 * BLOCK_SIZE, 100)
    assert (metrics.hits, metrics.misses) == (0, 1)


def test_a_size_that_is_too_small_truncates_no_read_of_an_open_file(vfs, top):
    """The kernel cuts reads through all descriptors at the last size that it was given."""
    operations = Operations(vfs, lambda: None, os.getpid, KernelReadahead())
    path, handle = f"/{top}/large.pt", SimpleNamespace(fh=0)
    operations.getattr(path)
    operations.open(path, handle)
    url = vfs.resolve(path).url
    facts = vfs.session.facts.get(url)
    vfs.session.facts.remove(url)
    wrong = ObjectFacts(len(LARGE) - 137, facts.etag, facts.version_id, facts.mtime_ns)
    vfs.session.facts.record(url, wrong)
    name = "large.pt"
    assert operations.attributes_for_listing(f"/{top}", name, Stat.of(1, wrong)) is None
    assert operations.getattr(path)["st_size"] == len(LARGE)
    listed = operations.attributes_for_listing(f"/{top}", name, Stat.of(1, facts))
    assert listed is not None
    assert listed["st_size"] == len(LARGE)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_stat_of_an_open_file_neither_fails_nor_ends_its_reads(is_known):
    """Here the index has lost the size, and an open would be refused."""
    sizes = [10]
    opened = []

    def stat(path, caller=None) -> Stat:
        del path, caller
        return Stat(5, is_dir=False, size=sizes[0], mtime_ns=1, is_known=sizes[0] > 0)

    def open_file(path) -> Handle:
        if opened:
            raise AccessDenied("refused")
        opened.append(path)
        return Handle(path.strip("/"), content=bytes(10))

    operations = Operations(
        SimpleNamespace(stat=stat, open=open_file, session=SESSION),
        lambda: None,
        os.getpid,
        KernelReadahead(),
    )
    operations.getattr("/a")
    first = SimpleNamespace(fh=0)
    operations.open("/a", first)
    sizes[0] = 5 if is_known else 0
    found = operations.getattr("/a")
    assert (found["st_size"], len(opened)) == (10, 1)
    operations.release("/a", first)
    assert operations.getattr("/a")["st_size"] == sizes[0]


def test_a_file_is_open_until_its_last_descriptor_is_closed():
    known = Stat(5, is_dir=False, size=10, mtime_ns=1)
    opened = Handle("a", content=bytes(10))
    vfs = SimpleNamespace(stat=lambda _: known, open=lambda _: opened, session=SESSION)
    operations = Operations(vfs, lambda: None, os.getpid, KernelReadahead())
    first, second = SimpleNamespace(fh=0), SimpleNamespace(fh=0)
    operations.open("/a", first)
    operations.open("/a", second)
    other = replace(known, size=11)
    for descriptor in (first, second):
        assert operations.attributes_for_listing("/", "a", other) is None
        operations.release("/a", descriptor)
        operations.release("/a", descriptor)  # once more changes nothing
    assert operations.attributes_for_listing("/", "a", other) is not None


def test_a_first_open_with_a_range_past_the_end_succeeds(vfs, top):
    handle = vfs.open(f"{top}/large.pt", first_offset=50 * BLOCK_SIZE)
    assert handle.size == len(LARGE)
    assert vfs.read(handle, 50 * BLOCK_SIZE, 10) == b""
    empty = vfs.open(f"{top}/00.json", first_offset=0)
    assert vfs.read(empty, 0, 10) == b""


def test_a_file_read_twice_is_fetched_once_even_by_another_filesystem(vfs, top, open_tree, release):
    for _ in range(2):
        handle = vfs.open(f"{top}/large.pt")
        assert vfs.read(handle, 0, len(LARGE)) == LARGE
    assert vfs.session.metrics.bytes_fetched == len(LARGE)
    vfs.close()
    again = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    assert again.read(again.open(f"{top}/large.pt"), 0, len(LARGE)) == LARGE
    assert (requests(again)[:2], again.session.metrics.bytes_fetched) == ((0, 0), 0)


def test_an_object_replaced_while_open_is_an_error_then_the_new_bytes(vfs, top, release):
    handle = vfs.open(f"{top}/large.pt")
    assert vfs.read(handle, 0, 10) == LARGE[:10]
    new = LARGE[::-1] + b"longer"
    release.put("annotations/large.pt", new)
    with pytest.raises(ObjectChanged):
        vfs.read(handle, 2 * BLOCK_SIZE, 10)
    again = vfs.open(f"{top}/large.pt")
    assert vfs.read(again, 0, len(new)) == new
    assert vfs.stat(f"{top}/large.pt").size == len(new)
    assert "large.pt" in vfs.session.metrics.last_error
    assert vfs.session.metrics.errors == 1


def test_a_listed_object_that_is_missing_is_visible_and_its_open_sends_a_request(
    vfs, release, open_tree
):
    release.manifest("clips", f"file_uid,s3_path\nx,{release.url('late.json')}\n")
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    path = f"{release.version}/clips/late.json"
    assert not vfs.stat(path).is_known
    sent = sum(requests(vfs))
    assert not vfs.stat(path).is_known
    with pytest.raises(ObjectMissing):
        vfs.open(path)
    assert sum(requests(vfs)) == sent
    release.put("late.json", b"now it is there")

    def opened() -> bool:
        try:
            return vfs.read(vfs.open(path), 0, 100) == b"now it is there"
        except ObjectMissing:
            return False

    wait_until(opened)
    assert vfs.stat(path).size == len(b"now it is there")


def test_a_manifest_is_revalidated_by_one_conditional_request(server, release, open_tree):
    release.dataset("annotations", FILES)
    with Gateway(server.endpoint_url) as gateway:
        options = {
            "version": release.version,
            "datasets": ["annotations"],
            "endpoint_url": gateway.url,
        }
        for status in (200, 304):
            gateway.reset()
            vfs = open_tree(**options)
            names = [entry.name for entry in vfs.listdir(f"{release.version}/annotations")]
            assert names == ["manifest.csv", *FILES]
            vfs.listdir(f"{release.version}/annotations")
            assert [(m, s) for m, path, s in gateway.log if "manifest.csv" in path] == [
                ("GET", status)
            ]
            vfs.close()


def test_a_manifest_that_changed_is_fetched_again(release, open_tree):
    release.dataset("annotations", FILES)
    options = {"version": release.version, "datasets": ["annotations"]}
    open_tree(**options).close()
    manifest = release.dataset("annotations", {"new.json": b"1"})
    vfs = open_tree(**options)
    names = [entry.name for entry in vfs.listdir(f"{release.version}/annotations")]
    assert names == ["manifest.csv", "new.json"]
    path = f"{release.version}/annotations/manifest.csv"
    assert vfs.read(vfs.open(path), 0, 10**6) == manifest


def test_cached_files_are_served_during_an_outage(tmp_path, open_tree, monkeypatch, release):
    """A separate server is stopped between two openings."""
    with S3Server(tmp_path / "own") as own:
        own.create_bucket(SHARING)
        for name, value in own.environment(own.licensee).items():
            monkeypatch.setenv(name, value)
        mine = type(release)(own, "v2")
        manifest = mine.dataset("annotations", {"large.pt": LARGE, "other.json": b"1"})
        first = open_tree(version="v2", datasets=["annotations"])
        assert first.read(first.open("v2/annotations/large.pt"), 0, len(LARGE)) == LARGE
        first.close()
        own.stop()
        vfs = open_tree(version="v2", datasets=["annotations"])
        names = [entry.name for entry in vfs.listdir("v2/annotations")]
        assert names == ["manifest.csv", "large.pt", "other.json"]
        handle = vfs.open("v2/annotations/manifest.csv")
        assert vfs.read(handle, 0, 10**6) == manifest
        assert vfs.stat("v2/annotations/large.pt").size == len(LARGE)
        assert vfs.read(vfs.open("v2/annotations/large.pt"), 0, len(LARGE)) == LARGE
        assert vfs.resolve("v2/annotations/other.json") is not None
        with pytest.raises(StoreError):  # a size of 0 would be believed
            vfs.stat("v2/annotations/other.json")
        with pytest.raises(StoreError):
            vfs.open("v2/annotations/other.json")


def test_many_ranges_of_an_unknown_object_cost_one_request_for_each_block(vfs, top):
    with ThreadPoolExecutor(16) as pool:
        handles = pool.map(lambda _: vfs.open(f"{top}/large.pt", first_offset=0), range(16))
        assert {vfs.read(handle, 0, 10) for handle in handles} == {LARGE[:10]}
    assert requests(vfs)[:2] == (0, 1)


def test_a_dataset_that_fails_is_requested_again_after_a_pause(
    release, open_tree, monkeypatch, caplog
):
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    vfs = open_tree(version=release.version)
    path = f"{release.version}/gaze"
    assert "gaze" in [entry.name for entry in vfs.listdir(release.version)]
    with pytest.raises(AccessDenied, match="gaze"):
        vfs.listdir(path)
    sent = requests(vfs)
    release.dataset("gaze", {"g.csv": b"t\n"})
    with pytest.raises(AccessDenied), caplog.at_level(logging.DEBUG):
        vfs.listdir(path)
    assert requests(vfs) == sent
    monkeypatch.setattr("ego4dfs.catalog.catalog._FAILURE_KEPT_S", 0.0)
    assert [entry.name for entry in vfs.listdir(path)] == ["manifest.csv", "g.csv"]
    assert vfs.stat(f"{path}/g.csv").size == 2


def test_a_slow_disk_may_use_the_time_until_the_end(vfs, top, monkeypatch):
    """That which the other parts of the session leave, and not only the least time of a cache."""
    monkeypatch.setattr(session, "CLOSE_S", 120.0)
    monkeypatch.setattr(session, "_DISK_S", 60.0)
    monkeypatch.setattr(session, "CLOSE_WAIT_S", 0.0)
    write, written, closing = blockfile.write, [], threading.Event()

    def slow(path, key, data) -> None:
        assert closing.wait(60)
        time.sleep(0.1)
        write(path, key, data)
        written.append(key)

    monkeypatch.setattr(blockfile, "write", slow)
    for name in ("05.json", "20.json", "11.json", "28.json", "02.json"):
        vfs.read(vfs.open(f"{top}/{name}"), 0, 100)
    close = vfs.session.cache.close

    def closed(timeout_s) -> None:
        closing.set()
        close(timeout_s)

    monkeypatch.setattr(vfs.session.cache, "close", closed)
    vfs.close()
    assert len(written) == 5


def test_reads_beyond_the_limit_of_a_mount_fail_at_once(monkeypatch):
    """Each read that waits for the store needs a thread, and listings must find one."""
    monkeypatch.setattr("ego4dfs.mount.operations.MAX_READS", 2)
    reads = []

    def read_into(handle, offset, view) -> int:
        reads.append(offset)
        if offset < 2:
            return operations.read_into(file.fh, offset + 1, view)
        return 5

    opened = Handle("a", content=bytes(10))
    vfs = SimpleNamespace(open=lambda _: opened, read_into=read_into, session=SESSION)
    operations = Operations(vfs, lambda: None, os.getpid, KernelReadahead())
    file = SimpleNamespace(fh=0)
    operations.open("/a", file)
    with pytest.raises(OSError, match="2 reads already wait") as error:
        operations.read_into(file.fh, 0, memoryview(bytearray(5)))
    assert (error.value.errno, reads) == (errno.EIO, [0, 1])
    assert operations.read_into(file.fh, 2, memoryview(bytearray(5))) == 5
