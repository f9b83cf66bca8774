"""The bytes of every file of the sample that is not a video.

Headers and shapes are those of the Ego4D documentation (docs/data/{imu,gaze,annotations-schemas,
metadata,features}.md of the EGO4D/docs repository) and of the public ego4d.json; the numbers are
invented.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ego4dfs.demo.annotations import action_boxes, critical_frames
from ego4dfs.demo.features import tensor_file
from ego4dfs.demo.media import FRAME_RATE, Clip
from ego4dfs.demo.videos import CLIP_S, Cut, Recording, derived_uid

_IMU_HEADER = (
    "component_idx,canonical_timestamp_ms,component_timestamp_ms,"
    "gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z"
)
_IMU_RATE_HZ = 200
_GAZE_UNUSED = ["base_data"] + [
    f"{part}_{axis}"
    for part in (
        "gaze_point_3d",
        "eye_center0_3d",
        "gaze_normal0",
        "eye_center1_3d",
        "gaze_normal1",
    )
    for axis in "xyz"
]
_GAZE_HEADER = (
    "component_idx,component_timestamp_s,canonical_timestamp_s,world_index,confidence,"
    "norm_pos_x,norm_pos_y," + ",".join(_GAZE_UNUSED)
)
_GAZE_RATE_HZ = 120


def imu(video: Recording) -> bytes:
    """Return the gyroscope and accelerometer samples of a video as CSV, 200 a second."""
    count = video.media.duration_s * _IMU_RATE_HZ
    readings = np.random.default_rng(video.index).normal(size=(count, 6))
    lines = [_IMU_HEADER]
    for number, six in enumerate(readings.tolist()):
        time_ms = number * 1000 / _IMU_RATE_HZ
        lines.append(f"0,{time_ms},{time_ms}," + ",".join(f"{value:.6f}" for value in six))
    return "\n".join(lines).encode() + b"\n"


def gaze(video: Recording) -> bytes:
    """Return the gaze positions of a video as CSV, with the same empty columns as real files."""
    count = video.media.duration_s * _GAZE_RATE_HZ
    positions = np.random.default_rng(video.index).uniform(0.4, 0.6, (count, 2))
    lines = [_GAZE_HEADER]
    for number, (x, y) in enumerate(positions.tolist()):
        time_s = number / _GAZE_RATE_HZ
        frame = float(number * FRAME_RATE // _GAZE_RATE_HZ)
        unused = "," * len(_GAZE_UNUSED)
        lines.append(f"0,{time_s},{time_s},{frame},1.0,{x},{y}{unused}")
    return "\n".join(lines).encode() + b"\n"


def slowfast(video: Recording) -> bytes:
    """Return SlowFast's shape: float32, 2304 numbers for every 16 frames in windows of 32."""
    rng = np.random.default_rng(video.index)
    return tensor_file(rng.standard_normal((_windows(video.media), 2304), dtype=np.float32))


def omnivore_fp16(video: Recording) -> bytes:
    """Return Omnivore's shape in half precision: 1536 numbers for every 16 frames."""
    rng = np.random.default_rng(video.index)
    values = rng.standard_normal((_windows(video.media), 1536), dtype=np.float32)
    return tensor_file(values.astype(np.float16))


def preview(video: Recording) -> bytes:
    """Return a small JPEG picture."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = 160, 90, "yuvj420p"
    codec.time_base = Fraction(1, FRAME_RATE)
    ramp = np.linspace(0, 255, 160, dtype=np.uint8)
    picture = np.full((135, 160), 96 + 8 * video.index, np.uint8)
    picture[:90] = np.roll(ramp, 20 * video.index)
    frame = av.VideoFrame.from_ndarray(picture, format="yuvj420p")
    packets = [*codec.encode(frame), *codec.encode(None)]
    return b"".join(map(bytes, packets))


def noise(seed: int, size: int) -> bytes:
    """Return the bytes of a checkpoint: random, because real ones do not compress."""
    return np.random.default_rng(seed).bytes(size)


def as_json(value: object) -> bytes:
    """Write JSON as Python does by default, like the files of the release."""
    return json.dumps(value).encode()


def as_json_lines(values: Sequence[object]) -> bytes:
    """Write one JSON value per line."""
    return b"".join(as_json(value) + b"\n" for value in values)


def narrations(videos: Sequence[Recording]) -> dict[str, Any]:
    """Return narration.json: two passes of timed sentences per video."""
    return {
        video.uid: {
            "status": "complete",
            **{
                f"narration_pass_{number}": {
                    "narrations": [_narration(video, second) for second in _seconds(video)],
                    "summaries": [
                        {
                            "start_sec": 0.0,
                            "end_sec": video.media.duration_s,
                            "summary_text": "#Summary C works",
                        }
                    ],
                }
                for number in (1, 2)
            },
        }
        for video in videos
    }


def fho_main(videos: Sequence[Recording]) -> dict[str, Any]:
    """Return fho_main.json: intervals with narrated actions per video."""
    return _dated("FHO Annotations (Main)") | {
        "videos": [
            {
                "video_uid": video.uid,
                "annotated_intervals": [
                    {
                        "interval_uid": derived_uid(video.uid, "interval"),
                        "start_sec": 0.0,
                        "end_sec": float(video.media.duration_s),
                        "clip_id": video.index,
                        "narrated_actions": [_action(video, second) for second in _seconds(video)],
                    }
                ],
            }
            for video in videos
            if "FHO" in video.benchmarks
        ]
    }


def queries(clips: Sequence[Cut], split: str) -> dict[str, Any]:
    """Return nlq_<split>.json: questions about clips, grouped by video."""
    parents = {clip.parent.uid: clip.parent for clip in clips}
    return _dated("NLQ Annotations") | {
        "split": split,
        "videos": [
            {
                "video_uid": parent.uid,
                "split": split,
                "clips": [_clip_queries(clip) for clip in clips if clip.parent is parent],
            }
            for parent in parents.values()
        ],
    }


def _clip_queries(clip: Cut) -> dict[str, Any]:
    query = {
        "clip_start_sec": 1.0,
        "clip_end_sec": 2.5,
        "video_start_sec": clip.start_s + 1.0,
        "video_end_sec": clip.start_s + 2.5,
        "template": "Objects: Where is object X before / after event Y?",
        "query": "Where was the knife before I took it?",
    }
    return {
        "clip_uid": clip.uid,
        "video_start_sec": float(clip.start_s),
        "video_end_sec": float(clip.start_s + CLIP_S),
        "annotations": [
            {"annotation_uid": derived_uid(clip.uid, "query"), "language_queries": [query]}
        ],
    }


def redacted_narrations(videos: Sequence[Recording]) -> dict[str, Any]:
    """Return all_narrations_redacted.json: the sentences of all passes, by video."""
    return {
        "videos": {
            video.uid: {
                "narrations": [
                    {"time": float(second), "text": "#C C picks up the knife"}
                    for second in _seconds(video)
                ],
                "summaries": [
                    {
                        "start_time": 0.0,
                        "end_time": float(video.media.duration_s),
                        "text": "#Summary C works",
                    }
                ],
            }
            for video in videos
        }
    }


def _action(video: Recording, second: int) -> dict[str, Any]:
    """Return a narrated action; it lasts up to two seconds, where public ones last eight."""
    stop_s = min(second + 2, video.media.duration_s)
    return {
        "uid": derived_uid(video.uid, f"action {second}"),
        "start_sec": float(second),
        "end_sec": float(stop_s),
        "start_frame": second * FRAME_RATE,
        "end_frame": stop_s * FRAME_RATE,
        "is_valid_action": True,
        "is_rejected": False,
        "narration_text": "#C C picks up the knife",
        "narration_timestamp_sec": float(second),
        "critical_frames": critical_frames(second, stop_s),
        "frames": action_boxes(second, stop_s, video.media),
    }


def _narration(video: Recording, second: int) -> dict[str, Any]:
    return {
        "timestamp_sec": float(second),
        "timestamp_frame": second * FRAME_RATE,
        "narration_text": "#C C picks up the knife",
        "annotation_uid": derived_uid(video.uid, f"narration {second}"),
    }


def _seconds(video: Recording) -> range:
    return range(0, video.media.duration_s, 2)


def _dated(description: str) -> dict[str, Any]:
    return {"version": "v2", "date": "231214", "description": description}


def _windows(clip: Clip) -> int:
    """Count windows of 32 frames at steps of 16, as the sizes of feature files imply."""
    return math.ceil((clip.num_frames - 32) / 16) + 1
