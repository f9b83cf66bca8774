"""Catalogue: the selected videos, with what the pages show of each and filter by."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from ego4dfs.annotations.rows import number
from ego4dfs.api.video_files import VideoFiles
from ego4dfs.browse.derived import Derived
from ego4dfs.browse.tree_file import TreeFile
from ego4dfs.catalog.metadata import SPLITS, Fields, read_metadata
from ego4dfs.config import Config
from ego4dfs.datasets import METADATA, PRIMARY, VIDEO_DATASETS, version_directory
from ego4dfs.errors import ConfigError, Ego4DError
from ego4dfs.files import read_regular, write_atomic
from ego4dfs.manifest import Entry
from ego4dfs.text import printable
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import join

log = logging.getLogger(__name__)

COLUMNS = (
    *("uid", "duration_s", "scenarios", "universities", "benchmarks", "splits"),
    *("has_audio", "has_imu", "has_gaze"),
)
_KEPT = (
    *("duration_s", "scenarios", *SPLITS, "has_audio", "has_imu", "has_gaze"),
    *("width", "height", "redacted_intervals"),
)
_MAX_BYTES = 64 << 20
_ID_BYTES = 10
_NAME_CHARACTERS = 200
_SHOWN_SCENARIOS = 20
_MAX_INTERVALS = 1000
_MAX_SIDE = 1e6  # pixels


class Catalogue:
    """The videos of a selection, made at the first use. Safe from several threads.

    Scenarios and durations are those of ego4d.json; without it they are empty. All texts are
    printable, and names are cut after 200 characters.
    """

    def __init__(self, vfs: VFS, config: Config, directory: Path, given: Mapping[str, str]) -> None:
        """Keep what is made of ego4d.json in `directory`; for `given` see `open_pages`."""
        self._vfs = vfs
        self._config = config
        self._directory = directory
        self._given = given
        self._lock = threading.Lock()
        self._paths: Mapping[str, str] | None = None
        self._encoded = b""
        self._id = ""
        self._described: Mapping[str, Fields] = {}

    def paths(self) -> Mapping[str, str]:
        """Return the paths of the videos in the tree, by uid, in the order of the manifest.

        Raises ConfigError if no dataset of the selection has videos, and the error of a manifest.
        """
        with self._lock:
            if self._paths is None:
                self._load()
            return self._paths or {}

    def encoded(self) -> bytes:
        """Return the catalogue as JSON, compressed with gzip. Raises as `paths` does."""
        self.paths()
        return self._encoded

    def id(self) -> str:
        """Return what names these videos in this order. Raises as `paths` does."""
        self.paths()
        return self._id

    def size(self, uid: str) -> tuple[float, float]:
        """Return width and height of the pictures of a video; 0 if ego4d.json does not say them."""
        found = self._described.get(uid, {})
        width, height = (number(found.get(name)) or 0.0 for name in ("width", "height"))
        is_possible = 1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE
        return (width, height) if is_possible else (0.0, 0.0)

    def redacted(self, uid: str) -> list[tuple[float, float]]:
        """Return the start and end of each part of a video that was made unrecognisable."""
        found = self._described.get(uid, {}).get("redacted_intervals")
        intervals = found if isinstance(found, list) else []
        times = (
            tuple(number(one.get(name)) for name in ("start_sec", "end_sec"))
            for one in intervals
            if isinstance(one, dict)
        )
        return [
            (start_s, end_s)
            for start_s, end_s in times
            if start_s is not None and end_s is not None and 0 <= start_s < end_s < math.inf
        ]

    def at_places(self, places: str) -> AbstractSet[str]:
        """Return the uids of some videos, given as a bit for each of the catalogue, in base64.

        The filter of a page is applied in the browser. Bits after the last video count as none, and
        so does what is no base64. Raises as `paths` does.
        """
        try:
            bits = base64.urlsafe_b64decode(places)
        except ValueError:
            bits = b""
        videos = zip(range(8 * len(bits)), self.paths(), strict=False)
        return {uid for place, uid in videos if bits[place >> 3] >> (place & 7) & 1}

    def _load(self) -> None:
        datasets = self._config.datasets or VIDEO_DATASETS
        files = VideoFiles(self._vfs.session.catalog, datasets)
        found = list(files.each(has_clips=False))
        if not found:
            raise ConfigError(
                f"no videos are selected in {' '.join(datasets)}",
                hint=f"name a dataset that has some, such as --datasets {PRIMARY} annotations",
            )
        self._described, problem = self._read()
        has_splits = any(entry.splits for _, _, entry in found)
        videos = [
            _row(uid, entry, self._described.get(uid, {}), has_splits=has_splits)
            for uid, _, entry in found
        ]
        uids = "\n".join(uid for uid, _, _ in found)
        self._id = hashlib.blake2b(os.fsencode(uids), digest_size=_ID_BYTES).hexdigest()
        document = {
            "id": self._id,
            "version": self._config.version,
            **{name: printable(text) for name, text in self._given.items()},
            "is_filtered": self._config.is_filtered
            or self._config.manifest_override_path is not None,
            # Else --splits, which knows those of the manifest only, would select others.
            "splits_are_options": has_splits,
            "problem": printable(problem),
            "columns": COLUMNS,
            "videos": videos,
        }
        text = json.dumps(document, separators=(",", ":"))
        self._encoded = gzip.compress(text.encode(), compresslevel=1)
        self._paths = {uid: path for uid, path, _ in found}

    def _read(self) -> tuple[Mapping[str, Fields], str]:
        """Return what ego4d.json says of each video, and why nothing, if it cannot be read."""
        try:
            file = TreeFile(self._vfs, join(version_directory(self._config.version), METADATA))
            kept = Derived(self._directory, file.url, file.etag, ".json")
            return _read_kept(kept) or _make_kept(kept, file), ""
        except (Ego4DError, OSError) as error:
            log.warning("%s: %s", METADATA, error)
            return {}, f"{METADATA}: {error}"


def _read_kept(kept: Derived) -> dict[str, Fields]:
    """Return what was kept, or nothing if it is absent or damaged."""
    try:
        content, _ = read_regular(kept.path, max_bytes=_MAX_BYTES)
        found = json.loads(content)
        return {uid: dict(zip(_KEPT, values, strict=True)) for uid, values in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _short(value: Any) -> Any:
    return value[:_MAX_INTERVALS] if isinstance(value, list) else value


def _make_kept(kept: Derived, file: TreeFile) -> Mapping[str, Fields]:
    read = read_metadata(file.chunks()).videos
    found = {
        uid: {name: _short(fields.get(name)) for name in _KEPT} for uid, fields in read.items()
    }
    rows = {uid: list(fields.values()) for uid, fields in found.items()}
    try:
        write_atomic(kept.path, json.dumps(rows).encode())
        kept.remove_older()
    except OSError as error:
        log.warning("%s is read again at the next start: %s", METADATA, error)
    return found


def _row(uid: str, entry: Entry, described: Fields, *, has_splits: bool) -> list[Any]:
    """Return the values of COLUMNS.

    Universities, benchmarks and splits are those that the options of ego4dfs select by.
    """
    duration_s = number(described.get("duration_s"))
    scenarios = described.get("scenarios")
    names = scenarios if isinstance(scenarios, list) else []
    splits = (
        entry.splits
        if has_splits
        else [f"{name[6:]}:{described[name]}" for name in SPLITS if described.get(name)]
    )
    return [
        printable(uid),
        round(duration_s, 3) if duration_s is not None and 0 < duration_s < 1e7 else None,
        [_name(text) for text in names[:_SHOWN_SCENARIOS] if isinstance(text, str)],
        sorted(map(_name, entry.universities)),
        sorted(map(_name, entry.benchmarks or ())),
        sorted(map(_name, splits)),
        *(_flag(described.get(name)) for name in ("has_audio", "has_imu", "has_gaze")),
    ]


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _name(text: str) -> str:
    return printable(text[:_NAME_CHARACTERS])
