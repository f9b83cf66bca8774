"""Processes by pid and command line, and waiting for a condition with a deadline."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state != b"Z"


def processes_with(word: str) -> list[int]:
    """Return the processes that have `word` in their command line, except this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(word) in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid() and is_running(pid)]


def open_descriptors(pid: int | str = "self") -> Iterator[str]:
    """Yield what the open descriptors of a process are: paths of files, `socket:[inode]`, pipes."""
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # closed meanwhile, such as the one that lists them
            yield os.readlink(f"/proc/{pid}/fd/{entry}")


def wait_until(holds: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Return the first true result of `holds`; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{holds} was not true within {timeout_s} s"
        time.sleep(0.02)
    return found


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Start processes with the arguments of Popen; those that remain after the test are killed."""
    processes: list[subprocess.Popen[Any]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        processes.append(subprocess.Popen(*arguments, **options))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()
