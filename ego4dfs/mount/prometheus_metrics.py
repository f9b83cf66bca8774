"""The counters of a mount as Prometheus metrics, made from its status document at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ego4dfs.metrics import NEAR_STATES, STORE_STATES
from ego4dfs.text import printable

Status = Mapping[str, Any]
_Labelled = Iterable[tuple[tuple[str, ...], float]]


class MountCollector(Collector):
    """Reads the status of a mount once for each scrape; keeps no values of its own."""

    def __init__(self, status: Callable[[], Status], about: Mapping[str, str]) -> None:
        """Show what `status` returns, and `about` as labels of `ego4dfs_mount_info`."""
        self._status = status
        self._about = {name: printable(text) for name, text in about.items()}
        self._started_s = time.time() - status()["uptime_s"]

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; each has its name, unit and labels by Prometheus' conventions."""
        status = self._status()
        yield from self._of_mount(status)
        yield from _of_reads(status)
        yield from _of_store(status)
        yield from _of_near(status)
        yield from _of_cache(status)

    def _of_mount(self, status: Status) -> Iterator[Metric]:
        text = "Version of ego4dfs, and the mountpoint."
        yield InfoMetricFamily("ego4dfs_mount", text, self._about)
        yield _gauge("start_time_seconds", "Unix time of the start of the mount.", self._started_s)
        yield _counter(
            "errors",
            "Errors, both those returned to programs and those that were recovered.",
            status["errors"],
        )


def _of_reads(status: Status) -> Iterator[Metric]:
    cache, copies = status["bytes_from_cache"], status["bytes_from_copies"]
    sources = {
        "store": status["bytes_served"] - cache - copies,
        "cache": cache,
        "copies": copies,
    }
    yield _counters(
        "read_bytes",
        "Bytes returned to readers, by where they were when the read began.",
        ("source",),
        (((name,), count) for name, count in sources.items()),
    )
    yield _counters(
        "read_errors",
        "Opens and reads of files that ended with an error.",
        ("call",),
        (((call,), count) for call, count in status["read_errors"].items()),
    )
    yield _gauge("open_files", "Files that programs have open.", status["open_files"])


def _of_store(status: Status) -> Iterator[Metric]:
    yield _counters(
        "store_requests",
        "Requests that were sent to the store, retries included.",
        ("kind",),
        (((kind,), count) for kind, count in status["requests"].items()),
    )
    results = status["results"].items()
    yield _counters(
        "store_request_results",
        "Requests that have ended, by their result.",
        ("kind", "result"),
        (((kind, name), n) for kind, counts in results for name, n in counts.items()),
    )
    durations = HistogramMetricFamily(
        "ego4dfs_store_request_duration_seconds",
        "Time from a request to the end of its answer's body.",
        labels=("kind",),
    )
    for kind, one in status["durations"].items():
        durations.add_metric((kind,), list(one["buckets"].items()), one["sum_s"])
    yield durations
    yield _counter(
        "store_received_bytes",
        "Bytes of objects that were fetched from the store, without manifests.",
        status["bytes_fetched"],
    )
    state = GaugeMetricFamily(
        "ego4dfs_store_state",
        "1 for the state of the store by its last request, 0 for the others.",
        labels=("state",),
    )
    for name in STORE_STATES:
        state.add_metric((name,), float(status["store"] == name))
    yield state
    yield _gauge(
        "store_throttled",
        "1 while requests wait because the store asked to slow down.",
        status["throttled"],
    )
    yield _counter(
        "store_hedged_requests",
        "GET requests that were sent because an earlier one for the same bytes was late.",
        status["hedged_requests"],
    )
    yield _counter(
        "store_throttled_answers",
        "Answers of the store that asked to slow down.",
        status["throttled_answers"],
    )


def _of_near(status: Status) -> Iterator[Metric]:
    yield _counter(
        "near_received_bytes",
        "Bytes that came from the near tier, and had their checksum.",
        status["bytes_from_near"],
    )
    yield _counter(
        "near_sent_bytes", "Bytes that were written to the near tier.", status["bytes_to_near"]
    )
    yield _counter(
        "near_failures",
        "Requests to the near tier that failed, were slow, or brought damaged bytes.",
        status["near_failures"],
    )
    state = GaugeMetricFamily(
        "ego4dfs_near_state",
        "1 for the state of the near tier, 0 for the others.",
        labels=("state",),
    )
    for name in NEAR_STATES:
        state.add_metric((name,), float(status["near"] == name))
    yield state


def _of_cache(status: Status) -> Iterator[Metric]:
    yield _counter(
        "cache_hits",
        "Pieces of reads, each within one block, that the cache had.",
        status["hits"],
    )
    yield _counter(
        "cache_misses", "Pieces of reads that had to wait for the store.", status["misses"]
    )
    yield _counter(
        "cache_evictions",
        "Blocks that were removed from the cache to make room.",
        status["evictions"],
    )
    yield _gauge(
        "cache_size_bytes", "Size of the cache, its index included.", status["cache_bytes"]
    )
    yield _gauge(
        "cache_limit_bytes", "Limit of the size of the cache.", status["cache_limit_bytes"]
    )
    yield _gauge(
        "cache_index_usable",
        "1, or 0 while the index of the cache is locked or cannot be read.",
        status["cache_state"] == "ok",
    )
    verified = {"match": status["verified"], "mismatch": status["verify_failures"]}
    yield _counters(
        "verified_objects",
        "Complete objects in the cache that were compared with their ETags.",
        ("result",),
        (((name,), count) for name, count in verified.items()),
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ego4dfs_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"ego4dfs_{name}", text, value=value)


def _counters(name: str, text: str, labels: tuple[str, ...], values: _Labelled) -> Metric:
    family = CounterMetricFamily(f"ego4dfs_{name}", text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family
