"""Many ranges of many files, each with its bytes or its error: for `cat_ranges`."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ego4dfs.filesystem.os_errors import as_os_error
from ego4dfs.runtime.daemon_threads import map_parallel
from ego4dfs.vfs import VFS
from ego4dfs.vfs.ranges import read_ranges

_FILES_AT_ONCE = 16


def cat_ranges(vfs: VFS, paths: Sequence[str], starts: Any, ends: Any) -> list[bytes | Exception]:
    """Return the bytes of each range, or its error, in the order of `paths`.

    `starts` and `ends` are numbers or None, for all paths or one for each. Raises ValueError if
    there are more or fewer of them than paths.
    """
    wanted: dict[str, list[int]] = defaultdict(list)
    spans = list(zip(_for_each(starts, paths), _for_each(ends, paths), strict=True))
    for number, path in enumerate(paths):
        wanted[path].append(number)
    found: list[bytes | Exception] = [b""] * len(paths)

    def read(one: tuple[str, list[int]]) -> None:
        path, numbers = one
        ranges = [spans[number] for number in numbers]
        for number, result in zip(numbers, _read(vfs, path, ranges), strict=True):
            found[number] = result

    map_parallel(read, wanted.items(), threads=_FILES_AT_ONCE, name="ranges")
    return found


def _read(
    vfs: VFS, path: str, ranges: Sequence[tuple[int | None, int | None]]
) -> list[bytes | Exception]:
    try:
        found = read_ranges(vfs, path, ranges)
    except Exception as error:  # noqa: BLE001 - returned in place of the bytes
        found = [error] * len(ranges)
    return [as_os_error(one, path) if isinstance(one, Exception) else one for one in found]


def _for_each(given: Any, paths: Sequence[str]) -> list[int | None]:
    """Return one position for each path."""
    each = given if isinstance(given, Iterable) else [given] * len(paths)
    positions = [None if one is None else operator.index(one) for one in each]
    if len(positions) != len(paths):
        raise ValueError("paths, starts and ends must have the same length")
    return positions
