"""Targets: annotations and tables that windows are read from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from hypothesis import strategies as st

from ego4dfs.annotations import BadRow, read_windows
from ego4dfs.annotations.boxes import boxes_of, phases_of
from ego4dfs.annotations.rows import NO_FIELDS, Row
from ego4dfs.errors import ConfigError
from kit.fuzz.inputs import damaged, texts
from kit.fuzz.target import Target, assert_clear
from kit.fuzz.text_targets import UID, chunks_of

_TIMES = {
    "video_start_sec": 100.0,
    "video_end_sec": 104.5,
    "clip_start_sec": 0.0,
    "clip_end_sec": 4.5,
}
_FRAMES = [
    {"x": 1, "y": 2, "width": 3, "height": 4, "frame_number": 100, "video_frame_number": 3600}
]
_CLIPS = [
    {"annotations": [{"language_queries": [{"query": "Where?", **_TIMES}]}]},
    {"annotations": [{"query_sets": {"1": {"is_valid": True, "response_track": _FRAMES}}}]},
    {"annotations": [{"labels": [{"label": "wash", "start_time": 1, "end_time": 2.5}]}]},
    {"persons": [], "transcriptions": [{"start_time_sec": 1, "end_time_sec": 2}]},
]
_ACTION = {"start_sec": 1.5, "end_sec": 9, "is_rejected": False, "narration_text": "C cuts"}
_STEP = {"start_time": 3, "end_time": 4.5, "segments": [{"start_time": 3, "end_time": 4}]}
_MOMENTS = {"narrations": [{"timestamp_sec": 7.25, "time": 7.25, "narration_text": "C looks"}]}
_DOCUMENTS = (
    *(
        {"videos": [{"video_uid": UID, "clips": [{"clip_uid": UID, **_TIMES, **c}]}]}
        for c in _CLIPS
    ),
    {"videos": [{"video_uid": UID, "annotated_intervals": [{"narrated_actions": [_ACTION]}]}]},
    {"videos": [{"video_uid": UID, "segments": [_STEP]}]},
    {"clips": [{"clip_uid": UID, "action_clip_start_sec": 1, "action_clip_end_sec": 2}]},
    {
        "clips": [
            {
                "video_uid": UID,
                "frames": [{"pre_45": {"frame": 90, "boxes": [{"left_hand": [1, 2]}]}}],
            }
        ]
    },
    {"clips": [{"video_uid": UID, "pnr_frame": {"frame_number": 60, "clip_frame_number": 6}}]},
    {"annotations": [{"video_id": UID, "frame": 90, "clip_uid": UID, "clip_frame": 9}]},
    {UID: {"narration_pass_1": _MOMENTS, "status": "complete"}},
    {"videos": {UID: _MOMENTS}},
    [{"video_uid": UID, "start_s": 1, "end_s": 2}],
)
_TABLES = (
    f"video_uid,clip_uid,start_s,end_s,text\n{UID},,1,2.5,\n,{UID},3,4,cuts\n",
    f'\n{{"video_uid": "{UID}", "start_s": 1, "end_s": 2}}\n{{"clip_uid": "{UID}"}}\n',
)
_FILES = (*(json.dumps(one).encode() for one in _DOCUMENTS), *(one.encode() for one in _TABLES))
_PIECES = (
    *(
        '{"',
        '": ',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        '"',
        "\\",
        "\n",
        "\r",
        " ",
        "\0",
        "\ufeff",
        "null",
    ),
    *("videos", "clips", "annotations", "narration_pass_1", "narrations", "segments", "frames"),
    *("video_uid", "clip_uid", "start_s", "end_s", "video_uid,start_s,end_s\n", f"{UID},1,2\n"),
    *("NaN", "Infinity", "-1", "1e999", "9" * 5000, "1.5", "true", UID, "[" * 2000, '{"a":' * 500),
)
_SIZES = st.lists(st.integers(1, 40), max_size=30)


def _check(value: tuple[bytes, list[int]], _: Path) -> None:
    """Each row is a window that can be used, or has a reason; chunks of any size give the same."""
    content, sizes = value
    found = _read([content])
    assert _read(chunks_of(content, sizes)) == found
    for row in found if isinstance(found, list) else ():
        if isinstance(row, BadRow):
            assert row.reason
            continue
        parts = [part for part in (row.video, row.clip) if part is not None]
        assert parts
        for uid, start_s, end_s in parts:
            assert uid
            assert 0 <= start_s < end_s < math.inf


def _read(chunks: Iterable[bytes]) -> list[Row] | str:
    try:
        rows = list(read_windows(chunks))
        for row in rows:
            numbers = [number for box in boxes_of(row.record) for number in box[1:]]
            numbers += [number for phase in phases_of(row.record) for number in phase[1:]]
            assert all(map(math.isfinite, numbers))
        # Records may have NaN, which is not equal to itself.
        return [row._replace(record=NO_FIELDS) for row in rows]
    except ConfigError as error:
        assert_clear(error)
        return str(error)


TARGETS = (
    Target("windows", st.tuples(st.one_of(texts(*_PIECES), damaged(*_FILES)), _SIZES), _check, 200),
)
