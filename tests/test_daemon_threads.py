"""Threads in groups: bounded in number, and waited for in bounded time."""

from __future__ import annotations

import threading
import time

import pytest

from ego4dfs.runtime import daemon_threads
from ego4dfs.runtime.daemon_threads import (
    CallTimeout,
    DaemonThreadPool,
    call_with_timeout,
    map_parallel,
)
from kit.processes import wait_until


class Gate:
    """Tasks that wait until it is opened, and count."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.begun += 1
        assert self.open.wait(600)  # longer than a test may take


def test_a_group_has_at_most_its_number_of_threads():
    gate, many = Gate(), DaemonThreadPool("test")
    assert all(many.submit(gate, group="a", limit=3) for _ in range(8))
    wait_until(lambda: gate.begun == 3)
    time.sleep(0.05)
    assert gate.begun == 3
    gate.open.set()
    assert many.close(10)
    assert gate.begun == 8


def test_a_group_that_hangs_does_not_affect_another():
    gate, done, many = Gate(), threading.Event(), DaemonThreadPool("test")
    for _ in range(8):
        many.submit(gate, group="hangs", limit=4)
    assert many.submit(done.set, group="healthy", limit=4)
    assert done.wait(10)
    gate.open.set()
    assert many.close(10)


def test_urgent_tasks_of_a_group_run_before_its_other_tasks():
    gate, done, many = Gate(), threading.Event(), DaemonThreadPool("test")
    for _ in range(8):
        many.submit(gate, group="a", limit=4)
    wait_until(lambda: gate.begun == 4)
    many.submit(done.set, group="a", limit=8)
    assert done.wait(10)
    gate.open.set()
    assert many.close(10)


def test_a_queued_task_can_become_urgent():
    gate, done, many = Gate(), threading.Event(), DaemonThreadPool("test")
    for _ in range(6):
        many.submit(gate, group="a", limit=4)
    many.submit(done.set, group="a", limit=4)
    wait_until(lambda: gate.begun == 4)
    many.expedite(done.set, 8)  # another bound method
    assert not done.wait(0.05)
    many.submit(task := gate.open.set, group="a", limit=4)
    many.expedite(task, 8)
    assert done.wait(10)
    assert many.close(10)


def test_closing_waits_no_longer_than_its_limit():
    gate, many = Gate(), DaemonThreadPool("test")
    many.submit(gate, limit=1)
    assert not many.close(0.1)
    assert not many.submit(gate, limit=1)
    gate.open.set()


def test_idle_threads_end(monkeypatch):
    monkeypatch.setattr(daemon_threads, "IDLE_S", 0.05)
    many = DaemonThreadPool("idlers")
    many.submit(lambda: None, limit=1)
    wait_until(lambda: not any(t.name == "idlers" for t in threading.enumerate()))
    done = threading.Event()
    assert many.submit(done.set, limit=1)
    assert done.wait(10)


def test_a_task_that_fails_does_not_end_its_thread():
    many, done = DaemonThreadPool("test"), threading.Event()
    many.submit(lambda: 1 / 0, limit=1)
    many.submit(done.set, limit=1)
    assert done.wait(10)


def refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_nothing_is_accepted_when_no_thread_is_available(monkeypatch):
    """A refused task does not run later either."""
    ran = []
    many = DaemonThreadPool("test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not many.submit(lambda: ran.append(1), limit=4)
    assert many.submit(lambda: ran.append(2), limit=4)
    assert many.close(10)
    assert ran == [2]


def test_a_task_waits_for_an_existing_thread_when_no_other_is_available(monkeypatch):
    gate, done, many = Gate(), threading.Event(), DaemonThreadPool("test")
    many.submit(gate, limit=4)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert many.submit(done.set, limit=4)
    gate.open.set()
    assert done.wait(10)


def test_map_parallel_returns_results_in_order_from_several_threads():
    barrier = threading.Barrier(3)

    def double(number: int) -> int:
        if number < 3:
            barrier.wait(30)  # three at a time, or never
        return 2 * number

    assert map_parallel(double, range(9), threads=3, name="test") == [2 * n for n in range(9)]


def test_map_parallel_works_without_another_thread(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert map_parallel(str, range(3), threads=3, name="test") == ["0", "1", "2"]


def test_map_parallel_raises_what_its_function_raises():
    with pytest.raises(ZeroDivisionError):
        map_parallel(lambda number: 1 / number, [1, 0], threads=2, name="test")


def test_ctrl_c_ends_map_parallel_before_the_next_item():
    begun: list[int] = []

    def interrupted(number: int) -> None:
        begun.append(number)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_parallel(interrupted, range(100), threads=1, name="test")
    assert begun == [0]


def test_a_call_that_does_not_return_in_time_is_abandoned():
    gate = Gate()
    with pytest.raises(CallTimeout):
        call_with_timeout(0.1, gate, name="test")
    gate.open.set()


def test_a_call_that_returns_in_time_has_its_result(monkeypatch):
    assert call_with_timeout(60, lambda: 7, name="test") == 7
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(60, lambda: 1 / 0, name="test")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert call_with_timeout(60, lambda: 7, name="test") == 7


def test_a_task_that_ends_wakes_no_idle_thread(monkeypatch):
    """Each of many idle threads that looked for work would cost more than the work."""
    gate, many = Gate(), DaemonThreadPool("test")
    for _ in range(24):
        many.submit(gate, limit=24)
    wait_until(lambda: gate.begun == 24)
    gate.open.set()
    wait_until(lambda: not many._running)
    looks, look = [0], DaemonThreadPool._runnable

    def counted(self: DaemonThreadPool) -> object:
        looks[0] += 1
        return look(self)

    monkeypatch.setattr(DaemonThreadPool, "_runnable", counted)
    for _ in range(50):
        done = threading.Event()
        many.submit(done.set, limit=24)
        assert done.wait(10)
    assert looks[0] <= 4 * 50
    assert many.close(10)


def test_groups_that_hang_with_all_threads_leave_one_for_another(monkeypatch):
    monkeypatch.setattr(daemon_threads, "MAX_THREADS", 6)
    gate, done, many = Gate(), threading.Event(), DaemonThreadPool("test")
    for _ in range(6):
        many.submit(gate, group="hangs", limit=96)
        many.submit(gate, group="hangs too", limit=96)
    wait_until(lambda: gate.begun >= 6)
    assert many.submit(done.set, group="healthy", limit=96)
    assert done.wait(10)
    assert many._threads <= 2 * 6
    gate.open.set()
    assert many.close(10)
