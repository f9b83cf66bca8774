"""Progress of `ego4dfs clip`: seconds of video that are written."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TextIO

from ego4dfs.cli.progress import Progress
from ego4dfs.clips import ClipReport
from ego4dfs.text import counted, printable

_FIRST_S = 1.0  # most clips are written by then


class ClipProgress(Progress):
    """Shows how many seconds of video are written; a context manager, used from one thread."""

    _counts_video = True

    def __init__(self, stream: TextIO | None) -> None:
        """Show progress on `stream`; with None, nowhere."""
        super().__init__(stream)
        self._next_s = max(self._next_s, self._began_s + _FIRST_S)

    def clip(self, name: str, done_s: float, total_s: float) -> None:
        """Show one clip."""
        self._update(printable(name), done_s, total_s)

    def clips(self, report: ClipReport) -> None:
        """Show the state of a run."""
        self.outage(report.outage)
        failed = f", {report.failed} failed" if report.failed else ""
        text = f"{report.done_windows} of {counted(report.windows, 'clip')}{failed}"
        self._update(text, report.done_s, report.seconds)

    def _update(self, text: str, done_s: float, total_s: float) -> None:
        is_last = self._bars is not None and done_s >= total_s
        if not (self._is_due() or is_last) or (self._is_offline and not self._is_terminal):
            return
        if self._is_terminal:
            self._started_bars().show("", text, done_s, total_s)
            return
        speed = done_s / max(time.monotonic() - self._began_s, 0.001)
        left = f", {timedelta(seconds=int((total_s - done_s) / speed))} left" if speed else ""
        self._line(f"{text}, {done_s:.0f} of {total_s:.0f} s{left}")
