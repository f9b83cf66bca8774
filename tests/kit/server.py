"""The real S3 server of the tests, releases of Ego4D on it, and the identity of a licensee."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import fsspec
import obstore
import pytest
from obstore.exceptions import BaseError

from ego4dfs.config import resolve
from ego4dfs.demo.sample import Sample, build, make_media
from ego4dfs.demo.server import S3Server
from ego4dfs.demo.sigv4_client import request
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.vfs import VFS, open_vfs

SHARING = "ego4d-consortium-sharing"
RECLAIM_ABOVE = 256 << 20
"""A server that holds more bytes than this deletes the release of a test that has ended."""

CLEANED = ("AWS_", "EGO4DFS_", "XDG_")


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--transport"))


class RunServer(S3Server):
    """A server whose disk use does not grow with the number of tests."""

    def end_release(self, version: str) -> None:
        """Delete the objects of a release if the server holds much, and free what it can free.

        The space of deleted objects can be freed about a second later: by the next call.
        """
        if self._held() < RECLAIM_ABOVE:
            return
        with suppress(BaseError):  # a busy server: later tests have the same chance
            for page in self.store(SHARING).list(f"public/{version}/", chunk_size=1000):
                obstore.delete(self.store(SHARING), [entry["path"] for entry in page])
        master = f"http://127.0.0.1:{self._ports['master.port']}"
        with suppress(OSError, HTTPException):  # a busy server answers later than `request` waits
            request(self.admin, "GET", f"{master}/vol/vacuum?garbageThreshold=0.3", b"")

    def _held(self) -> int:
        return sum(path.stat().st_size for path in self.directory.glob("data/*.dat"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunServer]:
    """One SeaweedFS for the whole run; each test puts its objects into a release of its own."""
    with RunServer(tmp_path_factory.mktemp("s3")) as running:
        running.create_bucket(SHARING)
        yield running


def new_version() -> str:
    """Return a version of Ego4D that no other test has: `v<number>`."""
    return f"v{uuid.uuid4().int % 10**12}"


@dataclass(frozen=True)
class Release:
    """A test's own version of Ego4D on the shared server: `v<number>`."""

    server: S3Server
    version: str

    def manifest(self, dataset: str, content: str | bytes) -> bytes:
        """Publish the manifest of a dataset and return its bytes."""
        data = content.encode() if isinstance(content, str) else content
        self.server.put(SHARING, f"public/{self.version}/{dataset}/manifest.csv", data)
        return data

    def url(self, name: str) -> str:
        """Return the URL of an object of this release."""
        return f"s3://{SHARING}/public/{self.version}/objects/{name}"

    def put(self, name: str, data: bytes) -> str:
        """Publish one object and return its URL."""
        self.server.put(SHARING, f"public/{self.version}/objects/{name}", data)
        return self.url(name)

    def dataset(self, dataset: str, files: Mapping[str, bytes]) -> bytes:
        """Publish a dataset of files under their own names and return its manifest."""
        self.server.put_many(
            SHARING,
            [(f"public/{self.version}/objects/{dataset}/{n}", d) for n, d in files.items()],
        )
        rows = [f"{n.partition('.')[0]},file,{self.url(f'{dataset}/{n}')}" for n in files]
        return self.manifest(dataset, "\n".join(["video_uid,type,s3_path", *rows, ""]))

    def metadata(self, content: bytes) -> None:
        """Publish ego4d.json."""
        self.server.put(SHARING, f"public/{self.version}/ego4d.json", content)


@pytest.fixture
def release(server: RunServer) -> Iterator[Release]:
    made = Release(server, new_version())
    yield made
    server.end_release(made.version)


def environment(server: S3Server, home: Path, transport: str, **more: str) -> dict[str, str]:
    """Return the environment of a licensee with an empty home and a cache of its own."""
    home.mkdir(exist_ok=True)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(CLEANED)}
    return {
        **plain,
        **server.environment(server.licensee),
        "EGO4DFS_HEDGE": "off",  # tests count requests, and a busy machine delays some of them
        "HOME": str(home),
        "EGO4DFS_CACHE_DIR": str(home / "cache"),
        "EGO4DFS_CACHE_SIZE": "256MiB",
        "EGO4DFS_TRANSPORT": transport,
        **more,
    }


@pytest.fixture
def licensee(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> dict[str, str]:
    """Run as the licensee, with an empty home and cache; returns the environment."""
    ours = environment(server, tmp_path / "home", transport, EGO4DFS_CACHE_DIR=f"{tmp_path}/cache")
    for name in set(os.environ) - set(ours):
        monkeypatch.delenv(name)
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def open_fs(licensee: Mapping[str, str]) -> Iterator[Callable[..., Ego4DFileSystem]]:
    """Open filesystems from options; they are closed when the test ends."""
    del licensee
    with ExitStack() as stack:

        def open_one(**options: object) -> Ego4DFileSystem:
            fs = fsspec.filesystem("ego4d", **options, skip_instance_cache=True)
            stack.callback(fs.close)
            return fs

        yield open_one


@pytest.fixture
def open_tree(licensee: Mapping[str, str]) -> Iterator[Callable[..., VFS]]:
    """Open VFSs from options; they are closed when the test ends."""
    del licensee
    with ExitStack() as stack:

        def open_one(**options: object) -> VFS:
            vfs = open_vfs(resolve(options))
            stack.callback(vfs.close)
            return vfs

        yield open_one


@dataclass(frozen=True)
class Sampled:
    """The demo's sample, on a server of its own."""

    server: S3Server
    sample: Sample

    def content(self, version: str, dataset: str, name: str) -> bytes:
        """Return the bytes of one file as they are on the server."""
        [file] = [f for f in self.sample.files[version, dataset] if f.name == name]
        return bytes(obstore.get(self.server.store(file.bucket), file.key).bytes())


def shared_media() -> Path:
    """Return the directory of the sample's videos, which all runs share: they take 20 s to make.

    The name of each file depends on how it is made, so a file of an earlier run is used only if
    it is the right one.
    """
    directory = Path(__file__).parents[2] / ".pytest_cache" / "media"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_media(directory)
    return directory


@pytest.fixture(scope="session")
def sampled(tmp_path_factory) -> Iterator[Sampled]:
    with S3Server(tmp_path_factory.mktemp("sampled") / "s3") as running:
        yield Sampled(running, build(running, shared_media()))
