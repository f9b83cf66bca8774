"""What a first read at random costs: in `ego4d://` and in a mount, whatever is cached before it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.cache.blockfile import TRAILER_BYTES
from ego4dfs.reader.window import SEQUENTIAL_AFTER
from kit.data import seeded

LARGE = seeded("first reads", 24 * BLOCK_SIZE + 99)
SAMPLE = 1000


@pytest.fixture
def fs(open_fs, release):
    release.dataset("annotations", {"large.pt": LARGE})
    return open_fs(version=release.version, datasets=["annotations"])


@pytest.fixture
def path(release) -> str:
    return f"{release.version}/annotations/large.pt"


def fetched(fs) -> int:
    """Return the bytes that were fetched, once all requests have ended."""
    session = fs.vfs.session
    fs.close()
    return session.metrics.bytes_fetched


OFFSETS = (70_000, 3 * BLOCK_SIZE + 5, 13 * BLOCK_SIZE + 700_000, 20 * BLOCK_SIZE - 1200)


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_range_of_an_unknown_object_costs_one_block(fs, path, offset):
    assert fs.cat_file(path, offset, offset + SAMPLE) == LARGE[offset : offset + SAMPLE]
    requests = fs.vfs.session.metrics.requests
    assert (requests["head"], requests["get"]) == (0, 1)
    assert fetched(fs) <= BLOCK_SIZE


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_range_of_a_known_object_costs_its_parts(fs, path, offset):
    assert fs.info(path)["size"] == len(LARGE)
    assert fs.cat_file(path, offset, offset + SAMPLE) == LARGE[offset : offset + SAMPLE]
    assert fetched(fs) <= 2 * PART_SIZE


def test_a_footer_costs_its_parts(fs, path):
    assert fs.cat_file(path, -8) == LARGE[-8:]
    assert fs.cat_file(path, -70_000, -8) == LARGE[-70_000:-8]
    assert fetched(fs) <= 2 * PART_SIZE


def test_a_range_over_two_blocks_costs_a_block_and_a_part(fs, path):
    offset = 9 * BLOCK_SIZE - SAMPLE // 2
    assert fs.cat_file(path, offset, offset + SAMPLE) == LARGE[offset : offset + SAMPLE]
    assert fetched(fs) <= BLOCK_SIZE + PART_SIZE


def test_scattered_ranges_of_an_unknown_object_cost_their_parts(fs, path):
    starts = [*OFFSETS, *(offset + SAMPLE for offset in OFFSETS)]
    found = fs.cat_ranges([path] * len(starts), starts, [start + SAMPLE for start in starts])
    assert found == [LARGE[start : start + SAMPLE] for start in starts]
    assert fetched(fs) <= BLOCK_SIZE + len(OFFSETS) * PART_SIZE


def test_a_whole_file_costs_its_bytes_once(fs, path):
    assert fs.cat_file(path) == LARGE
    assert fetched(fs) == len(LARGE)


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_file_object_that_seeks_first_costs_a_block(fs, path, offset):
    with fs.open(path) as file:
        file.seek(offset)
        assert file.read(SAMPLE) == LARGE[offset : offset + SAMPLE]
    assert fetched(fs) <= 2 * PART_SIZE + BLOCK_SIZE  # the first parts confirm the size


@pytest.mark.parametrize("cached", [(13, 14), (0, 14)])
def test_a_first_read_in_a_mount_costs_a_block(fs, path, mount, release, cached):
    """Also if the blocks before it are cached, from an earlier read of the file."""
    start, stop = (index * BLOCK_SIZE for index in cached)
    assert fs.cat_file(path, start, stop) == LARGE[start:stop]
    fs.close()
    before = cached_bytes()
    mountpoint = mount("--version", release.version, "--datasets", "annotations")
    descriptor = os.open(mountpoint / path, os.O_RDONLY)
    offset = 14 * BLOCK_SIZE + 5000
    assert os.pread(descriptor, SAMPLE, offset) == LARGE[offset : offset + SAMPLE]
    os.close(descriptor)
    mount.unmount(mountpoint)
    assert cached_bytes() - before <= 2 * PART_SIZE + BLOCK_SIZE + 4 * TRAILER_BYTES


def cached_bytes() -> int:
    blocks = Path(os.environ["EGO4DFS_CACHE_DIR"]).glob("**/blocks/**/*")
    return sum(found.stat().st_size for found in blocks if found.is_file())


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(12)
    return {name: rng.random(size // 8) for name, size in ARRAYS.items()}


ARRAYS = {"first": 6_000_000, "wanted": 1_750_000, "last": 8_000_000}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_an_archive_costs_little_more_than_its_bytes(fs, path, release, arrays, name):
    """The end of the file is read first, then the array in steps of 256 KiB.

    Beside the array there are its first and its last part, the first parts of the file, which
    confirm its size, its end, and for a long array read-ahead of half as much as was read.
    """
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    release.put("annotations/large.pt", archive.getvalue())
    with fs.open(path) as file:
        assert (np.load(file)[name] == arrays[name]).all()
    ahead = 0 if ARRAYS[name] < SEQUENTIAL_AFTER else ARRAYS[name] // 2
    assert fetched(fs) <= ARRAYS[name] + ahead + 5 * PART_SIZE


def test_an_array_file_costs_its_bytes(fs, path, release, arrays):
    single = io.BytesIO()
    np.save(single, arrays["wanted"])
    release.put("annotations/large.pt", single.getvalue())
    with fs.open(path) as file:
        assert (np.load(file) == arrays["wanted"]).all()
    assert fetched(fs) == len(single.getvalue())
