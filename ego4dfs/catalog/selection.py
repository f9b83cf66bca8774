"""Which entries are wanted: the meaning of the official tool's filtering flags, once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ego4dfs.manifest import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters that all must admit an entry; an empty one admits every entry.

    All texts are lower case. A filter does not touch entries that it says nothing about: files
    that belong to no video pass `video_uids`, and manifests without a benchmarks column pass
    `benchmarks`, as in the official tool.
    """

    benchmarks: frozenset[str] = frozenset()
    universities: frozenset[str] = frozenset()
    video_uids: frozenset[str] = frozenset()
    annotations: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        benchmarks: Iterable[str] = (),
        universities: Iterable[str] = (),
        video_uids: Iterable[str] = (),
        annotations: Iterable[str] = (),
    ) -> Selection:
        """Make a selection from texts of any case."""
        return cls(
            benchmarks=frozenset(text.lower() for text in benchmarks),
            universities=frozenset(text.lower() for text in universities),
            video_uids=frozenset(text.lower() for text in video_uids),
            annotations=frozenset(text.lower() for text in annotations),
        )

    def admits(self, entry: Entry) -> bool:
        """Tell whether the entry passes every filter."""
        return (
            self._admits_benchmarks(entry)
            and (not self.universities or not self.universities.isdisjoint(entry.universities))
            and self._admits_uids(entry)
            and self._admits_annotation(entry)
        )

    def _admits_benchmarks(self, entry: Entry) -> bool:
        if not self.benchmarks or entry.benchmarks is None:
            return True
        return not self.benchmarks.isdisjoint(entry.benchmarks)

    def _admits_uids(self, entry: Entry) -> bool:
        if not self.video_uids or not entry.uids:
            return True
        return not self.video_uids.isdisjoint(entry.uids)

    def _admits_annotation(self, entry: Entry) -> bool:
        if not self.annotations or not entry.annotation:
            return True
        name = entry.name.lower()
        return any(text in entry.annotation or text in name for text in self.annotations)
