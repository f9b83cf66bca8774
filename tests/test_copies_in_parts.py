"""Copies of multipart uploads: one that agrees with its ETag is evidence about the others."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from hashlib import new

import pytest

from ego4dfs.copies import Journal, State
from ego4dfs.copies.etag_trust import RecordedBucketEtags
from ego4dfs.copies.serving import Copies
from ego4dfs.prefetch import Planner
from ego4dfs.store.etag import Comparison, Proof
from ego4dfs.verify import Verdict, check_plan
from kit.data import MIB, seeded

PART = 5 * MIB
SIZE = 21 * MIB  # in five parts: no other part size of whole MiB results in five
NAMES = ("a", "b")
IN_PARTS = Comparison(Proof.RIGHT, "", PART)

md5 = partial(new, "md5", usedforsecurity=False)


def etag_in_parts(data: bytes) -> str:
    parts = [data[start : start + PART] for start in range(0, len(data), PART)]
    digests = b"".join(md5(part).digest() for part in parts)
    return f"{md5(digests).hexdigest()}-{len(parts)}"


@pytest.fixture
def content(bench):
    """Objects of two multipart uploads, and copies that no record describes."""
    data = {name: seeded(name, SIZE) for name in NAMES}
    bench.put(**data)
    etags = {f"s3://b/{name}.mp4": etag_in_parts(one) for name, one in data.items()}
    true = bench.store.facts_of
    bench.store.facts_of = lambda url: dataclasses.replace(true(url), etag=etags[url])
    for name, one in data.items():
        write(bench, name, one)
    return data


def write(bench, name, data):
    """Write a copy with the time of its object, as from a backup."""
    path = bench.directory / f"{name}.mp4"
    path.write_bytes(data)
    mtime_ns = bench.store.facts_of(f"s3://b/{name}.mp4").mtime_ns
    os.utime(path, ns=(mtime_ns, mtime_ns))


def spoil(bench, name):
    write(bench, name, b"\0" + (bench.directory / f"{name}.mp4").read_bytes()[1:])


def on_disk(bench):
    return {name: (bench.directory / f"{name}.mp4").read_bytes() for name in NAMES}


@pytest.mark.parametrize("wrong", NAMES)
def test_verify_finds_the_damaged_one_beside_one_that_agrees(bench, content, wrong):
    spoil(bench, wrong)
    found = check_plan(bench.layout, bench.plan(), (), bench.journal, bench.layout.version)
    verdicts = {finding.path[-5]: finding.verdict for finding in found}
    assert verdicts == {**dict.fromkeys(NAMES, Verdict.RIGHT), wrong: Verdict.DAMAGED}


def test_without_one_that_agrees_only_sizes_are_compared(bench, content):
    for name in NAMES:
        spoil(bench, name)
    found = check_plan(bench.layout, bench.plan(), (), bench.journal, bench.layout.version)
    assert {finding.verdict for finding in found} == {Verdict.SIZE_ONLY}


@pytest.mark.parametrize("wrong", NAMES)
def test_prefetch_fetches_the_damaged_one_beside_one_that_agrees(bench, content, wrong):
    spoil(bench, wrong)
    plan = bench.plan(compare_bytes=True)
    assert [item.name[0] for item in plan.items if item.state is State.FETCH] == [wrong]
    bench.fetch(plan)
    assert on_disk(bench) == content


def test_a_dry_run_plans_the_same(bench, content):
    spoil(bench, "a")
    journal = Journal(bench.layout.state, read_only=True)
    planner = Planner(bench.session, bench.layout, journal, compare_bytes=True)
    plan = planner.plan([bench.listing([f"{name}.mp4" for name in NAMES])])
    journal.close()
    assert [item.name[0] for item in plan.items if item.state is State.FETCH] == ["a"]


def test_files_that_are_compared_during_the_run_are_evidence_too(bench, content):
    """One that was accepted by its size before is read again in the next run."""
    spoil(bench, "b")
    plan = bench.plan()
    assert {item.state for item in plan.items} == {State.CHECK}
    bench.fetch(plan)
    assert ("b", "parts", str(PART)) in bench.journal.evidence("")
    bench.fetch(bench.plan(compare_bytes=True))
    assert on_disk(bench) == content


def test_a_copy_accepted_by_its_size_is_read_again_once_its_part_size_is_known(bench, content):
    for name in NAMES:
        spoil(bench, name)
    bench.fetch(bench.plan(compare_bytes=True))
    assert {item.state for item in bench.plan().items} == {State.RIGHT}
    write(bench, "a", content["a"])
    RecordedBucketEtags(bench.journal, "memory").agreed("s3://b/c", IN_PARTS)
    assert {item.state for item in bench.plan().items} == {State.CHECK}
    bench.fetch(bench.plan(compare_bytes=True))
    assert on_disk(bench) == content
    assert {item.state for item in bench.plan().items} == {State.RIGHT}


def test_what_a_plan_compared_is_known_to_later_runs(bench, content):
    bench.fetch(bench.plan(compare_bytes=True))
    assert ("b", "parts", str(PART)) in bench.journal.evidence("")


def test_a_mount_does_not_use_the_damaged_one(bench, content):
    spoil(bench, "b")
    for name in NAMES:
        path = bench.directory / f"{name}.mp4"
        later_ns = path.stat().st_mtime_ns + 3600 * 10**9
        os.utime(path, ns=(later_ns, later_ns))  # otherwise their times would do
    record = bench.directory / "manifest.ver"
    record.write_bytes(b"uid,version,filename\r\na\r\nb\r\n")
    os.utime(record, ns=(later_ns, later_ns))
    copies = Copies(bench.layout.root, "memory", lambda _text: None)
    found = {}
    for name in NAMES:
        url = f"s3://b/{name}.mp4"
        found[name] = copies.find_valid(f"v9/clips/{name}.mp4", url, bench.store.facts_of(url))
    copies.close()
    assert (found["a"] is None, found["b"] is None) == (False, True)
