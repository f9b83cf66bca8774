"""The release of a soak run: names, sizes and bytes of its files, in two buckets."""

from __future__ import annotations

from pathlib import Path

from kit.data import Seeded
from kit.random_reads import SIZE_OF as CLIPS
from kit.server import Release

SECOND_BUCKET = "ego4d-second"
VIDEO = "video.mp4"
SMALL = {f"{n % 9}small{n}.json": 500 + 1237 * n for n in range(48)}
FULL = {f"{n % 9}full{n}.mp4": 700_000 + 99_991 * n for n in range(18)}
COPIED = {f"{n % 9}imu{n}.csv": 200_000 + 50_021 * n for n in range(12)}
DIRECTORIES = {"clips": CLIPS, "annotations": SMALL, "full_scale": FULL}
READ_DATASETS = tuple(DIRECTORIES)
COPIED_DATASETS = ("annotations", "components/imu")
COPIED_OBJECTS = "/objects/components/imu/"
BUCKETS = 2


def size_of(path: str) -> int:
    """Return the true size of a file by its path, `clips/0123.mp4`."""
    directory, _, name = path.rpartition("/")
    return DIRECTORIES[directory][name]


def publish(release: Release, directory: Path) -> str:
    """Upload all of it; return the digest of a part of the video, or "" if av is not installed."""
    for dataset, files in (("clips", CLIPS), ("annotations", SMALL), ("components/imu", COPIED)):
        release.dataset(dataset, {n: Seeded(n).part(0, size) for n, size in files.items()})
    contents = {name: Seeded(name).part(0, size) for name, size in FULL.items()}
    video, digest = _video(directory)
    if digest:
        contents[VIDEO] = video
    release.server.create_bucket(SECOND_BUCKET)
    prefix = f"public/{release.version}/objects"
    release.server.put_many(SECOND_BUCKET, [(f"{prefix}/{n}", d) for n, d in contents.items()])
    rows = [f"{n.partition('.')[0]},file,s3://{SECOND_BUCKET}/{prefix}/{n}" for n in contents]
    release.manifest("full_scale", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    return digest


def _video(directory: Path) -> tuple[bytes, str]:
    try:
        from ego4dfs.demo.decode_window import decode_middle
        from ego4dfs.demo.media import Clip, make
    except ImportError:
        return b"", ""
    path = directory / VIDEO
    make(Clip(number=1, duration_s=6, faststart=False), path)
    return path.read_bytes(), decode_middle(path).digest
