"""A release that is mounted once, for the tests that only look at it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Mounts, Release
from mountkit import MIB, environment, seeded


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
