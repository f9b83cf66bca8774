"""`ego4dfs prefetch` through a gateway in front of the server, and what it wrote."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ego4dfs.demo.server import S3Server
from kit.cli import EGO4DFS
from kit.gateway import Gateway
from kit.server import Release


@pytest.fixture
def front(server: S3Server, licensee: dict[str, str]) -> Iterator[Gateway]:
    """A gateway through which the licensee's requests go."""
    with Gateway(server.endpoint_url) as running:
        running.faults.hide_missing = True
        os.environ["AWS_ENDPOINT_URL"] = running.url
        yield running


@pytest.fixture
def prefetch(
    front: Gateway, release: Release, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command for a release into tmp_path/out, through the gateway."""

    def run(
        *arguments: str,
        code: int = 0,
        answer: str | None = None,
        out: bool = True,
        **variables: str,
    ):
        where = ["-o", str(tmp_path / "out")] if out and "-o" not in arguments else []
        done = subprocess.run(
            [*EGO4DFS, "prefetch", *where, "--version", release.version, *arguments],
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
    """Return all files below `root` except the records of ego4dfs."""
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MiB; a remount makes it larger, or read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
