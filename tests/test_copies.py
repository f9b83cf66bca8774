"""A mount serves prefetched copies without the store, and never a wrong copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ego4dfs.errors import ConfigError
from kit.data import MIB, seeded
from kit.mounts import status
from kit.processes import wait_until

FILES = {"a.bin": seeded("a", 3 * MIB + 5), "b.bin": seeded("b", 700), "empty.bin": b""}
DAY_NS = 86_400 * 10**9


@pytest.fixture
def prefetched(release, licensee, cli, tmp_path):
    """A release, and a directory with a prefetch of all of it."""
    release.dataset("annotations", FILES)
    release.metadata(b'{"videos": []}')
    directory = tmp_path / "copies"
    arguments = ("--version", release.version, "--datasets", "annotations")
    cli("prefetch", "-o", str(directory), "-y", *arguments)
    return directory, arguments


def forget_everything(licensee):
    """Empty the cache, so that only the copies and the store remain."""
    for path in Path(licensee["EGO4DFS_CACHE_DIR"]).rglob("*.sqlite*"):
        path.unlink()


def read_all(root, version):
    return {name: (root / version / "annotations" / name).read_bytes() for name in FILES}


@pytest.mark.fuse
def test_copies_are_served_without_a_request_for_objects(prefetched, release, licensee, mount):
    directory, arguments = prefetched
    forget_everything(licensee)
    root = mount(*arguments, "--copies", str(directory))
    assert read_all(root, release.version) == FILES
    assert (root / "ego4d.json").read_bytes() == b'{"videos": []}'
    counters = status(root)
    assert counters["requests"]["get"] == 0
    assert counters["requests"]["head"] <= 1  # of ego4d.json: whether the store answers
    assert counters["bytes_from_copies"] == sum(map(len, FILES.values())) + 14
    assert (counters["bytes_fetched"], counters["errors"]) == (0, 0)


@pytest.mark.fuse
def test_a_mount_over_a_prefetched_directory_serves_what_it_covers(
    prefetched, release, licensee, cli, libfuse
):
    directory, arguments = prefetched
    os.unlink(directory / release.version / "annotations" / "b.bin")
    forget_everything(licensee)
    cli("mount", str(directory), "--nonempty", "--libfuse", libfuse, *arguments)
    try:
        assert read_all(directory, release.version) == FILES
        counters = status(directory)
        assert counters["bytes_from_copies"] == len(FILES["a.bin"])
        assert counters["bytes_fetched"] == len(FILES["b.bin"])
    finally:
        cli("unmount", str(directory))
    assert (directory / ".ego4dfs").is_dir()


def opened(open_tree, release, directory):
    vfs = open_tree(version=release.version, datasets=["annotations"], copies=str(directory))

    def read(name):
        handle = vfs.open(f"{release.version}/annotations/{name}")
        return vfs.read(handle, 0, handle.size)

    return vfs, read


def test_no_object_with_a_copy_is_requested_or_fetched_ahead(release, open_tree, cli, tmp_path):
    """Only six of forty files have no copy; they are opened in order, next to the others."""
    files = {f"{number:02}.pt": seeded(str(number), 1000) for number in range(40)}
    release.dataset("annotations", files)
    directory = tmp_path / "copies"
    arguments = ("--version", release.version, "--datasets", "annotations", "--no-metadata")
    cli("prefetch", "-o", str(directory), "-y", *arguments)
    lacking = list(files)[:6]
    for name in lacking:
        (directory / release.version / "annotations" / name).unlink()
    vfs, read = opened(open_tree, release, directory)
    assert [read(name) for name in lacking] == [files[name] for name in lacking]
    wait_until(lambda: vfs.session.reader.downloads.speculative == 0)
    assert vfs.session.metrics.bytes_fetched == 6 * 1000
    assert vfs.session.metrics.requests["head"] <= 1


def spoil_size(path, release):
    del release
    path.write_bytes(b"short")


def spoil_bytes(path, release):
    """Change it as an editor does: other bytes, another time."""
    del release
    path.write_bytes(b"x" * path.stat().st_size)


def replace_object(path, release):
    release.put(f"annotations/{path.name}", seeded("new", path.stat().st_size))


@pytest.mark.parametrize("spoil", [spoil_size, spoil_bytes])
def test_a_copy_that_disagrees_is_ignored_and_reported_once(
    prefetched, release, open_tree, caplog, spoil
):
    directory, _ = prefetched
    spoil(directory / release.version / "annotations" / "a.bin", release)
    vfs, read = opened(open_tree, release, directory)
    assert read("a.bin") == read("a.bin") == FILES["a.bin"]
    assert vfs.session.metrics.bytes_from_copies == 0
    assert vfs.session.metrics.bytes_fetched == len(FILES["a.bin"])
    warnings = [r.getMessage() for r in caplog.records if "it is not used" in r.getMessage()]
    assert len(warnings) == 1
    assert "a.bin" in warnings[0]


def test_a_copy_of_another_version_is_not_used(prefetched, release, licensee, open_tree):
    """The index has a newer version than the copy."""
    directory, _ = prefetched
    forget_everything(licensee)
    new = seeded("new", len(FILES["a.bin"]))
    release.put("annotations/a.bin", new)
    plain = open_tree(version=release.version, datasets=["annotations"])
    plain.stat(f"{release.version}/annotations/a.bin")
    vfs, read = opened(open_tree, release, directory)
    assert read("a.bin") == new
    assert vfs.session.metrics.bytes_from_copies == 0


def test_reads_use_the_store_after_an_open_copy_changed(prefetched, release, open_tree):
    directory, _ = prefetched
    path = directory / release.version / "annotations" / "a.bin"
    vfs, _ = opened(open_tree, release, directory)
    handle = vfs.open(f"{release.version}/annotations/a.bin")
    assert vfs.read(handle, 0, 10) == FILES["a.bin"][:10]
    path.write_bytes(b"y" * path.stat().st_size)
    assert vfs.read(handle, 10, handle.size) == FILES["a.bin"][10:]
    assert vfs.session.metrics.bytes_from_copies == 10


def test_a_link_is_not_followed(prefetched, release, open_tree, tmp_path):
    """It could lead into the mount that covers the directory."""
    directory, _ = prefetched
    path = directory / release.version / "annotations" / "a.bin"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    vfs, read = opened(open_tree, release, directory)
    assert read("a.bin") == FILES["a.bin"]
    assert vfs.session.metrics.bytes_from_copies == 0


def test_a_copy_with_the_time_of_its_object_needs_no_journal(prefetched, release, open_tree):
    directory, _ = prefetched
    for path in (directory / ".ego4dfs").iterdir():
        path.unlink()
    vfs, read = opened(open_tree, release, directory)
    assert read("a.bin") == FILES["a.bin"]
    assert vfs.session.metrics.bytes_from_copies == len(FILES["a.bin"])


def test_a_damaged_journal_is_ignored(prefetched, release, open_tree):
    directory, _ = prefetched
    (directory / ".ego4dfs" / "journal.sqlite").write_bytes(b"no database" * 1000)
    _, read = opened(open_tree, release, directory)
    assert read("b.bin") == FILES["b.bin"]


def test_a_directory_that_is_not_there_is_an_error(release, open_tree, tmp_path):
    release.dataset("annotations", {"a": b""})
    with pytest.raises(ConfigError, match="no such file or directory"):
        open_tree(version=release.version, datasets=["annotations"], copies=str(tmp_path / "x"))


@pytest.mark.fuse
@pytest.mark.parametrize("how", ["over", "given"])
def test_copies_alone_are_enough_for_a_mount(release, prefetch, front, mount, tmp_path, how):
    """Without the server and with an empty cache, only from the files of prefetch."""
    files = {"a.json": b"a" * 5000, "b.mp4": seeded("b", 3 * MIB + 1), "empty.json": b""}
    manifest = release.dataset("annotations", files)
    release.metadata(b'{"videos": []}')
    root = tmp_path / "mount0"
    out = root if how == "over" else tmp_path / "out"
    prefetch("-y", "-o", str(out))
    front.stop()
    shutil.rmtree(os.environ["EGO4DFS_CACHE_DIR"])
    where = ("--nonempty",) if how == "over" else ("--copies", str(out))
    root.mkdir(exist_ok=True)
    mount.adopt(root)
    for datasets in (("--datasets", "annotations"), ()):
        mount.again(root, "--version", release.version, *where, *datasets)
        directory = root / release.version / "annotations"
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
            **files,
            "manifest.csv": manifest,
        }
        assert (root / "ego4d.json").read_bytes() == b'{"videos": []}'
        mount.unmount(root)
