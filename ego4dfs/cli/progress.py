"""Progress of a prefetch: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from ego4dfs.cli.output import human_size, say
from ego4dfs.prefetch import Report
from ego4dfs.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_LINE_EVERY_S = 5.0
_BAR_EVERY_S = 0.2
_FILES_SHOWN = 8


class Progress:
    """Shows how far a run is; a context manager, used from one thread."""

    def __init__(self, stream: TextIO | None) -> None:
        """Show it on `stream`, or nowhere."""
        self._stream = stream
        self._is_terminal = stream is not None and stream.isatty()
        self._next_s = time.monotonic() + (0.0 if self._is_terminal else _LINE_EVERY_S)
        self._began_s = time.monotonic()
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Progress:  # noqa: PYI034 - typing.Self is 3.11
        """Begin; nothing is shown before there is something to show."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state standing."""
        if self._bars is not None:
            self._bars.stop()

    def facts(self, done: int, total: int) -> None:
        """Show how many objects were asked for their size."""
        if time.monotonic() - self._began_s >= _LINE_EVERY_S and self._is_due():
            self._line(f"asked for the sizes of {done} of {total} objects")

    def show(self, report: Report) -> None:
        """Show the state of a run."""
        if not self._is_due() or not report.moved_bytes + report.total_bytes:
            return
        if self._is_terminal:
            self._draw(report)
        else:
            self._line(_told(report, time.monotonic() - self._began_s))

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        if self._stream is None or now_s < self._next_s:
            return False
        self._next_s = now_s + (_BAR_EVERY_S if self._is_terminal else _LINE_EVERY_S)
        return True

    def _line(self, text: str) -> None:
        say(text, file=self._stream, flush=True)

    def _draw(self, report: Report) -> None:
        if self._bars is None:
            self._bars = self._new_bars()
            self._bars.start()
        files = f"{report.finished} of {report.files} files"
        self._bar("", files, report.moved_bytes, report.total_bytes)
        under_way = dict(list(report.under_way().items())[:_FILES_SHOWN])
        for path, (there, size) in under_way.items():
            self._bar(path, printable(path.rpartition("/")[2]), there, size)
        for path in [path for path in self._tasks if path and path not in under_way]:
            self._bars.remove_task(self._tasks.pop(path))

    def _bar(self, key: str, text: str, done: int, total: int) -> None:
        if self._bars is None:
            return
        total = max(total, done)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(text, total=total, completed=done)
        self._bars.update(self._tasks[key], description=text, completed=done, total=total)

    def _new_bars(self) -> Bars:
        from rich.console import Console  # noqa: PLC0415 - only a terminal pays for it
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
        )


def _told(report: Report, seconds: float) -> str:
    """Return the state of a run in one line."""
    speed = report.fetched_bytes / max(seconds, 0.001)
    left = max(0, report.total_bytes - report.moved_bytes)
    time_left = f", {timedelta(seconds=int(left / speed))} left" if speed >= 1 and left else ""
    total = f" of {human_size(report.total_bytes)}" if report.total_bytes else ""
    return (
        f"{report.finished} of {report.files} files, {human_size(report.moved_bytes)}{total},"
        f" {human_size(int(speed))}/s{time_left}"
    )
