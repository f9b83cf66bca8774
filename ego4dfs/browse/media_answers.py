"""How much of a video one answer to a player has, and what is fetched for it."""

from __future__ import annotations

from ego4dfs.blocks import PART_SIZE
from ego4dfs.errors import MediaError
from ego4dfs.media.locate import index_in_front
from ego4dfs.web.files import Portion, Read

AHEAD_BYTES = PART_SIZE
"""What is fetched beyond an answer: else each answer waits for a round trip to the store."""
START_BYTES = 1 << 20
"""Where that begins: at the start players read on only until they have found the index."""
REST_BYTES = 2 << 20
"""The end of a video that is sent in one answer: the index of an hour may be there."""
MAX_FRONT_BYTES = 8 << 20
"""The longest index at the start that is sent in one answer."""
_LEAST_BYTES = PART_SIZE // 2
_HEADERS_BYTES = 4096  # in front of the index are the file type, and sometimes free space


def portion(wanted: range, size: int, read: Read) -> Portion:
    """Return the part of `wanted` that one answer has, for a video of `size` bytes.

    Players ask for all that follows, and stop reading when they have enough: by then read-ahead
    would have fetched dozens of MiB. So an answer ends after about a part of the cache. Only the
    index is sent as a whole: players show nothing before they have it.
    """
    stop = _part_stop(wanted.start + _LEAST_BYTES)
    if not wanted.start:
        stop = max(stop, _part_stop(_front_bytes(size, read)))
    if size - wanted.start <= REST_BYTES:
        stop = size
    sent = wanted[: stop - wanted.start]
    has_ahead = wanted.start >= START_BYTES and len(sent) < len(wanted)
    return Portion(sent, sent.stop + AHEAD_BYTES if has_ahead else sent.stop)


def _part_stop(offset: int) -> int:
    """Return the end of the part that has the byte before `offset`."""
    return -(-offset // PART_SIZE) * PART_SIZE


def _front_bytes(size: int, read: Read) -> int:
    """Return where the index stops if it is at the start, and not too long; else 0."""
    try:
        place = index_in_front(read(0, _HEADERS_BYTES), size)
    except MediaError:  # the player says what is wrong with it
        return 0
    return place.stop if place.stop <= MAX_FRONT_BYTES else 0
