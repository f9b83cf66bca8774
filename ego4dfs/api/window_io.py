"""WindowIO: the MP4 of a window of a video as a Python file, which is read as it is needed."""

from __future__ import annotations

import io
import os
from typing import Any

from ego4dfs.vfs.window_file import WindowFile

BUFFER_BYTES = 256 << 10
"""What video readers get at a time, however little they ask for."""


class WindowIO(io.RawIOBase):
    """An open WindowFile as a raw file with a position. Used from one thread, and one process.

    Reads raise as `VFS.read` does, and ValueError in a forked child.
    """

    def __init__(self, file: WindowFile) -> None:
        """Read `file` from its start."""
        self._file = file
        self._position = 0
        self._pid = os.getpid()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset from the start, the position or the end; return the new position."""
        bases = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._file.size,
        }
        if whence not in bases or bases[whence] + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._position = bases[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer and return the number of bytes; 0 at the end."""
        if os.getpid() != self._pid:  # pragma: no cover -- a child is not measured
            raise ValueError("the window was opened in another process; open it in this one")
        count = self._file.read_into(self._position, memoryview(buffer).cast("B"))
        self._position += count
        return count
