"""Releases that are made or mounted once, for the tests that only look at them."""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from conftest import Mounts, Release
from mountkit import MIB, environment, seeded

from ego4dfs.demo.sample import Sample, build
from ego4dfs.demo.server import S3Server


@dataclass(frozen=True)
class Shown:
    """One mount for the tests that only look; `files` are the bytes that `directory` shows."""

    mounts: Mounts
    root: Path
    directory: Path
    files: Mapping[str, bytes]
    release: Release
    env: Mapping[str, str]


@pytest.fixture(scope="session")
def shown(server, tmp_path_factory, libfuse, transport) -> Iterator[Shown]:
    own = tmp_path_factory.mktemp("shown")
    env = environment(server, own / "home", transport)
    release = Release(server, f"v{uuid.uuid4().int % 10**12}")
    files = {
        "narration.json": json.dumps({"needle": list(range(5000))}, indent=0).encode(),
        "nothing.json": b"",
        "odd.pt": seeded("odd", 3 * MIB + 17),
        "large.mp4": seeded("large", 24 * MIB + 1),
    }
    manifest = release.dataset("annotations", files)
    release.metadata(b'{"videos": []}\n')
    mounts = Mounts(own, libfuse)
    try:
        arguments = ("--version", release.version, "--datasets", "annotations")
        root = mounts(*arguments, env=env)
        directory = root / release.version / "annotations"
        yield Shown(mounts, root, directory, {**files, "manifest.csv": manifest}, release, env)
    finally:
        mounts.clear()


@contextmanager
def shared_media() -> Iterator[Path]:
    """Hold the directory of the sample's videos alone: they take 20 s to make, so all share them.

    The name of each file says how it was made, so that none from an earlier run is a wrong one.
    """
    directory = Path(__file__).parents[1] / ".pytest_cache" / "media"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


@dataclass(frozen=True)
class Sampled:
    """The demo's sample, on a server of its own."""

    server: S3Server
    sample: Sample

    def content(self, version: str, dataset: str, name: str) -> bytes:
        """Return the bytes of one file as they are on the server."""
        [file] = [f for f in self.sample.files[version, dataset] if f.name == name]
        return bytes(obstore.get(self.server._store(file.bucket), file.key).bytes())


@pytest.fixture(scope="session")
def sampled(tmp_path_factory) -> Iterator[Sampled]:
    with S3Server(tmp_path_factory.mktemp("sampled") / "s3") as running:
        with shared_media() as media:
            sample = build(running, media)
        yield Sampled(running, sample)
