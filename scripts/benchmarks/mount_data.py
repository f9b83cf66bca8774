"""Contents that can be made again from any place on, so that any part that was read is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import xxhash

from benchmarks.samples import VERSION
from benchmarks.servers import Servers
from benchmarks.trouble import RunError
from ego4dfs.demo.recordings import CONSORTIUM
from ego4dfs.demo.release import Manifest, manifest_location, split_location

_PIECE = 1 << 20
_HEADER = ("video_uid", "canonical_s3_location")


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
        """Raise RunError unless a file shows these bytes, up to a limit."""
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
    """Publish so many files of a size, once in a run of the benchmark."""
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
    """Publish the manifest of videos whose objects are, or are not, there."""
    manifest = Manifest(list(_HEADER))
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
