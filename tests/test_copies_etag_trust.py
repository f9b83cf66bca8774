"""Evidence about the ETags of buckets: what proves them to be checksums, and what disproves it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from ego4dfs.copies import Journal
from ego4dfs.copies.etag_trust import OBJECTS_AGAINST, RecordedBucketEtags
from ego4dfs.store.etag import Comparison, Proof

ETAG, PARTS = "e" * 32, "e" * 32 + "-10"
WRONG = Comparison(Proof.WRONG, "f" * 32)
RIGHT = Comparison(Proof.RIGHT, ETAG)
IN_PARTS = Comparison(Proof.RIGHT, PARTS, 8 << 20)
UNKNOWN = Comparison(Proof.UNKNOWN)
MIB = 1 << 20


@pytest.fixture
def journal(tmp_path: Path):
    with closing(Journal(tmp_path)) as opened:
        yield opened


def test_several_objects_that_disagree_disprove_a_bucket_for_later_runs(journal):
    etags = RecordedBucketEtags(journal, "s")
    for number in range(OBJECTS_AGAINST):
        assert not etags.are_not_checksums("s3://b/x")
        for _ in range(3):  # one object counts once
            etags.disagreed(f"s3://b/{number}")
    assert etags.are_not_checksums("s3://b/x")
    assert not etags.are_not_checksums("s3://c/x")
    assert etags.proof("s3://b/x", 5, ETAG, WRONG) is Proof.WRONG  # in the run that finds it
    later = RecordedBucketEtags(journal, "s")
    assert later.are_not_checksums("s3://b/x")
    assert later.proof("s3://b/x", 5, ETAG, WRONG) is Proof.UNKNOWN
    assert later.proof("s3://c/x", 5, ETAG, WRONG) is Proof.WRONG
    assert not RecordedBucketEtags(journal, "another").are_not_checksums("s3://b/x")


def test_one_object_that_agrees_proves_a_bucket_whatever_disagreed(journal):
    etags = RecordedBucketEtags(journal, "s")
    for number in range(OBJECTS_AGAINST):
        etags.disagreed(f"s3://b/{number}")
    etags.agreed("s3://b/y", RIGHT)
    for known in (etags, RecordedBucketEtags(journal, "s")):
        assert known.are_checksums("s3://b/x")
        assert not known.are_not_checksums("s3://b/x")
        assert known.proof("s3://b/x", 5, ETAG, WRONG) is Proof.WRONG
        known.disagreed("s3://b/z")
        assert not known.are_not_checksums("s3://b/x")


def test_a_known_part_size_makes_another_object_in_parts_wrong(journal):
    etags = RecordedBucketEtags(journal, "s")
    assert etags.proof("s3://b/x", 80 * MIB, PARTS, UNKNOWN) is Proof.UNKNOWN
    etags.agreed("s3://b/y", IN_PARTS)
    for known in (etags, RecordedBucketEtags(journal, "s")):
        assert known.proof("s3://b/x", 80 * MIB, PARTS, UNKNOWN) is Proof.WRONG
        assert known.proof("s3://b/x", 10 * MIB, PARTS, UNKNOWN) is Proof.UNKNOWN
        assert known.proof("s3://c/x", 80 * MIB, PARTS, UNKNOWN) is Proof.UNKNOWN
        assert known.proof("s3://b/x", 5, ETAG, UNKNOWN) is Proof.UNKNOWN
