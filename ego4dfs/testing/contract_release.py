"""The release that TreeContract reads: its objects, to be put where a face reads them."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.catalog import SHARING_BUCKET, manifest_url, metadata_url
from ego4dfs.datasets import version_directory
from ego4dfs.store import split_s3_url

DATASETS = ("annotations", "components/imu")
"""The datasets that the face under test shows."""

_TILE_BYTES = 8191  # a prime: blocks and parts differ


def content(seed: str, size: int) -> bytes:
    """Return `size` bytes that follow from `seed`, and that no other offset has."""
    tile = hashlib.shake_256(seed.encode()).digest(_TILE_BYTES)
    return (tile * (size // _TILE_BYTES + 1))[:size]


METADATA = b'{"videos": []}\n'
FILES: Mapping[str, bytes] = {
    "empty.json": b"",
    "one.json": b"1",
    "border.pt": content("border", 2 * BLOCK_SIZE),
    "odd.pt": content("odd", 3 * BLOCK_SIZE + 17),
    "odd name, #1+é.json": b"{}",
}
REFUSED = "refused.json"
IMU: Mapping[str, bytes] = {"walk.csv": b"t,x,y,z\n0,1,2,3\n"}


@dataclass(frozen=True)
class ContractRelease:
    """A release with two datasets; each file of theirs is one that a face may get wrong.

    `refused_errno` is the errno of an open of the object that is listed, and not there: EACCES
    where the store hides whether objects exist, as S3 does to licensees, else ENOENT.
    """

    version: str = "v2_1"
    refused_errno: int = errno.ENOENT
    since_ns: int = field(default_factory=time.time_ns)

    @property
    def directory(self) -> str:
        """The path of the directory with FILES."""
        return f"{self.version_directory}/annotations"

    @property
    def version_directory(self) -> str:
        """The path of the directory with the datasets."""
        return version_directory(self.version)

    @property
    def manifest(self) -> bytes:
        """The manifest of that directory."""
        return manifest_of({name: self._url("annotations", name) for name in [*FILES, REFUSED]})

    def objects(self) -> dict[str, bytes]:
        """Return all objects by their URLs; REFUSED is not one of them."""
        files = {"annotations": FILES, "components/imu": IMU}
        found = {
            self._url(dataset, name): data
            for dataset in files
            for name, data in files[dataset].items()
        }
        imu = {name: self._url("components/imu", name) for name in IMU}
        return {
            **found,
            manifest_url(self.version, "annotations"): self.manifest,
            manifest_url(self.version, "components/imu"): manifest_of(imu),
            metadata_url(self.version): METADATA,
        }

    def _url(self, dataset: str, name: str) -> str:
        return f"s3://{SHARING_BUCKET}/public/{self.version}/objects/{dataset}/{name}"


def write_mirror(directory: Path, objects: Mapping[str, bytes]) -> None:
    """Write objects as files of a mirror, `<directory>/<bucket>/<key>`, for the option `source`."""
    for url, data in objects.items():
        path = directory.joinpath(*split_s3_url(url))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def manifest_of(files: Mapping[str, str]) -> bytes:
    """Return a manifest of files with these names and URLs."""
    rows = [
        f'{name.partition(".")[0].replace(",", "")},file,"{url}"\n' for name, url in files.items()
    ]
    return "".join(["video_uid,type,s3_path\n", *rows]).encode()
