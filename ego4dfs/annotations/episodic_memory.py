"""Windows of the annotations of episodic memory: NLQ, VQ, Moments, and of GoalStep and AV.

Each function returns the windows of one element of the list `videos`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ego4dfs.annotations.rows import FRAME_RATE, Record, Row, Span, checked, each, number


def nlq(video: Record, path: str) -> Iterator[Row]:
    """Yield the window that answers each query, and for a test set the clip that is searched."""
    for clip_path, clip in each(video, "clips", path):
        for found_path, annotation in each(clip, "annotations", clip_path):
            for row, query in each(annotation, "language_queries", found_path):
                text = query.get("query")
                if _is_test(video) and "video_start_sec" not in query:
                    yield _whole_clip(row, video, clip, query, text)
                    continue
                yield checked(
                    row,
                    query,
                    Span(_uid(video), query.get("video_start_sec"), query.get("video_end_sec")),
                    Span(_clip(clip), query.get("clip_start_sec"), query.get("clip_end_sec")),
                    text,
                )


def vq(video: Record, path: str) -> Iterator[Row]:
    """Yield the window of each valid response track; for a test set the clip that is searched."""
    for clip_path, clip in each(video, "clips", path):
        for found_path, annotation in each(clip, "annotations", clip_path):
            for row, query in each(annotation, "query_sets", found_path):
                text = query.get("object_title")
                if _is_test(video) and "response_track" not in query:
                    yield _whole_clip(row, video, clip, query, text)
                elif query.get("is_valid") is not False:
                    yield _response(row, video, clip, query)


def _response(row: str, video: Record, clip: Record, query: Record) -> Row:
    track = query.get("response_track")
    boxes = [box for box in track if isinstance(box, dict)] if isinstance(track, list) else []
    clip_rate = number(clip.get("clip_fps")) or FRAME_RATE
    return checked(
        row,
        query,
        Span.over(_uid(video), [box.get("video_frame_number") for box in boxes]),
        Span.over(_clip(clip), [box.get("frame_number") for box in boxes], clip_rate),
        query.get("object_title"),
    )


def moments(video: Record, path: str) -> Iterator[Row]:
    """Yield the window of each label of Moments (MQ); for a test set the clip that is searched."""
    for clip_path, clip in each(video, "clips", path):
        if _is_test(video) and "annotations" not in clip:
            yield _whole_clip(clip_path, video, clip, clip)
        for found_path, annotation in each(clip, "annotations", clip_path):
            for row, label in each(annotation, "labels", found_path):
                yield _timed(row, video, clip, label, label.get("label"))


def av(video: Record, path: str) -> Iterator[Row]:
    """Yield what is said, and who talks to or looks at whom; for other clips the whole clip.

    Faces are annotated in all of a clip, so they are no windows to fetch: see `people`.
    """
    for clip_path, clip in each(video, "clips", path):
        rows = [
            _timed(row, video, clip, segment)
            for kind in ("social_segments_talking", "social_segments_looking")
            for row, segment in each(clip, kind, clip_path)
        ]
        for row, said in each(clip, "transcriptions", clip_path):
            times = {"start_time": said.get("start_time_sec"), "end_time": said.get("end_time_sec")}
            yield _timed(row, video, clip, {**said, **times}, said.get("transcription"))
        yield from rows
        if not rows and not clip.get("transcriptions"):
            yield _whole_clip(clip_path, video, clip, clip)


def people(video: Record, path: str) -> Iterator[Row]:
    """Yield when each person of AV speaks, and each track of a face.

    The record of a track has its boxes, and the name of its person as `person`.
    """
    for clip_path, clip in each(video, "clips", path):
        wearer = clip.get("camera_wearer")
        persons = list(each(clip, "persons", clip_path))
        if isinstance(wearer, Mapping):
            persons.append((f"{clip_path}.camera_wearer", {**wearer, "camera_wearer": True}))
        for found_path, person in persons:
            name = _name(person)
            for row, segment in each(person, "voice_segments", found_path):
                yield _timed(row, video, clip, segment, f"{name} speaks")
            for row, face in each(person, "tracking_paths", found_path):
                boxes = face.get("track")
                listed = boxes if isinstance(boxes, list) else []
                frames = [box.get("video_frame") for box in listed if isinstance(box, dict)]
                record = {**face, "person": name}
                yield checked(row, record, Span.over(_uid(video), frames), text=f"face of {name}")


def _name(person: Record) -> str:
    found = person.get("person_id")
    if person.get("camera_wearer") is True:
        return "camera wearer"
    return f"person {found}" if isinstance(found, str) and found else "a person"


def goalstep(video: Record, path: str) -> Iterator[Row]:
    """Yield the steps and substeps of a video, or its goal if it has no steps."""
    steps = list(each(video, "segments", path))
    if not steps:
        span = Span(_uid(video), video.get("start_time"), video.get("end_time"))
        yield checked(path, video, span, text=video.get("goal_description"))
    for row, step in steps:
        for found, part in ((row, step), *each(step, "segments", row)):
            span = Span(_uid(video), part.get("start_time"), part.get("end_time"))
            yield checked(found, part, span, text=part.get("step_description"))


def _timed(row: str, video: Record, clip: Record, times: Record, text: Any = "") -> Row:
    """Return the window of a record with times in the clip and in the video."""
    return checked(
        row,
        times,
        Span(_uid(video), times.get("video_start_time"), times.get("video_end_time")),
        Span(_clip(clip), times.get("start_time"), times.get("end_time")),
        text,
    )


def _whole_clip(row: str, video: Record, clip: Record, record: Record, text: Any = "") -> Row:
    """Return the window of a clip, for a record that has no times."""
    return checked(
        row,
        record,
        Span(_uid(video), clip.get("video_start_sec"), clip.get("video_end_sec")),
        Span(_clip(clip), clip.get("clip_start_sec"), clip.get("clip_end_sec")),
        text,
    )


def _is_test(video: Record) -> bool:
    return video.get("split") == "test"


def _uid(video: Record) -> Any:
    return video.get("video_uid")


def _clip(clip: Record) -> Any:
    return clip.get("clip_uid")
