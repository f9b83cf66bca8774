"""Ctrl-C and SIGTERM end a command, wherever its main thread is when they come."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sqlite3
import sys
import threading
import time
import weakref
from contextlib import closing, suppress

import pytest

from ego4dfs.cli.output import guard
from ego4dfs.cli.signals import terminated_as_interrupted

pytestmark = pytest.mark.first_pass


class Dropped:
    """An object with a weak reference."""


class Destructor:
    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


def in_a_destructor(call):
    Destructor(call)


def in_a_callback_of_a_weak_reference(call):
    one = Dropped()
    reference = weakref.ref(one, lambda _: call())
    del one
    assert reference() is None


def in_a_callback_of_the_garbage_collector(call):
    def collect(phase, _):
        if phase == "start":
            call()

    gc.callbacks.append(collect)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(collect)


def in_a_callback_of_c_code(call):
    ctypes.CFUNCTYPE(None)(call)()


def in_a_callback_of_sqlite(call):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.create_function("call", 0, call)
        with suppress(sqlite3.OperationalError):
            connection.execute("SELECT call()").fetchall()


def in_its_own_code(call):
    call()


@pytest.mark.fault(
    area="processes",
    fault="Ctrl-C, SIGTERM or SIGHUP while Python runs code from which nothing can be raised",
    face="every command",
    sees="the end of the command, as at any other moment",
    deadline="at once",
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "where",
    [
        in_a_destructor,
        in_a_callback_of_a_weak_reference,
        in_a_callback_of_the_garbage_collector,
        in_a_callback_of_c_code,
        *([in_a_callback_of_sqlite] if sys.version_info >= (3, 11) else []),
        in_its_own_code,
    ],
)
def test_an_interrupt_ends_a_command_wherever_it_comes(where, number, capfd):
    def run():
        with terminated_as_interrupted():
            where(lambda: os.kill(os.getpid(), number))
            for _ in range(600):
                time.sleep(0.05)
        return 0

    before = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    assert guard(run) == 130
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == before
    assert capfd.readouterr().err == ""


def test_a_command_that_ignores_sighup_goes_on():
    """As one that nohup has started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminated_as_interrupted():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_errors_of_such_code_are_reported_as_python_does(monkeypatch):
    found = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    assert guard(lambda: in_a_destructor(lambda: 1 / 0) or 0) == 0
    assert [one.exc_type for one in found] == [ZeroDivisionError]


def test_an_interrupt_that_came_too_late_does_not_end_what_follows():
    assert guard(lambda: in_a_destructor(lambda: os.kill(os.getpid(), signal.SIGINT)) or 0) == 0
    time.sleep(0.05)


def test_a_command_in_another_thread_changes_no_signal():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(guard(lambda: 0)))
    thread.start()
    thread.join()
    assert codes == [0]
