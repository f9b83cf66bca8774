"""The parts of a prefetch, tested alone: plan, journal, part files, checksums, manifest.ver."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ego4dfs.blocks import PART_SIZE
from ego4dfs.copies import Journal, Layout, State, journal_file
from ego4dfs.copies.checksum import compare_file
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.errors import CredentialsRejected, OutputError, StoreUnavailable
from ego4dfs.files import Folder
from ego4dfs.metrics import Metrics
from ego4dfs.prefetch import COMPLETE, TO_FETCH, Status
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.reader import Reader, Window
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Proof, part_sizes
from kit.data import MIB


def test_fetched_files_are_complete_in_the_next_plan_without_a_request(bench):
    bench.put(a=b"a" * 100, b=b"b" * 3 * MIB, c=b"")
    report = bench.fetch()
    assert report.counts[Status.DONE] == 3
    sent = len(bench.store.heads) + len(bench.store.gets)
    assert bench.plan().count(State.RIGHT) == 3
    assert len(bench.store.heads) + len(bench.store.gets) == sent


def test_a_small_file_costs_two_statements_and_is_never_unfinished(bench):
    bench.put(a=b"a" * 100)
    plan, statements = bench.plan(), []
    bench.journal._db.set_trace_callback(statements.append)
    bench.fetch(plan)
    bench.journal._db.set_trace_callback(None)
    written = [s for s in statements if "a.mp4" in s and not s.startswith("SELECT")]
    assert [s.split()[4] for s in written] == ["files", "checked"]
    assert not [s for s in statements if "downloads" in s]


def test_the_part_of_a_small_file_is_removed_once_another_tool_has_fetched_it(bench):
    bench.put(a=b"a" * 100)
    (bench.directory / ".ego4dfs").mkdir(parents=True)
    (bench.directory / ".ego4dfs/a.mp4.part").write_bytes(b"a" * 50)
    (bench.directory / "a.mp4").write_bytes(b"a" * 100)
    report = bench.fetch()
    assert report.counts[Status.SKIPPED] == 1
    assert not (bench.directory / ".ego4dfs").exists()


def test_a_plan_without_facts_costs_one_request_for_each_small_file(bench):
    """--skip-s3-checks: no HEAD before the GET."""
    bench.put(**{f"n{i}": b"x" * (100 + i) for i in range(50)})
    report = bench.fetch(bench.plan(skip_checks=True))
    assert report.counts[Status.DONE] == 50
    assert (len(bench.store.heads), len(bench.store.gets)) == (0, 50)


def test_a_file_that_turns_out_large_is_fetched_once(bench):
    bench.put(a=os.urandom(5 * MIB + 3))
    bench.fetch(bench.plan(skip_checks=True))
    assert (bench.directory / "a.mp4").read_bytes() == bench.store.objects["s3://b/a.mp4"]
    assert sum(min(stop, 5 * MIB + 3) - start for _, start, stop in bench.store.gets) == 5 * MIB + 3


def test_blocks_that_the_cache_holds_are_not_fetched_again(bench):
    data = os.urandom(6 * MIB + 5)
    bench.put(a=data, small=b"s" * 1000)
    reader = Reader(bench.store, bench.cache, Metrics())
    reader.read_into(bench.store.ref("s3://b/a.mp4"), MIB, memoryview(bytearray(2 * MIB)))
    reader.read_into(bench.store.ref("s3://b/small.mp4"), 0, memoryview(bytearray(1000)))
    reader.close()
    bench.cache.close()
    bench.store.gets.clear()
    report = bench.fetch()
    assert (bench.directory / "a.mp4").read_bytes() == data
    assert report.cached_bytes == 2 * MIB + 1000
    assert sum(stop - start for _, start, stop in bench.store.gets) == len(data) - 2 * MIB


def test_parts_that_the_cache_holds_are_not_fetched_again(bench):
    data, small = os.urandom(6 * MIB + 5), os.urandom(700_000)
    bench.put(a=data, small=small)
    reader = Reader(bench.store, bench.cache, Metrics())
    for name, offset in (("a", 0), ("a", 3 * MIB + 300_000), ("small", 0), ("small", 600_000)):
        ref = bench.store.ref(f"s3://b/{name}.mp4")
        reader.read_into(ref, offset, memoryview(bytearray(1000)), Window())
    reader.close()
    bench.cache.close()
    cached = sum(stop - start for _, start, stop in bench.store.gets)
    assert 4 * PART_SIZE <= cached < 2 * MIB + len(small)
    bench.store.gets.clear()
    report = bench.fetch()
    assert (bench.directory / "a.mp4").read_bytes() == data
    assert (bench.directory / "small.mp4").read_bytes() == small
    assert report.cached_bytes == cached
    assert sum(stop - start for _, start, stop in bench.store.gets) == 6 * MIB + 700_005 - cached


def test_a_rejected_key_stops_the_run(bench):
    bench.put(**{f"n{i}": b"x" * 100 for i in range(40)})
    plan = bench.plan()
    bench.store.fail(CredentialsRejected("expired"))
    report = bench.fetch(plan)
    assert isinstance(report.stopped_by, CredentialsRejected)
    assert report.finished == 0
    assert len(bench.store.gets) <= 40


def test_an_unreachable_store_stops_the_plan(bench):
    bench.put(**{f"n{i}": b"x" * 100 for i in range(40)})
    bench.store.fail(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        bench.plan()


def test_wrong_bytes_are_fetched_again_and_then_right(bench):
    bench.put(a=b"right" * 10)
    plan = bench.plan()
    true = bench.store.read_range
    lies = iter([True])

    def read_range(url, start, stop, **options):
        fetched = true(url, start, stop, **options)
        if next(lies, False):
            return dataclasses.replace(fetched, data=memoryview(b"wrong" * 10))
        return fetched

    bench.store.read_range = read_range
    assert bench.fetch(plan).counts[Status.DONE] == 1
    assert (bench.directory / "a.mp4").read_bytes() == b"right" * 10


def test_bytes_that_are_wrong_each_time_are_not_copied(bench):
    bench.put(a=b"right" * 10)
    plan = bench.plan()
    true = bench.store.read_range

    def read_range(url, start, stop, **options):
        fetched = true(url, start, stop, **options)
        return dataclasses.replace(fetched, data=memoryview(os.urandom(50)))

    bench.store.read_range = read_range
    report = bench.fetch(plan)
    assert report.counts[Status.FAILED] == 1
    assert "do not agree with its ETag" in report.problems[0].reason
    assert not (bench.directory / "a.mp4").exists()


def test_a_file_of_the_user_is_renamed_and_not_deleted(bench):
    bench.put(a=b"of the store")
    for name, text in (("a.mp4", "mine"), ("a.mp4.part", "mine too"), ("a.wav", "also")):
        (bench.directory / name).write_text(text)
    bench.fetch()
    assert (bench.directory / "a.mp4").read_bytes() == b"of the store"
    assert (bench.directory / "a.mp4.orig").read_text() == "mine"
    assert (bench.directory / "a.mp4.part").read_text() == "mine too"
    assert (bench.directory / "a.wav").read_text() == "also"


def test_a_right_file_of_any_program_is_accepted(bench):
    bench.put(a=b"content" * 1000)
    (bench.directory / "a.mp4").write_bytes(b"content" * 1000)
    report = bench.fetch()
    assert (report.counts[Status.SKIPPED], bench.store.gets) == (1, [])
    assert bench.plan().count(State.RIGHT) == 1


def test_bypass_existing_accepts_files_unless_they_are_too_short(bench):
    bench.put(a=b"aaaa", b=b"bbbb")
    bench.facts.get("s3://b/b.mp4")
    for name, text in (("a.mp4", "xxxx"), ("b.mp4", "bb")):
        (bench.directory / name).write_text(text)
    plan = bench.plan(bypass=True)
    assert (plan.count(State.RIGHT), plan.count(*TO_FETCH)) == (1, 1)
    assert bench.store.heads == ["s3://b/b.mp4"]


def test_copies_have_the_time_of_their_objects(bench):
    bench.put(a=b"a", b=b"b" * 2 * MIB)
    bench.fetch()
    for name in ("a.mp4", "b.mp4"):
        assert (bench.directory / name).stat().st_mtime == 1_600_000_000


def test_the_official_record_is_read(bench):
    bench.put(a=b"aaaa", b=b"bbbb")
    bench.store.facts_of = lambda _: ObjectFacts(4, "e" * 8 + "-9", "version1", 0)
    for name in ("a.mp4", "b.mp4"):
        (bench.directory / name).write_text("xxxx")
    text = "uid,version,filename\r\na,version1,a.mp4\r\nb,version0,b.mp4\r\n"
    (bench.directory / "manifest.ver").write_text(text, newline="")
    plan = bench.plan()
    assert [item.state for item in plan.items] == [State.ADOPT, State.FETCH]


def test_an_official_record_of_another_version_is_checked_again(bench):
    """The official tool fetched a newer version than the recorded one: it is not fetched again."""
    bench.put(a=b"aaaa")
    bench.store.facts_of = lambda _: ObjectFacts(4, "e" * 8 + "-9", "old", 0)
    bench.plan()
    bench.store.facts_of = lambda _: ObjectFacts(4, "f" * 8 + "-9", "new", 0)
    (bench.directory / "a.mp4").write_text("aaaa")
    (bench.directory / "manifest.ver").write_text("uid,version,filename\r\na,new,a.mp4\r\n")
    assert bench.plan().count(*COMPLETE) == 1


def test_records_are_written_as_the_official_tool_reads_them(tmp_path):
    from ego4d.cli.download import load_version_file

    versions = VersionFile(tmp_path)
    versions.update([("a", "version1", "a.mp4"), ("b", "", "b,c.mp4"), ("a", "other", "a~2.mp4")])
    assert versions.save()
    found = {entry.uid: entry.version for entry in load_version_file(tmp_path)}
    assert found == {"a": "version1", "b": None}  # boto returns None for an unversioned object
    assert (
        b"uid,version,filename\r\na,version1,a.mp4\r\n" in (tmp_path / "manifest.ver").read_bytes()
    )
    assert not VersionFile(tmp_path).save()


def test_rows_of_other_files_are_kept(tmp_path):
    (tmp_path / "manifest.ver").write_bytes(b"uid,version,filename\r\nz,v,z.mp4\r\n")
    versions = VersionFile(tmp_path)
    versions.put("a", "v1", "a.mp4")
    versions.save()
    with (tmp_path / "manifest.ver").open(newline="") as file:
        assert [row["uid"] for row in csv.DictReader(file)] == ["z", "a"]


FACTS = ObjectFacts(10 * MIB, "etag", "", 1_600_000_000 * 10**9)


def begun(journal: Journal, path: Path, *ranges: tuple[int, int], sync: bool) -> None:
    part = PartFile(Folder.at(path.parent), "v9/a", "s3://b/a", FACTS, journal)
    for start, stop in ranges:
        part.write(start, start, memoryview(bytes(stop - start)))
    if sync:
        part.sync()
    part.close()


@pytest.mark.parametrize("synced", [True, False])
@pytest.mark.parametrize("rebooted", [True, False])
def test_after_a_reboot_only_what_was_synced_counts(tmp_path, monkeypatch, synced, rebooted):
    layout = Layout(tmp_path, "v9")
    layout.prepare(())
    journal = Journal(layout.state)
    begun(journal, tmp_path / "a", (0, MIB), (4 * MIB, 5 * MIB), sync=synced)
    journal.close()
    if rebooted:
        monkeypatch.setattr(journal_file, "boot_id", lambda: "another")
    journal = Journal(layout.state)
    part = PartFile(Folder.at(tmp_path), "v9/a", "s3://b/a", FACTS, journal)
    kept = [(MIB, 4 * MIB), (5 * MIB, 10 * MIB)]
    assert part.missing == (kept if synced or not rebooted else [(0, 10 * MIB)])
    part.close()
    journal.close()


@pytest.mark.parametrize("change", [{"etag": "other"}, {"size": 9 * MIB}])
def test_bytes_of_another_version_are_not_resumed(tmp_path, change):
    layout = Layout(tmp_path, "v9")
    layout.prepare(())
    journal = Journal(layout.state)
    begun(journal, tmp_path / "a", (0, MIB), sync=True)
    facts = dataclasses.replace(FACTS, **change)
    part = PartFile(Folder.at(tmp_path), "v9/a", "s3://b/a", facts, journal)
    assert part.missing == [(0, facts.size)]
    part.close()
    journal.close()


def test_bytes_of_another_version_are_forgotten_when_a_small_file_overwrites_them(tmp_path):
    layout = Layout(tmp_path, "v9")
    layout.prepare(())
    journal = Journal(layout.state)
    begun(journal, tmp_path / "a", (0, MIB), sync=True)
    facts = ObjectFacts(70, "other", "", 0)
    part = PartFile(Folder.at(tmp_path), "v9/a", "s3://b/a", facts, journal, is_filled=True)
    part.fill(memoryview(b"x" * 70))
    part.close()
    assert journal.partial_download("v9/a") is None
    assert journal.partial_bytes() == {}
    part = PartFile(Folder.at(tmp_path), "v9/a", "s3://b/a", FACTS, journal)
    assert part.missing == [(0, 10 * MIB)]
    part.close()
    journal.close()


def test_a_part_file_that_is_shorter_than_recorded_is_not_used(tmp_path):
    layout = Layout(tmp_path, "v9")
    layout.prepare(())
    journal = Journal(layout.state)
    begun(journal, tmp_path / "a", (0, MIB), (4 * MIB, 5 * MIB), sync=True)
    os.truncate(tmp_path / ".ego4dfs/a.part", 2 * MIB)
    part = PartFile(Folder.at(tmp_path), "v9/a", "s3://b/a", FACTS, journal)
    assert part.missing == [(MIB, 10 * MIB)]
    part.close()
    journal.close()


def test_only_one_prefetch_at_a_time_uses_a_directory(bench):
    with pytest.raises(OutputError, match="another prefetch"):
        Journal(bench.layout.state)
    Journal(bench.layout.state, read_only=True).close()


md5 = functools.partial(hashlib.md5, usedforsecurity=False)


def multipart(data: bytes, part: int) -> str:
    digests = [md5(data[i : i + part]).digest() for i in range(0, len(data), part)]
    return f"{md5(b''.join(digests)).hexdigest()}-{len(digests)}"


@pytest.mark.parametrize("part", [5 * MIB, 8 * MIB, 16 * MIB])
def test_multipart_etags_are_matched_by_their_part_size(tmp_path, part):
    data = os.urandom(17 * MIB + 11)
    (tmp_path / "a").write_bytes(data)
    etag = multipart(data, part)
    assert compare_file(tmp_path / "a", len(data), etag).proof is Proof.RIGHT
    (tmp_path / "a").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert compare_file(tmp_path / "a", len(data), etag).proof is not Proof.RIGHT


@pytest.mark.parametrize("data", [b"", b"abc", bytes(MIB), bytes(3 * MIB + 1)])
def test_a_plain_md5_is_recognised(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert compare_file(tmp_path / "a", len(data), md5(data).hexdigest()).proof is Proof.RIGHT
    assert compare_file(tmp_path / "a", len(data), "0" * 32).proof is Proof.WRONG


def test_an_etag_of_unknown_form_proves_nothing():
    assert part_sizes(100, "12-34-56") == part_sizes(100, "") == []
    assert part_sizes(7 * MIB, "0" * 32 + "-3") == []


PLAN_100_000 = """
import os, sys, time
from pathlib import Path
from kit.copies import Bench
from kit.fakes import CountingStore
from ego4dfs.copies import Record, State
from ego4dfs.prefetch import Planner
from ego4dfs.store import ObjectFacts
root, count = Path(sys.argv[1]), int(sys.argv[2])
class Weightless(CountingStore):
    def head(self, url):
        return ObjectFacts(1000, "e" * 32, "v" * 32, MTIME_NS)
from kit.fakes import MTIME_NS
bench = Bench(root, Weightless())
names = [f"{i:08x}-0000-0000-0000-000000000000.pt" for i in range(count)]
planner = Planner(bench.session, bench.layout, bench.journal)
if len(sys.argv) > 3:
    began = time.process_time()
    assert planner.plan([bench.listing(names)]).count(State.RIGHT) == count
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of whoever forked us
    print(time.process_time() - began, status.partition("VmHWM:")[2].split()[0], flush=True)
    os._exit(0)
plan = planner.plan([bench.listing(names)])
assert plan.count(State.FETCH) == count
facts = ObjectFacts(1000, "e" * 32, "v" * 32, MTIME_NS)
bench.journal.complete((i.path, Record(i.url, "memory", "v9", facts, "md5")) for i in plan.items)
for item in plan.items:
    path = bench.directory / item.name
    with path.open("wb") as file:
        file.truncate(1000)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_plan_of_100_000_files_fits_in_memory_and_is_linear(tmp_path):
    """Ten times as many files take about ten times as long, and less than 300 MiB."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    found = {}
    for count in (10_000, 100_000):
        command = [sys.executable, "-c", PLAN_100_000, str(tmp_path / str(count)), str(count)]
        (tmp_path / str(count)).mkdir()
        subprocess.run(command, env=env, check=True)
        command.append("again")
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[count] = [float(word) for word in done.stdout.split()]
    print(found)
    assert found[100_000][1] < 300 * 1024
    assert found[100_000][0] < 25 * found[10_000][0]
