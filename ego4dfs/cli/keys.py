"""Single keys from the terminal, without Enter and without echo."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FIRST_BYTES = 64


@contextmanager
def single_keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for keys, and returns those that came within some seconds.

    Ctrl-C still raises KeyboardInterrupt. Ctrl-Z, and Ctrl with a backslash, do nothing: a program
    that is stopped or killed would leave the terminal as it is now. If stdin is no terminal, the
    function only waits. The terminal is as before afterwards.
    """
    fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    if fd is None:
        yield _wait
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        settings = termios.tcgetattr(fd)
        settings[6][termios.VSUSP] = settings[6][termios.VQUIT] = b"\0"
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        yield lambda seconds: _read(fd, seconds)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _wait(seconds: float) -> str:
    time.sleep(max(0.0, seconds))
    return ""


def _read(fd: int, seconds: float) -> str:
    if not select.select([fd], [], [], max(0.0, seconds))[0]:
        return ""
    keys = os.read(fd, _FIRST_BYTES)
    if not keys:  # the terminal is gone
        raise KeyboardInterrupt
    return keys.decode(errors="replace")
