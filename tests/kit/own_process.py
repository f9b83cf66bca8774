"""What this process has open: descriptors of files below a directory, pipes, and threads.

Fixtures and earlier tests share the process: their servers accept connections, and their threads
end, at any time. So a test looks only at what can be its own.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

from kit.processes import open_descriptors


def descriptors_below(directory: Path) -> list[str]:
    """Return the paths of the open descriptors of files at or below a directory, sorted."""
    top = str(directory)
    return sorted(link for link in open_descriptors() if link == top or link.startswith(f"{top}/"))


def pipes() -> set[str]:
    """Return the names of the open pipes."""
    return {link for link in open_descriptors() if link.startswith("pipe:")}


def threads_except(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Return the running threads that are not in `before`, without those of test servers."""
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and "process_request" not in thread.name
    ]
