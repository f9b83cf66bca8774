"""WindowRows: the rows of annotations, with clips joined to their parent videos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from functools import cached_property
from typing import NamedTuple

from ego4dfs.annotations import BadRow, Window
from ego4dfs.annotations.rows import Record, Row
from ego4dfs.api.video_files import VideoFiles
from ego4dfs.catalog import Catalog, Parent, parents_of_clips


class WindowRow(NamedTuple):
    """One row: its window in the video, its window in a clip, and what the annotation says.

    A uid that is unknown is None, and a time NaN. `problem` says why the row has no window in a
    video, or is empty. `record` has the fields as in the file.
    """

    row: str
    record: Record
    problem: str = ""
    video_uid: str | None = None
    start_s: float = math.nan
    end_s: float = math.nan
    clip_uid: str | None = None
    clip_start_s: float = math.nan
    clip_end_s: float = math.nan
    text: str = ""


class _State(Enum):
    """What the selection says of the videos of a row."""

    SELECTED = auto()
    LEFT_OUT = auto()
    UNKNOWN = auto()


class WindowRows:
    """Makes WindowRows. Used from one thread.

    Rows of videos that the selection leaves out are left out, and those of unknown videos have a
    problem; if the datasets have no videos, all rows are kept.
    """

    def __init__(self, catalog: Catalog, files: VideoFiles) -> None:
        """Join with the manifest of clips, which is loaded from `catalog` if it is needed."""
        self._catalog = catalog
        self._files = files
        self._states: dict[tuple[str | None, str | None], _State] = {}
        self._are_clips: dict[str, bool] = {}

    def of(self, rows: Iterable[Row]) -> Iterator[WindowRow]:
        """Yield the rows of an annotation. Raises the error of a manifest, and what `rows` do."""
        for row in rows:
            if isinstance(row, BadRow):
                yield WindowRow(row.row, row.record, row.reason)
                continue
            found = self._joined(row)
            uids = (found.video_uid, found.clip_uid)
            if uids not in self._states:  # an annotation has many rows of each video
                self._states[uids] = self._state(*(uid for uid in uids if uid is not None))
            if self._states[uids] is _State.UNKNOWN:
                named = found.video_uid or found.clip_uid
                yield found._replace(problem=f"no selected dataset has the video {named}")
            elif self._states[uids] is _State.SELECTED:
                yield found

    def _state(self, *uids: str) -> _State:
        if not self._files.has_videos or self._files.is_selected(*uids):
            return _State.SELECTED
        return _State.LEFT_OUT if self._files.is_listed(*uids) else _State.UNKNOWN

    @cached_property
    def _parents(self) -> Mapping[str, Parent]:
        return parents_of_clips(self._catalog)

    def _joined(self, window: Window) -> WindowRow:
        """Return the row of a window; one that only names a clip is in the clip's video."""
        video, clip, problem = window.video, window.clip, ""
        if video is not None and clip is None and self._is_clip(video.uid):
            video, clip = None, video  # as tables may have it
        if video is None and clip is not None:
            parent = self._parents.get(clip.uid)
            video = parent.part(clip) if parent is not None else None
            if video is None:
                problem = f"the place of the clip {clip.uid} in its video is unknown"
        row = WindowRow(window.row, window.record, problem, text=window.text)
        if video is not None:
            uid, start_s, end_s = video
            row = row._replace(video_uid=uid, start_s=start_s, end_s=end_s)
        if clip is not None:
            uid, start_s, end_s = clip
            row = row._replace(clip_uid=uid, clip_start_s=start_s, clip_end_s=end_s)
        return row

    def _is_clip(self, uid: str) -> bool:
        found = self._are_clips.get(uid)
        if found is None:
            found = not self._files.is_video(uid) and uid in self._parents
            self._are_clips[uid] = found
        return found
