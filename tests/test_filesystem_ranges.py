"""`cat_ranges` with many ranges: nothing is fetched twice, and each has its bytes or its error."""

from __future__ import annotations

import errno
import random

import numpy as np
import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.reader import Reader
from ego4dfs.vfs import VFS
from kit.data import seeded

LARGE = seeded("ranges", 8 * BLOCK_SIZE + 99)
OTHER = seeded("other ranges", len(LARGE))
FILES = {"large.pt": LARGE, "small.json": b"0123456789", "empty.json": b""}


@pytest.fixture
def fs(open_fs, release):
    release.dataset("annotations", FILES)
    return open_fs(version=release.version, datasets=["annotations"])


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


def counts(fs) -> tuple[int, int, int]:
    """Return how many HEADs and GETs were sent, and the bytes that came."""
    metrics = fs.vfs.session.metrics
    fs.close()
    return metrics.requests["head"], metrics.requests["get"], metrics.bytes_fetched


def test_thousands_of_ranges_fetch_a_file_once_in_few_requests(fs, top):
    rng = random.Random(3)
    starts = [rng.randrange(len(LARGE)) for _ in range(3000)]
    ends = [start + rng.choice([0, 1, 1000, 70_000]) for start in starts]
    found = fs.cat_ranges([f"ego4d://{top}/large.pt"] * len(starts), starts, ends)
    assert found == [LARGE[start:end] for start, end in zip(starts, ends, strict=True)]
    heads, gets, fetched = counts(fs)
    assert (heads, fetched) == (0, len(LARGE))
    assert gets <= 6


def test_ranges_in_neighbouring_parts_share_a_request(fs, top):
    """Parts with others between them are fetched alone."""
    starts = [*range(2 * BLOCK_SIZE, 4 * BLOCK_SIZE, PART_SIZE), 6 * BLOCK_SIZE]
    fs.info(f"{top}/large.pt")
    found = fs.cat_ranges([f"{top}/large.pt"] * len(starts), starts, [s + 10 for s in starts])
    assert found == [LARGE[start : start + 10] for start in starts]
    assert counts(fs) == (1, 2, 2 * BLOCK_SIZE + PART_SIZE)


def test_what_is_requested_ahead_of_the_ranges_being_read_is_bounded(fs, top, monkeypatch):
    asked = []
    original = Reader.request_parts

    def request_parts(self, ref, ranges, *more):
        ranges = list(ranges)
        asked.append(sum(map(len, ranges)))
        return original(self, ref, ranges, *more)

    monkeypatch.setattr("ego4dfs.vfs.ranges._BATCH_BYTES", BLOCK_SIZE)
    monkeypatch.setattr(Reader, "request_parts", request_parts)
    starts = [*range(0, 4 * BLOCK_SIZE, 100_000), 5 * BLOCK_SIZE]
    ends = [*(start + 100_000 for start in starts[:-1]), 8 * BLOCK_SIZE]  # the last one is long
    found = fs.cat_ranges([f"{top}/large.pt"] * len(starts), starts, ends)
    assert found == [LARGE[start:end] for start, end in zip(starts, ends, strict=True)]
    assert max(asked) <= BLOCK_SIZE + 2 * PART_SIZE
    assert len(asked) >= 5
    assert counts(fs)[2] <= 8 * BLOCK_SIZE


def test_positions_are_those_of_slices(fs, top):
    spans = [(None, None), (3, None), (None, 4), (-3, None), (-5, -2), (7, 3), (np.int64(2), 10**9)]
    paths = [f"{top}/small.json"] * len(spans)
    found = fs.cat_ranges(paths, *zip(*spans, strict=True))
    assert found == [b"0123456789"[start:end] for start, end in spans]
    assert fs.cat_ranges(paths[:2], 1, None) == [b"123456789"] * 2
    assert fs.cat_ranges([f"{top}/empty.json"], [0], [5]) == [b""]
    assert fs.cat_ranges([], [], []) == []
    with pytest.raises(ValueError, match="same length"):
        fs.cat_ranges(paths, [0], [1])


def test_each_range_has_its_own_error(fs, top, monkeypatch):
    original = VFS.read

    def read(self, handle, offset, size):
        if handle.path.endswith("large.pt") and offset >= BLOCK_SIZE:
            raise MemoryError
        return original(self, handle, offset, size)

    monkeypatch.setattr(VFS, "read", read)
    paths = [f"{top}/{name}" for name in ("large.pt", "nothing", "large.pt", "small.json")]
    first, missing, broken, last = fs.cat_ranges(
        [*paths[:3], f"{top}/small.json"], [5, 0, 2 * BLOCK_SIZE, 0], [9, 1, None, 3]
    )
    assert (first, last) == (LARGE[5:9], b"012")
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == f"{top}/nothing"
    assert isinstance(broken, MemoryError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")


@pytest.mark.parametrize("times", [1, 2])
def test_all_ranges_of_a_file_are_of_one_version(fs, top, release, monkeypatch, times):
    """If the object is replaced while they are read, all are read again, once."""
    assert fs.cat_file(f"{top}/large.pt", 0, 5) == LARGE[:5]
    versions = iter([OTHER, LARGE][:times])
    original = VFS.open

    def open_and_replace(self, path, **options):
        handle = original(self, path, **options)
        data = next(versions, None)
        if data is not None:
            release.put("annotations/large.pt", data)
        return handle

    monkeypatch.setattr(VFS, "open", open_and_replace)
    starts = [0, 4 * BLOCK_SIZE]
    first, second = fs.cat_ranges([f"{top}/large.pt"] * 2, starts, [5, 4 * BLOCK_SIZE + 5])
    if times == 1:
        assert (first, second) == (OTHER[:5], OTHER[4 * BLOCK_SIZE :][:5])
    else:
        assert second.errno == errno.ESTALE
