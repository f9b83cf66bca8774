"""KernelCache: what the kernel has cached of the files of a mount: sizes, and pages of versions."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter, OrderedDict
from typing import Any

from ego4dfs.vfs import Handle
from ego4dfs.vfs.windows import WINDOWS_DIRECTORY

MAX_WINDOWS = 1 << 16
"""How many windows have an entry: there may be any number of them."""


class KernelCache:
    """The size that the kernel has of each file, and the version of which it may have pages.

    Both have one entry for each path that was looked at: at most the files of the tree, which take
    about 200 bytes each, and the last MAX_WINDOWS windows. The kernel does not report what it
    drops. Paths may have a leading slash. Safe from several threads.
    """

    def __init__(self) -> None:
        """Begin with nothing cached."""
        self._versions: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._windows: OrderedDict[str, None] = OrderedDict()  # in the order of lookups
        self._open: Counter[str] = Counter()  # how many handles each open file has
        self._lock = threading.Lock()  # guards all of them together

    def size(self, path: str, default: int) -> int:
        """Return the size that the kernel has of a file."""
        return self._sizes.get(path.strip("/"), default)

    def record_size(self, path: str, size: int, *, replace: bool = False) -> bool:
        """Record the size that is sent to the kernel; False if the file is open with another one.

        The kernel cuts reads through all descriptors of a file at the last size that it was sent.
        With `replace`, the size is known to be right.
        """
        path = path.strip("/")
        with self._lock:
            if self._sizes.get(path, size) != size and path in self._open and not replace:
                return False
            self._sizes[path] = size
            if is_below_windows(path):
                self._windows[path] = None
                self._windows.move_to_end(path)
                self._forget_windows()
            return True

    def open(self, handle: Handle, fi: Any) -> None:
        """Count a handle; keep the kernel's pages only if they are of the same version.

        Raises ESTALE if the kernel has cached another size, because it cuts reads at that size, or
        if the size of a window was forgotten. After ESTALE the kernel looks up the path again, gets
        its size, and repeats the open.
        """
        path = handle.path
        with self._lock:
            known = self._sizes.get(path)
            if known != handle.size and (known is not None or is_below_windows(path)):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            self._sizes[path] = handle.size
            # Of a window that was forgotten there may be pages of any version.
            before = self._versions.get(path, "" if is_below_windows(path) else handle.version)
            fi.keep_cache = before == handle.version
            # The page cache belongs to the path, not to the descriptor: versions must not share it.
            fi.direct_io = before != handle.version and path in self._open
            self._versions[path] = handle.version
            self._open[path] += 1

    def release(self, handle: Handle) -> None:
        """Count a handle that was closed; one that was not counted has no effect."""
        with self._lock:
            self._open[handle.path] -= 1
            if self._open[handle.path] <= 0:
                del self._open[handle.path]

    def is_current(self, handle: Handle) -> bool:
        """Return whether no other version of the file was opened since."""
        return self._versions.get(handle.path, handle.version) == handle.version

    def _forget_windows(self) -> None:
        for _ in range(len(self._windows) - MAX_WINDOWS):
            path, _ = self._windows.popitem(last=False)
            if path in self._open:
                self._windows[path] = None
            else:
                self._sizes.pop(path, None)
                self._versions.pop(path, None)


def is_below_windows(path: str) -> bool:
    """Return whether a path, with or without a leading slash, is below the windows' directory."""
    return path.strip("/").startswith(f"{WINDOWS_DIRECTORY}/")
