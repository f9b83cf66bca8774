"""A release with videos, narrations and annotations, and the pages of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from ego4dfs.browse import open_pages
from ego4dfs.config import resolve
from ego4dfs.vfs import VFS, open_vfs
from kit import media
from kit.processes import wait_until
from kit.server import Release
from kit.web import Client, served

FIRST, SECOND, OTHER, CLIP = (f"0000000{n}-0000-4000-8000-000000000000" for n in "abcd")
HOSTILE = "<script>alert('1')</script><img src=x onerror=alert(2)>&\"\u202e"
LONG = "long " + "x" * (1 << 20)
MOUNTS = {"tables": [{"header": ["MOUNT"], "right": [False], "rows": [[HOSTILE]]}], "errors": []}
STORE = "--endpoint-url http://127.0.0.1:1"
GIVEN = {
    "version_option": "",
    "store_options": STORE,
    "datasets_option": "",
    "mountpoint": "/mnt/ego4d",
}


def narrated(*sentences: tuple[float, str]) -> dict[str, Any]:
    """Return one pass of narrations."""
    return {"narrations": [{"timestamp_sec": at, "narration_text": text} for at, text in sentences]}


NARRATIONS = {
    FIRST: {
        "narration_pass_1": narrated((0.5, "#C C picks up the knife"), (2.5, "#C C cuts bread")),
        "narration_pass_2": narrated((1.25, "#C C holds a knife")),
    },
    SECOND: {"narration_pass_1": narrated((1, HOSTILE), (2, LONG))},
    OTHER: {"narration_pass_1": narrated((1, "#C C washes a knife"))},
}
QUERY = {
    "clip_start_sec": 0.5,
    "clip_end_sec": 1.5,
    "video_start_sec": 1.5,
    "video_end_sec": 2.5,
    "query": "Where was the knife?",
}
NLQ = {
    "videos": [
        {
            "video_uid": FIRST,
            "split": "train",
            "clips": [{"clip_uid": CLIP, "annotations": [{"language_queries": [QUERY]}]}],
        }
    ]
}


def tracked(frame: int, **box: float) -> dict[str, Any]:
    """Return a box of a response track, in a picture of 640 x 480."""
    size = {"original_width": 640, "original_height": 480}
    return {**box, **size, "frame_number": frame, "video_frame_number": frame}


RESPONSE = [
    tracked(30, x=64, y=48, width=128, height=96),
    tracked(60, x=192, y=144, width=64, height=192),
]
VQ = {
    "videos": [
        {
            "video_uid": FIRST,
            "split": "train",
            "clips": [
                {
                    "clip_uid": CLIP,
                    "annotations": [
                        {"query_sets": {"1": {"object_title": HOSTILE, "response_track": RESPONSE}}}
                    ],
                }
            ],
        }
    ]
}
HANDS = {
    "clips": [
        {
            "video_uid": FIRST,
            "clip_uid": CLIP,
            "frames": [
                {
                    "action_start_sec": 2.0,
                    "action_end_sec": 4.0,
                    "pre_frame": {"frame": 75, "boxes": [{"left_hand": [16, 12]}]},
                    "pnr_frame": {"frame": 90, "boxes": [{"left_hand": [32, 36]}]},
                    "post_frame": {"frame": 105, "boxes": []},
                }
            ],
        }
    ]
}
FACE = [
    {"x": 6.4 + frame, "y": 4.8, "width": 12.8, "height": 9.6, "frame": frame, "video_frame": frame}
    for frame in range(30, 61)
]
SPOKEN = {"video_start_time": 1.5, "video_end_time": 2.25, "person": "1"}
AV = {
    "videos": [
        {
            "video_uid": FIRST,
            "split": "train",
            "clips": [
                {
                    "clip_uid": CLIP,
                    "video_start_sec": 1.0,
                    "video_end_sec": 3.0,
                    "camera_wearer": {"person_id": "0", "voice_segments": []},
                    "persons": [
                        {
                            "person_id": HOSTILE,
                            "tracking_paths": [{"track_id": "1", "track": FACE}],
                            "voice_segments": [SPOKEN],
                        }
                    ],
                    "transcriptions": [{**SPOKEN, "transcription": "hello"}],
                }
            ],
        }
    ]
}
ANNOTATIONS = {"narration.json": NARRATIONS, "nlq_train.json": NLQ, "taxonomy.json": {"nouns": []}}


def described(uid: str, scenario: str, *, has_audio: bool = False) -> dict[str, Any]:
    """Return the video of ego4d.json."""
    codec = "aac" if has_audio else None
    return {
        "video_uid": uid,
        "duration_sec": float(media.SECONDS),
        "scenarios": [scenario],
        "video_metadata": {"fps": 30.0, "audio_codec": codec},
        "has_imu": has_audio,
        "has_gaze": False,
    }


def publish(release: Release, annotations: Mapping[str, object] = ANNOTATIONS) -> None:
    """Publish three videos of 4 s: FIRST is VP9, SECOND has hostile texts, OTHER is no MP4."""
    videos = {FIRST: media.form("vp9"), SECOND: media.form("vp9"), OTHER: b"no video" * 1000}
    urls = {uid: release.put(f"full_scale/{uid}", data) for uid, data in videos.items()}
    rows = [
        (FIRST, "cmu", "train", "[EM|NLQ]"),
        (SECOND, "unict", "val", "[FHO]"),
        (OTHER, "cmu", "", "[--source=x]"),
    ]
    header = "video_uid,canonical_s3_location,video_source,split_em,benchmarks"
    lines = [f"{uid},{urls[uid]},{source},{split},{tags}" for uid, source, split, tags in rows]
    release.manifest("full_scale", "\n".join([header, *lines, ""]))
    header = "exported_clip_uid,parent_video_uid,parent_start_sec,parent_end_sec,s3_path"
    release.manifest("clips", f"{header}\n{CLIP},{FIRST},1,3,{release.put('clip', b'')}\n")
    header = "file_uid,annotation,type,canonical_s3_location"
    lines = [
        f"{number},{name.partition('.')[0]},file,{release.put(name, json.dumps(content).encode())}"
        for number, (name, content) in enumerate(annotations.items())
    ]
    release.manifest("annotations", "\n".join([header, *lines, ""]))
    redacted = [{"start_sec": 3.5, "end_sec": 4.0}, {"start_sec": 2}, "x"]
    first = described(FIRST, "Cooking", has_audio=True)
    found = [{**first, "redacted_intervals": redacted}, described(SECOND, HOSTILE)]
    release.metadata(json.dumps({"videos": found, "clips": []}).encode())


@pytest.fixture
def published(release: Release) -> Release:
    publish(release)
    return release


@pytest.fixture
def boxed(release: Release) -> Release:
    """The release with annotations that have boxes of FIRST."""
    publish(release, {**ANNOTATIONS, "vq_train.json": VQ, "fho_hands_train.json": HANDS})
    return release


@pytest.fixture
def spoken(release: Release) -> Release:
    """The release with voices and a face in FIRST, which has 64 x 48 pixels."""
    publish(release, {**ANNOTATIONS, "av_train.json": AV})
    first = described(FIRST, "Talking")
    first["video_metadata"] |= {"display_resolution_width": 64, "display_resolution_height": 48}
    release.metadata(json.dumps({"videos": [first]}).encode())
    return release


@contextmanager
def browsing(port: int = 0, **options: object) -> Iterator[tuple[Client, VFS]]:
    """Serve the pages of options until the end of the block."""
    options.setdefault("datasets", ["full_scale", "clips", "annotations"])
    config = resolve(options)
    with (
        closing(open_vfs(config)) as vfs,
        open_pages(vfs, config, GIVEN, MOUNTS.copy) as pages,
        served(vfs, pages=pages, port=port) as client,
    ):
        yield client, vfs


@pytest.fixture
def browse(licensee: dict[str, str]) -> Iterator[Callable[..., tuple[Client, VFS]]]:
    """Serve the pages of options until the test ends; by default all annotations have been read."""
    del licensee
    with ExitStack() as stack:

        def start(*, waits: bool = True, **options: object) -> tuple[Client, VFS]:
            client, vfs = stack.enter_context(browsing(**options))
            if waits:
                wait_until(lambda: answer(client, "status")["is_done"])
            return client, vfs

        yield start


def answer(client: Client, name: str) -> Any:
    """Return the JSON of `api/<name>`, which may have a query."""
    found = client.get(f"browse/api/{name}")
    assert (found.status, found.headers["Content-Type"]) == (200, "application/json"), found
    return json.loads(found.body)
