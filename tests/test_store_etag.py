"""ETags as checksums: which part sizes fit, what is proved, and in which buckets they are MD5s."""

import hashlib
import random
from collections.abc import Iterator

import pytest

from ego4dfs.store.etag import Comparison, EtagEvidence, Proof, compare, only_part_size, part_sizes

MIB = 1 << 20
DATA = random.Random(8).randbytes(20 * MIB + 5)


def md5_of(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def multipart(data: bytes, part: int) -> str:
    digests = [md5_of(data[i : i + part]) for i in range(0, len(data), part)]
    return f"{md5_of(b''.join(digests)).hex()}-{len(digests)}"


def chunked(data: bytes, size: int = 3 * MIB - 1):
    """Chunks that agree with no part."""
    return lambda: (memoryview(data)[i : i + size] for i in range(0, len(data), size))


def test_bytes_agree_with_the_md5_or_the_md5_of_parts():
    md5 = md5_of(DATA).hex()
    assert compare(chunked(DATA), len(DATA), md5) == Comparison(Proof.RIGHT, md5)
    for part in (5 * MIB, 8 * MIB, 16 * MIB):
        etag = multipart(DATA, part)
        assert compare(chunked(DATA), len(DATA), etag) == Comparison(Proof.RIGHT, etag, part)


@pytest.mark.parametrize("chunk", [1000, MIB - 1, MIB, 5 * MIB, 16 * MIB])
@pytest.mark.parametrize("size", [1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB])
def test_parts_are_cut_where_the_upload_cut_them_whatever_the_chunks(size, chunk):
    data = DATA[:size]
    etag = multipart(data, 5 * MIB)
    found = compare(chunked(data, chunk), size, etag)
    assert (found.proof, found.found) == (Proof.RIGHT, etag)


@pytest.mark.parametrize(
    ("size", "etag", "sizes"),
    [
        (0, "0" * 32, [1]),
        (1, "0" * 32, [1]),
        (7 * MIB, "0" * 32, [7 * MIB]),
        (7 * MIB, "0" * 31, []),
        (7 * MIB, "0" * 33, []),
        (7 * MIB, "A" * 32, []),
        (7 * MIB, "0" * 32 + "-0", []),
        (7 * MIB, "0" * 32 + "-", []),
        (0, "0" * 32 + "-1", []),
        (200 * MIB, "0" * 32 + "-1", [200 * MIB]),
        (8 * MIB, "0" * 32 + "-1", [8 * MIB]),
        (10 * MIB, "0" * 32 + "-2", [8 * MIB, 5 * MIB]),
        (10 * MIB + 1, "0" * 32 + "-2", [8 * MIB, 10 * MIB]),
        (10 * MIB + 1, "0" * 32 + "-3", [5 * MIB]),
        (50_000 * MIB, "0" * 32 + "-10000", [5 * MIB]),
        (50_000 * MIB, "0" * 32 + "-100000", []),
    ],
)
def test_the_part_sizes_that_an_etag_may_have_are_those_of_its_number_of_parts(size, etag, sizes):
    assert part_sizes(size, etag) == sizes


@pytest.mark.parametrize("size", [1, 8 * MIB, 20 * MIB])
def test_an_upload_in_one_part_is_read_once_and_shows_no_part_size(size):
    """Any larger part size results in the same ETag."""
    data, reads = DATA[:size], []

    def read() -> Iterator[memoryview]:
        reads.append(size)
        return chunked(data)()

    etag = multipart(data, size)
    assert compare(read, size, etag) == Comparison(Proof.RIGHT, etag, 0)
    assert compare(read, size, "0" * 32 + "-1") == Comparison(Proof.UNKNOWN)
    assert len(reads) == 2


def test_an_empty_object_agrees_with_the_md5_of_nothing():
    md5 = md5_of(b"").hex()
    assert compare(chunked(b""), 0, md5) == Comparison(Proof.RIGHT, md5)


def test_one_changed_byte_is_wrong_with_a_plain_md5_and_unknown_with_parts():
    flipped = bytes([DATA[0] ^ 1]) + DATA[1:]
    md5 = md5_of(DATA).hex()
    found = md5_of(flipped).hex()
    assert compare(chunked(flipped), len(DATA), md5) == Comparison(Proof.WRONG, found)
    etag = multipart(DATA, 8 * MIB)
    assert compare(chunked(flipped), len(DATA), etag) == Comparison(Proof.UNKNOWN)


def test_a_part_size_is_certain_only_where_one_whole_number_of_mib_fits():
    assert only_part_size(800 * MIB, "0" * 32 + "-100") == 8 * MIB
    assert only_part_size(800 * MIB - 1, "0" * 32 + "-100") == 8 * MIB
    assert only_part_size(20 * MIB, "0" * 32 + "-3") == 0  # 7, 8 or 9 MiB
    assert only_part_size(20 * MIB, "0" * 32 + "-1") == 0
    assert only_part_size(20 * MIB, "0" * 32) == 0
    assert part_sizes(20 * MIB, "0" * 32 + "-3") == [8 * MIB]


def test_one_object_that_agrees_proves_the_etags_of_its_bucket_only():
    evidence = EtagEvidence()
    assert not evidence.is_digest("bucket")
    evidence.matched("bucket")
    assert evidence.is_digest("bucket")
    assert not evidence.is_digest("another")


def test_a_part_size_is_known_of_the_bucket_where_it_was_seen():
    evidence = EtagEvidence()
    evidence.matched("bucket", 8 * MIB)
    assert evidence.is_part_size("bucket", 8 * MIB)
    assert not evidence.is_part_size("bucket", 5 * MIB)
    assert not evidence.is_part_size("other", 8 * MIB)
    assert evidence.is_digest("bucket")
