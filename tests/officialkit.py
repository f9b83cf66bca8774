"""The official tool, ego4d 1.7.3, beside ours: run by a licensee with a profile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SHARING, Release

from ego4dfs.demo.server import S3Server
from tests.gateway import Gateway


def write_profile(home: Path, server: S3Server) -> None:
    """Give the licensee the profile that the official tool insists on."""
    (home / ".aws").mkdir(exist_ok=True)
    keys = server.licensee
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n"
    )


def run_official(
    out: Path, *arguments: str, answer: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ego4d`; what it makes of it is for the caller to judge."""
    command = [sys.executable, "-m", "ego4d.cli.cli", "-o", str(out), *arguments]
    return subprocess.run(
        command,
        env={**(os.environ if env is None else env), "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        input=answer,
    )


@pytest.fixture
def official(
    front: Gateway, release: Release, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the official tool for a release into tmp_path/official, through the gateway."""
    assert front.url == os.environ["AWS_ENDPOINT_URL"]
    write_profile(tmp_path / "home", release.server)

    def run(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        out = tmp_path / "official"
        return run_official(out, "--version", release.version, *arguments, answer=answer)

    return run


def objects_read(front: Gateway) -> list[str]:
    """Return the keys of which bytes were asked for, but for manifests."""
    gets = [path for method, path, _ in front.log if method == "GET" and SHARING in path]
    return [path for path in gets if "/objects/" in path]
