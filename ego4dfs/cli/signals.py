"""Signals that end a command."""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from ego4dfs.runtime.signals import handled_by

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SQLITE_REPORTS = sys.version_info >= (3, 11)
"""Whether SQLite's module calls `sys.unraisablehook`, and does not print."""
_AGAIN_S = 0.01
"""How long after a lost interrupt it is raised again: the destructor must have ended."""


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which batch schedulers send, end a run as Ctrl-C does.

    So does SIGHUP, which a terminal sends when it is closed, unless it is ignored, as by nohup.
    """

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with handled_by(interrupt, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def lost_interrupts_raised_again() -> Iterator[None]:
    """Raise KeyboardInterrupt again if Python dropped it, until the block has ended.

    A signal may be handled while a destructor, a callback of a weak reference or one of C code
    runs. Python prints what is raised there and goes on, and so would the command. Callbacks of
    SQLite are reported like that from Python 3.11 on. Blocks must not be nested: the end of one
    forgets an interrupt that is to be raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread
        return
    report = sys.unraisablehook

    def raise_again(lost: UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        else:
            report(lost)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = raise_again
    sqlite3.enable_callback_tracebacks(_SQLITE_REPORTS)
    try:
        yield
    finally:
        sqlite3.enable_callback_tracebacks(False)
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
