"""Commands answer in time if the process of a mount is stopped, killed or busy."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from ego4dfs.errors import MountError
from ego4dfs.files.child_call import ChildCall, call_in_child
from ego4dfs.files.mountinfo import mounted_at, resolve_path
from ego4dfs.mount import MountUnresponsive, read_status, unmount
from kit.cli import complaint
from kit.mounts import frozen, is_mounted, status
from kit.namespaces import unshare
from kit.own_process import pipes
from kit.processes import is_running, wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def arguments(release) -> list[str]:
    release.dataset("annotations", {"narration.json": b"{}\n"})
    return ["--version", release.version, "--datasets", "annotations"]


@pytest.mark.fault(
    area="mount",
    fault="the process of a mount is stopped",
    face="status",
    sees="the mount is shown as silent, with its process and what to do; the others as usual",
    deadline="at once",
)
def test_status_names_a_stopped_mount_and_shows_the_others(cli, mount, arguments):
    roots = [mount(*arguments) for _ in range(3)]
    with frozen(roots[0]) as one, frozen(roots[1]):
        with pytest.raises(MountUnresponsive):
            read_status(roots[0], timeout_s=600)  # it does not wait for what cannot answer
        done = cli("status", "--json", check=False)
        assert done.returncode == 1
        found = {row["mountpoint"]: row for row in json.loads(done.stdout)}
        assert found[str(roots[2])]["pid"] == status(roots[2])["pid"]
        row = found[str(roots[0])]
        assert (row["silent"], row["dead"]) == (True, False)
        assert f"its process {one} is stopped" in row["last_error"]
        assert f"`kill -CONT {one}`" in row["last_error"]
        assert found[str(roots[1])]["silent"]
        alone = cli("status", str(roots[0]), check=False)
        assert alone.returncode == 5
        assert f"no answer; its process {one} is stopped" in complaint(alone)
        assert f"`kill -CONT {one}`" in alone.stderr
    assert cli("status", str(roots[0])).returncode == 0


@pytest.mark.fault(
    area="mount",
    fault="the process of a mount is stopped",
    face="unmount",
    sees="it is unmounted at once; the message names the process and the command that ends it",
    deadline="at once",
)
@pytest.mark.parametrize("how", [[], ["--lazy"]])
def test_a_stopped_mount_is_unmounted_and_its_process_is_named(cli, mount, arguments, how):
    root = mount(*arguments)
    with frozen(root) as pid:
        done = cli("unmount", *how, str(root), check=False)
        assert done.returncode == 5
        assert f"is unmounted, but its process {pid} is stopped" in complaint(done)
        assert f"`kill -CONT {pid}` lets it exit" in done.stderr
        assert not is_mounted(root)
        assert os.listdir(root) == []
    wait_until(lambda: not is_running(pid))


@pytest.mark.fault(
    area="mount",
    fault="the process of another mount is stopped",
    face="mount, doctor",
    sees="the mount works; `doctor` warns about the other one",
    deadline="2 s",
)
def test_a_stopped_mount_does_not_prevent_another_mount(cli, mount, arguments):
    root = mount(*arguments)
    with frozen(root) as pid:
        other = mount(*arguments)
        assert os.listdir(other / arguments[1] / "annotations")
        rows = json.loads(cli("doctor", "--json", *arguments, check=False).stdout)
        [row] = [row for row in rows if row["check"] == "mounts"]
        assert row["state"] == "warn"
        assert f"its process {pid} is stopped" in row["found"]
        done = cli("mount", str(root), *arguments, check=False)
        assert f"{root}: ego4dfs is mounted there already" in complaint(done)


def test_copies_into_a_stopped_mount_are_refused_at_once(cli, mount, arguments):
    root = mount(*arguments)
    with frozen(root):
        for command in (["prefetch", "-y", "-o"], ["verify", "--offline", "-o"]):
            done = cli(*command, str(root), *arguments, check=False)
            assert done.returncode == 5
            assert f"an ego4dfs is mounted at {root}" in complaint(done)


def test_a_mountpoint_below_a_stopped_mount_is_refused_in_time(cli, mount, arguments):
    root = mount(*arguments)
    with frozen(root):
        for command in ("mount", "unmount", "status"):
            done = cli(command, str(root / "not looked up yet" / "x"), check=False)
            assert done.returncode == 5
            assert "does not answer" in complaint(done)


@pytest.mark.fault(
    area="mount",
    fault="the process of a mount was killed",
    face="mount, status, unmount",
    sees="one line that says so; paths below it are refused",
    deadline="at once",
)
def test_paths_below_a_dead_mount_are_refused_with_its_mountpoint(cli, mount, arguments):
    root = mount(*arguments)
    pid = status(root)["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    done = cli("mount", str(root / "x"), *arguments, check=False)
    assert done.returncode == 5
    assert f"it is in the mount at {root}" in complaint(done)
    assert "no ego4dfs is mounted there" in complaint(cli("unmount", f"{root}/x", check=False))
    cli("unmount", str(root))
    assert not is_mounted(root)


def test_a_command_that_waits_for_a_stopped_mount_keeps_no_pipe_open(mount, arguments):
    root = mount(*arguments)
    with frozen(root):
        reader, writer = os.pipe()
        call = ChildCall(lambda: os.listdir(root / "nothing"))
        os.close(writer)
        with pytest.raises(TimeoutError):
            call.result(0.1)
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read() == b""


def test_a_bounded_call_gives_its_result_or_its_error(tmp_path):
    assert call_in_child(lambda: [1, "\udcff"], 20) == [1, "\udcff"]
    with pytest.raises(FileNotFoundError):
        call_in_child(lambda: os.listdir(tmp_path / "x"), 20)
    with pytest.raises(ValueError, match="early"):
        call_in_child(lambda: os._exit(0), 20)
    with pytest.raises(TimeoutError):
        call_in_child(lambda: time.sleep(60), 0.05)


def test_links_are_resolved_as_elsewhere(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("link", "link/../x", "a/./b//", "nothing/there", "loop/x", "../.."):
        expected = os.path.realpath(tmp_path / path)
        assert path.startswith("loop") or str(resolve_path(tmp_path / path)) == expected
    assert resolve_path(tmp_path / "loop" / "x").name == "x"


# --- what holds a filesystem ------------------------------------------------------------------


@contextmanager
def held(*command):
    """Run a command in a shell of root's that prints a line, then waits."""
    shell = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert shell.stdout.readline() == "ready\n"
        yield shell
    finally:
        shell.kill()
        shell.communicate()


@pytest.mark.fault(
    area="mount",
    fault="another mount namespace uses the filesystem",
    face="unmount",
    sees="it is unmounted, and the holder is named; the process ends with it",
    deadline="10 s",
)
def test_another_mount_namespace_that_uses_a_mount_is_named(mount, arguments, monkeypatch):
    monkeypatch.setattr("ego4dfs.mount.mountpoint.HELD_S", 0.2)
    root = mount(*arguments)
    pid = status(root)["pid"]
    line = "echo ready; exec sleep 600"
    with held(*unshare("private", keep=root), "sh", "-c", line) as holder:
        comm = Path(f"/proc/{holder.pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n")
        with pytest.raises(MountError) as caught:
            unmount(root)
        text = str(caught.value)
        assert f"{root} is unmounted, but process {pid} still runs" in text
        assert f"the mount namespace of sleep (pid {holder.pid})" in text
        assert "holds the filesystem" in text
        assert "store" not in text
        assert is_running(pid)
        assert not is_mounted(root)
    wait_until(lambda: not is_running(pid))


def test_a_namespace_of_a_test_holds_no_mount_of_another_test(mount, arguments):
    root = mount(*arguments)
    pid = status(root)["pid"]
    with held(*unshare("private"), "sh", "-c", "echo ready; exec sleep 600"):
        unmount(root)
        assert not is_running(pid)


def test_a_bind_mount_that_uses_a_mount_is_named(mount, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("ego4dfs.mount.mountpoint.HELD_S", 0.2)
    root = mount(*arguments)
    pid = status(root)["pid"]
    other = tmp_path / "bound"
    other.mkdir()
    subprocess.run(["mount", "--bind", str(root), str(other)], check=True)
    try:
        with pytest.raises(MountError, match=f"a mount at {other}.* holds the filesystem"):
            unmount(root)
    finally:
        subprocess.run(["umount", str(other)], check=True)
    wait_until(lambda: not is_running(pid))


def test_a_mount_from_another_pid_namespace_has_the_number_it_has_here(cli, mount, arguments):
    mountpoint = mount.directory / "inside"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    command = ["unshare", "--pid", "--kill-child", "--fork"]
    words = " ".join(["ego4dfs", "mount", f"'{mountpoint}'", *arguments])
    script = f"{os.sys.executable} -m {words} >/dev/null 2>&1 && echo ready && exec sleep 600"
    with held(*command, "sh", "-c", script):
        found = json.loads(cli("status", "--json", str(mountpoint)).stdout)
        inside = status(mountpoint)
        assert inside["pid"] != found["pid"]
        assert inside["pid_namespace"] != os.stat("/proc/self/ns/pid").st_ino
        name = f"ego4dfs-{mounted_at(mountpoint).device}\n"
        assert Path(f"/proc/{found['pid']}/comm").read_text() == name
        cli("unmount", str(mountpoint))
        assert not is_running(found["pid"])


def test_a_check_without_a_process_to_run_it_leaves_nothing_open(monkeypatch):
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = pipes()
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            call_in_child(lambda: 1, 1)
    assert pipes() <= before
