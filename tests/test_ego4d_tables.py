"""Data frames of Ego4D: videos, clips, annotations and windows, with one set of columns."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ego4dfs import Ego4D, errors
from ego4dfs.api.tables import CLIP_COLUMNS, VIDEO_COLUMNS, WINDOW_COLUMNS
from kit import media
from kit.server import environment

VIDEO, OTHER, CLIP = (f"00000000-0000-4000-8000-00000000000{n}" for n in "abc")
SECONDS = 4.0


@pytest.fixture
def version(release) -> str:
    data = media.form("no sound")
    release.dataset("video_540ss", {f"{VIDEO}.mp4": data, f"{OTHER}.mp4": data})
    rows = [
        f"{uid},{release.url(f'video_540ss/{uid}.mp4')},{split},{benchmarks}"
        for uid, split, benchmarks in [(VIDEO, "train", "[EM|NLQ]"), (OTHER, "val", "[FHO]")]
    ]
    header = "video_uid,canonical_s3_location,split_em,benchmarks"
    release.manifest("full_scale", "\n".join([header, *rows, ""]))
    header = "exported_clip_uid,parent_video_uid,parent_start_sec,parent_end_sec,s3_path"
    url = release.put("clip", data)
    release.manifest("clips", f"{header}\n{CLIP},{VIDEO},100,104,{url}\n")
    release.dataset("annotations", {"nlq_train.json": NLQ, "other.json": b"{}"})
    release.metadata(json.dumps(METADATA).encode())
    return release.version


STREAMS = {
    "fps": 30.0,
    "num_frames": 120,
    "display_resolution_width": 64,
    "display_resolution_height": 48,
    "audio_codec": None,
}
METADATA = {
    "version": "v2",
    "physical_settings": ["none"],
    "videos": [
        {
            "video_uid": VIDEO,
            "duration_sec": SECONDS,
            "scenarios": ["Cooking"],
            "video_metadata": STREAMS,
            "split_em": "train",
            "split_fho": None,
            "video_source": "cmu",
            "device": "GoPro",
            "has_imu": True,
        }
    ],
    "clips": [
        {
            "clip_uid": CLIP,
            "video_uid": VIDEO,
            "video_start_sec": 100.0,
            "video_end_sec": 104.0,
            "clip_metadata": {**STREAMS, "audio_codec": "aac"},
        }
    ],
}


def query(text, start_s, end_s):
    return {"query": text, "template": "T", "clip_start_sec": start_s, "clip_end_sec": end_s}


NLQ = json.dumps(
    {
        "videos": [
            {
                "video_uid": VIDEO.upper(),
                "split": "train",
                "clips": [
                    {
                        "clip_uid": CLIP,
                        "annotations": [
                            {"language_queries": [query("Where?", 1.0, 2.0), query("Why?", 2, 2)]}
                        ],
                    }
                ],
            }
        ]
    }
).encode()


@pytest.fixture
def open_api(licensee, version) -> Iterator[Callable[..., Ego4D]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Ego4D(version=version, **options))


def test_videos_have_what_manifest_and_metadata_say(open_api, version):
    frame = open_api().videos()
    assert tuple(frame.columns) == VIDEO_COLUMNS
    first, second = frame.to_dict("records")
    assert first["video_uid"] == VIDEO
    assert first["path"] == f"{version}/full_scale/{VIDEO}.mp4"
    assert (first["duration_s"], first["fps"], first["num_frames"]) == (SECONDS, 30, 120)
    assert (first["width"], first["height"], first["has_audio"]) == (64, 48, False)
    assert (first["scenarios"], first["benchmarks"]) == (["Cooking"], ["em", "nlq"])
    assert (first["split_em"], first["split_fho"]) == ("train", None)
    assert (first["video_source"], first["device"], first["has_imu"]) == ("cmu", "GoPro", True)
    assert (second["video_uid"], second["split_em"]) == (OTHER, "val")  # only in the manifest
    assert math.isnan(second["duration_s"])


def test_clips_have_their_seconds_in_the_parent_video(open_api, version):
    frame = open_api().clips()
    assert tuple(frame.columns) == CLIP_COLUMNS
    (clip,) = frame.to_dict("records")
    assert (clip["clip_uid"], clip["video_uid"]) == (CLIP, VIDEO)
    assert (clip["start_s"], clip["end_s"], clip["duration_s"]) == (100, 104, 4)
    assert clip["path"] == f"{version}/clips/{CLIP}.mp4"
    assert (clip["scenarios"], clip["split_em"], clip["has_audio"]) == (["Cooking"], "train", True)


def test_clips_without_a_parent_in_their_manifest_have_that_of_the_metadata(open_api, release):
    release.dataset("clip_256ss", {f"{CLIP}.mp4": media.form("no sound")})
    (clip,) = open_api(datasets=["clip_256ss"]).clips().to_dict("records")
    assert (clip["video_uid"], clip["start_s"], clip["end_s"]) == (VIDEO, 100, 104)


def test_the_first_dataset_that_has_a_uid_counts(open_api, version):
    frame = open_api(datasets=["video_540ss", "full_scale"]).videos()
    assert list(frame["path"]) == [f"{version}/video_540ss/{uid}.mp4" for uid in (VIDEO, OTHER)]


def test_a_damaged_ego4d_json_is_named(open_api, release):
    release.metadata(b'{"videos": [{')
    with pytest.raises(errors.ConfigError, match=r"^ego4d.json: it is not JSON"):
        open_api().videos()


def test_filters_leave_out_rows_of_all_frames(open_api):
    api = open_api(datasets=["full_scale", "clips"], video_uids=[OTHER])
    assert list(api.videos()["video_uid"]) == [OTHER]
    assert api.windows("nlq_train").empty
    with pytest.raises(errors.ConfigError, match=r"^no clips are selected in full_scale clips$"):
        api.clips()


def test_frames_need_a_dataset_with_videos(open_api):
    api = open_api(datasets=["annotations"])
    for method in (api.videos, api.clips):
        with pytest.raises(errors.ConfigError, match="are selected in annotations"):
            method()
    assert len(api.windows("nlq_train")) == 1  # no dataset says which videos there are
    with pytest.raises(errors.ConfigError, match="metadata=False"):
        open_api(metadata=False).videos()


@pytest.mark.parametrize("name", ["nlq_train", "nlq_train.json", "annotations/nlq_train.json"])
def test_windows_are_in_the_seconds_of_the_video(open_api, caplog, name):
    """The annotation has only those of the clip; its parent is in the manifest of clips."""
    with caplog.at_level(logging.WARNING, "ego4dfs"):
        frame = open_api().windows(name)
    assert tuple(frame.columns) == WINDOW_COLUMNS
    assert frame.to_dict("records") == [
        {
            "video_uid": VIDEO,
            "start_s": 101.0,
            "end_s": 102.0,
            "text": "Where?",
            "clip_uid": CLIP,
            "clip_start_s": 1.0,
            "clip_end_s": 2.0,
        }
    ]
    row = "videos[0].clips[0].annotations[0].language_queries[1]"
    problem = "its start, 2 s, is not before its end, 2 s"
    assert f"{name}: 1 of its rows have no usable window: {row}: {problem}" in caplog.messages


def test_annotations_have_all_rows_and_their_own_fields(open_api):
    frame = open_api().annotations("nlq_train")
    assert tuple(frame.columns) == (
        *("row", *WINDOW_COLUMNS, "problem"),
        *("query", "template", "clip_start_sec", "clip_end_sec"),
    )
    assert list(frame["problem"]) == ["", "its start, 2 s, is not before its end, 2 s"]
    assert list(frame["template"]) == ["T", "T"]
    first, second = frame["start_s"]
    assert first == 101
    assert math.isnan(second)


def test_tables_on_disk(open_api, tmp_path):
    table = tmp_path / "windows.csv"
    table.write_text(
        "video_uid,start_s,end_s,text,mine\n"
        f"{VIDEO},1,2,one,a\n{CLIP},1,2,of a clip,b\n,1,2,,c\nzz,1,2,,d\n{VIDEO},nan,2,,e\n"
    )
    api = open_api()
    found = api.annotations(table)
    assert list(found["mine"]) == list("abcde")
    assert list(found["problem"]) == [
        *("", "", "it has no video_uid", "no selected dataset has the video zz"),
        "its start, 'nan', is not a number of seconds",
    ]
    windows = api.windows(str(table))
    assert list(windows["start_s"]) == [1, 101]
    assert list(windows["video_uid"]) == [VIDEO, VIDEO]
    assert list(windows["text"]) == ["one", "of a clip"]
    assert len(api.frames(*windows.loc[0, ["video_uid", "start_s", "end_s"]])) == media.RATE


def test_a_clip_whose_place_is_unknown_has_a_problem(open_api, tmp_path):
    table = tmp_path / "windows.jsonl"
    table.write_text('{"clip_uid": "zz", "start_s": 1, "end_s": 2}\n')
    (problem,) = open_api().annotations(table)["problem"]
    assert problem == "no selected dataset has the video zz"
    (problem,) = open_api(datasets=["annotations"]).annotations(table)["problem"]
    assert problem == "the place of the clip zz in its video is unknown"


def test_clips_that_are_refused_do_not_hide_videos(licensee, release, tmp_path):
    release.dataset("annotations", {"x.json": b"{}"})
    release.dataset("full_scale", {f"{VIDEO}.mp4": media.form("no sound")})
    table = tmp_path / "windows.csv"
    table.write_text(f"video_uid,start_s,end_s\n{VIDEO},1,2\n{CLIP},1,2\n")
    with Ego4D(version=release.version) as api:
        assert list(api.annotations(table)["problem"]) == [
            "",
            f"no selected dataset has the video {CLIP}",
        ]
        with pytest.raises(errors.NotFound):
            api.path(CLIP)


def test_videos_that_are_refused_are_an_error(licensee, release):
    release.dataset("annotations", {"x.json": b"{}"})
    release.dataset("clips", {f"{CLIP}.mp4": media.form("no sound")})
    with Ego4D(version=release.version) as api, pytest.raises(errors.AccessDenied):
        api.path(CLIP)


def test_files_that_have_no_windows(open_api, tmp_path):
    api = open_api()
    with pytest.raises(errors.NotFound, match=r"^nlq_val: neither on disk nor in the tree$"):
        api.windows("nlq_val")
    with pytest.raises(errors.NotFound, match="No such file"):
        api.windows(tmp_path / "none.csv")
    with pytest.raises(errors.ConfigError, match="Is a directory"):
        api.windows(tmp_path)
    with pytest.raises(errors.ConfigError, match=r"^~no-such-user/w.csv: .*home directory"):
        api.windows("~no-such-user/w.csv")
    with pytest.raises(errors.ConfigError, match=r"^other: it has no windows$") as raised:
        api.annotations("other")
    assert "nlq" in raised.value.hint


def test_the_sample_of_the_demo(sampled, tmp_path, transport, monkeypatch):
    for name, value in environment(sampled.server, tmp_path / "home", transport).items():
        monkeypatch.setenv(name, value)
    uids = {video.uid for video in sampled.sample.videos}
    with Ego4D() as api:
        videos, clips = api.videos(), api.clips()
        assert set(videos["video_uid"]) == uids
        assert videos["duration_s"].notna().all()
        assert set(clips["video_uid"]) <= uids
        for name in ("nlq_train", "narration", "fho_main", "all_narrations_redacted"):
            windows = api.windows(name)
            assert len(windows)
            assert set(windows["video_uid"]) <= uids
            assert windows["text"].str.len().gt(0).all()
            assert (windows["start_s"] < windows["end_s"]).all()
