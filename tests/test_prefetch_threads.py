"""A prefetch that can start few threads, or none."""

from __future__ import annotations

import threading

import pytest

from ego4dfs.prefetch import Status
from kit.data import MIB

FILES = {"large": b"l" * 3 * MIB} | {f"small{number}": bytes([number]) for number in range(20)}


@pytest.fixture
def threads(monkeypatch):
    """Limit the number of threads that a prefetch can start; returns a list with the number."""
    allowed = [0]
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(("small-", "range-")):
            if not allowed[0]:
                raise RuntimeError("can't start new thread")
            allowed[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return allowed


@pytest.mark.fault(
    area="processes",
    fault="very few threads can be started (a limit of processes)",
    face="prefetch",
    sees="fewer threads copy; with less than two the run ends with one line",
    deadline="at once",
)
def test_with_few_available_threads_fewer_files_are_copied_at_a_time(bench, threads):
    bench.put(**FILES)
    threads[0] = 2
    report = bench.fetch()
    assert report.stopped_by is None
    assert report.counts[Status.DONE] == len(FILES)


def test_without_available_threads_the_run_ends_with_the_reason(bench, threads):
    bench.put(**FILES)
    threads[0] = 1
    report = bench.fetch()
    assert isinstance(report.stopped_by, OSError)
    assert "no more threads" in str(report.stopped_by)
