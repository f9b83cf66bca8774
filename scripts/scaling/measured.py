"""The measured figures of docs/performance.md that the simulation begins with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"

_WINDOW = "decode 2 s of a video of 380 s from Ego4D.window with PyAV"
_EPOCH = "8 processes decode 128 random windows of 2 s"
_FEATURES = "4 processes read 5,000 features of 58 kB once (peers: 150 of them), random order"
_LIST = "ls -l of 10,000 files, distant server"
_START = "find 10,000 files up to date, distant server"
_WINDOW_FILES = 4  # of the rows of _WINDOW
_FEATURE_BYTES = 58_000
_CORES = 2  # of the machine
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one item costs a node that has nothing cached. Requests are GETs unless named."""

    window_bytes: float
    window_requests: float
    index_bytes: float
    """Of a video, once, before its first window."""
    index_requests: float
    core_windows_s: float
    """Windows that one core decodes in a second, from local files."""
    feature_bytes: float
    feature_requests: float
    list_heads: float
    """HEAD requests for the sizes of 10,000 files, once."""
    start_requests: float
    """Requests for manifests at each start."""


def measured(page: str) -> Measured:
    """Return the figures of a page. Raises KeyError if it does not have one of them."""
    rows = dict(_rows(page))

    def figure(work: str, tool: str, column: str) -> float:
        found = [row for (name, by), row in rows.items() if name.startswith(work) and by == tool]
        if not found:
            raise KeyError(f"docs/performance.md has no row {work!r} of {tool!r}")
        return float(found[0][column].partition(" ")[0].replace(",", ""))

    window, size = "Ego4D.window, indexes cached", "MiB on the wire/window"
    window_bytes = figure(_WINDOW, window, size) * MIB
    window_requests = figure(_WINDOW, window, "requests") / _WINDOW_FILES
    fetched = figure(_FEATURES, "ego4dfs mount", "fetched ÷ read")
    return Measured(
        window_bytes=window_bytes,
        window_requests=window_requests,
        index_bytes=figure(_WINDOW, "Ego4D.window", size) * MIB - window_bytes,
        index_requests=figure(_WINDOW, "Ego4D.window", "requests") / _WINDOW_FILES
        - window_requests,
        core_windows_s=figure(_EPOCH, "PyAV, local copies in the page cache", "windows/s (min–max)")
        / _CORES,
        feature_bytes=_FEATURE_BYTES * fetched,
        feature_requests=figure(_FEATURES, "ego4dfs mount", "requests/file"),
        list_heads=figure(_LIST, "ego4dfs mount", "requests"),
        start_requests=figure(_START, "ego4dfs prefetch", "requests"),
    )


def _rows(page: str) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    """Yield each row of the tables: its work, its tool, and its cells by their columns."""
    header: list[str] = []
    work = ""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| "):
            header = []
        elif not header:
            header = cells
        elif not cells[0].startswith("---"):
            work = cells[0] or work
            yield (work, cells[1]), dict(zip(header, cells, strict=False))
