"""VideoFiles: the videos and clips of a selection, found by uid."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cached_property

from ego4dfs.catalog import Catalog, VideoEntries
from ego4dfs.datasets import has_clips as is_of_clips
from ego4dfs.datasets import version_directory
from ego4dfs.errors import AccessDenied, CredentialsRejected, NotFound, ObjectMissing
from ego4dfs.manifest import Entry
from ego4dfs.vfs.tree import join

log = logging.getLogger(__name__)


class VideoFiles:
    """The videos of some datasets, of which the first that has a uid counts.

    The manifest of a dataset is loaded when the datasets before it do not have a uid. All methods
    raise the error of a manifest that cannot be loaded. Safe from several threads: two that load a
    dataset at a time make equal objects.
    """

    def __init__(
        self, catalog: Catalog, datasets: Sequence[str], optional: Container[str] = ()
    ) -> None:
        """Find in `datasets` of a catalog; `optional` ones may be refused, and are then empty."""
        self._catalog = catalog
        self._datasets = tuple(datasets)
        self._optional = optional
        self._loaded: dict[str, VideoEntries] = {}

    def path(self, uid: str) -> str:
        """Return the path of a video in the tree. Raises NotFound if it is not selected."""
        key = uid.strip().lower()
        is_listed = False
        for dataset in self._each():
            entry = dataset.selected.get(key)
            if entry is not None:
                return self.path_of(dataset, entry)
            is_listed |= key in dataset.listed
        where = " ".join(self._datasets)
        if is_listed:
            raise NotFound(f"{uid}: the selection leaves out this video of {where}")
        raise NotFound(f"{uid}: no such video in {where} of {self._catalog.version}")

    def path_of(self, dataset: VideoEntries, entry: Entry) -> str:
        """Return the path of an entry in the tree."""
        directory = version_directory(self._catalog.version)
        return join(join(directory, dataset.dataset), entry.name)

    def is_selected(self, *uids: str) -> bool:
        """Return whether a video with one of these uids is selected."""
        return any(uid in dataset.selected for dataset in self._each() for uid in uids)

    def is_listed(self, *uids: str) -> bool:
        """Return whether a dataset has a video with one of these uids, selected or not."""
        return any(uid in dataset.listed for dataset in self._each() for uid in uids)

    def is_video(self, uid: str) -> bool:
        """Return whether a dataset has the uid, and not as that of a clip."""
        return any(uid in dataset.listed for dataset in self._each(self._names(has_clips=False)))

    @cached_property
    def has_videos(self) -> bool:
        """Whether one of the datasets has videos or clips that are selected."""
        return any(dataset.selected for dataset in self._each())

    def each(self, *, has_clips: bool) -> Iterator[tuple[str, str, Entry]]:
        """Yield uid, path and entry of each selected video, or of each clip, once."""
        seen = set[str]()
        for dataset in self._each(self._names(has_clips=has_clips)):
            for uid, entry in dataset.selected.items():
                if uid not in seen:
                    seen.add(uid)
                    yield uid, self.path_of(dataset, entry), entry

    def _names(self, *, has_clips: bool) -> list[str]:
        return [name for name in self._datasets if is_of_clips(name) == has_clips]

    def _each(self, names: Iterable[str] | None = None) -> Iterator[VideoEntries]:
        for name in self._datasets if names is None else names:
            found = self._loaded.get(name)
            if found is None:
                found = self._load(name)
                self._loaded[name] = found
            yield found

    def _load(self, name: str) -> VideoEntries:
        try:
            return VideoEntries.of(self._catalog.listing(name))
        except (AccessDenied, ObjectMissing) as error:
            if name not in self._optional or isinstance(error, CredentialsRejected):
                raise
            log.warning("the videos of %s are unknown: %s", name, error)
            return VideoEntries(name)
