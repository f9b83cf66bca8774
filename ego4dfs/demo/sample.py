"""The sample: a small release with Ego4D's layout, its upload, and the list of its files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ego4dfs.demo import clean_release, malformed_rows
from ego4dfs.demo.media import Clip, make_all
from ego4dfs.demo.release import Manifest, Release, manifest_location, split_location
from ego4dfs.demo.server import S3Server
from ego4dfs.demo.videos import BUCKETS, CONSORTIUM, UNVERSIONED, Uids, cuts, recordings

# Announced by Ego4D but not published: they have no manifest here either.
REFUSED = ("annotations_540ss", "clips_540ss", "fut_loc")
_SEED = 4


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One row of a manifest that names an object.

    `name` is the local file name that the official tool gives it. `exists` is false for a malformed
    row whose object does not exist; then its size is 0 and its sha256 empty.
    """

    name: str
    uid: str
    bucket: str
    key: str
    size: int
    sha256: str
    exists: bool = True

    @property
    def url(self) -> str:
        """Where the object is."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """One video of the sample: its uid, what it contains, and the size of its file."""

    uid: str
    media: Clip
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The content of the server after `build`.

    `files` has the rows by (version, dataset) in the manifest's order; `manifests` the bytes of
    each manifest.csv; `metadata` the bytes of ego4d.json by version. `videos` are those of
    full_scale and `clips` those of clips. Bytes and objects are counted once, however many rows
    name them, with manifests and metadata.
    """

    files: Mapping[tuple[str, str], tuple[ListedFile, ...]]
    manifests: Mapping[tuple[str, str], bytes]
    metadata: Mapping[str, bytes]
    videos: tuple[SampleVideo, ...]
    clips: tuple[SampleVideo, ...]
    total_bytes: int
    object_count: int
    refused: tuple[str, ...] = REFUSED

    @property
    def versions(self) -> tuple[str, ...]:
        """The releases, as `--version` names them."""
        return tuple(self.metadata)

    def datasets(self, version: str) -> tuple[str, ...]:
        """Return the datasets of one release that have a manifest."""
        return tuple(dataset for known, dataset in self.manifests if known == version)


def build(server: S3Server, directory: Path | str, *, with_malformed_rows: bool = False) -> Sample:
    """Upload the release to a running server and return the list of its files.

    `directory` keeps the videos for the next call, because they take about ten seconds to make. The
    same call makes the same release: uids and bytes come from a seed. The official downloader
    accepts the release without an error; `with_malformed_rows` adds the rows that
    `add_malformed_rows` lists.
    """
    made = make_media(directory)
    release = Release()
    clean_release.fill(release, made)
    absent = (
        malformed_rows.add_malformed_rows(release, made) if with_malformed_rows else frozenset()
    )
    documents = _documents(release)
    release.objects.update(documents)
    _upload(server, release)
    sums = {location: _size_and_sum(content) for location, content in release.objects.items()}
    sums |= dict.fromkeys(absent, (0, ""))
    return Sample(
        files=MappingProxyType(
            {known: _listed(manifest, sums) for known, manifest in release.manifests.items()}
        ),
        manifests=MappingProxyType(
            {known: documents[manifest_location(*known)] for known in release.manifests}
        ),
        metadata=MappingProxyType(
            {version: documents[_metadata_location(version)] for version in clean_release.VERSIONS}
        ),
        videos=tuple(_sample_video(video.uid, video.media, made.media) for video in made.videos),
        clips=tuple(_sample_video(clip.uid, clip.media, made.media) for clip in made.clips),
        total_bytes=sum(size for size, _ in sums.values()),
        object_count=len(release.objects),
    )


def make_media(directory: Path | str) -> clean_release.SampleMedia:
    """Make the videos of the sample in `directory`, unless an earlier call left them there."""
    uids = Uids(_SEED)
    videos = recordings(uids)
    clips = cuts(videos, uids)
    media = make_all(clean_release.wanted_media(videos, clips), Path(directory))
    return clean_release.SampleMedia(videos, clips, media, uids)


def _documents(release: Release) -> dict[str, bytes]:
    """Return the documents in the consortium's bucket: manifests, ego4d.json, datasets.csv."""
    documents = {
        manifest_location(*known): manifest.encoded()
        for known, manifest in release.manifests.items()
    }
    for version, described in release.metadata.items():
        documents[_metadata_location(version)] = described
        names = [dataset for known, dataset in release.manifests if known == version]
        lines = [f"{name},A small sample of {name}" for name in (*names, *REFUSED)]
        listing = "\n".join(["dataset,description", *lines, ""])
        documents[f"s3://{CONSORTIUM}/public/{version}/datasets.csv"] = listing.encode()
    return documents


def _upload(server: S3Server, release: Release) -> None:
    by_bucket = defaultdict[str, list[tuple[str, bytes | Path]]](list)
    for location, content in release.objects.items():
        bucket, key = split_location(location)
        by_bucket[bucket].append((key, content))
    for bucket in BUCKETS:
        server.create_bucket(bucket, versioned=bucket != UNVERSIONED)
    # Side by side: the first object of a bucket waits up to a second for a volume.
    with ThreadPoolExecutor(max_workers=len(BUCKETS)) as pool:
        uploads = [pool.submit(server.put_many, name, by_bucket[name]) for name in BUCKETS]
        for done in uploads:
            done.result()


def _listed(manifest: Manifest, sums: Mapping[str, tuple[int, str]]) -> tuple[ListedFile, ...]:
    found = []
    for row in manifest.rows:
        size, digest = sums[row.location]
        bucket, key = split_location(row.location)
        found.append(ListedFile(row.name, row.uid, bucket, key, size, digest, bool(digest)))
    return tuple(found)


def _sample_video(uid: str, clip: Clip, media: Mapping[Clip, Path]) -> SampleVideo:
    return SampleVideo(uid, clip, media[clip].stat().st_size)


def _size_and_sum(content: bytes | Path) -> tuple[int, str]:
    data = content.read_bytes() if isinstance(content, Path) else content
    return len(data), hashlib.sha256(data).hexdigest()


def _metadata_location(version: str) -> str:
    return f"s3://{CONSORTIUM}/public/{version}/ego4d.json"
