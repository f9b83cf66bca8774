"""The process of a background mount inherits nothing from the command that started it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ego4dfs.errors import MountError
from ego4dfs.files.mountinfo import FILESYSTEM_TYPE, MountEntry
from ego4dfs.mount import check_mountpoint
from ego4dfs.mount.working_directory import make_absolute
from kit.cli import EGO4DFS, complaint, unwarned, without
from kit.mounts import is_mounted, mounts_below, status
from kit.processes import is_running, wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def place(mount, release):
    """Return a mountpoint and the command line that mounts there."""
    release.dataset("annotations", {"narration.json": b"{}\n"})
    mountpoint = mount.directory / "place"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    chosen = ["--version", release.version, "--datasets", "annotations"]
    return mountpoint, [*EGO4DFS, "mount", str(mountpoint), *chosen]


def run(command, **options):
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, **options}
    return subprocess.run(command, text=True, check=False, timeout=60, **options)


def fact(pid, name):
    """Return one line of /proc/<pid>/status."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split(":\t")[1] for line in text.split("\n") if line.startswith(f"{name}:"))


@pytest.mark.fault(
    area="processes",
    fault="descriptors, blocked or ignored signals and a umask from the caller",
    face="mount",
    sees="the background process has none of them",
    deadline="at once",
)
def test_nothing_of_the_caller_is_inherited(place, tmp_path):
    mountpoint, command = place
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reader, writer = os.pipe()

    def spoil():
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.umask(0o777)

    done = run(command, pass_fds=(lock, writer), preexec_fn=spoil)
    os.close(lock)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    again = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b""
    pid = status(mountpoint)["pid"]
    assert int(fact(pid, "SigBlk"), 16) == 0
    ignored = int(fact(pid, "SigIgn"), 16)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        assert not ignored >> (number - 1) & 1
    assert fact(pid, "Umask") == "0077"
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_running(pid))
    assert not is_mounted(mountpoint)


def test_a_background_mount_has_no_terminal_and_can_get_none(place):
    mountpoint, command = place
    assert run(command).returncode == 0
    pid = status(mountpoint)["pid"]
    assert os.getsid(pid) not in {pid, os.getsid(0)}
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4] == "0"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


@pytest.mark.fault(
    area="terminal",
    fault="standard streams that are closed, full, or have lost their reader",
    face="mount",
    sees="the mount works, and its log is complete",
    deadline="at once",
)
@pytest.mark.parametrize(
    "redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "| true", "2>/dev/full"]
)
def test_a_mount_works_with_any_standard_streams(place, tmp_path, redirection):
    mountpoint, command = place
    log = tmp_path / "log"
    line = f'"$@" {redirection}'
    done = run(["bash", "-o", "pipefail", "-c", line, "sh", *command, "--log-file", str(log)])
    assert done.returncode == 0
    assert unwarned(done.stderr) == ""
    assert is_mounted(mountpoint)
    assert "mounting" in log.read_text()


def test_a_background_mount_continues_after_a_hangup(place):
    mountpoint, command = place
    assert run(command).returncode == 0
    pid = status(mountpoint)["pid"]
    os.kill(pid, signal.SIGHUP)
    assert status(mountpoint)["pid"] == pid


@pytest.mark.fault(
    area="mount",
    fault="several commands use one mountpoint at the same time",
    face="mount",
    sees="one mount; the other commands end with 5 and one line",
    deadline="at once",
)
def test_only_one_of_several_commands_mounts_at_one_place(place, spawn):
    mountpoint, command = place
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [spawn(command, **pipes) for _ in range(3)]
    ends = sorted((process.communicate(timeout=60)[1], process.returncode) for process in running)
    assert [code for _, code in ends] == [0, 5, 5]
    for output, _ in ends[1:]:
        assert len(unwarned(output).splitlines()) == 2
        assert (
            "another command is about to mount there" in output or "mounted there already" in output
        )
    assert mounts_below(mountpoint) == [mountpoint]


def test_a_mount_that_another_command_makes_during_the_check_is_named(tmp_path, monkeypatch):
    """Its files must not count as files that a mount would hide."""
    (tmp_path / "ego4d.json").touch()
    found = iter([None, None, MountEntry(tmp_path, FILESYSTEM_TYPE, "0:1")])
    monkeypatch.setattr("ego4dfs.mount.mountpoint.mounted_at", lambda _: next(found))
    with pytest.raises(MountError, match="ego4dfs is mounted there already"):
        check_mountpoint(tmp_path)


@pytest.mark.fault(
    area="mount",
    fault="an error while the mount starts",
    face="mount",
    sees="the command ends with the error; nothing is mounted",
    deadline="at once",
)
def test_an_error_at_the_start_is_reported_and_nothing_is_mounted(place):
    mountpoint, command = place
    broken = (
        "import ego4dfs.mount.fuse_session as s, sys\n"
        "def fail(*a): raise RuntimeError('out of luck')\n"
        "s.set_process_name = fail\n"
        "from ego4dfs.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = run([sys.executable, "-c", broken, *command[3:]])
    assert done.returncode == 5
    assert "the mount failed while it started: RuntimeError('out of luck')" in complaint(done)
    assert not is_mounted(mountpoint)


# --- names of files that are relative ---------------------------------------------------------


def credentials(licensee):
    return (
        f"[default]\naws_access_key_id = {licensee['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {licensee['AWS_SECRET_ACCESS_KEY']}\n"
    )


def keyless(licensee, **more):
    return {**without(licensee, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), **more}


@pytest.mark.fault(
    area="keys",
    fault="settings with paths relative to the working directory",
    face="mount",
    sees="they mean the same files in the background process",
    deadline="at once",
)
def test_a_relative_credentials_file_works_in_the_background(place, licensee, tmp_path):
    mountpoint, command = place
    (tmp_path / "creds").write_text(credentials(licensee))
    env = keyless(licensee, AWS_SHARED_CREDENTIALS_FILE="creds")
    done = run(command, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pid = status(mountpoint)["pid"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    path = mountpoint / command[-3] / "annotations/narration.json"
    assert path.read_bytes() == b"{}\n"


def test_a_relative_credential_process_works_in_the_background(place, licensee, tmp_path):
    mountpoint, command = place
    program = tmp_path / "get"
    program.write_text(
        "#!/bin/sh\n"
        f'echo \'{{"Version": 1, "AccessKeyId": "{licensee["AWS_ACCESS_KEY_ID"]}",'
        f' "SecretAccessKey": "{licensee["AWS_SECRET_ACCESS_KEY"]}"}}\'\n'
    )
    program.chmod(0o755)
    (tmp_path / "config").write_text("[default]\ncredential_process = ./get\n")
    done = run(command, env=keyless(licensee, AWS_CONFIG_FILE="config"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = mountpoint / command[-3] / "annotations/narration.json"
    assert path.read_bytes() == b"{}\n"
    pid = status(mountpoint)["pid"]
    assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)


def test_only_relative_names_become_absolute():
    environ = {
        "AWS_CA_BUNDLE": "ca.pem",
        "AWS_CONFIG_FILE": "~/config",
        "SSL_CERT_FILE": "/etc/x",
        "BOTO_CONFIG": "$HOME/x",
        "PATH": "/bin:tools:",
        "AWS_PROFILE": "me",
        "TMPDIR": "",
    }
    make_absolute(environ, "/srv")
    assert environ == {
        "AWS_CA_BUNDLE": "/srv/ca.pem",
        "AWS_CONFIG_FILE": "~/config",
        "SSL_CERT_FILE": "/etc/x",
        "BOTO_CONFIG": "$HOME/x",
        "PATH": "/bin:/srv/tools:/srv/",
        "AWS_PROFILE": "me",
        "TMPDIR": "",
    }


def test_a_command_mounts_from_a_removed_working_directory(place, tmp_path):
    mountpoint, command = place
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run(["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *command], cwd=gone)
    assert done.returncode == 0, done.stderr
    assert is_mounted(mountpoint)
