"""The threads of a prefetch: few, none, or with no task left; and the files that they open."""

from __future__ import annotations

import threading
import time

import pytest

from ego4dfs.prefetch import Fetcher, Status
from ego4dfs.prefetch.worker_pool import WorkerPool
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


def test_a_thread_without_tasks_takes_those_of_other_queues():
    """Its own threads may have ended when a file turns out to be large."""
    pool = WorkerPool(lambda _: None)
    tasks = [lambda: None]
    pool.add("none", lambda: None, 1)
    pool.add("late", lambda: tasks.pop() if tasks else None, 1)
    assert pool._next(lambda: None) is not None
    assert not tasks


def test_few_files_that_turn_out_to_be_large_are_open_at_a_time(bench, monkeypatch):
    for module in ("fetcher", "small_files"):
        monkeypatch.setattr(f"ego4dfs.prefetch.{module}.SMALL_BYTES", 100)
    bench.put(**{f"n{i}": bytes([i % 251]) * (1000 + i) for i in range(400)})
    stream = bench.store.stream_range

    def slow(*args, **options):
        time.sleep(0.001)
        stream(*args, **options)

    bench.store.stream_range = slow
    fetcher = Fetcher(bench.session, bench.layout, bench.journal, bench.plan(skip_checks=True))
    peaks = []

    class Active(list):
        def append(self, download):
            super().append(download)
            peaks.append(len(self))

    fetcher._active = Active()
    assert fetcher.run()
    assert fetcher.report.counts[Status.DONE] == 400
    assert max(peaks) < 2 * 32 + 8
