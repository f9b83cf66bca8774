"""KernelReadahead: how far the kernel reads ahead in the files of a mount that are opened now."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

LARGE_KIB = 1024
"""For files that are read to their end: fewer requests of the kernel, a third less CPU."""
SMALL_KIB = 64
"""For windows of videos: what the kernel reads ahead after an index, and after the last picture of
a window, is fetched for nothing; with LARGE_KIB half as many bytes again as are needed."""
KERNEL_KIB = 128
"""The kernel's default."""
_REMEMBERED = 8


class KernelReadahead:
    """Sets the read-ahead of a mount at each open, because the kernel copies it then.

    It is small for videos if most of those that were read last were read in windows, and before
    any was read, for those whose index is recorded: programs that read videos whole do not record
    it. Only root can change it; for others it stays KERNEL_KIB. Of two opens at the same moment,
    one may get the read-ahead of the other. Safe from several threads.
    """

    def __init__(self) -> None:
        """Set nothing before `attach`."""
        self._file: Path | None = None
        self._kib = 0
        self._windows: deque[bool] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()  # guards _kib and the file

    def attach(self, file: Path) -> None:
        """Use the file `read_ahead_kb` of the mounted device."""
        self._file = file
        self._set(LARGE_KIB)

    def at_open(self, *, is_video: bool, has_index: bool = False) -> None:
        """Set the read-ahead for a file just before its open is answered.

        `has_index` says whether the index of a video is recorded.
        """
        windows = list(self._windows) or [has_index]
        is_small = is_video and sum(windows) > len(windows) / 2
        self._set(SMALL_KIB if is_small else LARGE_KIB)

    def video_closed(self, *, reads_windows: bool) -> None:
        """Record how a video was read."""
        self._windows.append(reads_windows)

    def _set(self, kib: int) -> None:
        if self._file is None or kib == self._kib:
            return
        with self._lock, suppress(OSError):
            self._kib = kib  # also if that is refused: the next attempt would be, too
            self._file.write_text(str(kib))
