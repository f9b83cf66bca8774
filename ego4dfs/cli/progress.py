"""Progress of a prefetch: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeVar

from ego4dfs.cli.output import say
from ego4dfs.prefetch import Outage, Report
from ego4dfs.text import human_size, human_time, printable

if TYPE_CHECKING:
    from ego4dfs.cli.progress_bars import ProgressBars

_Progress = TypeVar("_Progress", bound="Progress")

_LINE_EVERY_S = 5.0
_BAR_EVERY_S = 0.2
_FILES_SHOWN = 8


class Progress:
    """Shows the progress of a run; a context manager, used from one thread."""

    _counts_video = False  # seconds of video in place of bytes

    def __init__(self, stream: TextIO | None) -> None:
        """Show progress on `stream`; with None, nowhere."""
        self._stream = stream
        is_dumb = os.environ.get("TERM", "") in {"dumb", "unknown"}
        self._is_terminal = stream is not None and stream.isatty() and not is_dumb
        self._next_s = time.monotonic() + (0.0 if self._is_terminal else _LINE_EVERY_S)
        self._began_s = time.monotonic()
        self._next_line_s = self._began_s + _LINE_EVERY_S
        self._bars: ProgressBars | None = None
        self._is_offline = False

    def __enter__(self: _Progress) -> _Progress:  # noqa: PYI019 - typing.Self needs 3.11
        """Return self; the bars start with the first update."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the bars; their last state stays on the screen."""
        if self._bars is not None:
            self._bars.stop()

    def facts(self, done: int, total: int) -> None:
        """Show how many sizes were fetched."""
        self._rare_line(f"fetched the sizes of {done} of {total} objects")

    def checked(self, done: int, total: int) -> None:
        """Show how many files were compared."""
        self._rare_line(f"compared {done} of {total} files")

    def rows(self, count: int) -> None:
        """Show how many rows were read."""
        self._rare_line(f"read {count} rows")

    def show(self, report: Report) -> None:
        """Show the state of a run."""
        self.outage(report.outage)
        if not self._is_due() or not report.moved_bytes + _total_bytes(report):
            return
        if self._is_terminal:
            self._draw(report)
        elif not self._is_offline:
            self._line(_state(report, time.monotonic() - self._began_s))

    def outage(self, outage: Outage) -> None:
        """Show that the store does not answer, or that it answers again.

        On a terminal the text is below the bars; elsewhere it is a line.
        """
        lasts_s = outage.lasts_s
        if self._is_terminal and self._bars is not None:
            self._bars.note = _unreachable(lasts_s, outage.retry_for_s) if lasts_s else ""
        elif bool(lasts_s) != self._is_offline and self._stream is not None:
            if lasts_s:
                self._line(_unreachable(lasts_s, outage.retry_for_s))
            else:
                self._line("store reachable again")
        self._is_offline = bool(lasts_s)

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        if self._stream is None or now_s < self._next_s:
            return False
        self._next_s = now_s + (_BAR_EVERY_S if self._is_terminal else _LINE_EVERY_S)
        return True

    def _rare_line(self, text: str) -> None:
        """Print a line every few seconds, also on a terminal: for what has no bar."""
        now_s = time.monotonic()
        if self._stream is not None and now_s >= self._next_line_s:
            self._next_line_s = now_s + _LINE_EVERY_S
            self._line(text)

    def _line(self, text: str) -> None:
        say(text, file=self._stream, flush=True)

    def _draw(self, report: Report) -> None:
        bars = self._started_bars()
        bars.show("", _files(report), report.moved_bytes, _total_bytes(report))
        under_way = dict(list(report.under_way().items())[:_FILES_SHOWN])
        for path, (done, size) in under_way.items():
            bars.show(path, printable(path.rpartition("/")[2]), done, size)
        bars.keep(["", *under_way])

    def _started_bars(self) -> ProgressBars:
        if self._bars is None:
            from ego4dfs.cli import progress_bars  # noqa: PLC0415 - rich is slow to import

            unit = progress_bars.VIDEO_SECONDS if self._counts_video else progress_bars.BYTES
            self._bars = progress_bars.ProgressBars(self._stream or sys.stderr, unit)
            self._bars.start()
        return self._bars


def _state(report: Report, seconds: float) -> str:
    """Return the progress of a run in one line."""
    speed = report.fetched_bytes / max(seconds, 0.001)
    total_bytes = _total_bytes(report)
    left = max(0, total_bytes - report.moved_bytes)
    time_left = f", {timedelta(seconds=int(left / speed))} left" if speed >= 1 and left else ""
    about = "about " if report.expected_bytes else ""
    total = f" of {about}{human_size(total_bytes)}" if total_bytes else ""
    return (
        f"{_files(report)}, {human_size(report.moved_bytes)}{total},"
        f" {human_size(int(speed))}/s{time_left}"
    )


def _total_bytes(report: Report) -> int:
    return report.total_bytes + report.expected_bytes


def _files(report: Report) -> str:
    """Return how many files are complete, and how many failed."""
    count = len(report.problems)
    failed = f", {count} failed" if count else ""
    return f"{report.finished} of {report.files} files{failed}"


def _unreachable(lasts_s: float, retry_for_s: float) -> str:
    since = time.strftime("%H:%M", time.localtime(time.time() - lasts_s))
    left_s = retry_for_s - lasts_s
    rest = f"retrying for up to {human_time(left_s)}" if left_s > 0 else "retrying"
    return f"store unreachable since {since}, {rest}"
