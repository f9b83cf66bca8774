"""The kernel's mount table is read correctly for any characters in paths."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest

from ego4dfs.files import mountinfo
from kit.mounts import status

pytestmark = pytest.mark.fuse

NAMES = {
    "carriage return": "a\rb",
    "vertical tab": "a\vb",
    "form feed": "a\fb",
    "file separator": "a\x1cb",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "line feed": "a\nb",
    "blank and tab": "a b\tc",
    "backslash and digits": r"a\040b",
    "hash": "#a",
    "not UTF-8": "a\udcffb",
}


@contextmanager
def mounted_on(directory):
    """Mount a small tmpfs there."""
    os.mkdir(directory)
    path = os.fsencode(directory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_path_is_read_completely(tmp_path, name):
    with mounted_on(tmp_path / name):
        found = mountinfo.mounted_at(tmp_path / name)
        assert found.mountpoint == tmp_path / name
        assert found.filesystem == "tmpfs"
        assert mountinfo.mounted_at(tmp_path) is None


@pytest.mark.fault(
    area="mount",
    fault="a path with Unicode line separators in the kernel's mount table",
    face="all",
    sees="no effect: the path is read correctly",
    deadline="at once",
)
@pytest.mark.parametrize("name", ["a\rb", "a\x85\u2028b"])
def test_an_unusual_path_of_another_mount_affects_no_command(cli, tmp_path, name):
    with mounted_on(tmp_path / name):
        assert cli("status", check=False).stderr == ""


@pytest.mark.parametrize("name", ["a\rb", "a\u2028b", "a\nb c"])
def test_a_mountpoint_may_have_an_unusual_name(cli, mount, release, name):
    release.dataset("annotations", {"narration.json": b"{}\n"})
    mountpoint = mount.directory / name
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    cli("mount", str(mountpoint), "--version", release.version, "--datasets", "annotations")
    try:
        assert status(mountpoint)["pid"]
        cli("status", str(mountpoint))
    finally:
        cli("unmount", str(mountpoint))
    assert os.listdir(mountpoint) == []


def test_foreign_text_is_split_at_line_feeds_only():
    """str.splitlines cuts at CR, VT, NEL and U+2028, which a path or a name may hold."""
    from pathlib import Path

    package = Path(mountinfo.__file__).parents[1]
    found = [path.name for path in package.rglob("*.py") if ".splitlines(" in path.read_text()]
    assert found == []
