"""The lower tables of `ego4dfs top`: the files that are read now, and the slowest requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ego4dfs.cli.top_table import Statuses
from ego4dfs.text import human_size, masked, printable

FILES_HEADER = ("READ NOW", "READ/S", "HITS")
FILES_RIGHT = FILES_HEADER[1:]
REQUESTS_HEADER = ("SLOWEST REQUESTS, 1 MIN", "KIND", "AT", "BYTES", "TIME", "RESULT")
REQUESTS_RIGHT = REQUESTS_HEADER[2:5]
REQUESTS_OPTIONAL = ("AT", "KIND")

_SHOWN = 5
_GAP = 2  # between two columns
_NAME_CHARS = 24
_LEAST_CHARS = 8
_NONE = "-"


def file_rows(now: Statuses) -> list[tuple[str, ...]]:
    """Return a row for each of the files of which most is read, of all mounts together."""
    found = []
    for mountpoint, status in now.items():
        activity = status.get("activity", {})
        for file in activity.get("files", ()):
            rate = file["bytes"] / max(activity["seconds"], 1e-3)
            found.append((rate, f"{mountpoint}/{file['path'].lstrip('/')}", file))
    found.sort(key=lambda one: -one[0])
    return [(path, human_size(round(rate)), _hits(file)) for rate, path, file in found[:_SHOWN]]


def request_rows(now: Statuses) -> list[tuple[str, ...]]:
    """Return a row for each of the slowest requests, of all mounts together."""
    found = [
        request
        for status in now.values()
        for request in status.get("activity", {}).get("requests", ())
    ]
    found.sort(key=lambda one: -one["seconds"])
    return [
        (masked(one["url"]), one["kind"], *_range(one), _time(one["seconds"]), one["result"])
        for one in found[:_SHOWN]
    ]


def fitted(
    rows: Sequence[Sequence[str]],
    header: Sequence[str],
    width: int,
    optional: Sequence[str] = (),
) -> tuple[list[list[str]], list[str]]:
    """Return a table that is at most `width` columns wide: its rows, escaped, and its header.

    The texts of the first column lose what is before their last characters. If fewer than
    _NAME_CHARS would remain, the columns named in `optional` are left out before, the first one
    first. _LEAST_CHARS remain always.
    """
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    for name in optional:
        if _width([[line[0][:_NAME_CHARS], *line[1:]] for line in lines]) <= width:
            break
        place = lines[0].index(name)
        lines = [[*line[:place], *line[place + 1 :]] for line in lines]
    room = max(width - _width([line[1:] for line in lines]) - _GAP, _LEAST_CHARS)
    shown = [[_last(line[0], room), *line[1:]] for line in lines[1:]]
    return shown, [lines[0][0][:room], *lines[0][1:]]


def _width(lines: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + _GAP for column in zip(*lines, strict=True)) - _GAP


def _last(text: str, room: int) -> str:
    return text if len(text) <= room else f"…{text[1 - room :]}"


def _hits(file: dict[str, Any]) -> str:
    count, missed = file["bytes"], file["bytes_missed"]
    return f"{100 * (count - missed) / count:.0f} %" if count else _NONE


def _range(request: dict[str, Any]) -> tuple[str, str]:
    """Return where a range begins, and its length."""
    start, length = request["start"], request["stop"] - request["start"]
    return (human_size(start), human_size(length)) if length else (_NONE, _NONE)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
