"""From the options that select to a Selection: some of them are said in terms of other files.

A split is written in the manifest of full_scale, the parent of a clip in that of clips, the
benchmarks of a recording in one of these, and uids may be those of an annotation file.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ego4dfs.catalog import Catalog, NamedUids, Selection, uids_in
from ego4dfs.config import Config
from ego4dfs.config.files import chunks
from ego4dfs.datasets import version_directory
from ego4dfs.errors import ConfigError, Ego4DError, NotFound
from ego4dfs.tree import join
from ego4dfs.vfs.vfs import VFS

log = logging.getLogger(__name__)

_PRIMARY = "full_scale"
_CUTS = "clips"
_CHUNK_BYTES = 4 << 20
_NONE: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
NOBODY = NamedUids(frozenset(), frozenset())


def named_in(config: Config, read: Callable[[str], Iterator[bytes]]) -> NamedUids:
    """Return the uids of the file that `uids_from` names; `read` reads a path of the tree.

    Raises ConfigError when there is no such file, or no uid in it.
    """
    if not config.uids_from:
        return NOBODY
    path = Path(config.uids_from)
    try:
        named = uids_in(chunks(path) if path.is_absolute() else read(config.uids_from))
    except (OSError, ConfigError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(f"--uids-from {path}: {reason}") from error
    if not named.videos and not named.clips:
        hint = "it should be JSON or CSV with values of video_uid or clip_uid"
        raise ConfigError(f"--uids-from {path}: names no video and no clip", hint=hint)
    return named


def choose(config: Config, catalog: Catalog, names: Sequence[str], named: NamedUids) -> Selection:
    """Return the Selection that the options mean for the datasets `names`.

    Asks `catalog`, which filters nothing, for other manifests only where an option needs them.
    Raises ConfigError for a split that no video has, and why a manifest cannot be had.
    """
    videos, clips = set(config.video_uids), set(config.clip_uids)
    # A file that names clips means those clips, not all that were cut from the same videos.
    (clips if named.clips else videos).update(named.videos | named.clips)
    split = _videos_of_splits(config.splits, catalog) if config.splits else None
    parents: Mapping[str, str] = {}
    if clips or ((videos or split) and any(_holds_bare_clips(name) for name in names)):
        parents = _parents(catalog)
    basis = Selection.of(
        benchmarks=config.benchmarks,
        universities=config.universities,
        annotations=config.annotations,
    )
    tagged, untagged = _tagged(basis, catalog, config.datasets) if config.benchmarks else _NONE
    return replace(
        basis,
        tagged_uids=tagged,
        untagged_uids=untagged,
        video_uids=_with_clips(videos, parents),
        clip_uids=frozenset(clips),
        cut_from=frozenset(parents[clip] for clip in clips if clip in parents),
        split_uids=None if split is None else _with_clips(split, parents),
        include=config.include,
        exclude=config.exclude,
    )


def tree_bytes(vfs: VFS, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file of the tree; its path may leave the version's directory out.

    Raises OSError when the tree has no such file.
    """
    directory = version_directory(vfs.catalog.version)
    full = path if path.startswith(f"{directory}/") else join(directory, path)
    try:
        handle = vfs.open(full)
    except NotFound as error:
        raise FileNotFoundError(errno.ENOENT, "neither on disk nor in the tree", path) from error
    for offset in range(0, handle.size, _CHUNK_BYTES):
        yield vfs.read(handle, offset, _CHUNK_BYTES)


def _holds_bare_clips(dataset: str) -> bool:
    """Tell whether a dataset has clips, but not whose clips they are."""
    return dataset != _CUTS and dataset.startswith("clip")


def _with_clips(videos: set[str], parents: Mapping[str, str]) -> frozenset[str]:
    return frozenset(videos).union(clip for clip, video in parents.items() if video in videos)


def _parents(catalog: Catalog) -> Mapping[str, str]:
    """Return the video of each clip; nothing, with a warning, when no manifest tells."""
    try:
        entries = catalog.listing(_CUTS).manifest.entries
    except Ego4DError as error:
        log.warning("the videos that clips are cut from are not known: %s", error)
        return {}
    return {uid: e.parent for e in entries if e.parent for uid in e.uids - {e.parent}}


def _tagged(
    selection: Selection, catalog: Catalog, named: Sequence[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the uids of the videos and clips that are in a wanted benchmark, and of the others.

    Only manifests with a benchmarks column tell that. They are not asked when every dataset that
    was named has the column itself; nothing, with a warning, when they cannot be had.
    """
    failed = catalog.load(named)
    columns = [catalog.listing(name).manifest.columns for name in named if name not in failed]
    if named and all("benchmarks" in of_one for of_one in columns):
        return _NONE
    tagged, others = set[str](), set[str]()
    for name in (_PRIMARY, _CUTS):
        try:
            entries = catalog.listing(name).manifest.entries
        except Ego4DError as error:
            log.warning("which benchmarks videos and clips are in is not known: %s", error)
            return _NONE
        for entry in entries:
            if entry.benchmarks is not None:
                is_wanted = not selection.benchmarks.isdisjoint(entry.benchmarks)
                (tagged if is_wanted else others).update(entry.uids - {entry.parent})
    return frozenset(tagged), frozenset(others)


def _videos_of_splits(splits: Sequence[str], catalog: Catalog) -> set[str]:
    entries = catalog.listing(_PRIMARY).manifest.entries
    found = {split for entry in entries for split in entry.splits}
    for word in splits:
        if not any(_means(word, split) for split in found):
            there = ", ".join(sorted(found)) or "none at all"
            raise ConfigError(
                f"--splits: no video of {catalog.version} is in {word}",
                hint=f"its manifest of {_PRIMARY} has: {there}",
            )
    wanted = {split for split in found if any(_means(word, split) for word in splits)}
    return {uid for entry in entries if not wanted.isdisjoint(entry.splits) for uid in entry.uids}


def _means(word: str, split: str) -> bool:
    return split == word or split.rpartition(":")[2] == word
