"""Unmount with umount2(2) as root, else with fusermount; neither waits for the mount."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path

from ego4dfs.errors import starting_process

_FUSERMOUNT_S = 20.0
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount(2)


def umount(mountpoint: Path, *, lazy: bool, timeout_s: float = _FUSERMOUNT_S) -> str:
    """Unmount; return an empty text, or the reason of a failure (`busy` if it is in use).

    With `lazy` the mount is detached at once, and ends when no program uses it any more.
    """
    if os.geteuid() == 0:
        return _umount2(mountpoint, lazy=lazy)
    return _fusermount(mountpoint, lazy=lazy, timeout_s=timeout_s)


def _umount2(mountpoint: Path, *, lazy: bool) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if libc.umount2(os.fsencode(mountpoint), flags) == 0:
        return ""
    number = ctypes.get_errno()
    return "busy" if number == errno.EBUSY else f"cannot be unmounted: {os.strerror(number)}"


def _fusermount(mountpoint: Path, *, lazy: bool, timeout_s: float) -> str:
    program = next((p for p in ("fusermount3", "fusermount") if shutil.which(p)), "")
    if not program:
        return "neither fusermount3 nor fusermount is on PATH"
    command = [program, "-u", *(["-z"] if lazy else []), os.fspath(mountpoint)]
    try:
        with starting_process():
            done = subprocess.run(
                command, check=False, capture_output=True, errors="replace", timeout=timeout_s
            )
    except subprocess.TimeoutExpired:
        return f"{program} did not exit within {timeout_s:.0f} s"
    words = " ".join(done.stderr.split())
    return (words or f"{program} failed without a message") if done.returncode else ""
