"""The sample with more objects, a gateway that counts, and local copies of what is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ecosystem.cases import CASES, VIDEO, Case
from ecosystem.objects import make
from ego4dfs.demo.sample import build
from ego4dfs.demo.server import S3Server
from kit.gateway import Gateway
from kit.mounts import Mounts
from kit.server import SHARING, Sampled, environment, shared_media

MIB = 1 << 20
# The examples of the guides use several libraries.
collect_ignore = [] if find_spec("torchcodec") else ["test_guides.py"]
if find_spec("torch") is None:
    collect_ignore += [path.name for path in Path(__file__).parent.glob("test_torch*.py")]
RUN_CASE = Path(__file__).parent / "run_case.py"


@dataclass(frozen=True)
class Published:
    """The sample and the objects of the cases on a server, and their copies on the disk."""

    gateway: Gateway
    server: S3Server
    copies: Path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    directory = tmp_path_factory.mktemp("ecosystem")
    copies = directory / "copies"
    with S3Server(directory / "s3") as server, Gateway(server.endpoint_url) as gateway:
        sampled = Sampled(server, build(server, shared_media()))
        video = copies / VIDEO
        video.parent.mkdir(parents=True)
        video.write_bytes(sampled.content("v2_1", "full_scale", video.name))
        files = {case.file.removeprefix("v2/") for case in CASES if case.can_run()}
        for dataset, made in make(files).items():
            _publish(server, dataset, made)
            (copies / "v2" / dataset).mkdir()
            for name, data in made.items():
                (copies / "v2" / dataset / name).write_bytes(data)
        yield Published(gateway, server, copies)


def _publish(server: S3Server, dataset: str, files: dict[str, bytes]) -> None:
    prefix = f"public/v2_1/{dataset}/"
    server.put_many(SHARING, [(f"{prefix}files/{name}", data) for name, data in files.items()])
    rows = [f"{name},file,s3://{SHARING}/{prefix}files/{name}" for name in files]
    manifest = "\n".join(["file_uid,type,s3_path", *rows, ""])
    server.put(SHARING, f"{prefix}manifest.csv", manifest.encode())


@dataclass(frozen=True)
class Runner:
    """Run a case in a process of its own, from an empty cache."""

    published: Published
    env: dict[str, str]
    mounts: Mounts

    def __call__(self, case: Case, face: str) -> tuple[dict[str, Any], float]:
        """Return the outcome, and the MiB that the server sent for it."""
        root = str(self.mounts(env=self.env)) if face == "mount" else "ego4d:/"
        before = self.published.gateway.bytes_sent
        number, copies = str(CASES.index(case)), str(self.published.copies)
        done = subprocess.run(
            [sys.executable, RUN_CASE, number, root, copies],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        sent = self.published.gateway.bytes_sent - before
        return json.loads(done.stdout.splitlines()[-1]), sent / MIB


@pytest.fixture
def run_case(
    published: Published, tmp_path: Path, libfuse: str, transport: str
) -> Iterator[Runner]:
    env = environment(published.server, tmp_path / "home", transport, EGO4DFS_CACHE_SIZE="1GiB")
    env |= {"AWS_ENDPOINT_URL": published.gateway.url, "HF_HUB_OFFLINE": "1"}
    mounts = Mounts(tmp_path, libfuse)
    yield Runner(published, env, mounts)
    mounts.clear()
