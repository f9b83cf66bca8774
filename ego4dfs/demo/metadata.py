"""ego4d.json, the release's own description of every video and clip.

The fields are those of the public file: top-level lists, `videos` with their components, and
`clips`, which map a clip to its video and the time it was cut from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ego4dfs.demo.media import FRAME_RATE, Clip
from ego4dfs.demo.videos import CLIP_S, Cut, Recording, derived_uid


def ego4d_json(version: str, videos: Sequence[Recording], clips: Sequence[Cut]) -> dict[str, Any]:
    """Return the content of ego4d.json."""
    return {
        "date": "231214",
        "version": version,
        "description": "Ego4D Annotations (a made-up sample in the shape of Ego4D)",
        "videos": [_video(video) for video in videos],
        "concurrent_video_sets": [],
        "physical_settings": [
            {"name": f"{video.source}_setting_{video.index}", "has_3d_scans": False}
            for video in videos
        ],
        "clips": [_clip(clip) for clip in clips],
    }


def _video(video: Recording) -> dict[str, Any]:
    redacted = _redacted(video)
    imu = f"s3://{video.bucket}/public/v1/imu/canonical/{video.uid}.csv"
    return {
        "video_uid": video.uid,
        "duration_sec": float(video.media.duration_s),
        "scenarios": list(video.scenarios),
        "video_metadata": _streams(video.media),
        "split_em": "train" if "EM" in video.benchmarks else None,
        "split_av": "val" if "AV" in video.benchmarks else None,
        "split_fho": "test" if "FHO" in video.benchmarks else None,
        "split_goalstep": "train" if "goalstep" in video.benchmarks else None,
        "is_grouped": False,
        "group_video_uids": None,
        "s3_path": video.location,
        "manifold_path": f"manifold://ego4d_fair/tree/exported/{video.uid}.mp4",
        "origin_video_id": f"{video.source}_{video.index:03}_0001",
        "video_source": video.source,
        "device": "GoPro Hero 8 Black",
        "physical_setting_name": f"{video.source}_setting_{video.index}",
        "fb_participant_id": video.index,
        "is_stereo": False,
        "has_imu": video.has_imu,
        "has_gaze": video.has_gaze,
        "imu_metadata": {"s3_path": imu, "component_metadata": []} if video.has_imu else None,
        "gaze_metadata": None,
        "video_components": [
            {
                "video_component_uid": derived_uid(video.uid, "component"),
                "component_idx": 0,
                "canonical_video_start_sec": 0.0,
                "canonical_video_end_sec": float(video.media.duration_s),
            }
        ],
        "concurrent_sets": None,
        "has_redacted_regions": bool(redacted),
        "redacted_intervals": redacted,
        "gaps": [],
    }


def _redacted(video: Recording) -> list[dict[str, Any]]:
    """Return the parts that would be unrecognisable: the last seconds of the long video."""
    if video.index:
        return []
    start_s, end_s = video.media.duration_s - 6, video.media.duration_s - 3
    times = {"start_sec": float(start_s), "end_sec": float(end_s)}
    return [{**times, "start_frame": start_s * FRAME_RATE, "end_frame": end_s * FRAME_RATE}]


def _clip(clip: Cut) -> dict[str, Any]:
    return {
        "clip_uid": clip.uid,
        "video_uid": clip.parent.uid,
        "video_start_sec": float(clip.start_s),
        "video_end_sec": float(clip.start_s + CLIP_S),
        "video_start_frame": clip.start_s * FRAME_RATE,
        "video_end_frame": (clip.start_s + CLIP_S) * FRAME_RATE,
        "clip_metadata": _streams(clip.media),
        "s3_path": clip.location,
        "manifold_path": f"manifold://ego4d_fair/tree/clips/{clip.uid}.mp4",
    }


def _streams(clip: Clip) -> dict[str, Any]:
    return {
        "fps": float(FRAME_RATE),
        "num_frames": clip.num_frames,
        "video_codec": "libvpx-vp9",
        "audio_codec": "aac" if clip.audio else None,
        "display_resolution_width": clip.width,
        "display_resolution_height": clip.height,
        "sample_resolution_width": clip.width,
        "sample_resolution_height": clip.height,
        "mp4_duration_sec": float(clip.duration_s),
        "video_start_sec": 0.0,
        "video_duration_sec": float(clip.duration_s),
        "audio_start_sec": 0.0 if clip.audio else None,
        "audio_duration_sec": float(clip.duration_s) if clip.audio else None,
    }
