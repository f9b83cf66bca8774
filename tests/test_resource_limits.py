"""Limits on files, threads and memory: one line that names the limit, and never wrong bytes."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import subprocess

import pytest

from ego4dfs.cli import mount as cli_mount
from ego4dfs.cli.output import ExitCode, guard
from ego4dfs.errors import ProcessLimit, StoreUnavailable
from ego4dfs.files.child_call import ChildCall
from ego4dfs.mount import daemon, fuse_session
from ego4dfs.mount.binding import find_library
from ego4dfs.mount.binding_adapters import session_class
from ego4dfs.runtime.resource_limits import limit_reached
from kit.cli import EGO4DFS, complaint
from kit.mounts import is_mounted

pytestmark = pytest.mark.first_pass

ERRORS = [
    (OSError(errno.EMFILE, "x"), "ulimit -n"),
    (OSError(errno.ENFILE, "x", "name"), "ulimit -n"),
    (ProcessLimit(), "ulimit -u"),
    (RuntimeError("can't start new thread"), "ulimit -u"),
    (MemoryError(), "ulimit -v"),
    (OSError(errno.ENOMEM, "x"), "ulimit -v"),
    (ImportError("a.so: failed to map segment from shared object"), "ulimit -v"),
    (OSError("b.so: cannot allocate memory in static TLS block"), "ulimit -v"),
]


@pytest.mark.parametrize(("error", "limit"), ERRORS)
def test_an_error_of_a_limit_is_one_line_with_the_remedy(error, limit, capsys):
    def run():
        raise error

    assert guard(run) == ExitCode.FAILURE
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("ego4dfs: ")
    assert "the limit of this process is " in first
    assert second.startswith("  hint: ")
    assert limit in second


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "x"),
        BlockingIOError(errno.EAGAIN, "a file operation"),
        RuntimeError("x"),
        ValueError("x"),
    ],
)
def test_other_errors_are_not_limits(error):
    assert limit_reached(error) is None


def test_a_child_call_that_cannot_be_started_is_a_limit(monkeypatch):
    def refuse():
        raise BlockingIOError(errno.EAGAIN, "x")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(ProcessLimit):
        ChildCall(list)


class Panic(BaseException):
    """As pyo3 raises it where Rust code panics."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (Panic("no thread"), errno.EIO),
        (asyncio.CancelledError(), errno.EIO),
        (MemoryError(), errno.EIO),
        (OSError(errno.EMFILE, "x"), errno.EMFILE),
        (StoreUnavailable("x"), errno.EIO),
    ],
)
def test_no_error_leaves_a_call_of_the_kernel(error, number, monkeypatch):
    """Otherwise ctypes returns 0, which means the end of the file."""
    binding = find_library()
    session = session_class(binding.load(), binding.version)

    def read(*_arguments):
        raise error

    assert session._wrapper(None, read) == -number
    monkeypatch.setattr("ego4dfs.mount.binding_adapters.errno_of", read)
    assert session._wrapper(None, read) == -errno.EIO


def test_a_background_process_that_cannot_be_started_is_one_line(tmp_path, monkeypatch):
    reader, writer = os.pipe()
    ended = []

    def refuse():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(os, "_exit", ended.append)
    daemon._leave_session(daemon._Report(writer), tmp_path / "log")
    assert ended == [1]
    with os.fdopen(reader, "rb") as pipe:
        pid, report = pipe.readline(), json.loads(pipe.readline())
    assert int(pid) == 0
    assert "no process or thread can be started" in report["text"]
    assert "ulimit -u" in report["hint"]


@pytest.mark.fault(
    area="mount",
    fault="a limit on virtual memory (ulimit -v) that is too small",
    face="mount",
    sees="one line that names the limit; nothing is mounted",
    deadline="at once",
)
def test_a_mount_is_refused_with_too_little_virtual_memory(options, tmp_path):
    """Else obstore aborts the process, and the mount with it, when its readers are many."""
    (tmp_path / "place").mkdir()
    command = shlex.join([*EGO4DFS, "mount", str(tmp_path / "place"), "--datasets", "clips"])
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 600000; exec {command}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == ExitCode.MOUNTPOINT
    assert "2.0 GiB of virtual memory" in complaint(done)
    assert "ulimit -v" in done.stderr
    assert not is_mounted(tmp_path / "place")


def test_a_mount_without_a_thread_for_libfuse_names_the_limit(tmp_path):
    error = RuntimeError("can't start new thread")
    refused = fuse_session._refused(tmp_path, find_library(), error, "")
    assert "no process or thread can be started" in str(refused)
    assert "ulimit -u" in refused.hint


def test_a_mount_whose_status_cannot_be_read_for_want_of_a_process_is_reported(
    tmp_path, monkeypatch, capsys
):
    """It has started; nothing is unmounted."""

    def refuse(*_arguments):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(cli_mount, "read_status", refuse)
    cli_mount._say_background(tmp_path, "v2", tmp_path / "log")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Ego4D is at {tmp_path}"
    assert [line.split()[0] for line in lines[1:]] == ["list", "unmount", "log"]
