"""The table of `ego4dfs top`: what each mount did between two of its status documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ego4dfs.metrics import ONLINE
from ego4dfs.text import counted, human_size

Status = Mapping[str, Any]
Statuses = Mapping[Path, Status]

HEADER = ("MOUNT", "READ/S", "FETCHED/S", "HITS", "REQ/S", "GET", "CACHE", "OPEN", "STATE")
RIGHT = HEADER[1:6] + HEADER[7:8]
OPTIONAL = ("REQ/S", "OPEN", "GET", "CACHE", "FETCHED/S")
"""Columns that a narrow terminal does not show; the first is left out first."""

_NONE = "-"


def rows(before: Statuses, now: Statuses) -> list[tuple[str, ...]]:
    """Return a row for each mount of `now`; rates only if it is in `before` too."""
    return [
        (str(path), *_rates(before.get(path, {}), status), *_levels(status))
        for path, status in now.items()
    ]


def error_lines(now: Statuses) -> list[str]:
    """Return a line for each mount that does not answer, or has had errors."""
    lines = []
    for path, status in now.items():
        if "dead" in status:
            lines.append(f"{path}: {status['last_error']}")
        elif status["errors"]:
            lines.append(f"{path}: {counted(status['errors'], 'error')}; {status['last_error']}")
    return lines


def _rates(before: Status, now: Status) -> tuple[str, ...]:
    """Return what happened each second, the share of hits and the mean time of a GET request."""
    seconds = now.get("uptime_s", 0.0) - before.get("uptime_s", 0.0)
    if (
        before.get("pid", -1) != now.get("pid") or seconds <= 0
    ):  # its first document, or mounted anew
        return (_NONE,) * 5

    def change(key: str) -> int:
        return int(now[key] - before[key])

    reads = change("hits") + change("misses")
    requests = sum(now["requests"].values()) - sum(before["requests"].values())
    return (
        f"{human_size(round(change('bytes_served') / seconds))}",
        f"{human_size(round(change('bytes_fetched') / seconds))}",
        f"{100 * change('hits') / reads:.0f} %" if reads else _NONE,
        f"{requests / seconds:.1f}",
        _mean_get(before, now),
    )


def _mean_get(before: Status, now: Status) -> str:
    if "durations" not in before or "durations" not in now:  # a mount by an older version
        return _NONE
    old, new = before["durations"]["get"], now["durations"]["get"]
    count = new["buckets"]["+Inf"] - old["buckets"]["+Inf"]
    return f"{1000 * (new['sum_s'] - old['sum_s']) / count:.0f} ms" if count else _NONE


def _levels(now: Status) -> tuple[str, str, str]:
    """Return how full the cache is, how many files are open, and the state."""
    if "dead" in now:
        state = "dead" if now["dead"] else "no answer" if now["silent"] else "unavailable"
        return _NONE, _NONE, state
    used, limit = now["cache_bytes"], now["cache_limit_bytes"]
    share = f"{100 * used / limit:.0f} % of {human_size(limit)}" if limit else _NONE
    store = str(now.get("store", _NONE))
    state = "throttled" if store == ONLINE and now.get("throttled") else store
    return share, str(now.get("open_files", _NONE)), state
