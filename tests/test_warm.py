"""Objects are warmed into the cache, pinned there, and the bound holds all the same."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import diskcache
import pytest
from fakes import CountingStore, FailingStore
from mountkit import MIB, complaint, seeded, status

from ego4dfs.blocks import block_key
from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.cache.pins import POLICY
from ego4dfs.cli.output import ExitCode
from ego4dfs.errors import CacheError, ObjectMissing
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader
from ego4dfs.vfs import Warmer

LIMIT = 64 * MIB


class Rig:
    """A cache over objects in memory."""

    def __init__(self, directory, store=None, max_bytes=LIMIT) -> None:
        self.inner = prepare_directory(directory / "cache")
        self.store = store or CountingStore()
        self.metrics = Metrics()
        self.cache = BlockCache(self.inner, self.metrics, max_bytes=max_bytes)
        self.facts = FactsIndex(directory, self.store)
        self.reader = Reader(self.store, self.cache, self.metrics)

    def put(self, name, size):
        return self.store.put(f"s3://b/{name}", seeded(name, size))

    def warm(self, *refs, pin=False):
        return Warmer(self.store, self.facts, self.cache).warm([r.url for r in refs], pin=pin)

    def has(self, ref):
        keys = [block_key(ref.object_id, index) for index in range(ref.block_count)]
        return all(self.cache.contains(key) for key in keys)

    def on_disk(self):
        """Count the bytes of block files; one may leave while this looks."""
        count = 0
        for file in (self.inner / "blocks").glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                count += file.stat().st_blocks * 512
        return count

    def read(self, ref):
        buffer = bytearray(ref.size)
        self.reader.read_into(ref, 0, memoryview(buffer))
        return bytes(buffer)

    def close(self):
        self.reader.close()
        self.facts.close()
        self.cache.close()


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.close()


def test_a_warm_object_is_read_without_a_request(rig):
    ref, empty = rig.put("a", 9 * MIB + 1), rig.put("empty", 0)
    report = rig.warm(ref, empty)
    assert (report.objects, report.bytes, report.fetched_bytes) == (2, ref.size, ref.size)
    rig.store.gets.clear()
    assert rig.read(ref) == rig.store.objects[ref.url]
    assert rig.store.gets == []


def test_what_is_there_already_is_not_fetched_again(rig):
    ref = rig.put("a", 9 * MIB + 1)
    rig.warm(ref)
    rig.store.gets.clear()
    report = rig.warm(ref, ref)
    assert (report.objects, report.fetched_bytes, rig.store.gets) == (1, 0, [])


def test_pinned_blocks_stay_while_the_bound_holds(rig):
    pinned = rig.put("pinned", 30 * MIB)
    rig.warm(pinned, pin=True)
    for number in range(10):
        other = rig.put(f"other{number}", 10 * MIB)
        assert rig.read(other) == rig.store.objects[other.url]
        assert rig.on_disk() <= LIMIT
    assert rig.has(pinned)
    assert [(pin.url, pin.blocks) for pin in rig.cache.pins()] == [(pinned.url, 30)]


def test_reading_a_pinned_block_leaves_it_pinned(rig, tmp_path):
    pinned = rig.put("pinned", 20 * MIB)
    rig.warm(pinned, pin=True)
    assert rig.read(pinned) == rig.store.objects[pinned.url]
    rig.close()
    again = Rig(tmp_path, rig.store)
    for number in range(8):
        again.read(again.put(f"other{number}", 12 * MIB))
    assert again.has(pinned)
    again.reader.close()


def test_eviction_does_not_look_through_the_pins(rig):
    """The query of eviction is answered by an index that holds no pinned block."""
    rig.warm(rig.put("a", MIB), pin=True)
    query = diskcache.EVICTION_POLICY[POLICY]["cull"].format(fields="rowid")
    database = sqlite3.connect(rig.inner / "blocks" / "cache.db")
    plan = database.execute(f"EXPLAIN QUERY PLAN {query}", (10,)).fetchall()
    database.close()
    assert [row[3] for row in plan] == ["SCAN Cache USING INDEX Cache_unpinned"]


def test_a_cache_of_before_pins_is_taken_over(tmp_path):
    """Its policy was diskcache's own, which has no such index."""
    inner = prepare_directory(tmp_path / "cache")
    (inner / "blocks").mkdir()
    old = diskcache.Cache(str(inner / "blocks"), eviction_policy="least-recently-used")
    old.reset("size_limit", LIMIT)
    old.close()
    rig = Rig(tmp_path, max_bytes=None)
    for number in range(8):
        rig.read(rig.put(f"other{number}", 12 * MIB))
    rig.close()
    assert 0 < rig.on_disk() <= LIMIT
    assert rig.metrics.evictions
    assert rig.metrics.errors == 0


def test_unpinned_blocks_leave_again(rig):
    one, two = rig.put("one", 16 * MIB), rig.put("two", 16 * MIB)
    rig.warm(one, two, pin=True)
    assert rig.cache.unpin([one.url]) == 16
    for number in range(8):
        rig.read(rig.put(f"other{number}", 10 * MIB))
    assert (rig.has(one), rig.has(two)) == (False, True)
    assert rig.cache.unpin() == 16
    assert rig.cache.pins() == []


def test_blocks_that_were_read_before_are_pinned_too(rig):
    ref = rig.put("a", 5 * MIB)
    rig.read(ref)
    rig.reader.close()
    rig.warm(ref, pin=True)
    assert [pin.blocks for pin in rig.cache.pins()] == [5]


def test_more_than_can_be_pinned_is_refused_before_a_byte(rig):
    rig.warm(rig.put("a", 40 * MIB), pin=True)
    rig.store.gets.clear()
    with pytest.raises(CacheError, match="can still be pinned"):
        rig.warm(rig.put("b", 20 * MIB), pin=True)
    assert rig.store.gets == []


def test_a_limit_below_the_pins_is_refused(rig, tmp_path):
    rig.warm(rig.put("a", 40 * MIB), pin=True)
    with pytest.raises(CacheError, match="has no room beside its pins") as raised:
        BlockCache(rig.inner, Metrics(), max_bytes=32 * MIB)
    assert "cache unpin" in raised.value.hint
    assert rig.cache.max_bytes == LIMIT


def test_a_cache_full_of_pins_serves_and_keeps_its_bound(rig):
    """Pins of two processes at once may leave no room: reads then go through without a copy."""
    for number in range(6):
        ref = rig.put(f"pinned{number}", 10 * MIB)
        rig.warm(ref)
        rig.cache.pin(ref.object_id, [block_key(ref.object_id, i) for i in range(10)])
    other = rig.put("other", 12 * MIB)
    assert rig.read(other) == rig.store.objects[other.url]
    rig.reader.close()
    rig.cache.close()
    assert rig.cache.used_bytes <= LIMIT
    assert rig.on_disk() <= LIMIT
    report = rig.cache.verify()
    assert (report.stray, report.lost, report.damaged) == (0, 0, 0)


def test_one_object_that_cannot_be_had_does_not_stop_the_others(tmp_path):
    rig = Rig(tmp_path, FailingStore())
    good, bad = rig.put("good", 3 * MIB), rig.put("bad", 3 * MIB)
    rig.store.fail(ObjectMissing("gone", url=bad.url), only="bad")
    report = rig.warm(good, bad)
    assert (report.objects, list(report.failed)) == (1, [bad.url])
    assert rig.has(good)
    rig.close()


# --- the command --------------------------------------------------------------------------------

FILES = {"a.bin": seeded("a", 3 * MIB + 5), "b.bin": seeded("b", 700)}


@pytest.mark.fuse
def test_what_the_command_warmed_and_pinned_is_mounted_without_a_get(release, licensee, cli, mount):
    release.dataset("annotations", FILES)
    chosen = ("--version", release.version, "--datasets", "annotations", "--no-metadata")
    done = cli("cache", "warm", "--pin", *chosen)
    assert done.stdout == "2 objects (3.0 MiB) are in the cache, pinned; 3.0 MiB were fetched\n"
    pins = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    assert {pin["url"]: pin["blocks"] for pin in pins} == {
        release.url("annotations/a.bin"): 4,
        release.url("annotations/b.bin"): 1,
    }
    assert "pinned" in cli("cache", "info").stdout
    root = mount(*chosen)
    for name, data in FILES.items():
        assert (root / release.version / "annotations" / name).read_bytes() == data
    assert status(root)["requests"]["get"] == 0
    only = ("--include", "b*")
    assert cli("cache", "unpin", *chosen, *only).stdout == "1 blocks may be evicted again\n"
    assert cli("cache", "unpin").stdout == "4 blocks may be evicted again\n"
    assert json.loads(cli("cache", "info", "--json").stdout)["pins"] == []


def test_warming_everything_is_refused(licensee, cli):
    done = cli("cache", "warm", check=False)
    assert "no --datasets were given" in complaint(done)
    assert done.returncode == ExitCode.USAGE


def test_objects_that_are_listed_and_missing_make_it_partly_done(release, licensee, cli):
    release.put("there", b"bytes")
    rows = [f"{name},file,{release.url(name)}" for name in ("there", "gone")]
    release.manifest("annotations", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    chosen = ("--version", release.version, "--datasets", "annotations", "--no-metadata")
    done = cli("cache", "warm", "--json", *chosen, check=False)
    assert done.returncode == ExitCode.PARTIAL
    report = json.loads(done.stdout)
    assert (report["objects"], list(report["failed"])) == (1, [release.url("gone")])
