"""Copies whose bytes do not agree with their ETags: fetched again, held, accepted or refused."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable

import pytest

from ego4dfs.copies import Record, State
from ego4dfs.copies.etag_trust import OBJECTS_AGAINST, RecordedBucketEtags
from ego4dfs.metrics import Metrics
from ego4dfs.prefetch import Report, Status
from ego4dfs.reader import Reader
from ego4dfs.store.etag import Comparison, Proof
from ego4dfs.verify import Verdict, check_journal, check_plan
from kit.copies import Bench
from kit.data import MIB

SIZES = (70, 3 * MIB)


def spoil(bench: Bench, is_spoilt: Callable[[str, int], bool]) -> None:
    """Make the store send a wrong first byte, depending on the URL and the number of requests."""
    true, attempts = bench.store.read_range, dict.fromkeys(bench.store.objects, 0)

    def read_range(url, start, stop, **expected):
        fetched = true(url, start, stop, **expected)
        if start:
            return fetched
        attempts[url] += 1
        if not is_spoilt(url, attempts[url]):
            return fetched
        return dataclasses.replace(fetched, data=memoryview(b"\0" + bytes(fetched.data)[1:]))

    bench.store.read_range = read_range


def encrypt(bench: Bench, *names: str) -> None:
    """Give some or all objects ETags that look like MD5s but are not, as with SSE-KMS."""
    true = bench.store.facts_of

    def facts(url):
        found = true(url)
        name = url.rpartition("/")[2].partition(".")[0]
        if names and name not in names:
            return found
        return dataclasses.replace(found, etag=hashlib.sha256(url.encode()).hexdigest()[:32])

    bench.store.facts_of = facts


def counted(report: Report) -> dict[Status, int]:
    return {status: count for status, count in report.counts.items() if count}


def copied(bench: Bench) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in bench.directory.glob("*.mp4")}


def verdicts(bench: Bench) -> dict[str, Verdict]:
    found = check_plan(bench.layout, bench.plan(), (), bench.journal, bench.layout.version)
    assert check_journal(bench.layout, bench.journal, ["clips"]) == (found, None)
    return {finding.path.rpartition("/")[2][0]: finding.verdict for finding in found}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.fault(
    area="disk",
    fault="a cached block that was wrong when it arrived",
    face="prefetch",
    sees="the file is fetched without the cache, and is right",
    deadline="at once",
)
def test_a_wrong_cached_block_is_removed_and_the_file_fetched_from_the_store(bench, size):
    data = os.urandom(size - 1) + b"\1"
    bench.put(a=b"\1" + data)
    url = "s3://b/a.mp4"
    spoil(bench, lambda _, count: count == 1)
    reader = Reader(bench.store, bench.cache, Metrics())
    reader.read_into(bench.store.ref(url), 0, memoryview(bytearray(size + 1)))
    reader.close()
    bench.cache.close()
    assert len(bench.cache.admin)
    assert bench.fetch().counts[Status.DONE] == 1
    assert copied(bench) == {"a": b"\1" + data}
    assert bench.store.renewed == [url]
    assert not len(bench.cache.admin)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.fault(
    area="answers",
    fault="the same wrong bytes each time, in a bucket whose ETags are MD5s",
    face="prefetch",
    sees="that file fails and is named; the others are copied",
    deadline="at once",
)
def test_the_same_wrong_bytes_twice_are_refused_if_other_objects_agree(bench, size):
    bench.put(a=b"a" * size, b=b"b" * size, c=b"c" * 10)
    spoil(bench, lambda url, _: url.endswith("a.mp4"))
    report = bench.fetch()
    assert [problem.path for problem in report.problems] == ["v9/clips/a.mp4"]
    assert "do not agree with its ETag" in report.problems[0].reason
    assert copied(bench) == {"b": b"b" * size, "c": b"c" * 10}
    assert sorted(path.name for path in bench.directory.iterdir()) == [
        *("b.mp4", "c.mp4", "manifest.ver")
    ]


def test_wrong_bytes_fetched_before_all_other_objects_are_refused(bench):
    """No object had agreed yet when they arrived: later evidence counts too."""
    bench.put(a=b"a" * 70, b=b"b" * 3 * MIB)
    spoil(bench, lambda url, _: url.endswith("a.mp4"))
    first = bench.plan()
    assert counted(bench.fetch(first)) == {Status.DONE: 1, Status.FAILED: 1}
    assert set(copied(bench)) == {"b"}


def test_a_single_object_that_disagrees_proves_nothing_and_is_not_copied(bench):
    bench.put(a=b"a" * 70)
    spoil(bench, lambda *_: True)
    report = bench.fetch()
    assert report.counts[Status.FAILED] == 1
    assert "it is unknown whether ETags of this bucket are MD5s" in report.problems[0].reason
    assert not copied(bench)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_compared_if_several_objects_disagree_and_none_agrees(bench, caplog, size):
    names = "abcdef"
    bench.put(**{name: name.encode() * size for name in names})
    encrypt(bench)
    report = bench.fetch()
    assert counted(report) == {Status.DONE: len(names)}
    assert copied(bench) == {name: name.encode() * size for name in names}
    assert "only the size of 6 files was compared" in caplog.text
    assert set(verdicts(bench).values()) == {Verdict.SIZE_ONLY}
    assert bench.plan().count(State.RIGHT) == len(names)


def test_evidence_about_a_bucket_is_kept_for_the_next_run(bench):
    bench.put(a=b"a" * 70)
    bench.fetch()
    bench.put(b=b"b" * 70)
    spoil(bench, lambda url, _: url.endswith("b.mp4"))
    assert counted(bench.fetch()) == {Status.SKIPPED: 1, Status.FAILED: 1}
    assert set(copied(bench)) == {"a"}


def test_evidence_against_a_bucket_grows_over_runs(bench):
    for name in "abc":
        bench.put(**{name: name.encode() * 70})
        encrypt(bench)
        bench.fetch()
    assert bench.fetch().counts[Status.FAILED] == 0
    assert set(copied(bench)) == set("abc")
    bench.put(d=b"d" * 70)
    encrypt(bench)
    bench.store.gets.clear()
    bench.fetch()
    assert [url for url, _, _ in bench.store.gets] == ["s3://b/d.mp4"]


def test_a_copy_accepted_by_size_is_compared_once_its_bucket_has_md5s(bench):
    bench.put(**{name: name.encode() * 70 for name in "abc"})
    encrypt(bench, *"abc")
    bench.fetch()
    bench.put(d=b"d" * 70)
    assert bench.fetch().counts[Status.DONE] == 1
    assert bench.plan().count(State.CHECK) == 3
    assert [verdict for _, verdict in sorted(verdicts(bench).items())] == [
        *[Verdict.DAMAGED] * 3,
        Verdict.RIGHT,
    ]


def test_bytes_changed_on_disk_are_no_evidence_about_a_bucket(bench):
    bench.put(**{name: name.encode() * 70 for name in "abcd"})
    bench.fetch()
    for name in "abcd":
        (bench.directory / f"{name}.mp4").write_bytes(b"x" * 70)
    assert set(verdicts(bench).values()) == {Verdict.DAMAGED}
    assert counted(bench.fetch()) == {Status.DONE: 4}


def test_a_part_size_that_another_object_proved_is_used(bench):
    evidence = RecordedBucketEtags(bench.journal, "memory")
    unknown, etag = Comparison(Proof.UNKNOWN), f"{'0' * 32}-3"
    assert evidence.proof("s3://b/y", 20 * MIB, etag, unknown) is Proof.UNKNOWN
    evidence.agreed("s3://b/x", Comparison(Proof.RIGHT, "e", 8 * MIB))
    for seen in (evidence, RecordedBucketEtags(bench.journal, "memory")):
        assert seen.proof("s3://b/y", 20 * MIB, etag, unknown) is not Proof.RIGHT
        assert seen.proof("s3://other/y", 20 * MIB, etag, unknown) is Proof.UNKNOWN


def test_a_journal_of_an_earlier_version_proves_its_buckets(bench):
    """It recorded for each copy whether its ETag had agreed, and no evidence about buckets."""
    bench.put(a=b"a")
    bench.journal.complete(
        [
            (
                "v9/clips/a.mp4",
                Record("s3://b/a.mp4", "memory", "v9", bench.store.facts_of("s3://b/a.mp4"), "md5"),
            )
        ]
    )
    evidence = RecordedBucketEtags(bench.journal, "memory")
    for number in range(OBJECTS_AGAINST):
        evidence.disagreed(f"s3://b/{number}")
    assert evidence.are_checksums("s3://b/z")
    assert not evidence.are_not_checksums("s3://b/z")
