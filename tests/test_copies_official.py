"""Downloads of the official tool, of several datasets at once, are served from disk as they are."""

from __future__ import annotations

import os
import shutil

import pytest

from ego4dfs.copies import Journal, Layout
from ego4dfs.prefetch import COMPLETE, Planner
from kit.data import seeded
from kit.mounts import status

# b is in both: the official tool has one row for each uid, so that one of the files has none.
CLIPS = {"a.mp4": seeded("a", 300_000), "b.mp4": seeded("b", 70_000)}
VIZ = {"b.jpg": seeded("b.jpg", 40_000), "c.jpg": seeded("c.jpg", 5000)}
BOTH = {"clips": CLIPS, "viz": VIZ}


def publish(shared):
    for dataset, files in BOTH.items():
        shared.publish(dataset, files)


@pytest.mark.fuse
def test_a_mount_over_two_datasets_needs_no_server(shared, mount):
    """Without a journal or a cache, only from the files of one run of the official tool."""
    publish(shared)
    shared.official("--datasets", *BOTH)
    assert len(list(shared.out.rglob("manifest.ver"))) == 1
    shared.front.stop()
    shutil.rmtree(os.environ["EGO4DFS_CACHE_DIR"], ignore_errors=True)
    mount.adopt(shared.out)
    arguments = ("--version", shared.release.version, "--no-metadata")
    mount.again(shared.out, *arguments, "--nonempty", "--datasets", *BOTH)
    for dataset, files in BOTH.items():
        assert shared.found(dataset) == files
    counters = status(shared.out)
    assert counters["bytes_fetched"] == 0
    sizes = [len(data) for files in BOTH.values() for data in files.values()]
    assert counters["bytes_from_copies"] == sum(sizes)


def complete_for_prefetch(vfs, shared):
    """Return the paths that a prefetch would not fetch, and all paths."""
    layout = Layout(shared.out, shared.release.version)
    journal = Journal(layout.state, read_only=True)
    planner = Planner(vfs.session, layout, journal, compare_bytes=True)
    items = list(planner.plan([vfs.session.catalog.listing(name) for name in BOTH]).items)
    journal.close()
    return {item.path for item in items if item.state in COMPLETE}, {item.path for item in items}


def served_from_disk(vfs, paths):
    return {path for path in paths if vfs.open(path).copy is not None}


RUNS = {
    "in one run": [("clips", "viz")],
    "again alone": [("clips", "viz"), ("clips",)],
    "and then ours": [("clips", "viz"), ()],
}


@pytest.mark.parametrize("runs", RUNS)
def test_a_mount_serves_from_disk_exactly_what_prefetch_calls_complete(shared, open_tree, runs):
    publish(shared)
    for datasets in RUNS[runs]:
        if datasets:
            shared.official("--datasets", *datasets, "--no-metadata")
        else:
            shared.ours("-y", "--no-metadata", "--datasets", *BOTH)
    where = {"version": shared.release.version, "datasets": list(BOTH)}
    vfs = open_tree(**where, copies=str(shared.out))
    complete, paths = complete_for_prefetch(vfs, shared)
    assert complete == served_from_disk(vfs, paths) == paths

    # One is gone, one was cut, one has other bytes, which the official tool's record does not
    # show, and one was replaced in the store.
    (shared.directory("clips") / "a.mp4").unlink()
    os.truncate(shared.directory("viz") / "c.jpg", 100)
    (shared.directory("clips") / "b.mp4").write_bytes(seeded("other", 70_000))
    shared.put("b.jpg", seeded("new", 40_000))
    shutil.rmtree(os.environ["EGO4DFS_CACHE_DIR"])
    if (shared.out / ".ego4dfs").exists():
        shared.expire_checks()
    fresh = open_tree(**where, copies=str(shared.out))
    complete, paths = complete_for_prefetch(fresh, shared)
    assert served_from_disk(fresh, paths) == complete
    for dataset, files in BOTH.items():
        for name in files.keys() & {"a.mp4", "c.jpg"}:
            handle = fresh.open(f"{shared.release.version}/{dataset}/{name}")
            assert fresh.read(handle, 0, handle.size) == files[name]
