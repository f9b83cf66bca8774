"""Comparison of cached objects with their ETags: incomplete ones, interruptions and bounds."""

from __future__ import annotations

import errno
from functools import partial
from hashlib import md5 as hashlib_md5

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE, ObjectRef, block_key
from ego4dfs.metrics import Metrics
from ego4dfs.reader import BackgroundVerifier, Reader, background_verifier, etag_verifier
from ego4dfs.reader.etag_verifier import EtagVerifier, Outcome
from kit.cache import open_cache
from kit.data import seeded
from kit.fakes import CountingStore, FlippingStore
from kit.processes import wait_until
from kit.reader import read, settle

URL = "s3://b/first"
md5 = partial(hashlib_md5, usedforsecurity=False)
DATA = seeded("verified", 3 * BLOCK_SIZE - 5)


class Place:
    """A reader over a store that may flip bits, and a verifier of its cache."""

    def __init__(self, directory) -> None:
        self.store, self.metrics = FlippingStore(), Metrics()
        self.cache = open_cache(directory)
        self.reader = Reader(self.store, self.cache, self.metrics)
        self.renewed: list[str] = []
        self.verifier = EtagVerifier(self.cache, self.metrics, self.renewed.append)

    def cached(self, url: str, data: bytes, *, flipped: bool = False) -> ObjectRef:
        ref = self.store.put(url, data)
        self.store.flipped = {url} if flipped else set()
        read(self.reader, ref, 0, len(data))
        settle(self.reader)
        return ref

    def close(self) -> None:
        self.reader.close()
        self.cache.close()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.close()


def test_an_object_is_verified_and_one_that_disagrees_is_dropped_with_all_its_parts(place):
    assert place.verifier.verify(place.cached(URL, DATA)) is Outcome.VERIFIED
    ref = place.cached("s3://b/wrong", DATA, flipped=True)
    place.reader.downloads.fetch(ref, range(PART_SIZE), PART_SIZE, 0)
    assert place.verifier.verify(ref) is Outcome.REJECTED
    assert not place.cache.has_any(ref.object_id)
    assert (place.renewed, place.verifier.drops(ref)) == (["s3://b/wrong"], 1)
    assert (place.metrics.verified, place.metrics.verify_failures) == (1, 1)
    assert "s3://b/wrong" in place.metrics.last_error


def test_a_match_in_one_bucket_proves_nothing_for_another(place):
    assert place.verifier.verify(place.cached(URL, DATA)) is Outcome.VERIFIED
    ref = place.cached("s3://other/wrong", DATA, flipped=True)
    assert place.verifier.verify(ref) is Outcome.UNPROVEN
    assert place.verifier.recheck() == []
    assert place.verifier.doubted == 1
    assert place.verifier.verify(place.cached("s3://other/right", b"right")) is Outcome.VERIFIED
    assert [one.url for one in place.verifier.recheck()] == ["s3://other/wrong"]
    assert place.verifier.recheck() == []
    assert place.verifier.doubted == 0


def test_an_object_is_rejected_if_another_agrees_while_it_is_compared(place, monkeypatch):
    """Then nobody would compare it again."""
    right = place.cached(URL, DATA)
    wrong = place.cached("s3://b/wrong", DATA, flipped=True)
    doubt = place.verifier._doubt

    def after_the_other(*compared):
        assert place.verifier.verify(right) is Outcome.VERIFIED  # as another thread
        return doubt(*compared)

    monkeypatch.setattr(place.verifier, "_doubt", after_the_other)
    assert place.verifier.verify(wrong) is Outcome.REJECTED
    assert place.verifier.doubted == 0
    assert not place.cache.has_any(wrong.object_id)


def test_objects_in_doubt_are_compared_again_once_for_each_part_size_of_their_bucket(place):
    part = 5 << 20

    def in_parts(name: str) -> ObjectRef:
        data = seeded(name, 2 * part)
        digests = [md5(data[:part]).digest(), md5(data[part:]).digest()]
        url = f"s3://b/{name}"
        place.store.objects[url] = data
        place.store.etags[url] = (data, f"{md5(b''.join(digests)).hexdigest()}-2")
        return place.cached(url, data)

    def compare_again() -> list[str]:
        return [ref.url for ref in place.verifier.recheck()]

    doubted = place.cached("s3://b/doubted", DATA, flipped=True)
    assert place.verifier.verify(doubted) is Outcome.UNPROVEN
    assert place.verifier.verify(in_parts("one")) is Outcome.VERIFIED
    assert compare_again() == ["s3://b/doubted"]
    place.store.etags["s3://b/one"] = (place.store.objects["s3://b/one"], "0" * 32 + "-2")
    unknown = place.store.ref("s3://b/one")  # its parts may have any size
    read(place.reader, unknown, 0, unknown.size)
    settle(place.reader)
    assert place.verifier.verify(unknown) is Outcome.UNPROVEN
    assert place.verifier.verify(in_parts("two")) is Outcome.VERIFIED
    assert compare_again() == []


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_object_without_one_of_its_blocks_is_incomplete(place, missing):
    ref = place.cached(URL, DATA)
    place.cache.remove([block_key(ref.object_id, missing)])
    assert place.verifier.verify(ref) is Outcome.INCOMPLETE
    read(place.reader, ref, 0, len(DATA))
    settle(place.reader)
    assert place.verifier.verify(ref) is Outcome.VERIFIED


def test_a_block_that_is_removed_during_the_comparison_makes_it_incomplete(place):
    ref = place.cached(URL, DATA)

    def pause() -> bool:
        place.cache.remove([block_key(ref.object_id, 2)])
        return True

    assert place.verifier.verify(ref, pause) is Outcome.INCOMPLETE
    assert place.metrics.verify_failures == 0
    read(place.reader, ref, 0, len(DATA))
    settle(place.reader)
    assert place.verifier.verify(ref) is Outcome.VERIFIED


def test_a_comparison_that_is_ended_drops_nothing(place):
    ref = place.cached(URL, DATA, flipped=True)
    calls: list[int] = []
    assert place.verifier.verify(ref, lambda: len(calls) == 1 or bool(calls.append(1))) is (
        Outcome.INCOMPLETE
    )
    assert place.cache.contains(block_key(ref.object_id, 0))
    assert place.verifier.doubted == 0


def test_what_is_remembered_of_objects_is_bounded_and_the_oldest_is_forgotten(place, monkeypatch):
    monkeypatch.setattr(etag_verifier, "MAX_REMEMBERED", 2)
    refs = [place.cached(f"s3://b/{n}", DATA[n:1000], flipped=True) for n in range(3)]
    assert {place.verifier.verify(ref) for ref in refs} == {Outcome.UNPROVEN}
    assert place.verifier.doubted == 2
    place.verifier.verify(place.cached(URL, DATA))
    assert place.verifier.recheck() == refs[1:]
    empty = [ObjectRef.of("memory", f"s3://b/none{n}", 10, "0" * 32) for n in range(4)]
    assert {place.verifier.verify(ref) for ref in empty} == {Outcome.INCOMPLETE}
    assert len(place.verifier._first_missing) == 2


@pytest.fixture
def waiting(place):
    """A background verifier that compares nothing: blocks may still arrive for a long time."""
    made = BackgroundVerifier(place.cache, place.metrics, quiet_s=1000)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("etag", "count"), [("0" * 32, 1), ("0" * 32 + "-1", 1), ("opaque", 0), ("0" * 32 + "-9", 0)]
)
def test_only_objects_whose_etag_can_prove_them_wait_for_a_comparison(waiting, etag, count):
    waiting.stored(ObjectRef.of("memory", URL, 10, etag))
    assert waiting.waiting == count


def test_an_object_waits_once_however_many_of_its_blocks_arrive(waiting, monkeypatch):
    monkeypatch.setattr(background_verifier, "MAX_REMEMBERED", 2)
    refs = [ObjectRef.of("memory", f"s3://b/{n}", 10, "0" * 32) for n in range(3)]
    for ref in (refs[0], refs[1], refs[0]):
        waiting.stored(ref)
    assert waiting.waiting == 2
    waiting.stored(refs[2])
    assert list(waiting._waiting) == [refs[0].object_id, refs[2].object_id]


def test_an_object_that_cannot_be_read_does_not_stop_the_comparisons(tmp_path, monkeypatch, caplog):
    store, metrics, cache = CountingStore(), Metrics(), open_cache(tmp_path)
    verifier = BackgroundVerifier(cache, metrics, quiet_s=0.0)
    reader = Reader(store, cache, metrics, verifier)
    with monkeypatch.context() as patched:
        patched.setattr(cache, "contains", failing)
        verifier.stored(store.put(URL, DATA))
        wait_until(lambda: "could not be compared" in caplog.text)
    ref = store.put("s3://b/second", b"0123456789")
    assert read(reader, ref, 0, 10) == b"0123456789"
    wait_until(lambda: metrics.verified == 1)
    reader.close()
    cache.close()


def failing(_key: str) -> bool:
    raise OSError(errno.EIO, "Input/output error")
