"""Windows of the narrations: narration.json and all_narrations_redacted.json."""

from __future__ import annotations

from collections.abc import Iterator

from ego4dfs.annotations.rows import Record, Row, Span, checked, each


def narration_pass(uid: str, narrated: Record, path: str) -> Iterator[Row]:
    """Yield the moment of each narration, for one `narration_pass_<n>` of a video.

    Summaries concern minutes of a video, and are not windows.
    """
    for row, narration in each(narrated, "narrations", path):
        seconds, text = narration.get("timestamp_sec"), narration.get("narration_text")
        yield checked(row, narration, Span.at(uid, seconds, rate=1), text=text)


def redacted_narrations(uid: str, video: Record, path: str) -> Iterator[Row]:
    """Yield the moment of each narration of a video, for one of the object `videos`."""
    for row, narration in each(video, "narrations", path):
        moment = Span.at(uid, narration.get("time"), rate=1)
        yield checked(row, narration, moment, text=narration.get("text"))
