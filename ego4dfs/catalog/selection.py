"""Selection: the filters of entries, and what each of them admits."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from ego4dfs.manifest import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters. An entry is selected if every filter admits it; an empty filter admits all.

    All strings except the patterns are lower case. A filter admits entries to which it does not
    apply: uids do not apply to files that belong to no video, benchmarks do not apply to manifests
    without a benchmarks column. For those the benchmarks of their videos and clips in other
    manifests count: `tagged_uids` are in a selected benchmark, `untagged_uids` only in others.

    `video_uids` admit a video, all its clips, and all files derived from it. `clip_uids` admit
    these clips, no other clips, and `cut_from`, the videos that they are cut from. `split_uids` are
    the videos of the selected splits, and their clips; None is no filter. `include` and `exclude`
    are glob patterns of names, of which one must match.
    """

    benchmarks: frozenset[str] = frozenset()
    tagged_uids: frozenset[str] = frozenset()
    untagged_uids: frozenset[str] = frozenset()
    universities: frozenset[str] = frozenset()
    video_uids: frozenset[str] = frozenset()
    annotations: frozenset[str] = frozenset()
    clip_uids: frozenset[str] = frozenset()
    cut_from: frozenset[str] = frozenset()
    split_uids: frozenset[str] | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def admits(self, entry: Entry) -> bool:
        """Return whether the entry passes every filter."""
        return (
            self._admits_benchmarks(entry)
            and (not self.universities or not self.universities.isdisjoint(entry.universities))
            and self._admits_uids(entry)
            and self._admits_splits(entry)
            and self._admits_annotation(entry)
            and self._admits_name(entry.name)
        )

    def _admits_benchmarks(self, entry: Entry) -> bool:
        if entry.benchmarks is None:
            is_other = not self.untagged_uids.isdisjoint(entry.uids)
            return not is_other or not self.tagged_uids.isdisjoint(entry.uids)
        if not self.benchmarks:
            return True
        return not self.benchmarks.isdisjoint(entry.benchmarks)

    def _admits_uids(self, entry: Entry) -> bool:
        if not entry.uids or not (self.video_uids or self.clip_uids):
            return True
        if not self.video_uids.isdisjoint(entry.uids):
            return True
        if entry.parent:
            return not self.clip_uids.isdisjoint(entry.uids - {entry.parent})
        return not (self.clip_uids | self.cut_from).isdisjoint(entry.uids)

    def _admits_splits(self, entry: Entry) -> bool:
        if self.split_uids is None or not entry.uids:
            return True
        return not self.split_uids.isdisjoint(entry.uids)

    def _admits_annotation(self, entry: Entry) -> bool:
        if not self.annotations or not entry.annotation:
            return True
        name = entry.name.lower()
        return any(text in entry.annotation or text in name for text in self.annotations)

    def _admits_name(self, name: str) -> bool:
        if self.include and not any(fnmatchcase(name, pattern) for pattern in self.include):
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.exclude)
