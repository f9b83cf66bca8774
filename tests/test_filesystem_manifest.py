"""`fs.manifest`: the rows of a manifest with what ego4d.json says of their videos."""

from __future__ import annotations

import json

import fsspec
import pandas as pd
import pytest

VIDEO, OTHER = (f"{digit * 8}-0000-4000-8000-{digit * 12}" for digit in "ab")
CLIP = "cccccccc-0000-4000-8000-cccccccccccc"
STREAMS = {"fps": 30, "num_frames": 120, "display_resolution_width": 64, "audio_codec": None}
DESCRIBED = {
    "videos": [
        {
            "video_uid": VIDEO,
            "duration_sec": 480.5,
            "scenarios": ["Cooking"],
            "split_em": "train",
            "video_source": "cmu",
            "device": "GoPro",
            "has_imu": True,
            "video_metadata": STREAMS,
        }
    ],
    "clips": [
        {
            "clip_uid": CLIP,
            "video_uid": VIDEO,
            "video_start_sec": 100.0,
            "video_end_sec": 104.5,
            "clip_metadata": {**STREAMS, "fps": 25},
        }
    ],
}


@pytest.fixture
def open_fs(licensee, release):
    release.metadata(json.dumps(DESCRIBED).encode())
    url = release.url("x")
    release.manifest(
        "full_scale",
        "video_uid,type,s3_path,split_em,note\n"
        f"{VIDEO.upper()},mp4,{url},test,\n{OTHER},mp4,{url}2,val,short\n{OTHER},mp4,{url}3\n",
    )
    release.manifest("clips", f"exported_clip_uid,type,s3_path\n{CLIP},mp4,{url}\n")
    release.manifest("features", f"file_uid,type,s3_path\n{VIDEO},file,{url}/{VIDEO}.pt\n")
    opened = []

    def open_one(**options):
        fs = fsspec.filesystem(
            "ego4d", version=release.version, skip_instance_cache=True, **options
        )
        opened.append(fs)
        return fs

    yield open_one
    for fs in opened:
        fs.close()


def test_rows_have_what_manifest_and_metadata_say(open_fs, release):
    frame = open_fs(datasets=["full_scale"]).manifest("full_scale")
    first, second, _ = frame.to_dict("records")
    assert first["path"] == f"{release.version}/full_scale/{first['name']}"
    assert (first["row"], first["s3_uri"]) == (2, release.url("x"))
    assert (first["duration_s"], first["fps"], first["width"]) == (480.5, 30, 64)
    assert (first["scenarios"], first["device"], first["has_imu"]) == (["Cooking"], "GoPro", True)
    assert (first["split_em"], first["has_audio"]) == ("train", False)  # ego4d.json has priority
    assert pd.isna(first["note"])
    assert (second["split_em"], second["note"]) == ("val", "short")
    assert pd.isna(second["duration_s"])
    assert set(frame.columns) >= {"video_uid", "type", "s3_path", "split_fho", "is_stereo"}


def test_clips_and_files_of_videos_have_what_their_videos_have(open_fs):
    fs = open_fs(datasets=["clips", "features"])
    (clip,) = fs.manifest("clips").to_dict("records")
    assert (clip["duration_s"], clip["fps"], clip["scenarios"]) == (4.5, 25, ["Cooking"])
    (file,) = fs.manifest("features").to_dict("records")
    assert (file["duration_s"], file["scenarios"]) == (480.5, ["Cooking"])


def test_without_metadata_the_manifest_alone_is_read(open_fs):
    fs = open_fs(datasets=["full_scale"], metadata=False)
    frame = fs.manifest("full_scale")
    assert frame["split_em"].tolist()[:2] == ["test", "val"]
    assert frame["split_em"].isna().tolist() == [False, False, True]
    assert frame["duration_s"].isna().all()
    assert fs.vfs.session.metrics.requests["get"] == 0
