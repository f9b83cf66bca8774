"""VideoEntries: the videos or the clips of one dataset, by uid."""

from __future__ import annotations

from dataclasses import dataclass, field

from ego4dfs.catalog.catalog import Listing
from ego4dfs.datasets import has_clips
from ego4dfs.manifest import Entry


@dataclass(frozen=True, slots=True)
class VideoEntries:
    """The selected videos of a dataset by uid, in lower case, and the uids of all its rows.

    A clip has only its own uid here, and not that of its parent.
    """

    dataset: str
    selected: dict[str, Entry] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    @property
    def has_clips(self) -> bool:
        """Whether they are clips."""
        return has_clips(self.dataset)

    @classmethod
    def of(cls, listing: Listing) -> VideoEntries:
        """Return those of a listing, in the order of its manifest."""
        found = cls(listing.dataset)
        for entry in listing.manifest.entries:
            found.listed.update(entry.uids - {entry.parent})
        for entry in listing.entries:
            if entry.is_video:
                found.selected.update(dict.fromkeys(entry.uids - {entry.parent}, entry))
        return found
