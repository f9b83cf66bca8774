"""From the mount to the unmount: in order, by signal, after a crash, and while in use."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.cli import EGO4DFS, complaint
from kit.data import MIB, seeded
from kit.mounts import is_mounted, mounts_below, status
from kit.processes import is_running, wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def arguments(release) -> list[str]:
    """Publish a small dataset and return the flags that select it."""
    release.dataset("annotations", {"narration.json": b"{}\n", "a.bin": seeded("a", 2 * MIB)})
    return ["--version", release.version, "--datasets", "annotations"]


@contextmanager
def foreground(mount, tmp_path, libfuse, *arguments):
    """Mount in the foreground and yield the process and the mountpoint."""
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    command = [*EGO4DFS, "mount", str(mountpoint), "--foreground", "--libfuse", libfuse]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, *arguments], **pipes)
    try:
        wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None)
        yield process, mountpoint
    finally:
        process.kill()
        process.communicate()


def test_a_background_mount_answers_when_its_command_returns(mount, arguments, release):
    root = mount(*arguments)
    assert is_mounted(root)
    assert (root / release.version / "annotations/narration.json").read_bytes() == b"{}\n"
    assert is_running(status(root)["pid"])


def test_a_background_mount_prints_its_place_and_the_next_commands(cli, mount, tmp_path, arguments):
    mountpoint = tmp_path / "my ego4d"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    lines = cli("mount", str(mountpoint), *arguments).stdout.splitlines()
    assert lines[0] == f"Ego4D is at {mountpoint}"
    assert f"  ls '{mountpoint}'/{arguments[1]}  " in lines[1]
    assert lines[2].endswith(f"ego4dfs unmount '{mountpoint}'")
    log = lines[3].split(maxsplit=1)[1]
    assert "mounting" in Path(log).read_text()
    cli("unmount", str(mountpoint))


def test_unmount_returns_when_the_mounts_process_has_ended(cli, mount, arguments):
    root = mount(*arguments)
    pid = status(root)["pid"]
    done = cli("unmount", str(root))
    assert (done.stdout, done.stderr) == ("", "")
    assert not is_mounted(root)
    assert not is_running(pid)
    assert os.listdir(root) == []


def test_the_log_goes_to_the_named_file(mount, arguments, tmp_path):
    log = tmp_path / "logs/mount.log"
    root = mount(*arguments, "--log-file", str(log))
    assert f"mounting {root}" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_a_mount_in_the_background(mount, arguments, number):
    root = mount(*arguments)
    pid = status(root)["pid"]
    os.kill(pid, number)
    wait_until(lambda: not is_running(pid))
    assert not is_mounted(root)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_a_mount_in_the_foreground(mount, arguments, tmp_path, libfuse, number):
    with foreground(mount, tmp_path, libfuse, *arguments) as (process, mountpoint):
        assert "narration.json" in os.listdir(mountpoint / arguments[1] / "annotations")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == f"Ego4D is at {mountpoint}; Ctrl-C unmounts it.\n"
        assert "Traceback" not in err
        assert not is_mounted(mountpoint)


def test_a_mount_in_the_foreground_ends_when_it_is_unmounted(
    cli, mount, arguments, tmp_path, libfuse
):
    with foreground(mount, tmp_path, libfuse, *arguments) as (process, mountpoint):
        cli("unmount", str(mountpoint))
        assert process.wait(timeout=60) == 0


def killed(mount, arguments):
    """Mount, kill the process as the kernel does without memory, and return the mountpoint."""
    root = mount(*arguments)
    pid = status(root)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    with pytest.raises(OSError, match=r"not connected|abort") as caught:
        os.listdir(root)
    assert caught.value.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return root


def test_a_dead_mount_is_explained_and_unmounted(cli, mount, arguments):
    root = killed(mount, arguments)
    done = cli("status", str(root), check=False)
    assert done.returncode == 5
    assert "the mount is dead, its process has exited" in complaint(done)
    assert f"ego4dfs unmount {root}" in done.stderr
    done = cli("status", check=False)
    assert done.returncode == 1
    assert "the mount is dead" in done.stdout
    found = json.loads(cli("status", "--json", check=False).stdout)
    assert [one["dead"] for one in found if one["mountpoint"] == str(root)] == [True]
    cli("unmount", str(root))
    assert not is_mounted(root)
    assert os.listdir(root) == []


def test_a_dead_mount_is_mounted_over(mount, arguments):
    root = killed(mount, arguments)
    mount.again(root, *arguments)
    assert os.listdir(root / arguments[1] / "annotations")
    assert mounts_below(root) == [root]


def test_a_busy_mount_names_its_users_and_can_be_unmounted_lazily(cli, mount, arguments):
    root = mount(*arguments)
    pid = status(root)["pid"]
    with subprocess.Popen(["sleep", "60"], cwd=root / arguments[1]) as holder:
        try:
            done = cli("unmount", str(root), check=False)
            assert done.returncode == 5
            assert f"{root} is in use by sleep (pid {holder.pid})" in complaint(done)
            assert f"ego4dfs unmount --lazy {root}" in done.stderr
            assert is_mounted(root)
            assert status(root)["pid"] == pid
            cli("unmount", "--lazy", str(root))
            assert not is_mounted(root)
            assert is_running(pid)
        finally:
            holder.kill()
    wait_until(lambda: not is_running(pid))


def test_a_reader_of_a_file_keeps_a_mount_busy(cli, mount, arguments):
    root = mount(*arguments)
    with (root / arguments[1] / "annotations/a.bin").open("rb") as file:
        done = cli("unmount", str(root), check=False)
        assert f"(pid {os.getpid()})" in complaint(done)
        assert file.read() == seeded("a", 2 * MIB)
    cli("unmount", str(root))


def test_a_second_mount_at_the_same_place_is_refused(cli, mount, arguments):
    root = mount(*arguments)
    pid = status(root)["pid"]
    done = cli("mount", str(root), *arguments, check=False)
    assert done.returncode == 5
    assert f"{root}: ego4dfs is mounted there already" in done.stderr
    assert status(root)["pid"] == pid


def test_two_mounts_share_a_cache(mount, arguments):
    one, other = mount(*arguments), mount(*arguments)
    name = f"{arguments[1]}/annotations/a.bin"
    assert (one / name).read_bytes() == (other / name).read_bytes() == seeded("a", 2 * MIB)
    assert status(one)["bytes_fetched"] == 2 * MIB
    assert status(other)["bytes_fetched"] == 0


def test_status_shows_all_mounts_as_a_table_or_as_json(cli, mount, arguments):
    roots = [mount(*arguments), mount(*arguments)]
    done = cli("status", "--json", check=False)  # mounts of other tests are there, dead ones too
    found = {one["mountpoint"]: one for one in json.loads(done.stdout)}
    assert set(found) >= {str(root) for root in roots}
    assert done.returncode == any(one.get("dead") for one in found.values())
    text = cli("status", check=False).stdout
    for root in roots:
        assert found[str(root)]["pid"] == status(root)["pid"]
        assert str(root) in text
        one = cli("status", str(root)).stdout
        assert "online" in one
        assert f"pid {status(root)['pid']}" in one
        alone = json.loads(cli("status", str(root), "--json").stdout)
        assert alone["pid"] == status(root)["pid"]


@pytest.mark.parametrize("version", ["2", "3"])
def test_each_libfuse_can_be_forced(mount, cli, tmp_path, arguments, version):
    mountpoint = tmp_path / "forced"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    cli("mount", str(mountpoint), "--libfuse", version, *arguments)
    maps = Path(f"/proc/{status(mountpoint)['pid']}/maps").read_text()
    assert {"2": "libfuse.so.2", "3": "libfuse3.so.3"}[version] in maps
    assert {"3": "libfuse.so.2", "2": "libfuse3.so.3"}[version] not in maps


def test_a_mountpoint_may_be_a_link_or_relative(cli, mount, tmp_path, arguments):
    (tmp_path / "real dir").mkdir()
    (tmp_path / "link").symlink_to("real dir")
    mount.adopt(tmp_path / "real dir")
    cli("mount", str(tmp_path / "link"), *arguments)
    assert os.listdir(tmp_path / "link" / arguments[1])
    cli("status", str(tmp_path / "link"))
    cli("unmount", str(tmp_path / "link"))
    assert os.listdir(tmp_path / "real dir") == []
