"""Benchmark data: many small files, and files whose bytes follow from a seed and an offset."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import xxhash

from benchmarks import RunError
from benchmarks.servers import Servers
from ego4dfs.demo.release import Manifest, manifest_location, split_location
from ego4dfs.demo.server import S3Server
from ego4dfs.demo.videos import CONSORTIUM

VERSION = "v2_1"
_FILE_HEADER = ("file_uid", "type", "s3_path")
_VIDEO_HEADER = ("video_uid", "canonical_s3_location")
_PIECE = 1 << 20
_BATCH = 2_000


@dataclass(frozen=True)
class Dataset:
    """A published dataset; `files` has size and checksum by local name.

    `suffix` is the end of the local names that the names of the objects do not have.
    """

    name: str
    files: Mapping[str, tuple[int, str]]
    suffix: str = ""

    @property
    def prefix(self) -> str:
        """The bucket and the prefix of the objects, for tools that list."""
        return f"{CONSORTIUM}/{_prefix(self.name)}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    @property
    def objects(self) -> list[str]:
        """The names of the objects below the prefix."""
        return [name.removesuffix(self.suffix) for name in self.files]

    def check(self, root: Path, *, object_names: bool = False) -> None:
        """Raise RunError unless each file is somewhere below `root`, complete and correct.

        With `object_names` the files have the names of the objects.
        """
        found = {path.name: path for path in root.rglob("*") if path.is_file()}
        for name, (size, checksum) in self.files.items():
            path = found.get(name.removesuffix(self.suffix) if object_names else name)
            if path is None:
                raise RunError(f"{name} was not copied")
            if path.stat().st_size != size or file_checksum(path) != checksum:
                raise RunError(f"{name} is wrong: {path.stat().st_size} bytes of {size}")


def publish_files(server: S3Server, name: str, sizes: Iterable[int]) -> Dataset:
    """Publish a dataset of files, as features are; sizes in bytes, contents from a seed."""
    rng = random.Random(name)
    manifest = Manifest(list(_FILE_HEADER))
    files: dict[str, tuple[int, str]] = {}
    batch: list[tuple[str, bytes | Path]] = []
    for index, size in enumerate(sizes):
        uid = f"{rng.getrandbits(128):032x}"
        key, data = f"{_prefix(name)}/{uid}.pt", rng.randbytes(size)
        location = f"s3://{CONSORTIUM}/{key}"
        manifest.add({"file_uid": uid, "type": "file", "s3_path": location}, f"{uid}.pt")
        files[f"{uid}.pt"] = (size, xxhash.xxh3_128_hexdigest(data))
        batch.append((key, data))
        if index % _BATCH == _BATCH - 1:
            server.put_many(CONSORTIUM, batch)
            batch.clear()
    server.put_many(CONSORTIUM, batch)
    return _published(server, name, manifest, files)


def publish_videos(server: S3Server, name: str, sizes: Iterable[int], scratch: Path) -> Dataset:
    """Publish a dataset of videos, whose keys have no extension; the bytes are random."""
    rng = random.Random(name)
    manifest = Manifest(list(_VIDEO_HEADER))
    files: dict[str, tuple[int, str]] = {}
    for size in sizes:
        uid = f"{rng.getrandbits(128):032x}"
        key = f"{_prefix(name)}/{uid}"
        path = scratch / uid
        with path.open("wb") as stream:
            for at in range(0, size, _PIECE):
                stream.write(rng.randbytes(min(_PIECE, size - at)))
        files[f"{uid}.mp4"] = (size, file_checksum(path))
        server.put(CONSORTIUM, key, path)
        path.unlink()
        location = f"s3://{CONSORTIUM}/{key}"
        manifest.add({"video_uid": uid, "canonical_s3_location": location}, f"{uid}.mp4")
    return replace(_published(server, name, manifest, files), suffix=".mp4")


def publish_metadata(server: S3Server) -> None:
    """Publish the ego4d.json that both downloaders fetch first."""
    server.put(CONSORTIUM, f"public/{VERSION}/ego4d.json", b'{"videos": [], "clips": []}\n')


def file_checksum(path: Path) -> str:
    """Return the checksum of a file, as in `Dataset.files`."""
    checksum = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            checksum.update(piece)
    return checksum.hexdigest()


def _prefix(name: str) -> str:
    return f"public/{VERSION}/objects/{name}"


def _published(
    server: S3Server, name: str, manifest: Manifest, files: Mapping[str, tuple[int, str]]
) -> Dataset:
    bucket, key = split_location(manifest_location(VERSION, name))
    server.put(bucket, key, manifest.encoded())
    return Dataset(name, files)


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one file, from a seed."""

    name: str
    seed: int
    size: int

    def part(self, at: int, length: int) -> bytes:
        """Return the bytes of a range that lies within the file."""
        first, last = at // _PIECE, (at + length - 1) // _PIECE
        pieces = b"".join(_piece(self.seed, index) for index in range(first, last + 1))
        return pieces[at - first * _PIECE : at - first * _PIECE + length]

    def write(self, path: Path) -> None:
        """Write the whole file."""
        with path.open("wb") as stream:
            for at in range(0, self.size, _PIECE):
                stream.write(self.part(at, min(_PIECE, self.size - at)))

    def check(self, path: Path, limit: int | None = None) -> None:
        """Raise RunError unless a file has these bytes, up to a limit."""
        size = self.size if limit is None else min(limit, self.size)
        if path.stat().st_size != self.size:
            raise RunError(f"{path.name} has {path.stat().st_size} bytes of {self.size}")
        found = xxhash.xxh3_128()
        with path.open("rb") as stream:
            for at in range(0, size, _PIECE):
                found.update(stream.read(min(_PIECE, size - at)))
        if found.hexdigest() != _checksum(self, size):
            raise RunError(f"{path.name} has wrong bytes")


@dataclass(frozen=True, slots=True)
class Videos:
    """A published dataset of such files."""

    name: str
    contents: Sequence[Content]


@cache
def publish(servers: Servers, name: str, count: int, size: int) -> Videos:
    """Publish `count` files of `size` bytes, once in a run of the benchmark."""
    contents = tuple(
        Content(f"{name}_{index:04}.mp4", hash((count, size, index)) & 0xFFFFFFFF, size)
        for index in range(count)
    )
    scratch = servers.empty("scratch")
    for content in contents:
        path = scratch / content.name
        content.write(path)
        servers.s3.put(CONSORTIUM, key(name, path.stem), path)
        path.unlink()
    publish_manifest(servers, name, [Path(content.name).stem for content in contents])
    return Videos(name, contents)


def publish_manifest(servers: Servers, name: str, uids: Sequence[str]) -> None:
    """Publish the manifest of videos, whose objects need not exist."""
    manifest = Manifest(list(_VIDEO_HEADER))
    for uid in uids:
        location = f"s3://{CONSORTIUM}/{key(name, uid)}"
        manifest.add({"video_uid": uid, "canonical_s3_location": location}, f"{uid}.mp4")
    bucket, place = split_location(manifest_location(VERSION, name))
    servers.s3.put(bucket, place, manifest.encoded())


def key(name: str, uid: str) -> str:
    """Return the key of a video of a dataset."""
    return f"public/{VERSION}/objects/{name}/{uid}"


@cache
def _checksum(content: Content, size: int) -> str:
    found = xxhash.xxh3_128()
    for at in range(0, size, _PIECE):
        found.update(content.part(at, min(_PIECE, size - at)))
    return found.hexdigest()


def _piece(seed: int, index: int) -> bytes:
    return np.random.default_rng((seed, index)).bytes(_PIECE)
