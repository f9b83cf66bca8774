"""The videos and clips that ego4d.json describes, reduced to the columns of data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ego4dfs.annotations.json_stream import elements
from ego4dfs.config.text_files import text_stream

SPLITS = ("split_em", "split_av", "split_fho", "split_goalstep")
OF_CONTENT = ("scenarios", *SPLITS, "video_source", "device")
"""What a clip has from its video."""
OF_VIDEO = (*OF_CONTENT, "has_imu", "has_gaze", "is_stereo")
_OF_STREAMS = {
    "fps": "fps",
    "num_frames": "num_frames",
    "width": "display_resolution_width",
    "height": "display_resolution_height",
}
STREAMS = (*_OF_STREAMS, "has_audio")

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The videos and the clips of ego4d.json, by uid in lower case."""

    videos: dict[str, Fields] = field(default_factory=dict)
    clips: dict[str, Fields] = field(default_factory=dict)


def read_metadata(chunks: Iterable[bytes]) -> Metadata:
    """Read ego4d.json, given as chunks of bytes. Raises ConfigError if it is not JSON."""
    found = Metadata()
    for section, _, value in elements(text_stream(chunks)):
        if not isinstance(value, dict):
            continue
        if section == "videos":
            found.videos[_uid(value, "video_uid")] = _video(value)
        elif section == "clips":
            found.clips[_uid(value, "clip_uid")] = _clip(value)
    return found


def _video(value: Fields) -> Fields:
    own = {name: value.get(name) for name in OF_VIDEO}
    return {
        **own,
        "duration_s": value.get("duration_sec"),
        "redacted_intervals": value.get("redacted_intervals"),
        **_streams(value, "video_metadata"),
    }


def _clip(value: Fields) -> Fields:
    return {
        "video_uid": _uid(value, "video_uid"),
        "start_s": value.get("video_start_sec"),
        "end_s": value.get("video_end_sec"),
        **_streams(value, "clip_metadata"),
    }


def _streams(value: Fields, name: str) -> Fields:
    described = value.get(name)
    streams = described if isinstance(described, dict) else {}
    has_audio = streams["audio_codec"] is not None if "audio_codec" in streams else None
    return {
        **{column: streams.get(key) for column, key in _OF_STREAMS.items()},
        "has_audio": has_audio,
    }


def _uid(value: Fields, name: str) -> str:
    return str(value.get(name) or "").lower()
