"""What this process has open: descriptors of files below a directory, pipes, and threads.

Fixtures and earlier tests share the process: their servers accept connections, and their threads
end, at any time. So a test looks only at what can be its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path


def descriptors_below(directory: Path) -> list[str]:
    """Return the paths of the open descriptors of files at or below a directory, sorted."""
    top = str(directory)
    return sorted(link for link in _links() if link == top or link.startswith(f"{top}/"))


def pipes() -> set[str]:
    """Return the names of the open pipes."""
    return {link for link in _links() if link.startswith("pipe:")}


def threads_except(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Return the running threads that are not in `before`, without those of test servers."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and "process_request" not in thread.name
    ]


def _links() -> Iterator[str]:
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile, such as the one that lists them
            yield os.readlink(f"/proc/self/fd/{entry}")
