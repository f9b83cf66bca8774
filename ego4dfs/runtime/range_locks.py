"""Locks on byte ranges of one file, between processes; the kernel releases those of a dead one."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ego4dfs.runtime.deadline import CONNECT_S, QUIET_S, Deadline
from ego4dfs.runtime.forks import renew_lock_in_children

log = logging.getLogger(__name__)

WAIT_S = QUIET_S
"""How long to wait for another process that makes no progress."""
NAME_WAIT_S = CONNECT_S
"""How long to wait for a name: then ANSWER_S still has time for a request that fails."""
NO_WAIT_S = 60.0
"""How long not to wait after such a wait, as the other process may be stopped, and how long not to
lock after an error."""

_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)  # only Linux has it
_HELD = (errno.EAGAIN, errno.EACCES)
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.001, 0.02

Until = Callable[[Callable[[], None]], None]


def _now(unlock: Callable[[], None]) -> None:
    unlock()


class RangeLocks:
    """Byte ranges of a file, locked against other processes and other objects of this class.

    The file stays empty: a range is a number on which processes agree. Threads that lock one range
    of the same object do not exclude each other, and the first release ends all their locks. If
    the file cannot be locked, such as on NFS without its lock service, every range counts as
    locked: then no process waits for another one. Safe from several threads, and after a fork.
    """

    def __init__(self, path: Path) -> None:
        """Lock ranges of the file at `path`, which is created at the first use."""
        self._path = path
        self._fd: int | None = None
        self._is_closed = False
        self._unusable_until_s = 0.0
        self._no_wait_until_s = 0.0
        self.renew_lock()
        renew_lock_in_children(self)

    def renew_lock(self) -> None:
        """Replace the lock, and close the descriptor: in a child, it keeps its parent's locks."""
        self._lock = threading.Lock()  # guards _fd
        self._close_file()

    def acquire(self, start: int, length: int = 1) -> bool:
        """Lock a range now; return False while another process has locked some of it."""
        if self._is_closed or time.monotonic() < self._unusable_until_s:
            return True
        try:
            self._set(fcntl.F_WRLCK, start, length)
        except OSError as error:
            if error.errno in _HELD:
                return False
            log.info("%s: requests are not shared with other processes: %s", self._path, error)
            self._unusable_until_s = time.monotonic() + NO_WAIT_S
        return True

    def release(self, start: int, length: int = 1) -> None:
        """Unlock a range, whether all, some or none of it is locked."""
        if self._fd is None:
            return
        try:
            self._set(fcntl.F_UNLCK, start, length)
        except OSError:  # the kernel releases it, and all others, with the descriptor
            self._close_file()

    @contextmanager
    def held(self, name: str, until: Until = _now) -> Iterator[bool]:
        """Run the block with a name locked; yield whether another process had locked it before.

        After it, `until` is called with a function that unlocks the name, and calls that now or
        later. If another process does not unlock the name within NAME_WAIT_S, the block runs
        without the lock.
        """
        wait = LockWait(self, NAME_WAIT_S)
        is_locked = self.acquire_name(name)
        was_held = not is_locked
        while not is_locked and wait.pause():
            is_locked = self.acquire_name(name)
        try:
            yield was_held
        finally:
            if is_locked:
                until(partial(self.release_name, name))

    @contextmanager
    def held_if_free(self, name: str, until: Until = _now) -> Iterator[bool]:
        """Run the block with a name locked, without a wait; yield False if another one has it.

        `until` is that of `held`.
        """
        is_locked = self.acquire_name(name)
        try:
            yield is_locked
        finally:
            if is_locked:
                until(partial(self.release_name, name))

    def acquire_name(self, name: str) -> bool:
        """Lock a name now; return False while another process has locked it."""
        return self.acquire(_number(name))

    def release_name(self, name: str) -> None:
        """Unlock a name, whether it is locked or not."""
        self.release(_number(name))

    @property
    def may_wait(self) -> bool:
        """Whether no wait has failed within the last NO_WAIT_S."""
        return time.monotonic() >= self._no_wait_until_s

    def note_failed_wait(self) -> None:
        """Begin no other wait for NO_WAIT_S, and end those that run."""
        log.info("%s: another process has not finished its request in time", self._path)
        self._no_wait_until_s = time.monotonic() + NO_WAIT_S

    def close(self) -> None:
        """Release all ranges; from now on nothing is locked."""
        self._is_closed = True
        self._close_file()

    def _close_file(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def _set(self, kind: int, start: int, length: int) -> None:
        if _SET_LOCK is None:
            raise OSError(errno.ENOSYS, "no such locks on this system")
        request = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
        with self._lock:
            if self._fd is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
            fcntl.fcntl(self._fd, _SET_LOCK, request)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")


class LockWait:
    """A wait for ranges that another process has locked. Used from one thread."""

    def __init__(self, locks: RangeLocks, wait_s: float | None = None) -> None:
        """Begin to wait, for `wait_s` at most, or for WAIT_S."""
        self._locks = locks
        self._wait_s = WAIT_S if wait_s is None else wait_s
        self.note_progress()

    def note_progress(self) -> None:
        """Wait as long again from now on: the other process is not stopped."""
        self._until_s = time.monotonic() + self._wait_s  # first: it is not after the deadline
        self._deadline, self._pause_s = Deadline.after(self._wait_s), _FIRST_PAUSE_S

    def pause(self) -> bool:
        """Sleep before the next attempt; return False if the wait is over."""
        if self._deadline.has_passed or not self._locks.may_wait:
            if time.monotonic() >= self._until_s:  # not only the deadline of this call has passed
                self._locks.note_failed_wait()
            return False
        time.sleep(self._pause_s)
        self._pause_s = min(_MAX_PAUSE_S, self._pause_s * 2)
        return True
