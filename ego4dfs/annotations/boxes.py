"""Boxes and phases in the record of a window: where an object or a hand is, and what changes when.

Fields that have another form than expected are left out: a box is an addition to its window.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from ego4dfs.annotations.rows import FRAME_RATE, NO_FIELDS, Record, number

MAX_BOXES = 5000
"""Boxes of one record. A response track of VQ has some hundred."""
FACE_STEP_S = 5.5 / FRAME_RATE
"""Each sixth box of a face is returned: each frame has one, and pages draw between them."""

_MOST = 1e9  # pixels and frames
_MAX_LABEL = 200  # characters; each box has its label
_UNNAMED = "object"
_PRE, _PNR, _POST = "pre_frame", "pnr_frame", "post_frame"
_MOMENTS = ("pre_45", "pre_30", "pre_15", _PRE, "contact_frame", _PNR, _POST)
_FIELDS = frozenset(
    (
        *(*_MOMENTS, "response_track", "frames", "objects", "critical_frames"),
        *("parent_pnr_frame", "track"),
    )
)
_HANDS = ("left_hand", "right_hand")
_SIZES = (
    ("original_width", "original_height"),
    ("frame_width", "frame_height"),
    ("width", "height"),
)


class Box(NamedTuple):
    """A box in the picture of one moment, in pixels of a picture of the given size.

    Boxes of one record with one label are one object that moves. A position without an extent has
    the width and height 0. A size of the picture that is not said is 0.
    """

    label: str
    time_s: float
    x: float
    y: float
    width: float
    height: float
    picture_width: float = 0.0
    picture_height: float = 0.0


class Phase(NamedTuple):
    """A part of an action: `pre` up to the point of no return, `pnr` at it, `post` after it."""

    name: str
    start_s: float
    end_s: float


def has_parts(record: Record) -> bool:
    """Return whether a record may have boxes or phases; of 4 million narrations none has some."""
    return not _FIELDS.isdisjoint(record)


def boxes_of(record: Record) -> list[Box]:
    """Return the boxes of a record of VQ, AV, FHO main, hands, SCOD or STA; none of another one."""
    found = itertools.chain(
        *(_response(record), _face(record), _frames(record)),
        *(_moments(record), _next_objects(record)),
    )
    return list(itertools.islice(found, MAX_BOXES))


def phases_of(record: Record) -> list[Phase]:
    """Return the phases of an action of FHO, as far as their frames are known."""
    critical = record.get("critical_frames")
    times = {name: _moment_s(record, critical, name) for name in (_PRE, _PNR, _POST)}
    pre_s, pnr_s, post_s = times[_PRE], times[_PNR], times[_POST]
    if pnr_s is None:
        pnr_s = _time_s(record.get("parent_pnr_frame"))
    if pnr_s is None:
        return []
    found = [Phase("pnr", pnr_s, pnr_s + 1 / FRAME_RATE)]
    if pre_s is not None and pre_s < pnr_s:
        found.insert(0, Phase("pre", pre_s, pnr_s))
    if post_s is not None and post_s > pnr_s:
        found.append(Phase("post", pnr_s, post_s))
    return found


def _moment_s(record: Record, critical: Any, name: str) -> float | None:
    if isinstance(critical, dict):
        return _time_s(critical.get(name))
    frame = record.get(name)
    return _frame_time_s(frame) if isinstance(frame, dict) else None


def _response(record: Record) -> Iterator[Box]:
    """Yield the response track of a visual query."""
    for box in _records(record.get("response_track")):
        yield from _box(
            record.get("object_title"), _time_s(box.get("video_frame_number")), box, box
        )


def _face(record: Record) -> Iterator[Box]:
    """Yield boxes of a face of AV FACE_STEP_S apart, and the ends of its appearances."""
    kept: Box | None = None
    last: Box | None = None  # the one before, kept or not
    for box in _face_boxes(record):
        appears = last is None or box.time_s - last.time_s > FACE_STEP_S
        if appears and last is not kept and last is not None:
            yield last
        if appears or kept is None or box.time_s - kept.time_s >= FACE_STEP_S:
            yield box
            kept = box
        last = box
    if last is not None and last is not kept:
        yield last


def _face_boxes(record: Record) -> list[Box]:
    found = (
        box
        for place in _records(record.get("track"))
        for box in _box(record.get("person"), _time_s(place.get("video_frame")), place, place)
    )
    return sorted(found, key=lambda box: box.time_s)


def _frames(record: Record) -> Iterator[Box]:
    """Yield the boxes of the list `frames`, as in fho_main."""
    for frame in _records(record.get("frames")):
        yield from _objects(frame, _frame_time_s(frame), frame.get("boxes"))


def _moments(record: Record) -> Iterator[Box]:
    """Yield the hands of fho_hands, which are positions, and the objects of fho_scod."""
    for name in _MOMENTS:
        frame = record.get(name)
        if not isinstance(frame, dict):
            continue
        time_s = _frame_time_s(frame)
        yield from _objects(frame, time_s, frame.get("bbox"))
        for hands in _records(frame.get("boxes")):
            for hand in _HANDS:
                place = hands.get(hand)
                if isinstance(place, list) and len(place) >= 2:
                    position = {"x": place[0], "y": place[1], "width": 0, "height": 0}
                    yield from _box(hand, time_s, position, frame)


def _next_objects(record: Record) -> Iterator[Box]:
    """Yield the next active objects of fho_sta, whose boxes have two corners."""
    time_s = _time_s(record.get("frame"))
    for place, found in enumerate(_records(record.get("objects")), 1):
        corners = found.get("box")
        if isinstance(corners, list) and len(corners) == 4:
            left, top, right, bottom = (_finite(value) for value in corners)
            box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
            yield from _box(f"next object {place}", time_s, box, NO_FIELDS)


def _objects(frame: Record, time_s: float | None, boxes: Any) -> Iterator[Box]:
    counts = Counter[str]()
    for found in _records(boxes):
        box = found.get("bbox")
        if isinstance(box, dict):
            names = (found.get(key) for key in ("object_type", "structured_noun"))
            label = " ".join(name for name in names if isinstance(name, str)) or _UNNAMED
            counts[label] += 1
            several = f" {counts[label]}" if counts[label] > 1 else ""
            yield from _box(label + several, time_s, box, frame)


def _box(label: Any, time_s: float | None, place: Record, picture: Record) -> Iterator[Box]:
    """Yield a box, if its numbers are some."""
    x, y, width, height = (_finite(place.get(key)) for key in ("x", "y", "width", "height"))
    if time_s is None or not all(map(math.isfinite, (x, y, width, height))):
        return
    if width >= 0 and height >= 0:
        name = label.replace("_", " ") if isinstance(label, str) and label else _UNNAMED
        yield Box(name[:_MAX_LABEL], time_s, x, y, width, height, *_size(picture))


def _size(picture: Record) -> tuple[float, float]:
    for names in _SIZES:
        width, height = (_finite(picture.get(name)) for name in names)
        is_of_box = names == ("width", "height") and "x" in picture
        if width >= 1 and height >= 1 and not is_of_box:
            return width, height
    return 0.0, 0.0


def _frame_time_s(frame: Record) -> float | None:
    return _time_s(frame.get("frame_number", frame.get("frame")))


def _time_s(frame: Any) -> float | None:
    found = _finite(frame)
    return found / FRAME_RATE if found >= 0 else None  # NaN is not


def _finite(value: Any) -> float:
    found = number(value)
    return found if found is not None and abs(found) <= _MOST else math.nan


def _records(value: Any) -> Iterator[Record]:
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())
