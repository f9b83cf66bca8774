"""The clean release: every dataset of the sample, as the official tool downloads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.demo import content
from ego4dfs.demo.annotations import hands, moments, speech, steps, visual_queries
from ego4dfs.demo.media import FRAME_RATE, Clip
from ego4dfs.demo.metadata import ego4d_json
from ego4dfs.demo.release import FULL_SCALE_HEADER, Release
from ego4dfs.demo.videos import CONSORTIUM, MILAN, Cut, Recording, Uids, small

VERSIONS = ("v1", "v2", "v2_1")
_VIDEO_BASE = 15_360
_AUDIO_HZ = 16_000
_FILE_HEADER = ("file_uid", "annotation", "type", "canonical_s3_location")
_FEATURE_HEADER = ("video_uid", "type", "s3_path", "benchmarks")
_MODEL_HEADER = ("video_uid", "type", "canonical_s3_location")
_IMU_HEADERS = {"v1": ("file_uid", "type", "s3_path"), "v2": ("video_uid", "type", "s3_path")}
_CLIPS_HEADER = (
    "video_uid",
    "exported_clip_uid",
    "parent_video_uid",
    "parent_start_sec",
    "parent_end_sec",
    "s3_path",
    "manifold_location",
    "benchmarks",
)
_SMALL_HEADER = ("video_uid", "type", "s3_path")
Files = dict[str, tuple[str, bytes | Path]]


@dataclass(frozen=True, slots=True)
class SampleMedia:
    """The videos, clips and uids of the sample, and the files of both, by content."""

    videos: tuple[Recording, ...]
    clips: tuple[Cut, ...]
    media: Mapping[Clip, Path]
    uids: Uids


def wanted_media(videos: Sequence[Recording], clips: Sequence[Cut]) -> list[Clip]:
    """List every video file that the release needs."""
    return [
        *(video.media for video in videos),
        *(_scaled(video) for video in videos if video.index % 2),
        *(clip.media for clip in clips),
        *(clip.small for clip in clips),
    ]


def fill(release: Release, made: SampleMedia) -> None:
    """Add all datasets of all versions; v2 and v2_1 refer to v1 objects where these exist."""
    annotations, models = _annotations(made), _models(made.uids)
    viz, visual_queries_3d = _viz(made), _visual_queries_3d(made)
    features = {"slowfast8x8_r101_k400": content.slowfast}
    later = {"omnivore_video_swinl_fp16": content.omnivore_fp16}
    for version in VERSIONS:
        old = version == "v1"
        videos = [video for video in made.videos if not old or video.home == "v1"]
        clips = [clip for clip in made.clips if clip.parent in videos]
        _add_full_scale(release, version, videos, made.media)
        _add_clips(release, version, clips, made.media)
        _add_features(release, version, videos, features if old else features | later)
        imu = _per_video("imu/canonical", "csv", content.imu, [v for v in videos if v.has_imu])
        release.add_files(version, "imu", _IMU_HEADERS["v1" if old else "v2"], imu)
        release.add_files(version, "annotations", _FILE_HEADER, annotations["v1" if old else "v2"])
        release.add_files(version, "sta_models", _MODEL_HEADER, models)
        release.add_files(version, "viz", _FILE_HEADER, viz)
        release.add_files(version, "3d", _FILE_HEADER, visual_queries_3d)
        if not old:
            _add_scaled(release, version, made)
            gaze = _per_video("gaze", "csv", content.gaze, [v for v in videos if v.has_gaze])
            release.add_files(version, "gaze", _IMU_HEADERS["v2"], gaze)
            release.add_files(version, "egotracks", _FILE_HEADER, annotations["egotracks"])
        release.metadata[version] = content.as_json(ego4d_json(version, videos, clips))


def _add_full_scale(
    release: Release, version: str, videos: Sequence[Recording], media: Mapping[Clip, Path]
) -> None:
    for video in videos:
        row = full_scale_row(video, version)
        release.add_video(version, "full_scale", FULL_SCALE_HEADER, row, media[video.media])


def full_scale_row(video: Recording, version: str) -> dict[str, object]:
    """Return the cells of one video; v1 has only coarse benchmarks, and only v2_1 has GoalStep."""
    clip, tags = video.media, list(video.benchmarks)
    if version != "v2_1":
        tags = [tag for tag in tags if tag != "goalstep"]
    if version == "v1":
        tags = [tag for tag in tags if tag in ("EM", "FHO", "AV")]
    row: dict[str, object] = {
        "video_uid": video.uid,
        "path": video.location,
        "duration_sec": float(clip.duration_s),
        # A line break is kept inside the quotes, as in the real manifests.
        "scenarios": str(list(video.scenarios)).replace("\\n", "\n"),
        "split_em": "train" if "EM" in tags else "",
        "split_fho": "test" if "FHO" in tags else "",
        "benchmarks": f"[{'|'.join(tags)}]",
        "origin_video_id": f"{video.source}_{video.index:03}_0001",
        "video_source": video.source,
        "device": "GoPro Hero 8 Black",
        "deid_scrubbed_audio": False,
        "deid_scrubbed_faces": True,
        "fb_participant_id": video.index,
        "release_1": True,
        "canonical_s3_location": video.location,
        "canonical_is_validated": True,
    }
    return row | _stream_cells(clip)


def _stream_cells(clip: Clip) -> dict[str, object]:
    length = float(clip.duration_s)
    video: dict[str, object] = {
        "display_resolution_width": clip.width,
        "display_resolution_height": clip.height,
        "sample_resolution_width": clip.width,
        "sample_resolution_height": clip.height,
        "canonical_fps": float(FRAME_RATE),
        "canonical_display_width": clip.width,
        "canonical_display_height": clip.height,
        "canonical_num_frames": clip.num_frames,
        "canonical_mp4_duration_sec": length,
        "canonical_video_start_sec": 0.0,
        "canonical_video_duration_sec": length,
        "canonical_video_start_pts": 0,
        "canonical_video_duration_pts": clip.duration_s * _VIDEO_BASE,
        "canonical_video_base_numerator": 1,
        "canonical_video_base_denominator": _VIDEO_BASE,
    }
    if not clip.audio:
        return video
    return video | {
        "canonical_audio_start_sec": 0.0,
        "canonical_audio_duration_sec": length,
        "canonical_audio_start_pts": 0,
        "canonical_audio_duration_pts": clip.duration_s * _AUDIO_HZ,
        "canonical_audio_base_numerator": 1,
        "canonical_audio_base_denominator": _AUDIO_HZ,
        "canonical_audio_channel_layout": "mono",
        "canonical_audio_channel_rate_hz": _AUDIO_HZ,
    }


def _add_clips(
    release: Release, version: str, clips: Sequence[Cut], media: Mapping[Clip, Path]
) -> None:
    for clip in clips:
        row = {
            "video_uid": clip.uid,
            "exported_clip_uid": clip.uid,
            "parent_video_uid": clip.parent.uid,
            "parent_start_sec": float(clip.start_s),
            "parent_end_sec": float(clip.start_s + clip.media.duration_s),
            "s3_path": clip.location,
            "manifold_location": f"manifold://ego4d_fair/tree/clips/{clip.uid}.mp4",
            "benchmarks": f"[{'|'.join(clip.parent.benchmarks)}]",
        }
        release.add_video(version, "clips", _CLIPS_HEADER, row, media[clip.media])


def _add_scaled(release: Release, version: str, made: SampleMedia) -> None:
    for clip in made.clips:
        where = f"s3://{clip.parent.bucket}/public/v2/clip_256ss/{clip.uid}.mp4"
        row = {"video_uid": clip.uid, "type": "video", "s3_path": where}
        release.add_video(version, "clip_256ss", _SMALL_HEADER, row, made.media[clip.small])
    for video in made.videos:
        if video.index % 2:
            where = f"s3://{video.bucket}/public/v2/video_540ss/{video.uid}.mp4"
            row = {"video_uid": video.uid, "type": "video", "s3_path": where}
            tags = {"benchmarks": f"[{'|'.join(video.benchmarks)}]"}
            scaled = made.media[_scaled(video)]
            release.add_video(version, "video_540ss", _FEATURE_HEADER, row | tags, scaled)


def _add_features(
    release: Release,
    version: str,
    videos: Sequence[Recording],
    models: Mapping[str, Callable[[Recording], bytes]],
) -> None:
    for model, make in models.items():
        for video in videos:
            where = f"features/action_features/{model}"
            files = _per_video(where, "pt", make, [video])
            tags = f"[{'|'.join(video.benchmarks)}]"
            release.add_files(version, model, _FEATURE_HEADER, files, benchmarks=tags)


def _per_video(
    where: str, suffix: str, make: Callable[[Recording], bytes], videos: Sequence[Recording]
) -> Files:
    return {
        f"s3://{video.bucket}/public/v1/{where}/{video.uid}.{suffix}": (video.uid, make(video))
        for video in videos
    }


def _annotations(made: SampleMedia) -> dict[str, Files]:
    half = len(made.clips) // 2
    common = {
        "narration.json": content.as_json(content.narrations(made.videos)),
        "fho_main.json": content.as_json(content.fho_main(made.videos)),
    }
    version_2 = common | {
        "all_narrations_redacted.json": content.as_json(
            content.redacted_narrations(made.videos[:4])
        ),
        "nlq_train.json": content.as_json(content.queries(made.clips[:half], "train")),
        "nlq_val.json": content.as_json(content.queries(made.clips[half:], "val")),
        "vq_train.json": content.as_json(visual_queries(made.clips)),
        "moments_train.json": content.as_json(moments(made.clips)),
        "av_train.json": content.as_json(speech(made.clips[half:])),
        "goalstep_train.json": content.as_json(steps([made.videos[0]])),
        "fho_hands_train.json": content.as_json(hands(made.videos[:3])),
    }
    # A v2 manifest that points at a v1 object, as the real one does.
    taxonomy = {"narration_noun_taxonomy.csv": b"label,group\n0,\"['knife_(knife, machete)']\"\n"}
    tracks = {
        f"EgoTracks_{split}.json": content.as_json(content.queries(made.clips, split))
        for split in ("train", "val", "challenge")
    }
    return {
        "v1": _shared("v1/annotations", common | taxonomy, made.uids),
        "v2": _shared("v2/annotations", version_2, made.uids)
        | _shared("v1/annotations", taxonomy, made.uids),
        "egotracks": _shared("v2/egotracks", tracks, made.uids),
    }


def _models(uids: Uids) -> Files:
    detections = {"object_detections.json": content.as_json({"detections": []})}
    weights = {
        name: content.noise(seed, 300_000)
        for seed, name in enumerate(("object_detector.pth", "slowfast_model.ckpt"))
    }
    return _shared("v1/sta_models", detections | weights, uids)


def _viz(made: SampleMedia) -> Files:
    pictures = {f"{video.uid}_small.jpg": content.preview(video) for video in made.videos}
    lines = content.as_json_lines([{"video_uid": video.uid} for video in made.videos])
    named = pictures | {"preprocessed_narrations_input.jsonl": lines}
    return _shared("v1/viz", named, made.uids)


def _visual_queries_3d(made: SampleMedia) -> Files:
    from_unict = [video.uid for video in made.videos if video.bucket == MILAN]
    listed = content.as_json(dict.fromkeys(from_unict, "scan_00"))
    return _shared("v1/3d", {"all_videos_for_vq3d_v1.json": listed}, made.uids)


def _shared(prefix: str, files: Mapping[str, bytes], uids: Uids) -> Files:
    """Add files with random uids in the consortium's bucket."""
    return {
        f"s3://{CONSORTIUM}/public/{prefix}/{name}": (uids.take(), data)
        for name, data in files.items()
    }


def _scaled(video: Recording) -> Clip:
    return small(video.media)
