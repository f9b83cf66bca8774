"""The parent videos of clips, and where in them the clips are: from the manifest of clips."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from ego4dfs.annotations import Part
from ego4dfs.catalog.catalog import Catalog
from ego4dfs.datasets import CLIPS
from ego4dfs.errors import Ego4DError, StoreUnavailable

log = logging.getLogger(__name__)


class Parent(NamedTuple):
    """The video that a clip was cut from, and the start and the end of the clip in it, in seconds.

    `window` is None if the manifest does not have it.
    """

    uid: str
    window: tuple[float, float] | None

    def part(self, clip: Part) -> Part | None:
        """Return the seconds of the video that are these of the clip, or None."""
        if self.window is None:
            return None
        offset_s = self.window[0]
        return Part(self.uid, offset_s + clip.start_s, offset_s + clip.end_s)


def parents_of_clips(catalog: Catalog, *, in_outage: bool = True) -> Mapping[str, Parent]:
    """Return the parent of each clip by its uid; empty, with a warning, if it cannot be loaded.

    Raises StoreUnavailable, unless parents may be missing `in_outage` too.
    """
    try:
        entries = catalog.listing(CLIPS).manifest.entries
    except Ego4DError as error:
        if isinstance(error, StoreUnavailable) and not in_outage:
            raise
        log.warning("the parent videos of clips are unknown: %s", error)
        return {}
    return {
        uid: Parent(entry.parent, entry.window)
        for entry in entries
        if entry.parent
        for uid in entry.uids - {entry.parent}
    }
