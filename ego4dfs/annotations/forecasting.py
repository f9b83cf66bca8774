"""Windows of the annotations of forecasting, hands and objects: fho_main, fho_lta, fho_sta, ...

Each function returns the windows of one element of the list that the file has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ego4dfs.annotations.rows import Record, Row, Span, checked, each, number


def fho_main(video: Record, path: str) -> Iterator[Row]:
    """Yield the narrated actions of one of `videos`, except rejected and invalid ones."""
    for interval_path, interval in each(video, "annotated_intervals", path):
        for row, action in each(interval, "narrated_actions", interval_path):
            if action.get("is_rejected") is True or action.get("is_invalid_annotation") is True:
                continue
            yield checked(
                row,
                action,
                Span(video.get("video_uid"), action.get("start_sec"), action.get("end_sec")),
                Span(
                    interval.get("clip_uid"),
                    action.get("clip_start_sec"),
                    action.get("clip_end_sec"),
                ),
                action.get("narration_text"),
            )


def fho_lta(action: Record, path: str) -> Iterator[Row]:
    """Yield the window of one of `clips`: one action, whose times are those of its clip."""
    clip = Span(
        action.get("clip_uid"),
        action.get("action_clip_start_sec"),
        action.get("action_clip_end_sec"),
    )
    offset = action.get("clip_parent_start_sec")
    video = Span(action.get("video_uid"), _sum(offset, clip.start), _sum(offset, clip.end))
    words = (action.get(name) for name in ("verb", "noun"))
    text = " ".join(word for word in words if isinstance(word, str))
    yield checked(path, action, video, clip, text)


def fho_sta(annotation: Record, path: str) -> Iterator[Row]:
    """Yield the moment of one of `annotations`; v1 calls its video `video_id`."""
    uid = annotation.get("video_uid", annotation.get("video_id"))
    yield checked(
        path,
        annotation,
        Span.at(uid, annotation.get("frame")),
        Span.at(annotation.get("clip_uid"), annotation.get("clip_frame")),
    )


def fho_oscc_pnr(clip: Record, path: str) -> Iterator[Row]:
    """Yield the window of one of `clips`, which may have no clip_uid."""
    yield checked(
        path,
        clip,
        Span(clip.get("video_uid"), clip.get("parent_start_sec"), clip.get("parent_end_sec")),
        Span(clip.get("clip_uid"), clip.get("clip_start_sec"), clip.get("clip_end_sec")),
    )


def fho_hands(clip: Record, path: str) -> Iterator[Row]:
    """Yield the actions of one of `clips`; a test set has only the frame 1.5 s before contact."""
    uid, clip_uid = clip.get("video_uid"), clip.get("clip_uid")
    for row, action in each(clip, "frames", path):
        frame = action.get("pre_45")
        if "action_start_sec" not in action and isinstance(frame, dict):
            video = Span.at(uid, frame.get("frame"))
            yield checked(row, action, video, Span.at(clip_uid, frame.get("clip_frame")))
            continue
        yield checked(
            row,
            action,
            Span(uid, action.get("action_start_sec"), action.get("action_end_sec")),
            Span(clip_uid, action.get("action_clip_start_sec"), action.get("action_clip_end_sec")),
        )


def fho_scod(clip: Record, path: str) -> Iterator[Row]:
    """Yield the window from the first to the last annotated frame of one of `clips`."""
    names = ("pre_frame", "pnr_frame", "post_frame")
    frames = [frame for name in names if isinstance(frame := clip.get(name), dict)]
    yield checked(
        path,
        clip,
        Span.over(clip.get("video_uid"), [f.get("frame_number") for f in frames]),
        Span.over(clip.get("clip_uid"), [f.get("clip_frame_number") for f in frames]),
    )


def _sum(offset: Any, seconds: Any) -> float | None:
    first, second = number(offset), number(seconds)
    return None if first is None or second is None else first + second
