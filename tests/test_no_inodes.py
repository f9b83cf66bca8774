"""Disks that have room but no inodes: the system says "no space left", and `df` shows some."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ego4dfs.errors import FEW_INODES, CacheError, lacks_inodes
from kit.data import MIB
from kit.prefetch import data_of, tree

FILES = {f"{number}.bin": bytes([number]) * 300_000 for number in range(20)}
SCARCE = [2, 5, 7, 9, 11, 24]
"""How many files and directories the disk can have: it is full at different steps."""


@pytest.fixture
def disk_with(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk with room for some inodes, or set their number anew; return its directory."""
    disk = tmp_path / "disk"

    def mount(inodes: int) -> Path:
        again = ",remount" if disk.exists() else ""
        disk.mkdir(exist_ok=True)
        options = f"size=80m,nr_inodes={inodes + 1}{again}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)
        return disk

    yield mount
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(("files", "free"), [(0, 0), (1000, -1), (1000, 1000)])
def test_a_disk_that_counts_no_inodes_does_not_lack_them(monkeypatch, files, free):
    """Btrfs says that it has none at all, CephFS that -1 are free."""
    disk = os.statvfs_result((4096, 4096, 9**9, 9**9, 9**9, files, free, free, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    assert not lacks_inodes("/")


@pytest.mark.fault(
    area="disk",
    fault="no inodes are left for the cache, though there is room",
    face="all",
    sees="right bytes, or a refusal at the start; the message names inodes",
    deadline="at once",
)
@pytest.mark.parametrize("inodes", SCARCE)
def test_a_cache_without_inodes_is_named_as_such(open_tree, release, disk_with, caplog, inodes):
    release.dataset("clips", FILES)
    cache = disk_with(inodes) / "cache"
    try:
        vfs = open_tree(version=release.version, datasets=["clips"], cache_dir=str(cache))
    except CacheError as error:
        said = f"{error} {error.hint}"
    else:
        said = ""
        for name, data in FILES.items():
            assert vfs.read(vfs.open(f"{release.version}/clips/{name}"), 0, MIB) == data
        vfs.close()
    assert FEW_INODES in said + caplog.text


@pytest.mark.fault(
    area="disk",
    fault="no inodes are left for copies, though there is room",
    face="prefetch",
    sees="it stops, and the message names inodes; a later run continues",
    deadline="at once",
)
@pytest.mark.parametrize("inodes", SCARCE)
def test_copies_without_inodes_end_the_run_with_the_cause(prefetch, release, disk_with, inodes):
    release.dataset("annotations", FILES)
    copies = str(disk_with(inodes) / "out")
    done = prefetch("-y", "--no-metadata", "-o", copies, code=1)
    assert FEW_INODES in done.stderr
    disk_with(1000)
    prefetch("-y", "--no-metadata", "-o", copies)
    assert data_of(tree(Path(copies)), release, "annotations") == FILES


def test_doctor_reports_that_no_inodes_are_left(disk_with, licensee, run_here):
    disk = disk_with(1000)
    options = ("doctor", "--cache-dir", str(disk / "cache"), "--datasets", "annotations")
    assert FEW_INODES not in run_here(*options, check=False).stdout
    disk_with(len(list(disk.rglob("*"))) + 9)
    assert FEW_INODES in run_here(*options, check=False).stdout
