"""A release before its upload: manifests with their rows, and objects with their bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ego4dfs.demo.videos import CONSORTIUM

_FULL_SCALE = """
video_uid path duration_sec scenarios split_em split_av split_fho benchmarks origin_video_id
video_source device deid_scrubbed_audio deid_scrubbed_faces physical_setting_name
fb_participant_id display_resolution_width display_resolution_height sample_resolution_width
sample_resolution_height release_1 canonical_s3_location canonical_fps canonical_display_width
canonical_display_height canonical_num_frames canonical_mp4_duration_sec
canonical_video_start_sec canonical_video_duration_sec
canonical_audio_start_sec canonical_audio_duration_sec
canonical_video_start_pts canonical_video_duration_pts
canonical_video_base_numerator canonical_video_base_denominator
canonical_audio_start_pts canonical_audio_duration_pts
canonical_audio_base_numerator canonical_audio_base_denominator
canonical_audio_channel_layout canonical_audio_channel_rate_hz canonical_is_validated
"""
# The v1 header of 41 columns as the public notebooks print it. Columns 0 and 2 are read by number
# in EgoVLP and programs derived from it.
FULL_SCALE_HEADER = tuple(_FULL_SCALE.split())


@dataclass(frozen=True, slots=True)
class Row:
    """One row that names an object, and the local file name that stands for it."""

    name: str
    uid: str
    location: str


@dataclass(slots=True)
class Manifest:
    """One manifest.csv: its header, its lines as lists of cells, and how they are written."""

    header: list[str]
    lines: list[list[str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    line_end: str = "\n"
    encoding: str = "utf-8"

    def add(self, cells: Mapping[str, object], name: str) -> None:
        """Add a row; `name` is the local file name that the official tool gives it."""
        self.lines.append([str(cells.get(column, "")) for column in self.header])
        uid = cells.get("file_uid", cells.get("video_uid"))
        location = cells.get("canonical_s3_location", cells.get("s3_path"))
        if location:
            self.rows.append(Row(name, str(uid), str(location)))

    def encoded(self) -> bytes:
        """Return the bytes of manifest.csv."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator=self.line_end)
        writer.writerows([self.header, *self.lines])
        return stream.getvalue().encode(self.encoding)


@dataclass(slots=True)
class Release:
    """Manifests by (version, dataset), ego4d.json by version, and objects by location."""

    manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes | Path] = field(default_factory=dict)

    def manifest(self, version: str, dataset: str, header: Iterable[str]) -> Manifest:
        """Return the manifest of a dataset, begun with `header` when it is new."""
        return self.manifests.setdefault((version, dataset), Manifest(list(header)))

    def add_files(
        self,
        version: str,
        dataset: str,
        header: Iterable[str],
        files: Mapping[str, tuple[str, bytes | Path]],
        **cells: str,
    ) -> None:
        """Add files by location as (uid, content), named by the last part of their key."""
        columns = list(header)
        manifest = self.manifest(version, dataset, columns)
        for location, (uid, content) in files.items():
            self.objects[location] = content
            name = location.rpartition("/")[2]
            base = {columns[0]: uid, "type": "file", _location_column(columns): location}
            manifest.add(base | {"annotation": name.partition(".")[0]} | cells, name)

    def add_video(
        self,
        version: str,
        dataset: str,
        header: Iterable[str],
        row: Mapping[str, object],
        content: Path,
    ) -> None:
        """Add a video, named by its uid, independent of its key."""
        columns = list(header)
        location = str(row[_location_column(columns)])
        self.objects[location] = content
        self.manifest(version, dataset, columns).add(row, f"{row['video_uid']}.mp4")


def manifest_location(version: str, dataset: str) -> str:
    """Return where the official tool looks for a dataset's manifest."""
    return f"s3://{CONSORTIUM}/public/{version}/{dataset}/manifest.csv"


def split_location(location: str) -> tuple[str, str]:
    """Split `s3://bucket/key`."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return bucket, key


def _location_column(columns: list[str]) -> str:
    return "canonical_s3_location" if "canonical_s3_location" in columns else "s3_path"
