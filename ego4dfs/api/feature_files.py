"""FeatureFiles: the feature files of a dataset, found by the uid of their video, and read."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from ego4dfs.api.tensors import read_tensor
from ego4dfs.catalog import Catalog
from ego4dfs.datasets import version_directory
from ego4dfs.errors import ConfigError, MediaError, NotFound
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.vfs.tree import join

SUFFIX = ".pt"
Found = tuple[str, Any]
"""A uid with its array, or with the Exception in its place."""


class FeatureFiles:
    """The selected features of one dataset, by uid."""

    def __init__(self, catalog: Catalog, dataset: str) -> None:
        """Load the manifest of `dataset`. Raises the error of one that cannot be loaded."""
        self._name = dataset
        self._directory = join(version_directory(catalog.version), dataset)
        self._names = {
            uid: entry.name
            for entry in catalog.listing(dataset).entries
            if entry.name.endswith(SUFFIX)
            for uid in entry.uids
        }

    def __iter__(self) -> Iterator[str]:
        """Yield the uids, in the order of the manifest."""
        return iter(self._names)

    def read(
        self, fs: Ego4DFileSystem, uids: Iterable[str], *, ordered: bool, max_bytes: int
    ) -> Generator[Found]:
        """Yield each uid with its array, or with the Exception that says why there is none."""
        wanted = ((self._path_or_none(uid) or "", None, None, uid) for uid in map(str, uids))
        for (path, *_, uid), data in fs.read_many(
            wanted, ordered=ordered, on_error="return", max_bytes=max_bytes
        ):
            yield uid, _array(path, data) if path else self._unknown(uid)

    def _path_or_none(self, uid: str) -> str | None:
        name = self._names.get(uid.strip().lower())
        return join(self._directory, name) if name is not None else None

    def _unknown(self, uid: str) -> NotFound:
        return NotFound(f"{uid}: no features of it are selected in {self._name}")


def dataset_of(named: str, datasets: Iterable[str]) -> str:
    """Return the dataset that is named, or else the only one with features that is selected.

    Raises ConfigError if there is none, or more than one.
    """
    if named:
        return named
    found = [name for name in datasets if is_features(name)]
    if len(found) != 1:
        raise ConfigError(
            f"which features? {' '.join(found) or 'no dataset of features'} is selected",
            hint='name one: features(uids, "omnivore_video_swinl_fp16")',
        )
    return found[0]


def is_features(dataset: str) -> bool:
    """Return whether a dataset holds features, by the names of the models of Ego4D's features."""
    return dataset.startswith(("slowfast", "omnivore"))


def _array(path: str, data: Any) -> Any:
    if isinstance(data, Exception):
        return data
    try:
        return read_tensor(data)
    except MediaError as error:
        return MediaError(f"{path}: {error}")
