"""Checking and locking a mountpoint before a mount, and unmounting it.

Calls that may wait for a filesystem are made in a child process with a timeout.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import time
from pathlib import Path

from ego4dfs.errors import MountError
from ego4dfs.files.child_call import call_in_child
from ego4dfs.files.mountinfo import MountEntry, mount_containing, mounted_at, mounts
from ego4dfs.mount.processes import (
    Process,
    describe_holders,
    is_held,
    programs_using,
    serving_process,
)
from ego4dfs.mount.status import ANSWER_S
from ego4dfs.mount.umount import umount
from ego4dfs.text import shell_word

log = logging.getLogger(__name__)

_SHOWN = 3
_END_S = 30.0
HELD_S = 10.0
"""How long others may hold an unmounted filesystem: programs that create a mount namespace copy
all mounts, and usually drop them at once."""
_BUSY_S = 5.0
"""How long a mount may be busy without a program that stays: programs that exit, and those that
look at all mounts, such as `ego4dfs status`, hold it for a moment."""
_STAYS_S = 1.0
"""A program that uses a mount for so long is named, and the mount stays."""
_POLL_S = 0.05
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def check_mountpoint(mountpoint: Path, *, nonempty: bool = False) -> None:
    """Check that this directory can be mounted on; unmount a dead ego4dfs there first.

    Raises MountError, which names the obstacle and what to do.
    """
    _check_free(mountpoint)
    try:
        mode, names, is_writable = _inspect(mountpoint)
    finally:
        check_unmounted(mountpoint)  # another command may have mounted there meanwhile
    if not stat.S_ISDIR(mode):
        raise MountError(f"{mountpoint} is not a directory", hint="choose an empty directory")
    if names and not nonempty:
        shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        raise MountError(
            f"{mountpoint} is not empty; it contains {shown}",
            hint="the mount would hide them: choose an empty directory, or use --nonempty",
        )
    if os.geteuid() != 0 and not is_writable:
        raise MountError(
            f"{mountpoint}: fusermount needs write permission for the directory",
            hint="choose a directory of your own",
        )


def lock_mountpoint(mountpoint: Path) -> int:
    """Lock the mountpoint, until the returned descriptor is closed in all processes.

    Call `check_mountpoint` before. Raises MountError if another command has the lock. On a
    filesystem without locks (NFS has none for directories) nothing is locked.
    """
    descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise MountError(
            f"{mountpoint}: another command is about to mount there",
            hint="wait for it, or choose another directory",
        ) from None
    except OSError as error:
        log.debug("%s cannot be locked: %s", mountpoint, error)
    try:
        check_unmounted(mountpoint)
    except MountError:
        os.close(descriptor)
        raise
    return descriptor


def check_unmounted(mountpoint: Path) -> None:
    """Raise MountError if anything is mounted at this path. Reads only mountinfo."""
    mounted = mounted_at(mountpoint)
    if mounted is None:
        return
    what = "ego4dfs" if mounted.is_ours else f"a filesystem of type {mounted.filesystem}"
    raise MountError(
        f"{mountpoint}: {what} is mounted there already",
        hint=f"`ego4dfs unmount {shell_word(str(mountpoint))}` first, or choose another directory"
        if mounted.is_ours
        else "choose another directory",
    )


def _check_free(mountpoint: Path) -> None:
    mounted = mounted_at(mountpoint)
    while mounted is not None and mounted.filesystem.startswith("fuse") and is_dead(mountpoint):
        if not mounted.is_ours:
            raise MountError(
                f"{mountpoint}: a dead mount of another program is there",
                hint=f"fusermount -u -z {shell_word(str(mountpoint))}",
            )
        _unmount_or_raise(mounted, lazy=True, exclude=0)
        mounted = mounted_at(mountpoint)
    check_unmounted(mountpoint)


def _inspect(mountpoint: Path) -> tuple[int, list[str], bool]:
    """Return the mode of a directory, its first names, and whether this user can write to it."""
    try:
        mode, names, is_writable = call_in_child(lambda: _stat_and_names(mountpoint), ANSWER_S)
    except TimeoutError:
        raise MountError(
            f"{mountpoint}: its filesystem does not answer{_above(mountpoint)}",
            hint="choose a directory on another filesystem",
        ) from None
    except FileNotFoundError as error:
        hint = f"create it: mkdir -p {shell_word(str(mountpoint))}"
        raise MountError(f"{mountpoint}: no such directory", hint=hint) from error
    except OSError as error:
        where = _above(mountpoint) if error.errno in _DEAD else ""
        raise MountError(f"{mountpoint}: {error.strerror}{where}") from error
    if names is None:
        raise MountError(f"{mountpoint}: you have no permission to read it")
    return mode, names, is_writable


def _stat_and_names(mountpoint: Path) -> tuple[int, list[str] | None, bool]:
    mode = mountpoint.stat().st_mode
    names: list[str] | None = []
    if stat.S_ISDIR(mode):
        try:
            names = sorted(os.listdir(mountpoint))[: _SHOWN + 1]  # noqa: PTH208 - names
        except PermissionError:
            names = None
    return mode, names, os.access(mountpoint, os.W_OK)


def _above(path: Path) -> str:
    mounted = mount_containing(path)
    return f": it is in the mount at {mounted.mountpoint}" if mounted else ""


def is_dead(mountpoint: Path) -> bool:
    """Return whether the process of a FUSE mount is gone ("Transport endpoint ...").

    Uses statvfs, because the kernel answers stat from its cache. A mount that does not answer in
    time is not dead.
    """
    try:
        call_in_child(lambda: os.statvfs(mountpoint).f_bsize, ANSWER_S)
    except TimeoutError:
        return False
    except OSError as error:
        return error.errno in _DEAD
    return False


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount an ego4dfs and wait until its process has exited, at most half a minute.

    A dead mount is unmounted too. Raises MountError if no ego4dfs is mounted there, if programs
    use it, which are named (`lazy` detaches it even then), and if the process does not exit,
    with the reason if it is visible.
    """
    mounted = mounted_at(mountpoint)
    if mounted is None or not mounted.is_ours:
        others = [str(mount.mountpoint) for mount in mounts() if mount.is_ours]
        hint = f"mounted now: {', '.join(others)}" if others else "no ego4dfs is mounted"
        raise MountError(f"{mountpoint}: no ego4dfs is mounted there", hint=hint)
    process = serving_process(mounted)
    was_dead = process is None and is_dead(mountpoint)
    is_stopped = process is not None and process.is_stopped  # programs inside cannot leave it
    is_lazy = lazy or was_dead or is_stopped
    _unmount_or_raise(mounted, lazy=is_lazy, exclude=process.pid if process else 0)
    if process is not None and process.is_stopped:
        raise _stopped(mountpoint, process)
    if not lazy and not was_dead:
        _await_end(mounted, process)


def _unmount_or_raise(mounted: MountEntry, *, lazy: bool, exclude: int) -> None:
    """Unmount, unless somebody else has done it.

    A program keeps the mount if it uses it for _STAYS_S, seen twice at least; without such a
    program the mount may be busy for _BUSY_S.
    """
    mountpoint, first_s = mounted.mountpoint, 0.0
    since_s: dict[int, float] = {}  # pids, and when they were seen first
    while _is_mounted(mounted) and (failure := umount(mountpoint, lazy=lazy)):
        # Programs may use the directory below the mount, which fails with another error.
        users, now_s = programs_using(mountpoint, exclude=exclude), time.monotonic()
        first_s = first_s or now_s
        since_s = {pid: since_s.get(pid, now_s) for pid in users}
        staying = [users[pid] for pid, seen_s in since_s.items() if now_s - seen_s >= _STAYS_S]
        if not users and "busy" not in failure and _is_mounted(mounted):
            raise MountError(f"{mountpoint}: {failure}")
        if staying or now_s - first_s >= _BUSY_S:
            raise _in_use(mountpoint, staying or list(users.values()))
        time.sleep(_POLL_S)


def _is_mounted(mounted: MountEntry) -> bool:
    now = mounted_at(mounted.mountpoint)
    return now is not None and now.device == mounted.device


def _in_use(mountpoint: Path, users: list[str]) -> MountError:
    who = ", ".join(users) or "a program in another namespace or of another user"
    return MountError(
        f"{mountpoint} is in use by {who}",
        hint="end these programs or leave the directory first, or"
        f" `ego4dfs unmount --lazy {shell_word(str(mountpoint))}`",
    )


def _stopped(mountpoint: Path, process: Process) -> MountError:
    return MountError(
        f"{mountpoint} is unmounted, but its process {process.pid} is stopped and cannot exit",
        hint=f"`kill -CONT {process.pid}` lets it exit, `kill -KILL {process.pid}` kills it;"
        " nothing in the cache is lost",
    )


def _await_end(mounted: MountEntry, process: Process | None) -> None:
    began = time.monotonic()
    while (waited := time.monotonic() - began) < _END_S:
        held = is_held(mounted.device)
        if (not process.is_running) if process else (not held):
            return
        if process and process.is_stopped:
            raise _stopped(mounted.mountpoint, process)
        if waited > HELD_S:
            holders = describe_holders(mounted)
            if held or holders:
                raise _held(mounted, process, holders)
        time.sleep(0.02)
    name = f"process {process.pid}" if process else "process"
    raise MountError(
        f"{mounted.mountpoint} is unmounted, but its {name} still runs after {_END_S:.0f} s",
        hint="nothing holds the filesystem; it should exit after its last requests, and"
        f" {f'`kill -KILL {process.pid}`' if process else 'SIGKILL'} kills it",
    )


def _held(mounted: MountEntry, process: Process | None, holders: list[str]) -> MountError:
    name = f"process {process.pid}" if process else "its process"
    who = ", ".join(holders) or "something that is not visible to this process"
    return MountError(
        f"{mounted.mountpoint} is unmounted, but {name} still runs: {who} holds the filesystem",
        hint="it exits once nothing holds the filesystem",
    )
