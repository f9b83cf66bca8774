"""Mountpoints: what is mounted where, whether one can be used, and getting rid of a mount."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.errors import MountError
from ego4dfs.mount.status import read_status

FILESYSTEM_TYPE = "fuse.ego4dfs"

_MOUNTINFO = Path("/proc/self/mountinfo")
_SHOWN = 3
_DAEMON_EXIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the kernel's table of mounts; `device` is `major:minor`."""

    mountpoint: Path
    filesystem: str
    device: str

    @property
    def is_ours(self) -> bool:
        """Whether it is a mount of ego4dfs."""
        return self.filesystem == FILESYSTEM_TYPE


def mounts() -> Iterator[Mounted]:
    """Yield all mounts of this process's view, in mounting order (proc(5), mountinfo)."""
    for line in _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        path = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
        yield Mounted(Path(path), after.split(" ")[0], fields[2])


def mounted_at(mountpoint: Path) -> Mounted | None:
    """Return what is mounted at exactly this path, the topmost one, or None. Never blocks."""
    found = [mount for mount in mounts() if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def device_of(mountpoint: Path) -> str:
    """Return `major:minor` of the mount at this path, or an empty text."""
    mounted = mounted_at(mountpoint)
    return mounted.device if mounted else ""


def check_mountpoint(mountpoint: Path, *, nonempty: bool = False) -> None:
    """Make sure that a mount can go on this directory; clear away a dead one of ours.

    Raises MountError that says what is in the way and what to do.
    """
    _clear_dead(mountpoint)
    mounted = mounted_at(mountpoint)
    if mounted is not None:
        what = "ego4dfs" if mounted.is_ours else f"a filesystem of type {mounted.filesystem}"
        raise MountError(
            f"{mountpoint}: {what} is mounted there already",
            hint=f"`ego4dfs unmount {mountpoint}` first, or choose another directory"
            if mounted.is_ours
            else "choose another directory",
        )
    try:
        mode = mountpoint.stat().st_mode
    except FileNotFoundError as error:
        hint = f"create it: mkdir -p {mountpoint}"
        raise MountError(f"{mountpoint}: no such directory", hint=hint) from error
    except OSError as error:
        raise MountError(f"{mountpoint}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise MountError(f"{mountpoint} is not a directory", hint="name an empty directory")
    _check_content(mountpoint, nonempty=nonempty)


def _check_content(mountpoint: Path, *, nonempty: bool) -> None:
    try:
        names = sorted(os.listdir(mountpoint))  # noqa: PTH208 - names, not paths
    except PermissionError as error:
        raise MountError(f"{mountpoint}: may not be read by you") from error
    if names and not nonempty:
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        raise MountError(
            f"{mountpoint} is not empty; it holds {shown}",
            hint="the mount would hide that: choose an empty directory, or go on with --nonempty",
        )
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise MountError(
            f"{mountpoint}: fusermount mounts only on directories that you may write to",
            hint="choose a directory of your own",
        )


def is_dead(mountpoint: Path) -> bool:
    """Tell whether the process behind a FUSE mount is gone: "Transport endpoint …".

    Not by stat, which the kernel goes on to answer from what it remembers.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _clear_dead(mountpoint: Path) -> None:
    if not is_dead(mountpoint):
        return
    mounted = mounted_at(mountpoint)
    if mounted is None or not mounted.is_ours:
        raise MountError(
            f"{mountpoint}: a dead mount of another program is in the way",
            hint=f"fusermount -u -z {mountpoint}",
        )
    _detach(mountpoint, lazy=True)


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount an ego4dfs and wait until its process has ended.

    A dead mount is cleared away. Raises MountError when nothing of ours is mounted there, or
    when it is in use, naming the programs; `lazy` then hides it until they are done.
    """
    mounted = mounted_at(mountpoint)
    if mounted is None or not mounted.is_ours:
        others = [str(mount.mountpoint) for mount in mounts() if mount.is_ours]
        hint = f"mounted now: {', '.join(others)}" if others else "no ego4dfs is mounted"
        raise MountError(f"{mountpoint}: no ego4dfs is mounted there", hint=hint)
    dead = is_dead(mountpoint)
    pid = 0 if dead else _pid_behind(mountpoint)
    _detach(mountpoint, lazy=lazy or dead, daemon=pid)
    if pid and not lazy and not _has_ended(pid):
        raise MountError(
            f"{mountpoint} is unmounted, but its process {pid} still waits for the store",
            hint="it ends by itself when its last request times out",
        )


def _pid_behind(mountpoint: Path) -> int:
    """Return the pid of a mount's process, or 0 when it does not tell: that stops no unmount."""
    try:
        return int(read_status(mountpoint)["pid"])
    except MountError:
        return 0


def _detach(mountpoint: Path, *, lazy: bool, daemon: int = 0) -> None:
    program = next((p for p in ("fusermount3", "fusermount") if shutil.which(p)), "")
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), str(mountpoint)]
    elif program:
        command = [program, "-u", *(["-z"] if lazy else []), str(mountpoint)]
    else:
        raise MountError("neither fusermount3 nor fusermount is on PATH")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return
    users = holders(mountpoint, but=daemon)  # which may hold the directory below the mount
    if users or "busy" in done.stderr:
        who = ", ".join(users) or "a program that cannot be seen from here"
        raise MountError(
            f"{mountpoint} is in use by {who}",
            hint=f"end or leave that first, or `ego4dfs unmount --lazy {mountpoint}`",
        )
    raise MountError(f"{mountpoint}: {done.stderr.strip() or 'cannot be unmounted'}")


def holders(mountpoint: Path, *, but: int = 0) -> list[str]:
    """Return the programs with files or their working directory below, as `name (pid N)`.

    Leaves out process `but`. Reads links in /proc only: nothing here can block on a mount that
    hangs.
    """
    found = []
    inside = (str(mountpoint), f"{mountpoint}/")
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(but):
            continue
        try:
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            targets = [os.readlink(link) for link in links]  # noqa: PTH115 - text, not Path
            if any(target == inside[0] or target.startswith(inside[1]) for target in targets):
                found.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
        except OSError:
            continue
    return found


def _has_ended(pid: int) -> bool:
    deadline = time.monotonic() + _DAEMON_EXIT_S
    while time.monotonic() < deadline:
        if not _is_running(pid):
            return True
        time.sleep(0.02)
    return False


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # ended, and only its parent has not looked yet
