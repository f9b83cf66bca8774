"""What this process has open: descriptors of files below a directory, pipes, and threads.

Fixtures and earlier tests share the process: their servers accept connections, and their threads
start and end, at any time. So a test looks only at what can be its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.processes import open_descriptors


def descriptors_below(directory: Path) -> list[str]:
    """Return the paths of the open descriptors of files at or below a directory, sorted."""
    top = str(directory)
    return sorted(link for link in open_descriptors() if link == top or link.startswith(f"{top}/"))


def pipes() -> set[str]:
    """Return the names of the open pipes."""
    return {link for link in open_descriptors() if link.startswith("pipe:")}


@contextmanager
def started_threads() -> Iterator[list[threading.Thread]]:
    """Collect the threads that the caller starts in the block, and those that these start.

    Threads of earlier tests start others at any time, such as the timer of an index that was not
    closed; they are not collected.
    """
    started: list[threading.Thread] = []
    caller, start = threading.current_thread(), threading.Thread.start

    def collect(thread: threading.Thread) -> None:
        if (starter := threading.current_thread()) is caller or starter in started:
            started.append(thread)
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", collect)
        yield started
