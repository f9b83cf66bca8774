"""The demo's release: files that programs can read, and manifests for the official tool."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from ego4dfs.demo.features import tensor_file
from ego4dfs.demo.media import FRAME_RATE, Clip, make, make_all, read_stamp
from ego4dfs.demo.release import FULL_SCALE_HEADER
from ego4dfs.demo.sample import REFUSED, Sample, build
from ego4dfs.demo.server import S3Server
from kit.server import shared_media

pytestmark = pytest.mark.first_pass

EGO4D = Path(sys.executable).with_name("ego4d")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, Sample]]:
    with S3Server(tmp_path_factory.mktemp("clean")) as server:
        yield server, build(server, shared_media())


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, Sample]]:
    with S3Server(tmp_path_factory.mktemp("dirty")) as server:
        yield server, build(server, shared_media(), with_malformed_rows=True)


@cache
def store(server: S3Server, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=server.endpoint_url,
        access_key_id=server.licensee.access_key,
        secret_access_key=server.licensee.secret_key,
        region="us-east-1",
        client_options={"allow_http": True},
    )


def boxes(path: Path) -> list[str]:
    """Return the names of an MP4's top-level boxes in order."""
    data, offset, names = path.read_bytes(), 0, []
    while offset < len(data):
        names.append(data[offset + 4 : offset + 8].decode())
        offset += int.from_bytes(data[offset : offset + 4], "big")
    return names


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shape", [(40, 1536), (1, 1), (0, 8)])
def test_a_feature_file_is_torchs_zip_with_aligned_members(dtype, shape):
    values = np.arange(math.prod(shape), dtype=dtype).reshape(shape)
    data = tensor_file(values)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/data/0") == values.tobytes()
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        pickled = archive.read("archive/data.pkl")
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            name, extra = (
                int.from_bytes(
                    data[member.header_offset + at : member.header_offset + at + 2], "little"
                )
                for at in (26, 28)
            )
            assert (member.header_offset + 30 + name + extra) % 64 == 0
    pickletools.dis(pickled, out=io.StringIO())
    words = [argument for _, argument, _ in pickletools.genops(pickled) if argument is not None]
    kind = {"float32": "FloatStorage", "float16": "HalfStorage"}[values.dtype.name]
    assert words == [
        2,
        "torch._utils _rebuild_tensor_v2",
        "storage",
        f"torch {kind}",
        "0",
        "cpu",
        values.size,
        0,
        *shape,
        shape[1],
        1,
        "collections OrderedDict",
    ]


def test_a_feature_file_is_as_large_as_the_documented_ones():
    """Real files of 1536 halves a row have 748 bytes more than their numbers."""
    assert len(tensor_file(np.zeros((40, 1536), np.float16))) == pytest.approx(123_628, abs=64)


@pytest.mark.parametrize("faststart", [True, False])
@pytest.mark.parametrize("audio", [True, False])
def test_a_video_decodes_to_its_own_frames(tmp_path, faststart, audio):
    clip = Clip(4321, 2, width=160, height=90, audio=audio, faststart=faststart)
    make(clip, tmp_path / "video.mp4")
    names = [name for name in boxes(tmp_path / "video.mp4") if name in ("moov", "mdat")]
    assert names == (["moov", "mdat"] if faststart else ["mdat", "moov"])
    with av.open(str(tmp_path / "video.mp4")) as container:
        kinds = {stream.type: stream.codec_context.name for stream in container.streams}
        assert kinds == ({"video": "vp9", "audio": "aac"} if audio else {"video": "vp9"})
        frames = list(container.decode(video=0))
    stamps = [read_stamp(frame.to_ndarray(format="gray")) for frame in frames]
    assert stamps == [(4321, index) for index in range(2 * FRAME_RATE)]
    keys = [index for index, frame in enumerate(frames) if frame.key_frame]
    assert keys == [0, FRAME_RATE]


def test_the_same_clip_is_the_same_bytes_and_is_made_once(tmp_path):
    clip = Clip(7, 1, width=160, height=90)
    first = make_all([clip, clip], tmp_path / "a")[clip]
    made_at = first.stat().st_mtime_ns
    assert make_all([clip], tmp_path / "a")[clip].stat().st_mtime_ns == made_at
    again = make_all([clip], tmp_path / "b")[clip]
    assert first.read_bytes() == again.read_bytes()
    other = make_all([Clip(8, 1, width=160, height=90)], tmp_path / "b")
    assert first.read_bytes() not in [path.read_bytes() for path in other.values()]


@pytest.mark.parametrize("flavour", ["clean", "dirty"])
def test_every_listed_object_exists_with_its_size_and_bytes(request, flavour):
    server, sample = request.getfixturevalue(flavour)
    listed = {file for files in sample.files.values() for file in files}
    for file in listed:
        if not file.exists:
            with pytest.raises(FileNotFoundError):
                obstore.head(store(server, file.bucket), file.key)
            continue
        got = obstore.get(store(server, file.bucket), file.key).bytes()
        assert (len(got), hashlib.sha256(got).hexdigest()) == (file.size, file.sha256), file.key
    assert any(not file.exists for file in listed) == (flavour == "dirty")


def test_the_documents_are_where_the_official_tool_looks(clean):
    server, sample = clean
    sharing = store(server, "ego4d-consortium-sharing")
    for (version, dataset), manifest in sample.manifests.items():
        key = f"public/{version}/{dataset}/manifest.csv"
        assert obstore.get(sharing, key).bytes().to_bytes() == manifest
    for version in sample.versions:
        got = obstore.get(sharing, f"public/{version}/ego4d.json").bytes().to_bytes()
        assert got == sample.metadata[version]
        assert obstore.head(sharing, f"public/{version}/datasets.csv")["size"] > 0
        for dataset in REFUSED:
            with pytest.raises(FileNotFoundError):
                obstore.head(sharing, f"public/{version}/{dataset}/manifest.csv")


def test_the_full_scale_manifest_has_the_real_shape(clean):
    _, sample = clean
    assert len(FULL_SCALE_HEADER) == 41
    rows = list(csv.DictReader(io.StringIO(sample.manifests["v2_1", "full_scale"].decode())))
    assert tuple(rows[0]) == FULL_SCALE_HEADER
    assert [row["video_uid"] for row in rows] == [video.uid for video in sample.videos]
    assert any("\n" in row["scenarios"] for row in rows)
    locations = [row["canonical_s3_location"] for row in rows]
    assert all("." not in location.rpartition("/")[2] for location in locations)
    old = sum("/public/v1/" in location for location in locations)
    assert old == len(locations) - 1, "v2_1 points mostly at v1 objects"


def test_the_videos_vary_as_documented(clean):
    _, sample = clean
    longest = max(sample.videos, key=lambda video: video.media.duration_s)
    assert longest.media.duration_s >= 60
    assert longest.size >= 24 * 2**20
    assert {video.media.faststart for video in sample.videos} == {True, False}
    assert {video.media.audio for video in sample.videos} == {True, False}


def test_ego4d_json_maps_clips_to_videos(clean):
    _, sample = clean
    described = json.loads(sample.metadata["v2_1"])
    videos = {video["video_uid"]: video for video in described["videos"]}
    assert [*videos] == [video.uid for video in sample.videos]
    assert {clip["clip_uid"] for clip in described["clips"]} == {clip.uid for clip in sample.clips}
    for clip in described["clips"]:
        assert clip["video_end_sec"] <= videos[clip["video_uid"]]["duration_sec"]


def test_the_same_seed_makes_the_same_release(clean, dirty):
    _, sample = clean
    _, other = dirty
    for known, manifest in sample.manifests.items():
        if known != ("v2_1", "full_scale"):
            assert other.manifests[known] == manifest
    assert sample.total_bytes < other.total_bytes
    assert sample.object_count < other.object_count


def test_the_dirty_flavour_has_all_documented_rows(dirty):
    _, sample = dirty
    manifests = {
        dataset: data for (version, dataset), data in sample.manifests.items() if version == "v2_1"
    }
    files = {dataset: sample.files["v2_1", dataset] for dataset in manifests}
    assert b",grp-" not in manifests["full_scale"]
    assert any(file.uid.startswith("grp-") for file in files["full_scale"])
    rows = list(csv.DictReader(io.StringIO(manifests["components/videos"].decode())))
    assert {"", "[]", "[FHO |EM]", "[ EM]", "em"} <= {row["benchmarks"] for row in rows}
    assert "" in {row["s3_path"] for row in rows}
    uids = [row["video_uid"] for row in rows]
    assert len(set(uids)) < len(uids)
    assert any(uid != uid.lower() for uid in uids)
    assert [file.name for file in files["3d_scans"]] == ["scan.tar", "scan.tar"]
    assert {file.name for file in files["av_models"]} == {"model.json", "model.csv"}
    assert manifests["moments_models"].count(b"\r\n") == 2
    assert manifests["nlq_models"].startswith(b"\xef\xbb\xbf")
    assert {len(line) for line in csv.reader(io.StringIO(manifests["social_test"].decode()))} == {
        2,
        4,
        5,
    }
    names = "".join(file.name for file in files["paco_frames"])
    assert all(mark in names for mark in " +#")
    assert not names.isascii()
    assert 0 in {file.size for file in files["paco_frames"]}


@pytest.mark.parametrize("version", ["v1", "v2", "v2_1"])
def test_the_official_downloader_accepts_every_clean_dataset(clean, tmp_path, version):
    server, sample = clean
    home, out = tmp_path / "home", tmp_path / "out"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/credentials").write_text(
        "[default]\n"
        f"aws_access_key_id = {server.licensee.access_key}\n"
        f"aws_secret_access_key = {server.licensee.secret_key}\n"
    )
    done = subprocess.run(
        [EGO4D, "-o", out, "--version", version, "-y", "--datasets", *sample.datasets(version)],
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The tool mixes the versions of all datasets up, and says so for each uid that is in two.
    assert done.stderr.count("ERROR") == done.stderr.count("Suspect version info")
    assert "Missing s3 object" not in done.stdout
    for dataset in sample.datasets(version):
        folder = out / version.partition("_")[0] / dataset
        expected = {file.name: file.sha256 for file in sample.files[version, dataset]}
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()
            if path.name not in ("manifest.csv", "manifest.ver")
        }
        assert found == expected, dataset
        assert (folder / "manifest.csv").read_bytes() == sample.manifests[version, dataset]
    assert (out / "ego4d.json").read_bytes() == sample.metadata[version]
