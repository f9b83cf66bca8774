"""Names and mountpoints are bytes: UTF-8 names in any locale, and any path as mountpoint."""

from __future__ import annotations

import os

import pytest

from kit.mounts import is_mounted, status

pytestmark = pytest.mark.fuse

NAMES = ["plain.bin", "na\u00efve \u4e2d\u6587.bin"]


def asciionly(licensee):
    """Return an environment whose encoding of names is ASCII, as in the C locale of old."""
    plain = {name: value for name, value in licensee.items() if not name.startswith("LC_")}
    return {**plain, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def arguments(release):
    release.dataset("annotations", {name: name.encode() for name in NAMES})
    return ["--version", release.version, "--datasets", "annotations"]


@pytest.mark.fault(
    area="mount",
    fault="a mount that was started in another locale than its readers",
    face="mount",
    sees="the same names and bytes: names are UTF-8",
    deadline="at once",
)
def test_names_are_utf8_in_any_locale_of_the_mount(mount, arguments, licensee):
    root = mount(*arguments, env=asciionly(licensee))
    directory = root / arguments[1] / "annotations"
    assert sorted(os.listdir(directory)) == sorted([*NAMES, "manifest.csv"])
    for name in NAMES:
        assert (directory / name).read_bytes() == name.encode()
        assert os.getxattr(directory / name, "user.ego4dfs.s3_uri").decode().endswith(name)
    assert sorted(os.listdir(directory)) == sorted([*NAMES, "manifest.csv"])


def test_a_mountpoint_need_not_be_utf8(mount, cli, arguments, tmp_path, libfuse):
    mountpoint = tmp_path / os.fsdecode(b"m\xff\xe9")
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    cli("mount", str(mountpoint), "--libfuse", libfuse, *arguments)
    assert is_mounted(mountpoint)
    assert (mountpoint / arguments[1] / "annotations/plain.bin").read_bytes() == b"plain.bin"
    assert status(mountpoint)["errors"] == 0
    cli("status", str(mountpoint))
    cli("unmount", str(mountpoint))
    assert not is_mounted(mountpoint)
