"""PeriodicThread: steps at an interval, one at the end, and a bound on the wait for it."""

from __future__ import annotations

import threading

import pytest

from ego4dfs.runtime.periodic_thread import PeriodicThread
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass


def test_it_begins_once_steps_and_ends_with_a_step():
    calls = []
    one = PeriodicThread(
        lambda: calls.append("step"), 0.01, name="p", begin=lambda: calls.append("begin")
    )
    one.start()
    wait_until(lambda: len(calls) > 2)
    one.close(10.0)
    assert (calls[0], set(calls[1:])) == ("begin", {"step"})
    count = len(calls)
    one.close(10.0)
    assert len(calls) == count


def test_a_step_that_hangs_does_not_hold_the_end():
    release = threading.Event()
    one = PeriodicThread(release.wait, 3600.0, name="p")
    one.start()
    one.close(0.01)
    release.set()


def test_without_a_thread_nothing_is_called(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one = PeriodicThread(lambda: 1 / 0, 0.01, name="p")
    one.start()
    one.close(1.0)
