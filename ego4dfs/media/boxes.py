"""Boxes of ISO base media files (ISO/IEC 14496-12: MP4, QuickTime): headers and containers.

All numbers are big-endian. A box is its size, its type, and its body; a full box has a version and
flags at the start of its body.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ego4dfs.errors import MediaError

MAX_CHILDREN = 4096
"""The most boxes that are read in one container. Files of FFmpeg have less than ten."""
HEADER_BYTES = 8
LONG_HEADER_BYTES = 16


class Box(NamedTuple):
    """One box: its type, where its header starts, where its body starts, and where it stops."""

    kind: bytes
    start: int
    body: int
    stop: int


def box_at(header: bytes | memoryview, start: int, limit: int) -> Box:
    """Return the box whose first bytes are `header` and that starts at `start`.

    `header` has the first 16 bytes, or all up to `limit`, which is where the container ends. A size
    of 0 means up to `limit`. Raises MediaError if the box is shorter than its header, or does not
    stop at `limit` or before it.
    """
    length, body = number(header, 0), start + HEADER_BYTES
    kind = bytes(header[4:HEADER_BYTES])
    if length == 1:
        length, body = number(header, HEADER_BYTES, 8), start + LONG_HEADER_BYTES
    stop = start + length if length else limit
    if not body <= stop <= limit or len(kind) < 4:
        raise MediaError(f"the box at byte {start} has an impossible size")
    return Box(kind, start, body, stop)


def children(data: memoryview, container: Box) -> list[Box]:
    """Return the boxes in a container that `data` has at the container's positions.

    Fewer than eight bytes at the end are ignored: QuickTime ends some containers with four zeros.
    """
    found: list[Box] = []
    position = container.body
    while position + HEADER_BYTES <= container.stop:
        if len(found) == MAX_CHILDREN:
            raise MediaError(f"more than {MAX_CHILDREN} boxes are in one")
        header = data[position : min(position + LONG_HEADER_BYTES, container.stop)]
        found.append(box_at(header, position, container.stop))
        position = found[-1].stop
    return found


def first(boxes: Iterable[Box], kind: bytes) -> Box | None:
    """Return the first box of a type, or None."""
    return next((box for box in boxes if box.kind == kind), None)


def required(boxes: Iterable[Box], kind: bytes) -> Box:
    """Return the first box of a type. Raises MediaError if there is none."""
    box = first(boxes, kind)
    if box is None:
        raise MediaError(f"it has no box {kind.decode()}")
    return box


def number(data: bytes | memoryview, at: int, length: int = 4) -> int:
    """Return the unsigned number in `length` bytes. Raises MediaError if it is past the end."""
    if at + length > len(data):
        raise MediaError("a box is shorter than its fields")
    return int.from_bytes(data[at : at + length], "big")
