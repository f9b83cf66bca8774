"""Counters: durations in buckets, and the results of requests."""

from __future__ import annotations

import threading

import pytest

from ego4dfs.errors import AccessDenied, CredentialsRejected, ObjectChanged, ObjectMissing
from ego4dfs.metrics import DURATION_BOUNDS_S, RESULTS, Histogram, Metrics
from ego4dfs.store.classify import NoConnection, Outpaced, Throttled
from ego4dfs.store.request_results import counted

pytestmark = pytest.mark.first_pass


def test_each_bucket_has_what_took_at_most_its_bound():
    times = Histogram()
    for seconds in (0.0, 0.005, 0.0051, 1, 61):
        times.add(seconds)
    found = times.snapshot()
    assert found["sum_s"] == pytest.approx(62.0101)
    assert list(found["buckets"]) == [*map(str, DURATION_BOUNDS_S), "+Inf"]
    counts = found["buckets"].values()
    assert list(counts) == [2, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ObjectMissing("x"), "missing"),
        (AccessDenied("x"), "denied"),
        (CredentialsRejected("x"), "denied"),
        (ObjectChanged("x"), "changed"),
        (Throttled("x"), "throttled"),
        (Outpaced("x"), "interrupted"),
        (NoConnection("x"), "no answer"),
        (OSError("x"), "failed"),
        (KeyboardInterrupt(), "failed"),
    ],
)
def test_a_request_that_failed_is_counted_by_its_error(error, result):
    metrics = Metrics()

    def send():
        assert (metrics.requests["get"], sum(metrics.results["get"].values())) == (1, 0)
        raise error

    with pytest.raises(type(error)):
        counted(metrics, "get", send, "s3://b/k")
    wanted = {**dict.fromkeys(RESULTS, 0), result: 1}
    assert metrics.snapshot()["results"]["get"] == wanted
    assert metrics.snapshot()["durations"]["get"]["buckets"]["+Inf"] == 1


def test_counts_of_several_threads_are_all_there():
    metrics = Metrics()
    work = [
        threading.Thread(target=lambda: [counted(metrics, "head", int, "") for _ in range(1000)])
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    found = metrics.snapshot()
    assert found["requests"]["head"] == found["results"]["head"]["ok"] == 8000
    assert found["durations"]["head"]["buckets"]["+Inf"] == 8000
