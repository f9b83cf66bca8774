"""Locks on ranges of a file: between processes, after a fork, and where locks do not work."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

from ego4dfs.runtime import range_locks
from ego4dfs.runtime.range_locks import LockWait, RangeLocks
from kit.own_process import descriptors_below
from kit.processes import wait_until

HOLD = """
import sys, time
from pathlib import Path
from ego4dfs.runtime.range_locks import RangeLocks
locks = RangeLocks(Path(sys.argv[1]))
assert locks.acquire(100, 10)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "requests.lock"


def test_ranges_that_overlap_are_locked_by_one(path):
    one, other = RangeLocks(path), RangeLocks(path)
    assert one.acquire(2**62, 4)
    assert not other.acquire(2**62 + 3, 4)
    assert other.acquire(2**62 + 4, 4)
    one.release(2**62, 2)
    assert other.acquire(2**62, 2)
    assert not other.acquire(2**62 + 2)
    one.close()
    assert other.acquire(2**62 + 2)
    other.close()
    assert descriptors_below(path.parent) == []


def test_a_killed_process_holds_no_range(path, spawn):
    process = spawn([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    locks = RangeLocks(path)
    assert not locks.acquire(105)
    process.kill()
    wait_until(lambda: locks.acquire(105), 10)
    locks.close()


def test_a_forked_child_has_no_part_in_the_locks_of_its_parent(path):
    """Else they would be held until the child ends, and the child would not respect them."""
    locks, other = RangeLocks(path), RangeLocks(path)
    assert locks.acquire(1)
    ready, go_on = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.write(ready[1], b"+" if not locks.acquire(1) else b"-")
        os.read(go_on[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1) == b"+"
    locks.close()
    assert other.acquire(1)
    os.write(go_on[1], b".")
    os.waitpid(pid, 0)
    other.close()
    for end in (*ready, *go_on):
        os.close(end)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_locks_do_not_work_nobody_waits(path, monkeypatch, reason):
    calls = []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    one, other = RangeLocks(path), RangeLocks(path)
    assert one.acquire(1)
    assert other.acquire(1)
    assert len(calls) == 2
    assert one.acquire(1)
    one.release(1)
    assert len(calls) == 3, "locked again soon after an error"
    with other.held("name") as was_held:
        assert not was_held


def test_without_a_directory_or_ofd_locks_nobody_waits(tmp_path, path, monkeypatch):
    nowhere = RangeLocks(tmp_path / "missing" / "lock")
    assert nowhere.acquire(1)
    nowhere.release(1)
    monkeypatch.setattr(range_locks, "_SET_LOCK", None)
    one, other = RangeLocks(path), RangeLocks(path)
    assert one.acquire(1)
    assert other.acquire(1)
    one.close()
    other.close()


def test_a_name_is_awaited_and_the_second_is_told_so(path, monkeypatch):
    one, other = RangeLocks(path), RangeLocks(path)
    found: list[bool] = []
    locked: list[bool] = []
    acquire = other.acquire

    def recorded(start: int, length: int = 1) -> bool:
        locked.append(acquire(start, length))
        return locked[-1]

    monkeypatch.setattr(other, "acquire", recorded)

    def hold() -> None:
        with other.held("manifest") as was_held:
            found.append(was_held)

    with one.held("manifest") as was_held, one.held("another"):
        assert not was_held
        thread = threading.Thread(target=hold)
        thread.start()
        wait_until(lambda: len(locked) > 1)
        assert found == []
    thread.join(60)
    assert not any(locked[:-1])
    assert found == [True]
    assert one.acquire(0, 2**62), "a name stays locked"
    one.close()


@pytest.mark.parametrize("way", ["held", "held_if_free"])
def test_a_name_may_stay_locked_after_the_block(path, way):
    one, other = RangeLocks(path), RangeLocks(path)
    unlocks = []
    with getattr(one, way)("facts", unlocks.append):
        assert unlocks == []
    assert not other.acquire_name("facts")
    [unlock] = unlocks
    unlock()
    assert other.acquire_name("facts")
    one.close()
    other.close()


def test_a_wait_that_failed_is_not_repeated(path, monkeypatch):
    """The other process may be stopped: each name would cost the wait."""
    monkeypatch.setattr(range_locks, "WAIT_S", 0.05)
    one, other = RangeLocks(path), RangeLocks(path)
    with one.held("a"), one.held("b"):
        assert other.may_wait
        with other.held("a") as was_held:
            assert was_held
        assert not other.may_wait
        monkeypatch.setattr(range_locks, "WAIT_S", 600.0)
        with other.held("b") as was_held:
            assert was_held
    other.close()
    one.close()


def test_a_wait_that_has_failed_is_noted_also_by_a_thread_that_was_not_run_for_a_while(
    path, monkeypatch
):
    """The thread stops between two looks at the clock as the wait begins."""
    holder, other = RangeLocks(path), RangeLocks(path)
    assert holder.acquire(0)
    times = itertools.chain((0.0, 0.4, 0.55, 0.6, 0.65), itertools.count(1.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    wait = LockWait(other, 0.5)
    while not other.acquire(0) and wait.pause():
        pass
    monkeypatch.undo()
    assert other._no_wait_until_s > 0
