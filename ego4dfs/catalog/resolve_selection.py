"""Resolve the filter options of a Config to a Selection; some options need other manifests.

The manifest of full_scale has the splits, that of clips has the parent videos of clips, and both
have benchmarks. Uids can come from an annotation file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ego4dfs.catalog.catalog import Catalog
from ego4dfs.catalog.clip_parents import parents_of_clips
from ego4dfs.catalog.selection import Selection
from ego4dfs.catalog.uids import NamedUids, uids_in
from ego4dfs.config import Config
from ego4dfs.config.text_files import chunks
from ego4dfs.datasets import CLIPS, PRIMARY, has_clips
from ego4dfs.errors import ConfigError, Ego4DError

log = logging.getLogger(__name__)

NO_UIDS = NamedUids(frozenset(), frozenset())


class _UidsByBenchmark(NamedTuple):
    """Uids of videos and clips that are in a selected benchmark, and those that are not."""

    tagged: frozenset[str] = frozenset()
    untagged: frozenset[str] = frozenset()


def uids_from_file(config: Config, read: Callable[[str], Iterator[bytes]]) -> NamedUids:
    """Return the uids in the file `uids_from`; `read` yields the bytes of a path of the tree.

    Raises ConfigError when there is no such file, or no uid in it.
    """
    if not config.uids_from:
        return NO_UIDS
    path = Path(config.uids_from)
    try:
        named = uids_in(chunks(path) if path.is_absolute() else read(config.uids_from))
    except (OSError, ConfigError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(f"--uids-from {path}: {reason}") from error
    if not named.videos and not named.clips:
        hint = "it should be JSON or CSV with values of video_uid or clip_uid"
        raise ConfigError(f"--uids-from {path}: contains no uid of a video or clip", hint=hint)
    return named


def resolve_selection(
    config: Config, catalog: Catalog, names: Sequence[str], named: NamedUids
) -> Selection:
    """Return the Selection that the options mean for the datasets `names`.

    Loads further manifests from `catalog`, which must be unfiltered, only if an option needs them.
    Raises ConfigError for a split that no video has, and the error of a manifest that cannot be
    loaded.
    """
    videos, clips = set(config.video_uids), set(config.clip_uids)
    # A file with uids of clips selects those clips, not all that were cut from the same videos.
    (clips if named.clips else videos).update(named.videos | named.clips)
    split = _videos_of_splits(config.splits, catalog) if config.splits else None
    parents: Mapping[str, str] = {}
    if clips or ((videos or split) and any(_has_clips_without_parents(name) for name in names)):
        parents = {clip: parent.uid for clip, parent in parents_of_clips(catalog).items()}
    basis = Selection(
        benchmarks=frozenset(config.benchmarks),
        universities=frozenset(config.universities),
        annotations=frozenset(config.annotations),
    )
    uids = _uids_by_benchmark(basis, catalog, config.datasets)
    return replace(
        basis,
        tagged_uids=uids.tagged,
        untagged_uids=uids.untagged,
        video_uids=_with_clips(videos, parents),
        clip_uids=frozenset(clips),
        cut_from=frozenset(parents[clip] for clip in clips if clip in parents),
        split_uids=None if split is None else _with_clips(split, parents),
        include=config.include,
        exclude=config.exclude,
    )


def _has_clips_without_parents(dataset: str) -> bool:
    """Return whether a dataset has clips, but no column with their parent videos."""
    return dataset != CLIPS and has_clips(dataset)


def _with_clips(videos: set[str], parents: Mapping[str, str]) -> frozenset[str]:
    return frozenset(videos).union(clip for clip, video in parents.items() if video in videos)


def _uids_by_benchmark(
    selection: Selection, catalog: Catalog, named: Sequence[str]
) -> _UidsByBenchmark:
    """Return the uids of videos and clips in one of the benchmarks, and those of all others.

    They come from the manifests with a benchmarks column. Both are empty if every dataset that
    was named has the column itself, and, with a warning, if those manifests cannot be loaded.
    """
    if not selection.benchmarks:
        return _UidsByBenchmark()
    failed = catalog.load(named)
    columns = [catalog.listing(name).manifest.columns for name in named if name not in failed]
    if named and all("benchmarks" in header for header in columns):
        return _UidsByBenchmark()
    tagged, others = set[str](), set[str]()
    for name in (PRIMARY, CLIPS):
        try:
            entries = catalog.listing(name).manifest.entries
        except Ego4DError as error:
            log.warning("the benchmarks of videos and clips are unknown: %s", error)
            return _UidsByBenchmark()
        for entry in entries:
            if entry.benchmarks is not None:
                is_wanted = not selection.benchmarks.isdisjoint(entry.benchmarks)
                (tagged if is_wanted else others).update(entry.uids - {entry.parent})
    return _UidsByBenchmark(frozenset(tagged), frozenset(others))


def _videos_of_splits(splits: Sequence[str], catalog: Catalog) -> set[str]:
    entries = catalog.listing(PRIMARY).manifest.entries
    found = {split for entry in entries for split in entry.splits}
    for word in splits:
        if not any(_is_split(word, split) for split in found):
            known = ", ".join(sorted(found)) or "none"
            raise ConfigError(
                f"--splits: no video of {catalog.version} is in {word}",
                hint=f"its manifest of {PRIMARY} has: {known}",
            )
    wanted = {split for split in found if any(_is_split(word, split) for word in splits)}
    return {uid for entry in entries if not wanted.isdisjoint(entry.splits) for uid in entry.uids}


def _is_split(word: str, split: str) -> bool:
    return split == word or split.rpartition(":")[2] == word
