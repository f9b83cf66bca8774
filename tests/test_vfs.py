"""The VFS: the contract of the tree, and how few requests it costs."""

from __future__ import annotations

import tracemalloc

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.testing import DATASETS, TreeContract, VFSFace
from kit.contract import Published
from kit.data import seeded


@pytest.fixture
def face(open_tree, contract_release: Published) -> VFSFace:
    return VFSFace(
        open_tree(
            version=contract_release.version,
            datasets=DATASETS,
            endpoint_url=contract_release.endpoint_url,
        )
    )


class TestVFS(TreeContract):
    pass


def test_a_read_copies_its_bytes_once_at_most(open_tree, release):
    """For workers that read whole clips each copy in memory takes time."""
    data = seeded("copies", 20 * BLOCK_SIZE)
    release.dataset("clips", {"large.mp4": data})
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    handle = vfs.open(f"{release.version}/clips/large.mp4")
    assert vfs.read(handle, 0, len(data)) == data
    tracemalloc.start()
    try:
        again = vfs.read(handle, 0, len(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert again == data
    assert peak < 2.5 * len(data)
