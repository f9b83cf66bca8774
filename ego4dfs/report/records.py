"""The lines that the recorders of mounts have written, read and checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego4dfs.access_patterns import PATTERNS
from ego4dfs.files import read_regular
from ego4dfs.metrics import RESULTS
from ego4dfs.mount.recorder import COUNTERS, LEVELS, MAX_FILE_BYTES

log = logging.getLogger(__name__)

_NAMES = (*COUNTERS, "requests", "read_errors")
_MAX_COUNT = 1 << 63
_MAX_TIME_S = 1 << 33  # year 2242; no date can be made of times that are far later

Totals = Mapping[str, Mapping[str, tuple[int, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The counters of a mount since its start, at one time.

    `mount` names one run of a mount. `patterns` has opens and bytes by dataset and pattern.
    """

    mountpoint: str
    mount: str
    time_s: float
    counters: Mapping[str, int]
    results: Mapping[str, int]
    patterns: Totals
    cache_bytes: int
    cache_limit_bytes: int


def read_records(directory: Path) -> list[Record]:
    """Return what was recorded in a cache, `directory` being that of its format, in time order.

    A line that cannot be used is left out; so is a file that cannot be read, with a warning.
    """
    found: list[Record] = []
    for path in sorted((directory / "counters").glob("*.jsonl*")):
        try:
            content, _ = read_regular(path, follow_symlinks=False, max_bytes=4 * MAX_FILE_BYTES)
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error.strerror)
            continue
        found.extend(_records(content))
    return sorted(found, key=lambda one: one.time_s)


def _records(content: bytes) -> Iterator[Record]:
    return filter(None, map(_record_of, content.split(b"\n")))


def _record_of(line: bytes) -> Record | None:
    """Return None for the last line of a mount that was killed, and for a change by hand."""
    try:
        return _record(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _record(row: Any) -> Record:
    return Record(
        mountpoint=_text(row["mountpoint"]),
        mount=_text(row["mount"]),
        time_s=float(_count(int(row["time"]), _MAX_TIME_S)),
        counters={name: _count(row["counters"][name]) for name in _NAMES},
        results={name: _count(row["results"].get(name, 0)) for name in RESULTS},
        patterns={
            _text(dataset): {
                name: (_count(one["opens"]), _count(one["bytes"]))
                for name, one in totals.items()
                if name in PATTERNS
            }
            for dataset, totals in row["patterns"].items()
        },
        **{name: _count(row[name]) for name in LEVELS},
    )


def _count(value: Any, limit: int = _MAX_COUNT) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
