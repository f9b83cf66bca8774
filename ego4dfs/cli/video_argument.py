"""The argument that names a video: its uid in a dataset, or its path in the tree."""

from __future__ import annotations

from dataclasses import replace

from ego4dfs import datasets
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import join


def with_dataset(config: Config, video: str) -> Config:
    """Return the options with the dataset that has the video, unless datasets are named.

    That is the directory of a path, and full_scale for a uid. Raises ConfigError for a path that
    cannot be one of the tree.
    """
    if config.datasets:
        return config
    dataset = datasets.PRIMARY
    if "/" in video:
        dataset = _in_version(video, config.version).rpartition("/")[0]
    if not dataset or dataset.partition("/")[0] in datasets.VERSIONS:
        hint = "paths are as in a mount: v2/full_scale/<uid>.mp4; --version selects the version"
        raise ConfigError(f"{video}: no such video in {config.version}", hint=hint)
    return replace(config, datasets=(datasets.normalise(dataset),))


def video_path(vfs: VFS, config: Config, video: str) -> str:
    """Return the path in the tree of the video that a uid or a path names.

    Raises ConfigError for a uid that no dataset of `config` has, and the error of a manifest that
    cannot be loaded.
    """
    directory = datasets.version_directory(config.version)
    if "/" in video:
        return join(directory, _in_version(video, config.version))
    uid = video.removesuffix(".mp4").lower()
    for dataset in config.datasets:
        for entry in vfs.session.catalog.listing(dataset).entries:
            if entry.uid.lower() == uid and entry.is_video:
                return join(join(directory, dataset), entry.name)
    where = " ".join(config.datasets)
    hint = f"clips need --datasets clips; `ego4dfs ls {directory}/{config.datasets[0]}` lists all"
    raise ConfigError(f"{video}: no such video in {where}", hint=hint)


def _in_version(path: str, version: str) -> str:
    """Return a path without the directory of the version, which may be omitted."""
    return path.strip("/").removeprefix(f"{datasets.version_directory(version)}/")
