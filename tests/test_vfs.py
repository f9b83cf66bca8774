"""The VFS: the contract of the tree, and how few requests it costs."""

from __future__ import annotations

import tracemalloc

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.store import ObjectFacts
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


def test_a_listing_takes_the_memory_of_its_names_and_little_more(open_tree, release):
    """Of 100,000 files the nodes, URLs and facts of all took 50 MiB beside the names."""
    names = [f"{number:036x}.mp4" for number in range(20_000)]
    urls = {name: release.url(f"clips/{name}") for name in names}
    rows = [f"{name[:-4]},file,{url}" for name, url in urls.items()]
    release.manifest("clips", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    for number, url in enumerate(urls.values()):
        vfs.session.facts.record(url, ObjectFacts(10**6 + number, f"{number:032x}", "", 10**18))
    directory = f"{release.version}/clips"
    vfs.listdir_known(directory)
    tracemalloc.start()
    try:
        found = vfs.listdir_known(directory)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [entry.name for entry, _ in found] == ["manifest.csv", *names]
    assert found[-1][1].size == 10**6 + len(names) - 1
    assert peak < 1.2 * now
