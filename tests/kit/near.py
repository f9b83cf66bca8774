"""A near tier for tests: a second S3 server behind a gateway of its own, and nodes that use it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import obstore
import pytest

from ego4dfs.config import resolve
from ego4dfs.demo.server import S3Server
from ego4dfs.near import NearLimits, NearStore, limits
from ego4dfs.vfs import VFS, open_vfs
from kit.gateway import Gateway

BUCKET = "near"
PROFILE = "lab"
PATIENT = NearLimits(request_s=30, slow_s=30, lease_s=60, flush_s=30)
"""Limits for tests that count requests on a machine that may be busy."""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def near_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("near")) as running:
        running.create_bucket(BUCKET)
        yield running


@dataclass
class Near:
    """The near tier of one test: a prefix of its own, and the gateways of both stores."""

    server: S3Server
    gateway: Gateway
    far: Gateway
    directory: Path
    prefix: str
    stack: ExitStack = field(repr=False)

    @property
    def options(self) -> dict[str, object]:
        """The options of a node that reads and fills it."""
        return {
            "endpoint_url": self.far.url,
            "near": f"s3://{BUCKET}/{self.prefix}",
            "near_endpoint": self.gateway.url,
            "near_profile": PROFILE,
            "fill_near": True,
        }

    def node(self, name: str, **options: object) -> VFS:
        """Open a tree with a cache of its own; it is closed when the test ends."""
        cache = self.directory / f"cache-{name}"
        vfs = open_vfs(resolve({**self.options, "cache_dir": str(cache), **options}))
        self.stack.callback(vfs.close)
        return vfs

    def keys(self, kind: str) -> list[str]:
        """Return the keys of one kind, such as chunks; or of all."""
        prefix = f"{self.prefix}/{f'ego4dfs-1/{kind}/' if kind else ''}"
        pages = obstore.list(self.server.store(BUCKET), prefix=prefix)
        return [meta["path"] for page in pages for meta in page]

    def content(self, key: str) -> bytes:
        """Return the bytes of one object."""
        return bytes(obstore.get(self.server.store(BUCKET), key).bytes())

    def remove(self, kind: str) -> None:
        """Remove all objects of one kind."""
        obstore.delete(self.server.store(BUCKET), self.keys(kind))

    def put(self, key: str, data: bytes) -> None:
        """Replace one object."""
        self.server.put(BUCKET, key, data)


def near_store(vfs: VFS) -> NearStore:
    """Return the store of a tree that has a near tier."""
    assert isinstance(vfs.session.store, NearStore)
    return vfs.session.store


def written(vfs: VFS) -> None:
    """Wait until all is written to the near tier."""
    assert near_store(vfs).flush(60)


def read(vfs: VFS, path: str) -> bytes:
    """Return the content of a file."""
    handle, data = vfs.open(path), b""
    while piece := vfs.read(handle, len(data), 1 << 20):
        data += piece
    return data


@pytest.fixture
def near(
    server: S3Server,
    near_server: S3Server,
    licensee: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Near]:
    """A near tier that is empty, and nodes whose requests have all the time that they need."""
    monkeypatch.setattr(limits, "DEFAULT", PATIENT)
    keys = near_server.admin
    credentials = Path(licensee["HOME"]) / ".aws" / "credentials"
    credentials.parent.mkdir()
    credentials.write_text(
        f"[{PROFILE}]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n"
    )
    with (
        Gateway(server.endpoint_url) as far,
        Gateway(near_server.endpoint_url) as gateway,
        ExitStack() as stack,
    ):
        yield Near(near_server, gateway, far, tmp_path, f"lab-{next(_numbers)}/a", stack)
