"""Writing of boxes of ISO base media files (ISO/IEC 14496-12)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ego4dfs.media.boxes import HEADER_BYTES, LONG_HEADER_BYTES

_U32 = 1 << 32


def make_box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box with this body; its size is written in 32 bits."""
    body = b"".join(parts)
    return (HEADER_BYTES + len(body)).to_bytes(4, "big") + kind + body


def make_full_box(kind: bytes, *parts: bytes, version: int = 0, flags: bytes = bytes(3)) -> bytes:
    """Return a box with a version and flags before its body."""
    return make_box(kind, bytes([version]), flags, *parts)


def make_dated_box(
    kind: bytes, middle: bytes, duration: int, tail: bytes, *, flags: bytes = bytes(3)
) -> bytes:
    """Return a box `mvhd`, `tkhd` or `mdhd`: two times, which are 0, fields, a duration, fields.

    Its version is 1, with times of 64 bits, if the duration needs that.
    """
    width = 4 if duration < _U32 else 8
    parts = (bytes(2 * width), middle, duration.to_bytes(width, "big"), tail)
    return make_full_box(kind, *parts, version=width // HEADER_BYTES, flags=flags)


def make_table(kind: bytes, *columns: NDArray[np.int64], width: int = 4) -> bytes:
    """Return a full box with the number of rows, and rows of unsigned numbers of `width` bytes."""
    rows = np.stack(columns, axis=1).astype(f">u{width}")
    return make_full_box(kind, len(rows).to_bytes(4, "big"), rows.tobytes())


def make_edit_list(empty: int, media_start: int, length: int) -> bytes:
    """Return a box `edts`: nothing for `empty` ticks of the movie, then `length` of the media.

    The media starts at its tick `media_start`.
    """
    rows = [(empty, -1)] if empty else []
    rows.append((length, media_start))
    width = 4 if max(empty, media_start, length) < _U32 // 2 else 8
    cells = (
        duration.to_bytes(width, "big") + start.to_bytes(width, "big", signed=True) + b"\0\1\0\0"
        for duration, start in rows
    )
    count = len(rows).to_bytes(4, "big")
    return make_box(b"edts", make_full_box(b"elst", count, *cells, version=width // HEADER_BYTES))


def media_data_header(body_bytes: int) -> bytes:
    """Return the header of a box `mdat` with so many bytes after it."""
    length = HEADER_BYTES + body_bytes
    if length < _U32:
        return length.to_bytes(4, "big") + b"mdat"
    return (1).to_bytes(4, "big") + b"mdat" + (LONG_HEADER_BYTES + body_bytes).to_bytes(8, "big")
