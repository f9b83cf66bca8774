"""Signals that end a command."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_S = 0.01
"""How long after a lost interrupt it is raised again: the destructor must have ended."""


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM, which batch schedulers send, end a run as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def lost_interrupts_raised_again() -> Iterator[None]:
    """Raise KeyboardInterrupt again if Python dropped it, until the block has ended.

    A signal may be handled while a destructor, a callback of a weak reference or one of C code
    runs. Python prints what is raised there and goes on, and so would the command.
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
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
