"""A run waits for a store that does not answer, for as long as `--retry-for` says."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest

from ego4dfs.cli.progress import Progress
from ego4dfs.config import resolve
from ego4dfs.errors import AccessDenied, ConfigError, StoreUnavailable
from ego4dfs.prefetch import Fetcher, Report, Status, outage
from ego4dfs.prefetch.outage import Outage, OutageTooLong
from ego4dfs.text import human_time
from kit.copies import Bench
from kit.fakes import FailingStore

GONE = StoreUnavailable("s3://b/x: connection refused", url="s3://b/x")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(outage, "_PAUSES_S", (0.01,))


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, FailingStore())
    yield made
    made.close()


def fetcher(bench: Bench, retry_for_s: float) -> Fetcher:
    plan = bench.plan()
    return Fetcher(bench.session, bench.layout, bench.journal, plan, retry_for_s=retry_for_s)


FILES = {f"small{i}": os.urandom(500 + i) for i in range(40)}
FILES["large"] = os.urandom(5 << 20)


@pytest.mark.fault(
    area="network",
    fault="an outage of minutes: no network, no DNS, or 503 to all",
    face="prefetch",
    sees="the run waits and says so, and continues when the store answers",
    deadline="--retry-for: 1 h unless set",
)
def test_a_run_waits_for_the_end_of_an_outage(bench):
    bench.put(**FILES)
    run = fetcher(bench, retry_for_s=60)
    bench.store.fail(GONE, times=500)
    assert run.run()
    assert run.report.stopped_by is None
    assert run.report.counts[Status.DONE] == len(FILES)
    assert not run.report.outage.lasts_s


def test_an_outage_longer_than_retry_for_ends_the_run_with_a_remedy(bench):
    bench.put(**FILES)
    run = fetcher(bench, retry_for_s=0.2)
    bench.store.fail(GONE)
    assert run.run()
    assert isinstance(run.report.stopped_by, OutageTooLong)
    assert "no usable answer from the store since" in str(run.report.stopped_by)
    assert run.report.finished == 0


def test_with_retry_for_0_a_file_has_a_few_rounds(bench):
    bench.put(a=b"a")
    run = fetcher(bench, retry_for_s=0)
    bench.store.gets.clear()
    bench.store.fail(GONE)
    run.run()
    assert run.report.counts[Status.FAILED] == 1
    assert len(bench.store.gets) == 3


def test_one_object_that_fails_is_not_an_outage(bench):
    """It has a few rounds, and the run ends without it."""
    bench.put(**FILES, bad=b"bad")
    run = fetcher(bench, retry_for_s=60)
    bench.store.fail(GONE, only="bad")
    ended = threading.Event()

    def answer_others() -> None:
        while not ended.is_set():
            run.report.outage.answered()

    others = threading.Thread(target=answer_others)
    others.start()
    assert run.run()
    ended.set()
    others.join()
    assert run.report.counts[Status.DONE] == len(FILES)
    assert run.report.counts[Status.FAILED] == 1


def test_ctrl_c_ends_a_run_that_waits(bench):
    bench.put(**FILES)
    run = fetcher(bench, retry_for_s=3600)
    bench.store.fail(GONE)

    def tick() -> None:
        if run.report.outage.lasts_s:
            raise KeyboardInterrupt

    assert run.run(tick)
    assert isinstance(run.report.stopped_by, KeyboardInterrupt)
    assert run.report.problems == []


def test_planning_waits_too(bench):
    bench.put(**FILES)
    bench.store.fail(GONE, times=200)
    plan = bench.plan(outage=Outage(60))
    assert all(item.facts is not None for item in plan.items)


def test_planning_does_not_wait_with_retry_for_0(bench):
    bench.put(**FILES)
    bench.store.fail(GONE)
    with pytest.raises(StoreUnavailable):
        bench.plan()


def test_a_refusal_is_an_answer(bench):
    waits = Outage(60)
    assert waits.has_begun(time.monotonic())
    with pytest.raises(AccessDenied):
        waits.attempt(lambda: (_ for _ in ()).throw(AccessDenied("no")))
    assert not waits.lasts_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_an_outage_is_one_line_at_its_start_and_one_at_its_end():
    stream, report = io.StringIO(), Report(files=3, outage=Outage(3600))
    with Progress(stream) as progress:
        for _ in range(3):
            progress.show(report)
        minutes = [minute_of(time.time() - 100)]
        report.outage.has_begun(time.monotonic() - 100)
        minutes.append(minute_of(time.time() - 100))  # which may be the next one
        for _ in range(3):
            progress.show(report)
        report.outage.answered()
        for _ in range(3):
            progress.show(report)
    assert stream.getvalue().splitlines() in [
        [
            f"store unreachable since {since}, retrying for up to 58 min",
            "store reachable again",
        ]
        for since in minutes
    ]


def minute_of(at_s):
    return time.strftime("%H:%M", time.localtime(at_s))


def test_on_a_terminal_an_outage_is_shown_below_the_bars(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream, report = Terminal(), Report(files=3, total_bytes=10, outage=Outage(3600))
    with Progress(stream) as progress:
        progress.show(report)
        report.outage.has_begun(time.monotonic() - 100)
        progress.show(report)
    assert "retrying for up to 58 min" in stream.getvalue()
    assert "0 of 3 files" in stream.getvalue()


def test_a_dumb_terminal_has_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream, report = Terminal(), Report(files=3, total_bytes=10)
    with Progress(stream) as progress:
        progress._next_s = 0
        progress.show(report)
    assert stream.getvalue().startswith("0 of 3 files, 0 B of 10 B")


def test_failed_files_do_not_count_as_complete(bench):
    bench.put(a=b"a", b=b"b")
    run = fetcher(bench, retry_for_s=0)
    bench.store.fail(GONE, only="b.mp4")
    run.run()
    assert (run.report.finished, run.report.files) == (1, 2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400), ("0", 0), ("1.5 h", None), (45, 45)],
)
def test_times_are_given_with_their_unit(text, seconds):
    if seconds is None:
        with pytest.raises(ConfigError, match="expected a duration, got"):
            resolve({"retry_for": text}, environ={})
    else:
        assert resolve({"retry_for": text}, environ={}).retry_for_s == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (3540, "59 min"), (7200, "2 h"), (2e5, "2 d")]
)
def test_times_are_shown_with_their_unit(seconds, text):
    assert human_time(seconds) == text
