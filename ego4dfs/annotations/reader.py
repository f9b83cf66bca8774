"""Reading of the windows in a file: an annotation of Ego4D, a CSV or JSON Lines, as a stream."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from ego4dfs.annotations import episodic_memory as memory
from ego4dfs.annotations import forecasting as fho
from ego4dfs.annotations.json_stream import Element, elements
from ego4dfs.annotations.narrations import narration_pass, redacted_narrations
from ego4dfs.annotations.rows import Record, Row
from ego4dfs.annotations.tables import UID_COLUMNS, csv_windows, json_lines, table_row
from ego4dfs.config.text_files import text_stream
from ego4dfs.errors import ConfigError

_HINT = (
    "it should be an annotation of Ego4D (nlq, vq, moments, fho, goalstep, av, narration), or a CSV"
    " or JSON Lines with video_uid, start_s and end_s"
)
_LINE_CHARACTERS = 1 << 20  # the longest line of a table

Kind = Callable[[Record, str], Iterator[Row]]

_BY_CLIP_ANNOTATION: dict[str, Kind] = {"language_queries": memory.nlq, "query_sets": memory.vq}
_BY_FIELD_OF_VIDEO: dict[str, Kind] = {
    "annotated_intervals": fho.fho_main,
    "segments": memory.goalstep,
    "goal_category": memory.goalstep,
}
_BY_FIELD_OF_CLIP: dict[str, Kind] = {
    "action_clip_start_sec": fho.fho_lta,
    "parent_start_sec": fho.fho_oscc_pnr,
    "frames": fho.fho_hands,
    "pnr_frame": fho.fho_scod,
}


def read_windows(chunks: Iterable[bytes], *, has_people: bool = False) -> Iterator[Row]:
    """Yield the windows of a file, given as chunks of bytes of any size, in its order.

    With `has_people` also the voices and faces of AV, which are annotated in all of a clip.

    The kind of the file is known by its fields, not by its name. A row that names no window is
    yielded as a BadRow. The encoding is UTF-8, or UTF-16 with a byte order mark. Raises ConfigError
    if the file is of none of these kinds, or damaged.
    """
    rows = _rows(text_stream(chunks), has_people=has_people)
    first = next(rows, None)
    if first is None:
        raise ConfigError("it has no windows", hint=_HINT)
    yield first
    yield from rows


def _rows(text: TextIO, *, has_people: bool) -> Iterator[Row]:
    head = [text.readline(_LINE_CHARACTERS)]  # to the first line that is not blank
    while head[-1] and not head[-1].strip():
        head.append(text.readline(_LINE_CHARACTERS))
    first = head[-1]
    if not first:
        raise ConfigError("it is empty", hint=_HINT)
    lines = itertools.chain(head, iter(lambda: text.readline(_LINE_CHARACTERS), ""))
    if first.lstrip()[:1] not in ("{", "["):
        yield from csv_windows(lines)
    elif _is_json_line(first):
        yield from json_lines(lines)
    else:
        for element in elements(_Prefixed("".join(head), text)):
            yield from _of_element(element, has_people=has_people)


def _is_json_line(line: str) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and any(name in found for name in UID_COLUMNS)


class _Prefixed:
    """A Text of which the first lines were read already."""

    def __init__(self, first: str, rest: TextIO) -> None:
        self._first, self._rest = first, rest

    def read(self, characters: int, /) -> str:
        """Return the next characters, and the first lines as a whole."""
        first, self._first = self._first, ""
        return first or self._rest.read(characters)


def _of_element(element: Element, *, has_people: bool) -> Iterator[Row]:
    """Yield the windows of one element; none of one that is not of a known kind."""
    section, name, value = element
    path = f"{section}[{name}]"
    if not isinstance(value, dict):
        return
    if section == "":
        yield table_row(f"element {name}", value)
    elif isinstance(name, str):
        if name.startswith("narration_pass"):
            yield from narration_pass(section, value, f"{section}.{name}")
        elif section == "videos":
            yield from redacted_narrations(name, value, path)
    elif (kind := _kind(section, value)) is not None:
        yield from kind(value, path)
        if has_people and kind is memory.av:
            yield from memory.people(value, path)


def _kind(section: str, record: Record) -> Kind | None:
    if section == "annotations":
        return fho.fho_sta
    if section == "clips":
        return _by_field(_BY_FIELD_OF_CLIP, record)
    if section != "videos":
        return None
    clips = record.get("clips")
    if not isinstance(clips, list):
        return _by_field(_BY_FIELD_OF_VIDEO, record)
    records = [clip for clip in clips if isinstance(clip, dict)]
    if any("persons" in clip or "transcriptions" in clip for clip in records):
        return memory.av
    listed = (found for clip in records if isinstance(found := clip.get("annotations"), list))
    annotations = (one for found in listed for one in found if isinstance(one, dict))
    kinds = (_by_field(_BY_CLIP_ANNOTATION, one) for one in annotations)
    return next((kind for kind in kinds if kind is not None), memory.moments)


def _by_field(kinds: dict[str, Kind], record: Record) -> Kind | None:
    return next((kind for field, kind in kinds.items() if field in record), None)
