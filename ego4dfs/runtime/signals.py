"""Handlers of signals that end a process. SIGHUP stays ignored where it is, as by nohup."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Handler = Callable[[int, object], object]


@contextmanager
def handled_by(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Let `handler` handle these signals until the block has ended, but not an ignored SIGHUP.

    Main thread only.
    """
    before = {number: signal.getsignal(number) for number in _not_ignored(numbers)}
    try:
        set_handler(handler, *numbers)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def set_handler(handler: Handler, *numbers: signal.Signals) -> None:
    """Let `handler` handle these signals from now on, but not an ignored SIGHUP.

    Main thread only.
    """
    for number in _not_ignored(numbers):
        signal.signal(number, handler)


def _not_ignored(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    return [
        number
        for number in numbers
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]
