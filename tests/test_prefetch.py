"""`ego4dfs prefetch`: what it copies, what it says, what it asks for and what it leaves alone."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from conftest import EGO4DFS, SHARING, Release
from mountkit import MIB, seeded

from ego4dfs.demo.server import S3Server
from tests.gateway import Gateway

FILES = {
    "narration.json": b'{"a": 1}' * 1000,
    "nothing.json": b"",
    "middle.pt": seeded("middle", 3 * MIB + 17),
    "large.mp4": seeded("large", 40 * MIB + 1),
    **{f"small{i}.pt": seeded(str(i), 20_000 + i) for i in range(40)},
}


@pytest.fixture
def gateway(server: S3Server, licensee: dict[str, str]) -> Iterator[Gateway]:
    """What the licensee's requests go through."""
    with Gateway(server.endpoint_url) as running:
        running.faults.hide_missing = True
        os.environ["AWS_ENDPOINT_URL"] = running.url
        yield running


@pytest.fixture
def prefetch(
    gateway: Gateway, release: Release, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command for a release into tmp_path/out, through the gateway."""

    def run(*arguments: str, code: int = 0, answer: str | None = None, **variables: str):
        out = [] if "-o" in arguments else ["-o", str(tmp_path / "out")]
        done = subprocess.run(
            [*EGO4DFS, "prefetch", *out, "--version", release.version, *arguments],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            input=answer or "",
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


def tree(root: Path) -> dict[str, bytes]:
    """Return all files below `root` but for our own records."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".ego4dfs" not in path.parts
    }


def data_of(found: Mapping[str, bytes], release: Release, dataset: str) -> dict[str, bytes]:
    prefix = f"{release.version}/{dataset}/"
    own = {"manifest.csv", "manifest.ver"}
    named = {p.removeprefix(prefix): data for p, data in found.items() if p.startswith(prefix)}
    return {name: data for name, data in named.items() if name not in own}


def test_copies_are_the_objects_where_the_official_tool_puts_them(prefetch, release, tmp_path):
    manifest = release.dataset("annotations", FILES)
    release.metadata(b'{"videos": []}')
    prefetch("-y")
    found = tree(tmp_path / "out")
    assert data_of(found, release, "annotations") == FILES
    assert found[f"{release.version}/annotations/manifest.csv"] == manifest
    assert found["ego4d.json"] == found[f"{release.version}/ego4d.json"] == b'{"videos": []}'
    assert not [path for path in found if path.endswith(".part")]
    assert (tmp_path / "out/.ego4dfs").stat().st_mode & 0o777 == 0o700


def test_a_second_run_asks_for_the_manifests_and_nothing_else(prefetch, release, gateway):
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    prefetch("-y")
    gateway.reset()
    done = prefetch("-y")
    asked = [(method, path.rpartition("/")[2]) for method, path, _ in gateway.log]
    assert sorted(asked) == [("GET", "manifest.csv"), ("HEAD", "ego4d.json")]
    assert "The latest versions of all requested videos already exist" in done.stdout
