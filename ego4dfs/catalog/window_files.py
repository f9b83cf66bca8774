"""WindowFiles: the files of a selection that the windows of annotations are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ego4dfs.annotations import BadRow, Part, Window
from ego4dfs.catalog.catalog import Catalog, Listing
from ego4dfs.catalog.clip_parents import Parent, parents_of_clips
from ego4dfs.catalog.video_entries import VideoEntries


class Place(NamedTuple):
    """The seconds [start_s, end_s) of the object at `url`; `row` names them in a message."""

    url: str
    row: str
    start_s: float
    end_s: float


class WindowFiles:
    """Finds the files of some datasets that a window is in. Used from one thread.

    A window of a clip is in the file of the clip if a dataset of clips is selected that has it,
    and otherwise in the file of its video. If several datasets have the video, such as full_scale
    and video_540ss, it is in each of these files.
    """

    def __init__(self, catalog: Catalog, listings: Sequence[Listing]) -> None:
        """Find in `listings`; the manifest of clips is loaded from `catalog` if it is needed."""
        self._catalog = catalog
        self._datasets = [VideoEntries.of(listing) for listing in listings]
        self._parents: Mapping[str, Parent] | None = None

    def places(self, window: Window) -> list[Place] | BadRow:
        """Return where a window is: nowhere if its videos are not selected.

        A window whose uids are in none of the datasets is a BadRow. Raises StoreUnavailable if the
        manifest of clips would say whether it is one.
        """
        video, clip = window.video, window.clip
        if video is not None and clip is None and self._is_clip(video.uid):
            video, clip = None, video
        if clip is not None and self._lists(clip.uid, has_clips=True):
            return list(self._found(window.row, clip, has_clips=True))
        if video is None and clip is not None:
            video = self._in_video(clip)
        if video is None or not self._lists(video.uid, has_clips=False):
            named = window.clip or window.video
            return BadRow(
                window.row, f"no selected dataset has the video {named.uid if named else ''}"
            )
        return list(self._found(window.row, video, has_clips=False))

    def _is_clip(self, uid: str) -> bool:
        """Return whether the uid of a video is that of a clip, which tables may have."""
        if self._lists(uid, has_clips=False):
            return False
        return self._lists(uid, has_clips=True) or uid in self._clips()

    def _lists(self, uid: str, *, has_clips: bool) -> bool:
        return any(uid in d.listed for d in self._datasets if d.has_clips == has_clips)

    def _found(self, row: str, part: Part, *, has_clips: bool) -> Iterator[Place]:
        datasets = [d for d in self._datasets if d.has_clips == has_clips]
        entries = (entry for d in datasets if (entry := d.selected.get(part.uid)) is not None)
        for url in dict.fromkeys(entry.url for entry in entries):  # two may list one object
            yield Place(url, row, part.start_s, part.end_s)

    def _in_video(self, clip: Part) -> Part | None:
        """Return the seconds of the video that a clip was cut from, or None if it is unknown."""
        parent = self._clips().get(clip.uid)
        return parent.part(clip) if parent is not None else None

    def _clips(self) -> Mapping[str, Parent]:
        if self._parents is None:
            self._parents = parents_of_clips(self._catalog, in_outage=False)
        return self._parents
