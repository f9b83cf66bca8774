"""The official tool, ego4d 1.7.3, and ours, run by a licensee with an AWS profile."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ego4dfs.demo.server import S3Server
from ego4dfs.prefetch.planner import CHECK_VALID_S
from kit.cli import EGO4DFS
from kit.gateway import Gateway
from kit.prefetch import tree
from kit.server import SHARING, Release, environment


def write_profile(home: Path, server: S3Server) -> None:
    """Give the licensee the profile that the official tool requires."""
    (home / ".aws").mkdir(exist_ok=True)
    keys = server.licensee
    (home / ".aws/credentials").write_text(
        f"[default]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n"
    )


def run_official(
    out: Path, *arguments: str, answer: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ego4d`; the caller checks the result."""
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
    """Return the keys of the objects that were read, without manifests."""
    gets = [path for method, path, _ in front.log if method == "GET" and SHARING in path]
    return [path for path in gets if "/objects/" in path]


class Both:
    """The two tools with one server and one licensee."""

    def __init__(self, sampled, directory: Path, front: Gateway, transport: str) -> None:
        self.directory = directory
        self.sample = sampled.sample
        self.front = front
        self.env = environment(sampled.server, directory / "home", transport)
        self.env["AWS_ENDPOINT_URL"] = front.url
        write_profile(directory / "home", sampled.server)

    def official(self, out: Path, *flags: str, answer: str = "") -> str:
        """Run it with -y, or with an answer."""
        yes = () if answer else ("-y",)
        done = run_official(out, *yes, *flags, env=self.env, answer=answer)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ours(self, out: Path, *flags: str, answer: str = "") -> str:
        """Run it with -y, or with an answer."""
        command = [*EGO4DFS, "prefetch", "-o", str(out), *(() if answer else ("-y",)), *flags]
        done = subprocess.run(
            command,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            input=answer,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fetched(self) -> list[str]:
        """Return the keys of the objects that were read since the last reset."""
        paths = [path for method, path, _ in self.front.log if method == "GET"]
        return [path for path in paths if not path.endswith(("manifest.csv", "ego4d.json"))]


@pytest.fixture
def both(sampled, tmp_path, transport):
    with Gateway(sampled.server.endpoint_url) as front:
        yield Both(sampled, tmp_path, front, transport)


def compared(root: Path) -> dict[str, bytes]:
    """Return the files below `root` that both tools must write."""
    found = tree(root)
    nested = {f"{name}/ego4d.json" for name in ("v1", "v2")}
    return {
        path: data
        for path, data in found.items()
        if path not in nested and not path.endswith("manifest.ver")
    }


@dataclass
class Shared:
    """A directory that both tools fill, and a dataset in a bucket with or without versions."""

    release: Release
    front: Gateway
    out: Path
    bucket: str
    prefix: str

    def put(self, name: str, data: bytes) -> None:
        self.release.server.put(self.bucket, self.prefix + name, data)

    def publish(self, dataset: str, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            self.put(name, data)
        rows = [f"{n.partition('.')[0]},file,s3://{self.bucket}/{self.prefix}{n}" for n in files]
        self.release.manifest(dataset, "\n".join(["file_uid,type,s3_path", *rows, ""]))

    def directory(self, dataset: str = "annotations") -> Path:
        return self.out / self.release.version / dataset

    def found(self, dataset: str = "annotations") -> dict[str, bytes]:
        own = ("manifest.csv", "manifest.ver")
        paths = (path for path in self.directory(dataset).iterdir() if path.name not in own)
        return {path.name: path.read_bytes() for path in paths}

    def ours(self, *flags: str, code: int = 0) -> str:
        """Run prefetch without a terminal."""
        command = [*EGO4DFS, "prefetch", "-o", str(self.out), "--version", self.release.version]
        done = subprocess.run(
            [*command, *flags], input="", capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def official(self, *flags: str) -> str:
        done = run_official(self.out, "-y", "--version", self.release.version, *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def requested(self, method: str) -> list[str]:
        """Return the names of the objects that were requested since the last reset."""
        paths = (path.partition("?")[0] for verb, path, _ in self.front.log if verb == method)
        return sorted(path.rpartition("/")[2] for path in paths if self.prefix in path)

    def expire_checks(self) -> None:
        """Set the times of the recorded checks back, so that they are not valid any more."""
        with sqlite3.connect(self.out / ".ego4dfs/journal.sqlite") as journal:
            journal.execute("UPDATE checked SET at = at - ?", (CHECK_VALID_S + 1,))
        journal.close()


@pytest.fixture(params=["plain", "versioned"])
def shared(request, server, release, front, tmp_path):
    bucket = f"state-{request.param}"
    server.create_bucket(bucket, versioned=request.param == "versioned")
    write_profile(tmp_path / "home", server)
    release.metadata(b'{"videos": []}')
    return Shared(release, front, tmp_path / "shared", bucket, f"public/{uuid.uuid4().hex}/")
