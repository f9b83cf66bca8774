"""Window and BadRow: the checked rows of annotations and tables."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

FRAME_RATE = 30.0
"""All videos and clips of Ego4D have 30 frames a second."""
BEFORE_MOMENT_S, AFTER_MOMENT_S = 1.0, 0.5
"""The window of an annotation that names one moment."""


class Part(NamedTuple):
    """The seconds [start_s, end_s) of a video or of a clip; 0 <= start_s < end_s, both finite."""

    uid: str
    start_s: float
    end_s: float


Record = Mapping[str, Any]
NO_FIELDS: Record = MappingProxyType({})


class Window(NamedTuple):
    """Some seconds that an annotation names: of a video, of a clip that was cut from it, or both.

    `row` says where in the file it is. `text` is what the annotation says of it, or empty. `record`
    has its fields as in the file.
    """

    row: str
    video: Part | None
    clip: Part | None
    text: str
    record: Record = NO_FIELDS


class BadRow(NamedTuple):
    """A row that names no window, and why not; its fields are as those of a Window."""

    row: str
    reason: str
    record: Record = NO_FIELDS


Row = Window | BadRow


class Span(NamedTuple):
    """The uid, start and end of a Part as a file has them: of any type, or None."""

    uid: Any = None
    start: Any = None
    end: Any = None

    @classmethod
    def at(cls, uid: Any, frame: Any, rate: float = FRAME_RATE) -> Span:
        """Return the window of one moment."""
        frames = number(frame)
        if frames is None:
            return cls(uid)
        moment_s = frames / rate
        return cls(uid, max(0.0, moment_s - BEFORE_MOMENT_S), moment_s + AFTER_MOMENT_S)

    @classmethod
    def over(cls, uid: Any, frames: Iterable[Any], rate: float = FRAME_RATE) -> Span:
        """Return the window from the first to the last of these frames."""
        numbers = [found for frame in frames if (found := number(frame)) is not None]
        if not numbers:
            return cls(uid)
        return cls(uid, min(numbers) / rate, (max(numbers) + 1) / rate)


NOWHERE = Span()


def checked(row: str, record: Record, video: Span, clip: Span = NOWHERE, text: Any = "") -> Row:
    """Return the window of a record, or what is wrong with it.

    Of video and clip one may lack its uid or its times. Uids become lower case.
    """
    if not (_uid(video.uid) or _uid(clip.uid)):
        return BadRow(row, "it has no video_uid", record)
    try:
        of_video, of_clip = _part(video), _part(clip)
    except ValueError as error:
        return BadRow(row, str(error), record)
    if of_video is None and of_clip is None:
        return BadRow(row, "its start or end is missing", record)
    return Window(row, of_video, of_clip, text if isinstance(text, str) else "", record)


def each(record: Record, key: str, path: str) -> Iterator[tuple[str, Record]]:
    """Yield the elements of the list or object `key` of a record, with their paths.

    An element that is no object is yielded as an empty one.
    """
    found = record.get(key)
    if isinstance(found, Mapping):
        pairs: Iterator[tuple[object, Any]] = iter(found.items())
    else:
        pairs = enumerate(found) if isinstance(found, list) else iter(())
    for name, element in pairs:
        yield f"{path}.{key}[{name}]", element if isinstance(element, Mapping) else {}


def number(value: Any) -> float | None:
    """Return a number, NaN for what is none, and None for what is missing."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _part(span: Span) -> Part | None:
    """Return the checked part, or None if something is missing. Raises ValueError for its times."""
    uid, start, end = _uid(span.uid), number(span.start), number(span.end)
    if not uid or start is None or end is None:
        return None
    for name, given, found in (("start", span.start, start), ("end", span.end, end)):
        if not math.isfinite(found):
            raise ValueError(f"its {name}, {reprlib.repr(given)}, is not a number of seconds")
    if start < 0:
        raise ValueError(f"it starts at {start:g} s, before the video")
    if start >= end:
        raise ValueError(f"its start, {start:g} s, is not before its end, {end:g} s")
    return Part(uid, start, end)


def _uid(value: Any) -> str:
    return value.strip().lower() if isinstance(value, str) else ""
