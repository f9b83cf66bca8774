"""VideoPage: what the page of one video shows: its path, its tracks, and its other files."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property

from ego4dfs.browse.annotations import AnnotationIndexes
from ego4dfs.browse.catalogue import Catalogue
from ego4dfs.browse.text_index import Moved
from ego4dfs.catalog import parents_of_clips
from ego4dfs.config import Config
from ego4dfs.datasets import CLIPS, known_names, version_directory
from ego4dfs.errors import Ego4DError, NotFound
from ego4dfs.text import printable
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import join

REDACTED = "redacted"
_DIGITS = 5
_SUFFIXES = (".mp4", ".csv", ".pt", "_small.jpg")

Clip = tuple[float, float, str]

_LESS_THAN_A_MS = 1e-6  # what the arithmetic of floats may add


class VideoPage:
    """Describes videos. Safe from several threads: two that load the clips make equal objects."""

    def __init__(
        self, vfs: VFS, config: Config, catalogue: Catalogue, indexes: AnnotationIndexes
    ) -> None:
        """Describe the videos of `catalogue`."""
        self._vfs = vfs
        self._version = version_directory(config.version)
        self._datasets = config.datasets or known_names()
        self._catalogue = catalogue
        self._indexes = indexes

    def path(self, uid: str) -> str:
        """Return the path of a video. Raises NotFound for one that is not selected."""
        found = self._catalogue.paths().get(uid)
        if found is None:
            raise NotFound(f"no such video is selected: {printable(uid)}")
        return found

    def described(self, uid: str) -> Mapping[str, object]:
        """Return the path of a video, its tracks, and the objects that move in it.

        A track has lists of start, end and text. An object has lists of time, left, top, width and
        height: shares of the picture, or pixels of it if its size is unknown. `more` says of which
        annotations segments or boxes were left out. Raises NotFound as `path` does.
        """
        path = self.path(uid)
        tracks = defaultdict[str, list[Clip]](list)
        parts = self._indexes.of_video(uid)
        for one in (one for _, found in parts for one in found.segments):
            row = (seconds(one.start_s), seconds(one.end_s), printable(one.text))
            tracks[printable(one.track)].append(row)
        tracks[REDACTED] += [
            (start_s, end_s, "") for start_s, end_s in self._catalogue.redacted(uid)
        ]
        if CLIPS in self._datasets:
            tracks[CLIPS] += self._clips.get(uid, [])
        named = [
            {"name": name, "segments": sorted(tracks[name])} for name in tracks if tracks[name]
        ]
        size = self._catalogue.size(uid)
        return {
            "uid": uid,
            "path": path,
            "tracks": named,
            "objects": [_placed(moved, size) for _, found in parts for moved in found.moved],
            "more": [
                {"name": printable(name), "segments": found.more, "has_boxes": found.more_boxes}
                for name, found in parts
                if found.more or found.more_boxes
            ],
        }

    def files(self, uid: str) -> list[Mapping[str, str]]:
        """Return the files of a video in all selected datasets. Manifests are loaded for that.

        Raises NotFound as `path` does. A dataset that cannot be loaded has none.
        """
        self.path(uid)
        return [
            {"dataset": dataset, "path": path}
            for dataset in self._datasets
            for suffix in _SUFFIXES
            if self._exists(path := join(join(self._version, dataset), f"{uid}{suffix}"))
        ]

    def _exists(self, path: str) -> bool:
        try:
            self._vfs.resolve(path)
        except Ego4DError:
            return False
        return True

    @cached_property
    def _clips(self) -> Mapping[str, list[Clip]]:
        """The clips of each video."""
        found = defaultdict[str, list[Clip]](list)
        for uid, parent in parents_of_clips(self._vfs.session.catalog).items():
            if parent.window is not None:
                found[parent.uid].append((*parent.window, printable(uid)))
        return dict(found)


def _placed(moved: Moved, size: tuple[float, float]) -> Mapping[str, object]:
    sizes = [(box.picture_width, box.picture_height) for box in moved.boxes]
    sizes = [found if all(found) else size for found in sizes]
    is_known = all(all(found) for found in sizes)
    scales = sizes if is_known else [(1.0, 1.0)] * len(sizes)
    rows = [
        (
            seconds(box.time_s),
            round(box.x / width, _DIGITS),
            round(box.y / height, _DIGITS),
            round(box.width / width, _DIGITS),
            round(box.height / height, _DIGITS),
        )
        for box, (width, height) in zip(moved.boxes, scales, strict=True)
    ]
    return {
        "track": printable(moved.track),
        "label": printable(moved.label),
        "in_pixels": not is_known,
        "boxes": rows,
    }


def seconds(time_s: float) -> float:
    """Return a time in whole ms, rounded up: a moment before a picture shows the one before it."""
    return max(0.0, math.ceil(time_s * 1000 - _LESS_THAN_A_MS) / 1000)
