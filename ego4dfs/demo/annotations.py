"""Annotations of the sample with steps, moments, speech, and boxes on the picture.

Their fields are those of the Ego4D documentation (annotations-schemas.md); the numbers are
invented. A box goes from the left to the right of the picture while its annotation lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ego4dfs.demo.media import FRAME_RATE, Clip
from ego4dfs.demo.videos import CLIP_S, Cut, Recording, derived_uid

TRACK_FRAMES = 6
"""Frames between two boxes of a response track: those of real files are at 5 frames a second."""

_PHASES = {"pre_frame": 0.25, "pnr_frame": 0.5, "post_frame": 0.75}
_BEFORE_PNR = {"pre_45": 45, "pre_30": 30, "pre_15": 15}


def visual_queries(clips: Sequence[Cut]) -> dict[str, Any]:
    """Return vq_train.json: the last time that an object was seen before a frame, as boxes."""
    return _of_clips("VQ Annotations", clips, _query_sets)


def moments(clips: Sequence[Cut]) -> dict[str, Any]:
    """Return moments_train.json: labels of activities in clips."""
    return _of_clips("Moments Annotations", clips, _labels)


def speech(clips: Sequence[Cut]) -> dict[str, Any]:
    """Return av_train.json: what is said in clips."""
    return _of_clips("AV Annotations", clips, _conversation)


def steps(videos: Sequence[Recording]) -> dict[str, Any]:
    """Return goalstep_train.json: the goal of a video, and the steps to it."""
    return {
        "version": "v2",
        "videos": [
            {
                "video_uid": video.uid,
                "start_time": 0.0,
                "end_time": float(video.media.duration_s),
                "goal_category": "COOKING:MAKE_SALAD",
                "goal_description": "Make a salad",
                "segments": list(_steps(float(video.media.duration_s))),
            }
            for video in videos
        ],
    }


def hands(videos: Sequence[Recording]) -> dict[str, Any]:
    """Return fho_hands_train.json: where the hands are around one action of each video."""
    return {
        "version": "v2",
        "split": "train",
        "clips": [
            {"clip_id": video.index, "clip_uid": None, "video_uid": video.uid, "frames": [action]}
            for video in videos
            for action in (_hands(video.media),)
        ],
    }


def critical_frames(start_s: float, end_s: float) -> dict[str, int]:
    """Return the frames before, at and after the point of no return of an action."""
    return {
        name: round((start_s + share * (end_s - start_s)) * FRAME_RATE)
        for name, share in _PHASES.items()
    }


def action_boxes(start_s: float, end_s: float, media: Clip) -> list[dict[str, Any]]:
    """Return the boxes of hands and of the object that changes, in the critical frames."""
    return [
        {
            "frame_type": name,
            "frame_number": number,
            "boxes": [
                _object("left_hand", None, media, place / 4, 0.55),
                _object("object_of_change", "knife_(knife, machete)", media, 0.4, 0.3),
            ],
        }
        for place, (name, number) in enumerate(critical_frames(start_s, end_s).items())
    ]


def _object(kind: str, noun: str | None, media: Clip, left: float, top: float) -> dict[str, Any]:
    return {"object_type": kind, "structured_noun": noun, "bbox": _box(media, left, top)}


def _box(media: Clip, left: float, top: float) -> dict[str, float]:
    return {
        "x": left * media.width,
        "y": top * media.height,
        "width": 0.2 * media.width,
        "height": 0.3 * media.height,
    }


def _of_clips(
    description: str, clips: Sequence[Cut], annotate: Callable[[Cut], dict[str, Any]]
) -> dict[str, Any]:
    parents = {clip.parent.uid: clip.parent for clip in clips}
    return {
        "version": "v2",
        "description": description,
        "videos": [
            {
                "video_uid": uid,
                "split": "train",
                "clips": [
                    {
                        "clip_uid": clip.uid,
                        "video_start_sec": float(clip.start_s),
                        "video_end_sec": float(clip.start_s + CLIP_S),
                        "clip_fps": float(FRAME_RATE),
                        **annotate(clip),
                    }
                    for clip in clips
                    if clip.parent.uid == uid
                ],
            }
            for uid in parents
        ],
    }


def _query_sets(clip: Cut) -> dict[str, Any]:
    media = clip.parent.media
    size = {"original_width": media.width, "original_height": media.height, "rotation": 0.0}
    numbers = range(FRAME_RATE, 3 * FRAME_RATE, TRACK_FRAMES)
    track = [
        {
            "frame_number": number,
            "video_frame_number": clip.start_s * FRAME_RATE + number,
            **_box(media, 0.1 + 0.6 * place / len(numbers), 0.35),
            **size,
        }
        for place, number in enumerate(numbers)
    ]
    query = {"is_valid": True, "object_title": "knife", "response_track": track}
    asked = {"query_frame": 4 * FRAME_RATE, "visual_crop": track[0]}
    return {"annotations": [{"query_sets": {"1": {**query, **asked}}}]}


def _labels(clip: Cut) -> dict[str, Any]:
    times = {"start_time": 1.0, "end_time": 4.0}
    of_video = {f"video_{name}": clip.start_s + time_s for name, time_s in times.items()}
    label = {"label": "cut_/_chop_vegetables", "primary": True, **times, **of_video}
    uid = derived_uid(clip.uid, "moments")
    return {"annotations": [{"annotator_uid": uid, "labels": [label]}]}


def _conversation(clip: Cut) -> dict[str, Any]:
    said = {
        "transcription": "Could you hand me the knife?",
        "start_time_sec": 2.0,
        "end_time_sec": 3.5,
        "video_start_time": clip.start_s + 2.0,
        "video_end_time": clip.start_s + 3.5,
        "person_id": "1",
    }
    other = {"person_id": "1", "camera_wearer": False, "tracking_paths": [_face(clip)]}
    return {
        "valid": True,
        "camera_wearer": {
            "person_id": "0",
            "camera_wearer": True,
            "voice_segments": [_voice(clip, "0", 4.0, 4.8)],
        },
        "persons": [{**other, "voice_segments": [_voice(clip, "1", 2.0, 3.5)]}],
        "transcriptions": [said],
    }


def _voice(clip: Cut, person: str, start_s: float, end_s: float) -> dict[str, Any]:
    times = {"start_time": start_s, "end_time": end_s}
    of_video = {f"video_{name}": clip.start_s + time_s for name, time_s in times.items()}
    return {**times, **of_video, "person": person}


def _face(clip: Cut) -> dict[str, Any]:
    """Return a face that moves from the right to the left, as in each frame."""
    numbers = range(2 * FRAME_RATE, 3 * FRAME_RATE)
    return {
        "track_id": "1",
        "track": [
            {
                **_box(clip.parent.media, 0.7 - 0.3 * place / len(numbers), 0.15),
                "frame": number,
                "video_frame": clip.start_s * FRAME_RATE + number,
                "clip_frame": None,
            }
            for place, number in enumerate(numbers)
        ],
        "suspect": False,
    }


def _steps(duration_s: float) -> Iterator[dict[str, Any]]:
    texts = ("Wash the vegetables", "Cut the vegetables", "Mix the salad")
    for place, text in enumerate(texts):
        start_s = duration_s * place / len(texts)
        yield {
            "start_time": start_s,
            "end_time": start_s + duration_s / len(texts),
            "step_category": f"General: {text.lower()}",
            "step_description": text,
            "segments": [],
        }


def _hands(media: Clip) -> dict[str, Any]:
    start_s, end_s = 2.0, min(6.0, float(media.duration_s))
    frames = critical_frames(start_s, end_s)
    pnr = frames["pnr_frame"]
    moments = frames | {name: pnr - before for name, before in _BEFORE_PNR.items()}

    def share(frame: int) -> float:
        return (frame / FRAME_RATE - start_s) / (end_s - start_s)

    return {
        "action_start_sec": start_s,
        "action_end_sec": end_s,
        **{
            name: {
                "frame": number,
                "boxes": [
                    {"left_hand": [(0.2 + 0.2 * share(number)) * media.width, 0.7 * media.height]},
                    {"right_hand": [(0.9 - 0.2 * share(number)) * media.width, 0.7 * media.height]},
                ],
            }
            for name, number in moments.items()
        },
    }
