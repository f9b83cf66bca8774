"""Data frames of videos, clips and the windows of annotations; pandas is imported when one is made.

All of them have the same names for the same things: see docs/guides/python.md.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ego4dfs.annotations.rows import number
from ego4dfs.api.window_rows import WindowRow
from ego4dfs.catalog.metadata import OF_CONTENT, OF_VIDEO, SPLITS, STREAMS, Fields, Metadata
from ego4dfs.manifest import Entry

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Selected = tuple[str, str, Entry]
"""The uid, the path and the entry of a selected video or clip."""

VIDEO_COLUMNS = ("video_uid", "duration_s", "path", *STREAMS, "benchmarks", *OF_VIDEO)
CLIP_COLUMNS = (
    *("clip_uid", "video_uid", "start_s", "end_s", "duration_s", "path"),
    *STREAMS,
    "benchmarks",
    *OF_CONTENT,
)
UIDS, TIMES = ("video_uid", "clip_uid"), ("start_s", "end_s", "clip_start_s", "clip_end_s")
WINDOW_COLUMNS = ("video_uid", "start_s", "end_s", "text", "clip_uid", "clip_start_s", "clip_end_s")
_ROWS_NAMED = 5


def video_frame(selected: Iterable[Selected], metadata: Metadata) -> pd.DataFrame:
    """Return the selected videos, in the order of the manifest."""
    rows = []
    for uid, path, entry in selected:
        described = metadata.videos.get(uid, {})
        rows.append({**described, **_of_entry(path, entry, described), "video_uid": uid})
    return _frame(rows, VIDEO_COLUMNS)


def clip_frame(selected: Iterable[Selected], metadata: Metadata) -> pd.DataFrame:
    """Return the selected clips, with their place in the parent video, as for videos."""
    rows = []
    for uid, path, entry in selected:
        described = metadata.clips.get(uid, {})
        video_uid = entry.parent or described.get("video_uid")
        window = entry.window or (described.get("start_s"), described.get("end_s"))
        start_s, end_s = map(_seconds, window)
        parent = metadata.videos.get(str(video_uid), {})
        rows.append(
            {
                **{name: parent.get(name) for name in OF_CONTENT},
                **described,
                **_of_entry(path, entry, parent),
                "clip_uid": uid,
                "video_uid": video_uid,
                "start_s": start_s,
                "end_s": end_s,
                "duration_s": end_s - start_s,
            }
        )
    return _frame(rows, CLIP_COLUMNS)


def window_frame(rows: Iterable[WindowRow], name: str) -> pd.DataFrame:
    """Return the windows of rows; those that have none are left out, and logged as a warning."""
    import pandas as pd  # noqa: PLC0415 - takes a second

    texts: dict[str, list[str | None]] = {column: [] for column in ("text", *UIDS)}
    times = {column: array("d") for column in TIMES}  # an annotation may have millions
    shared: dict[str | None, str | None] = {}
    bad: list[WindowRow] = []
    count = 0
    for row in rows:
        if row.problem:
            count += 1
            bad += [row] * (count <= _ROWS_NAMED)
            continue
        texts["text"].append(row.text)
        for column in UIDS:
            uid = getattr(row, column)
            texts[column].append(shared.setdefault(uid, uid))
        for column, seconds in times.items():
            seconds.append(getattr(row, column))
    if count:
        named = "; ".join(f"{row.row}: {row.problem}" for row in bad)
        log.warning("%s: %d of its rows have no usable window: %s", name, count, named)
    frame: pd.DataFrame = pd.DataFrame({**texts, **times}, columns=list(WINDOW_COLUMNS))
    return frame


def annotation_frame(rows: Iterable[WindowRow]) -> pd.DataFrame:
    """Return all rows, with what is wrong with them, and with their own fields as columns."""
    import pandas as pd  # noqa: PLC0415

    own: dict[str, None] = {}
    found = []
    common = ("row", *WINDOW_COLUMNS, "problem")
    for row in rows:
        own.update(dict.fromkeys(row.record))
        found.append({**row.record, **{name: getattr(row, name) for name in common}})
    others = [name for name in own if name not in common]
    frame: pd.DataFrame = pd.DataFrame(found, columns=[*common, *others])
    return frame


def _of_entry(path: str, entry: Entry, described: Fields) -> Fields:
    """Return what the manifest says; its splits only if ego4d.json has none."""
    listed = {
        f"split_{name}": split for name, _, split in (one.partition(":") for one in entry.splits)
    }
    return {
        "path": path,
        "benchmarks": sorted(entry.benchmarks or ()),
        **{name: described.get(name) or listed.get(name) for name in SPLITS},
    }


def _seconds(value: Any) -> float:
    found = number(value)
    return math.nan if found is None else found


def _frame(rows: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    frame: pd.DataFrame = pd.DataFrame(rows, columns=list(columns))
    return frame
