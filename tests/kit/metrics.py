"""Metrics of a mount, read over HTTP as Prometheus does, and by its parser."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, tuple[str, ...]], float]


def metrics_text(url: str) -> str:
    """Scrape once."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - of our server
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def samples(text: str) -> Samples:
    """Return the values by the names of samples and the values of their labels."""
    found = [one for family in text_string_to_metric_families(text) for one in family.samples]
    values = {(one.name, tuple(one.labels.values())): one.value for one in found}
    assert len(values) == len(found)
    return values


def of_status(status: Mapping[str, object]) -> Samples:
    """Return the samples that a status document stands for, except those of times."""
    plain = {
        "ego4dfs_errors_total": "errors",
        "ego4dfs_open_files": "open_files",
        "ego4dfs_store_received_bytes_total": "bytes_fetched",
        "ego4dfs_store_throttled": "throttled",
        "ego4dfs_store_hedged_requests_total": "hedged_requests",
        "ego4dfs_store_throttled_answers_total": "throttled_answers",
        "ego4dfs_near_received_bytes_total": "bytes_from_near",
        "ego4dfs_near_sent_bytes_total": "bytes_to_near",
        "ego4dfs_near_failures_total": "near_failures",
        "ego4dfs_cache_hits_total": "hits",
        "ego4dfs_cache_misses_total": "misses",
        "ego4dfs_cache_evictions_total": "evictions",
        "ego4dfs_cache_size_bytes": "cache_bytes",
        "ego4dfs_cache_limit_bytes": "cache_limit_bytes",
    }
    found = {(name, ()): float(status[key]) for name, key in plain.items()}
    for kind, count in status["requests"].items():
        found["ego4dfs_store_requests_total", (kind,)] = count
    for kind, counts in status["results"].items():
        for result, count in counts.items():
            found["ego4dfs_store_request_results_total", (kind, result)] = count
    for kind, one in status["durations"].items():
        name = "ego4dfs_store_request_duration_seconds"
        found[f"{name}_sum", (kind,)] = one["sum_s"]
        found[f"{name}_count", (kind,)] = one["buckets"]["+Inf"]
        for bound, count in one["buckets"].items():
            found[f"{name}_bucket", (kind, bound)] = count
    for call, count in status["read_errors"].items():
        found["ego4dfs_read_errors_total", (call,)] = count
    by_name = "ego4dfs_read_bytes_total"
    cache, copies = status["bytes_from_cache"], status["bytes_from_copies"]
    found[by_name, ("cache",)], found[by_name, ("copies",)] = cache, copies
    found[by_name, ("store",)] = status["bytes_served"] - cache - copies
    for state in ("not asked", "online", "offline", "key refused"):
        found["ego4dfs_store_state", (state,)] = float(status["store"] == state)
    for state in ("off", "ok", "failing"):
        found["ego4dfs_near_state", (state,)] = float(status["near"] == state)
    found["ego4dfs_cache_index_usable", ()] = float(status["cache_state"] == "ok")
    found["ego4dfs_verified_objects_total", ("match",)] = status["verified"]
    found["ego4dfs_verified_objects_total", ("mismatch",)] = status["verify_failures"]
    return found
