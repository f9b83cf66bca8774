"""`prefetch --to cache`: objects are fetched into the cache and pinned, and its limit holds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import signal
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import diskcache
import pytest

from ego4dfs.blocks import PART_SIZE, block_extent, block_key, part_extents
from ego4dfs.cache import BlockCache, blockfile, prepare_directory
from ego4dfs.cache.admin import CacheAdmin
from ego4dfs.cache.eviction import POLICIES
from ego4dfs.catalog import Listing
from ego4dfs.cli.output import ExitCode
from ego4dfs.errors import CacheError, CredentialsRejected, ObjectMissing, StoreUnavailable
from ego4dfs.manifest import CompressedBytes, Entry, Manifest
from ego4dfs.metrics import Metrics
from ego4dfs.prefetch import CacheWarmer, Shard, Status, cache_run
from ego4dfs.prefetch.cache_run import CacheRun
from ego4dfs.prefetch.plan import DatasetPlan, Plan
from ego4dfs.reader import Window
from ego4dfs.runtime import memory_limit
from kit.cli import EGO4DFS
from kit.data import MIB, seeded
from kit.fakes import CountingStore, FailingStore, FlippingStore, StallingStore
from kit.mounts import status
from kit.processes import wait_until
from kit.sessions import session_over

LIMIT = 64 * MIB


def listing(refs):
    nothing = frozenset()
    rows = [(f"f{i}", "", ref.url) for i, ref in enumerate(refs)]
    entries = tuple(Entry(i, *row, nothing, None, nothing, "") for i, row in enumerate(rows))
    return Listing("d", entries, CompressedBytes(b""), 0, Manifest("d", (), entries, (), 0))


def bytes_fetched(store):
    return sum(stop - start for _, start, stop in store.gets)


class Rig:
    """A cache over objects in memory."""

    def __init__(self, directory, store=None, max_bytes=LIMIT) -> None:
        self.inner = prepare_directory(directory / "cache")
        self.store = store or CountingStore()
        self.session = session_over(self.store, directory, max_bytes=max_bytes)
        self.metrics = self.session.metrics
        self.cache, self.facts = self.session.cache, self.session.facts
        self.reader = self.session.reader

    def put(self, name, size):
        return self.store.put(f"s3://b/{name}", seeded(name, size))

    def warm(self, *refs, pin=False):
        warmer = CacheWarmer(self.session)
        assert warmer.run(warmer.plan([listing(refs)]), pin=pin)
        return warmer.report

    def has(self, ref):
        keys = [block_key(ref.object_id, index) for index in range(ref.block_count)]
        return all(self.cache.contains(key) for key in keys)

    def on_disk(self):
        """Count the bytes of block files; a file may be removed meanwhile."""
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
        self.session.close()


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.close()


def test_a_warm_object_is_read_without_a_request(rig):
    ref, empty = rig.put("a", 9 * MIB + 1), rig.put("empty", 0)
    report = rig.warm(ref, empty)
    assert (report.counts[Status.DONE], report.counts[Status.SKIPPED]) == (1, 1)
    assert report.fetched_bytes == ref.size
    rig.store.gets.clear()
    assert rig.read(ref) == rig.store.objects[ref.url]
    assert rig.store.gets == []


def test_a_warm_object_has_a_confirmed_size(rig):
    ref = rig.put("a", 9 * MIB + 1)
    assert not rig.facts.get(ref.url).has_confirmed_size
    rig.warm(ref)
    assert rig.facts.get(ref.url).has_confirmed_size


def test_cached_blocks_are_not_fetched_again(rig):
    ref = rig.put("a", 9 * MIB + 1)
    rig.warm(ref)
    rig.store.gets.clear()
    report = rig.warm(ref, ref)
    assert (report.counts[Status.SKIPPED], report.fetched_bytes, rig.store.gets) == (2, 0, [])


def test_parts_that_were_read_are_neither_fetched_nor_stored_again(rig):
    ref = rig.put("a", 9 * MIB + 1)
    for offset in (0, 3 * MIB + 300_000, 9 * MIB):
        rig.reader.read_into(ref, offset, memoryview(bytearray(1000)), Window())
    wait_until(lambda: not rig.reader.downloads.in_flight)
    read = bytes_fetched(rig.store)
    assert 0 < read < 3 * MIB
    report = rig.warm(ref, pin=True)
    assert (report.resumed_bytes, report.fetched_bytes) == (read, ref.size - read)
    assert bytes_fetched(rig.store) == ref.size
    # Each block and part takes whole units of 4 KiB on disk.
    assert ref.size <= rig.on_disk() <= ref.size + 40 * 4096
    [pin] = rig.cache.admin.pins()
    assert ref.size <= pin.bytes <= ref.size + 40 * 4096
    assert rig.read(ref) == rig.store.objects[ref.url]
    assert bytes_fetched(rig.store) == ref.size


@pytest.mark.fault(
    area="answers",
    fault="a byte that was changed in transit",
    face="prefetch --to cache",
    sees="the object disagrees with its ETag and is fetched again; if it never agrees, it is"
    " reported as failed and nothing of it stays in the cache",
    deadline="at once, in 3 attempts",
)
@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_wrong_bytes_do_not_stay_in_the_cache(tmp_path, attempts):
    class OftenWrong(CountingStore):
        def read_range(self, url, start, stop, **conditions):
            times = sum(got == (url, start, stop) for got in self.gets)
            fetched = super().read_range(url, start, stop, **conditions)
            if "bad" in url and times < attempts:
                return dataclasses.replace(fetched, data=memoryview(bytes(stop - start)))
            return fetched

    rig = Rig(tmp_path, OftenWrong())
    good, bad = rig.put("good", 1000), rig.put("bad", 3 * MIB)
    report = rig.warm(good, bad)
    has_failed = attempts == 3
    assert (report.counts[Status.DONE], report.counts[Status.FAILED]) == (
        2 - has_failed,
        has_failed,
    )
    assert rig.has(bad) != has_failed
    assert bytes_fetched(rig.store) == good.size + min(3, attempts + 1) * bad.size
    assert rig.store.renewed == [bad.url] * attempts
    rig.close()


@pytest.mark.fault(
    area="disk",
    fault="the disk of the cache does not answer",
    face="prefetch --to cache",
    sees="the objects are reported as failed",
    deadline="5 minutes",
)
def test_a_cache_that_does_not_write_does_not_block_a_run(rig, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(cache_run, "CACHE_WRITE_S", 0.1)
    monkeypatch.setattr(blockfile, "write", lambda *_: gate.wait(60))
    report = rig.warm(rig.put("a", 1000))
    gate.set()
    assert report.counts[Status.FAILED] == 1
    assert "does not answer" in report.problems[0].reason


def store(cache, rig, ref, *extents):
    """Store extents as another process does."""
    for key, start, stop in extents:
        done = threading.Event()
        data = memoryview(rig.store.objects[ref.url])[start:stop]
        cache.put(key, ref.url, data, lambda is_stored, done=done: done.set())
        assert done.wait(30)


@pytest.mark.parametrize("kept", [0, 1, 4])
@pytest.mark.parametrize("as_parts", [False, True])
def test_what_another_process_stores_meanwhile_counts_as_kept(rig, as_parts, kept):
    """As a block (0) or as parts, whichever the run wanted when it looked."""
    ref = rig.put("a", 2 * MIB)
    run = CacheRun(rig.session, 0)
    block, parts = block_extent(ref, 0), list(part_extents(ref, 0, MIB))
    stored = parts[:kept] or [block]
    store(rig.cache, rig, ref, *stored)
    rest = MIB - sum(extent.stop - extent.start for extent in stored)
    assert run.fetch(ref, parts if as_parts else [block]) == rest
    assert run.missing(ref, [range(MIB)]) == []
    assert bytes_fetched(rig.store) == rest


@pytest.mark.parametrize("off", [-137, 137])
def test_a_wrong_size_fails_once_and_is_corrected_in_the_next_run(rig, off):
    ref = rig.put("a", 3 * MIB + 500)
    facts = rig.store.head(ref.url)
    rig.facts.record(ref.url, dataclasses.replace(facts, size=facts.size + off))
    assert rig.warm(ref).counts[Status.FAILED] == 1
    assert rig.warm(ref).counts[Status.DONE] == 1
    assert rig.has(ref)


def test_whole_blocks_that_hold_pinned_ranges_count_as_a_whole(rig):
    """Of 64 MiB 51 can be pinned: 25 and 20 blocks, not 25 and 30."""
    whole, some = rig.put("whole", 25 * MIB), rig.put("some", 30 * MIB)
    rig.warm(whole, pin=True)
    rig.warm(some)

    def plan(warmer, count):
        """Return a plan of the first part of so many blocks."""
        [item] = warmer.plan([listing([some])], facts_only=True).items
        ranges = tuple(range(start, start + PART_SIZE) for start in range(0, count * MIB, MIB))
        return Plan([DatasetPlan("d", 1, [warmer.narrowed(item, ranges)])])

    warmer = CacheWarmer(rig.session)
    with pytest.raises(CacheError, match="can still be pinned"):
        warmer.check_room(plan(warmer, 30), pin=True)
    for _ in range(2):
        warmer = CacheWarmer(rig.session)
        assert warmer.run(plan(warmer, 20), pin=True)
        assert warmer.report.fetched_bytes == 0
        [pin, _] = rig.cache.admin.pins()
        assert (pin.url, pin.blocks, pin.bytes) == (some.url, 20, 20 * (MIB + 4096))


def test_pinned_blocks_are_kept_and_the_limit_holds(rig):
    pinned = rig.put("pinned", 30 * MIB)
    rig.warm(pinned, pin=True)
    for number in range(10):
        other = rig.put(f"other{number}", 10 * MIB)
        assert rig.read(other) == rig.store.objects[other.url]
        assert rig.on_disk() <= LIMIT
    assert rig.has(pinned)
    assert [(pin.url, pin.blocks) for pin in rig.cache.admin.pins()] == [(pinned.url, 30)]


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
    """The query of the eviction uses an index that contains no pinned block."""
    rig.warm(rig.put("a", MIB), pin=True)
    query = diskcache.EVICTION_POLICY[POLICIES["lru"]]["cull"].format(fields="rowid")
    database = sqlite3.connect(rig.inner / "blocks" / "cache.db")
    plan = database.execute(f"EXPLAIN QUERY PLAN {query}", (10,)).fetchall()
    database.close()
    assert [row[3] for row in plan] == ["SCAN Cache USING INDEX Cache_unpinned"]


def test_a_cache_of_a_version_without_pins_is_used(tmp_path):
    """Its policy was that of diskcache, which has no such index."""
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


def test_unpinned_blocks_can_be_evicted(rig):
    one, two = rig.put("one", 16 * MIB), rig.put("two", 16 * MIB)
    rig.warm(one, two, pin=True)
    assert rig.cache.admin.unpin([one.url]) == 16
    for number in range(8):
        rig.read(rig.put(f"other{number}", 10 * MIB))
    assert (rig.has(one), rig.has(two)) == (False, True)
    assert rig.cache.admin.unpin() == 16
    assert rig.cache.admin.pins() == []


def test_blocks_that_were_read_before_are_pinned_too(rig):
    ref = rig.put("a", 5 * MIB)
    rig.read(ref)
    rig.reader.close()
    rig.warm(ref, pin=True)
    assert [pin.blocks for pin in rig.cache.admin.pins()] == [5]


def test_blocks_that_a_mount_stores_during_the_run_are_pinned_too(rig, tmp_path, monkeypatch):
    ref = rig.put("a", 5 * MIB)
    pin = CacheAdmin.pin
    with contextlib.closing(session_over(rig.store, tmp_path, max_bytes=LIMIT)) as mount:

        def pin_and_wait(admin, object_id, keys):
            """Pin what is cached; then a mount stores the first block, and another as parts."""
            count = pin(admin, object_id, keys)
            if not mount.cache.contains(block_key(ref.object_id, 0)):
                store(mount.cache, rig, ref, block_extent(ref, 0), *part_extents(ref, MIB, 2 * MIB))
            return count

        monkeypatch.setattr(CacheAdmin, "pin", pin_and_wait)
        report = rig.warm(ref, pin=True)
    assert report.fetched_bytes == 3 * MIB
    assert [found.blocks for found in rig.cache.admin.pins()] == [4 + 4]


def test_a_selection_larger_than_the_pin_limit_is_refused_before_a_byte(rig):
    rig.warm(rig.put("a", 40 * MIB), pin=True)
    rig.store.gets.clear()
    with pytest.raises(CacheError, match="can still be pinned"):
        rig.warm(rig.put("b", 20 * MIB), pin=True)
    assert rig.store.gets == []


def test_a_limit_below_the_pins_is_refused(rig, tmp_path):
    rig.warm(rig.put("a", 40 * MIB), pin=True)
    with pytest.raises(CacheError, match="is too small for its pinned blocks") as raised:
        BlockCache(rig.inner, Metrics(), max_bytes=32 * MIB)
    assert "cache unpin" in raised.value.hint
    assert rig.cache.admin.max_bytes == LIMIT


def test_a_cache_full_of_pins_serves_reads_within_its_limit(rig):
    """Pins of two processes can fill the cache: reads then work without caching."""
    for number in range(6):
        ref = rig.put(f"pinned{number}", 10 * MIB)
        rig.warm(ref)
        rig.cache.admin.pin(ref.object_id, [block_key(ref.object_id, i) for i in range(10)])
    other = rig.put("other", 12 * MIB)
    assert rig.read(other) == rig.store.objects[other.url]
    rig.reader.close()
    rig.cache.close()
    assert rig.cache.admin.used_bytes <= LIMIT
    assert rig.on_disk() <= LIMIT
    report = rig.cache.admin.verify()
    assert (report.stray, report.lost, report.damaged) == (0, 0, 0)


def test_one_object_that_cannot_be_fetched_does_not_stop_the_others(tmp_path):
    rig = Rig(tmp_path, FailingStore())
    good, bad = rig.put("good", 3 * MIB), rig.put("bad", 3 * MIB)
    rig.store.fail(ObjectMissing("gone", url=bad.url), only="bad")
    report = rig.warm(good, bad)
    assert report.counts[Status.DONE] == 1
    assert [(p.name, p.status) for p in report.problems] == [("f1", Status.MISSING)]
    assert rig.has(good)
    rig.close()


@pytest.mark.parametrize("error", [CredentialsRejected("expired"), StoreUnavailable("down")])
def test_an_error_that_each_object_would_have_ends_the_plan(tmp_path, error):
    with contextlib.closing(Rig(tmp_path, FailingStore())) as rig:
        refs = [rig.put(f"{number}", 1000) for number in range(3)]
        rig.store.fail(error)
        with pytest.raises(type(error), match=str(error)):
            CacheWarmer(rig.session).plan([listing(refs)])


def test_each_shard_plans_its_part(rig):
    refs = [rig.put(f"{number}", 1000) for number in range(6)]
    plans = [
        CacheWarmer(rig.session).plan([listing(refs)], shard=Shard(part, 2)) for part in range(2)
    ]
    assert [plan.share.files for plan in plans] == [3, 3]
    assert {item.url for plan in plans for item in plan.items} == {ref.url for ref in refs}


@pytest.mark.parametrize(("limit_mib", "threads"), [(1 << 20, 16), (256, 10), (0, 1)])
def test_fewer_requests_are_sent_at_once_where_memory_is_limited(
    rig, monkeypatch, limit_mib, threads
):
    monkeypatch.setattr(memory_limit, "memory_limit", lambda: limit_mib * MIB)
    run = CacheRun(rig.session, 0.0)
    added = []
    monkeypatch.setattr(run.pool, "add", lambda *arguments: added.append(arguments[-1]))
    assert run.run(lambda: None, lambda: None)
    assert added == [threads]


@pytest.fixture
def one_by_one(monkeypatch):
    """Requests are sent in order, one at a time."""
    monkeypatch.setattr(cache_run, "_THREADS", 1)


class FlippedUntilRenewed(FlippingStore):
    """Flips a bit of the objects in `flipped` until a new connection is made for them."""

    def renew(self, url):
        super().renew(url)
        self.flipped.discard(url)


@pytest.fixture
def flipping(tmp_path, one_by_one):
    made = Rig(tmp_path, FlippedUntilRenewed())
    yield made
    made.close()


def test_an_object_that_a_later_one_proves_wrong_is_fetched_again(flipping):
    bad, good = flipping.put("bad", 1000), flipping.put("good", 1000)
    flipping.store.flipped = {bad.url}
    report = flipping.warm(bad, good)
    assert [url for url, *_ in flipping.store.gets] == [bad.url, good.url, bad.url]
    assert (report.counts[Status.DONE], report.counts[Status.FAILED]) == (2, 0)
    flipping.store.gets.clear()
    assert flipping.read(bad) == flipping.store.objects[bad.url]
    assert not flipping.store.gets


def test_what_another_process_has_fetched_again_is_not_requested(flipping, monkeypatch):
    good, bad = flipping.put("good", 1000), flipping.put("bad", 1000)
    flipping.store.flipped = {bad.url}
    renew = flipping.store.renew

    def other_process(url):
        renew(url)
        store(flipping.cache, flipping, bad, block_extent(bad, 0))

    monkeypatch.setattr(flipping.store, "renew", other_process)
    report = flipping.warm(good, bad)
    assert report.counts[Status.DONE] == 2
    assert bytes_fetched(flipping.store) == 2000
    assert flipping.read(bad) == flipping.store.objects[bad.url]


def test_an_object_in_doubt_that_was_evicted_is_not_fetched_again(flipping, monkeypatch):
    bad, good = flipping.put("bad", 1000), flipping.put("good", 1000)
    flipping.store.flipped = {bad.url}

    def evict(url):
        if url == good.url:
            flipping.cache.remove([block_key(bad.object_id, 0)])

    monkeypatch.setattr(flipping.store, "before_answer", evict)
    report = flipping.warm(bad, good)
    assert [url for url, *_ in flipping.store.gets] == [bad.url, good.url]
    assert (report.counts[Status.DONE], flipping.has(bad)) == (2, False)


def test_without_verification_no_object_is_compared(flipping):
    good, bad = flipping.put("good", 1000), flipping.put("bad", 1000)
    flipping.store.flipped = {bad.url}
    warmer = CacheWarmer(flipping.session, compares_etags=False)
    assert warmer.run(warmer.plan([listing([good, bad])]))
    assert warmer.report.counts[Status.DONE] == 2
    assert flipping.store.renewed == []


@pytest.mark.usefixtures("one_by_one")
def test_an_object_that_is_listed_twice_is_fetched_once(rig):
    ref = rig.put("a", 1000)
    report = rig.warm(ref, ref)
    assert (report.counts[Status.DONE], bytes_fetched(rig.store)) == (2, 1000)


@pytest.fixture
def two_requests(tmp_path):
    """A cache over a store that answers once its gate is set, and an object of two requests."""
    made = Rig(tmp_path, StallingStore())
    made.store.fail(ObjectMissing("gone"))
    yield made, made.put("a", 9 * MIB)
    made.store.gate.set()
    made.close()


@pytest.mark.usefixtures("one_by_one")
def test_the_rest_of_an_object_that_failed_is_not_requested(two_requests):
    rig, ref = two_requests
    rig.facts.record(ref.url, rig.store.facts_of(ref.url))
    rig.store.gate.set()
    assert rig.warm(ref).counts[Status.MISSING] == 1
    assert len(rig.store.gets) == 1


def test_an_object_of_which_two_requests_fail_counts_once(two_requests):
    rig, ref = two_requests
    rig.facts.record(ref.url, rig.store.facts_of(ref.url))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(rig.warm, ref)
        wait_until(lambda: len(rig.store.gets) > 1)
        rig.store.gate.set()
        report = run.result(60)
    assert (report.counts[Status.MISSING], len(report.problems)) == (1, 1)


def test_a_run_that_is_stopped_does_not_wait_for_requests_that_hang(two_requests):
    rig, ref = two_requests
    rig.facts.record(ref.url, rig.store.facts_of(ref.url))

    def interrupt():
        if rig.store.gets:
            raise KeyboardInterrupt

    warmer = CacheWarmer(rig.session)
    assert not warmer.run(warmer.plan([listing([ref])]), interrupt)
    assert isinstance(warmer.report.stopped_by, KeyboardInterrupt)
    rig.store.fail(StoreUnavailable("ended"))
    rig.store.gate.set()
    wait_until(lambda: not [one for one in threading.enumerate() if "cache-warm" in one.name])
    assert warmer.report.problems == []  # of the end, and not of the object


# --- the command --------------------------------------------------------------------------------

FILES = {"a.bin": seeded("a", 3 * MIB + 5), "b.bin": seeded("b", 700)}


@pytest.fixture
def to_cache(prefetch):
    def run(*arguments: str, code: int = 0, **more):
        flags = ("--to", "cache", "--no-metadata", "--datasets", "annotations")
        return prefetch(*flags, *arguments, code=code, out=False, **more)

    return run


@pytest.mark.fuse
def test_a_mount_reads_pinned_objects_without_a_get(release, to_cache, cli, mount):
    release.dataset("annotations", FILES)
    chosen = ("--version", release.version, "--datasets", "annotations", "--no-metadata")
    output = to_cache("-y", "--pin").stdout
    assert "2 files to fetch, 3.0 MiB; the cache has room for " in output
    assert "2 fetched, 0 already complete" in output
    assert "until `ego4dfs cache unpin`" in output
    pins = json.loads(cli("cache", "info", "--json").stdout)["pins"]
    assert {pin["url"]: pin["blocks"] for pin in pins} == {
        release.url("annotations/a.bin"): 4,
        release.url("annotations/b.bin"): 1,
    }
    info = cli("cache", "info").stdout
    assert "2 objects" in info
    assert release.url("annotations/a.bin") in info
    root = mount(*chosen)
    for name, data in FILES.items():
        assert (root / release.version / "annotations" / name).read_bytes() == data
    assert status(root)["requests"]["get"] == 0
    only = ("--include", "b*")
    assert cli("cache", "unpin", *chosen, *only).stdout == "1 blocks may be evicted again\n"
    assert cli("cache", "unpin").stdout == "4 blocks may be evicted again\n"
    assert json.loads(cli("cache", "info", "--json").stdout)["pins"] == []


def test_filters_alone_unpin_nothing(cli, licensee):
    done = cli("cache", "unpin", "--benchmarks", "fho", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "filters need --datasets" in done.stderr


def test_a_second_run_fetches_nothing_and_says_so(release, to_cache, front):
    release.dataset("annotations", FILES)
    to_cache("-y")
    front.reset()
    output = to_cache("-y").stdout
    assert "already exist in the cache" in output
    assert [path for method, path, _ in front.log if "/objects/" in path] == []


def test_the_confirmation_can_be_refused_and_a_dry_run_fetches_nothing(release, to_cache, front):
    release.dataset("annotations", FILES)
    assert "Aborting" in to_cache(answer="n\n").stdout
    plan = json.loads(to_cache("--dry-run", "--json").stdout)
    assert plan["datasets"][0]["to_fetch"] == 2
    assert [path for method, path, _ in front.log if method == "GET" and "/objects/" in path] == []


def test_a_selection_larger_than_the_cache_is_refused_before_a_byte(release, to_cache, front):
    release.dataset("annotations", {"a.bin": bytes(60 * MIB)})
    done = to_cache("-y", "--cache-size", "64MiB", code=1)
    assert "MiB are selected" in done.stderr
    assert [path for method, path, _ in front.log if method == "GET" and "/objects/" in path] == []


def test_progress_is_lines_in_a_log_and_nothing_when_quiet(release, to_cache, front):
    release.dataset("annotations", {"large.mp4": seeded("large", 30 * MIB)})
    front.faults.piece_bytes, front.faults.bytes_per_s = 64 << 10, 0.5 * MIB
    done = to_cache("-y")
    lines = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert lines
    assert all(re.fullmatch(r"\d of 1 files, .* of 30\.0 MiB, .*/s.*", line) for line in lines)
    assert to_cache("-y", "--quiet").stdout == ""


def test_an_interrupted_run_prints_how_to_continue_and_is_resumed(release, to_cache, front, spawn):
    size = 128 * MIB
    release.dataset("annotations", {"large.mp4": seeded("large", size)})
    front.faults.piece_bytes, front.faults.bytes_per_s = 64 << 10, 1.0 * MIB
    flags = ("prefetch", "-y", "--to", "cache", "--no-metadata", "--version", release.version)
    process = spawn(
        [*EGO4DFS, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    # More than the reader has in flight: some blocks have arrived, and most are still missing.
    wait_until(lambda: front.bytes_sent > 88 * MIB)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Interrupted; downloaded data is kept." in output
    assert output.splitlines()[-1].startswith("  ego4dfs prefetch --version")
    front.reset()
    to_cache("-y")
    assert front.bytes_sent < size


def test_a_run_with_missing_objects_is_partly_done(release, to_cache):
    release.put("there", b"bytes")
    rows = [f"{name},file,{release.url(name)}" for name in ("there", "gone")]
    release.manifest("annotations", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    report = json.loads(to_cache("-y", "--json", code=ExitCode.PARTIAL).stdout)
    assert (report["done"], [p["path"] for p in report["problems"]]) == (
        1,
        [f"{release.version}/annotations/gone"],
    )
    [retry] = report["retry"]
    assert "--to cache" in retry
    assert "--include gone" in retry


def test_flags_without_a_meaning_for_the_cache_are_refused(to_cache, prefetch, tmp_path):
    assert "-o: not allowed" in to_cache("-o", str(tmp_path), code=2).stderr
    assert "--skip-s3-checks: not allowed" in to_cache("--skip-s3-checks", code=2).stderr
    assert "add --to cache" in prefetch("--pin", code=2).stderr
