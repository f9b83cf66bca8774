"""The kernel's mount keeps the contract of the tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.contract import DATASETS, PathStatus, Published, TreeContract
from kit.mounts import Mounts
from kit.server import environment

pytestmark = pytest.mark.fuse


class Kernel:
    """System calls on the files of a mount, without Python's buffers."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def stat(self, path: str) -> PathStatus:
        found = (self._root / path).stat()
        return PathStatus((self._root / path).is_dir(), found.st_size, found.st_mtime_ns)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(self._root / path)

    def read(self, path: str, offset: int, size: int) -> bytes:
        fd = os.open(self._root / path, os.O_RDONLY)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def write(self, path: str) -> None:
        os.close(os.open(self._root / path, os.O_WRONLY | os.O_CREAT, 0o600))


@pytest.fixture(scope="module")
def face(server, published: Published, tmp_path_factory, libfuse, transport) -> Iterator[Kernel]:
    """One mount for all tests of the contract: they only read."""
    own = tmp_path_factory.mktemp("contract")
    endpoint = {"AWS_ENDPOINT_URL": published.endpoint_url}
    env = environment(server, own / "home", transport, **endpoint)
    mounts = Mounts(own, libfuse)
    try:
        arguments = ("--version", published.version, "--datasets", *DATASETS)
        yield Kernel(mounts(*arguments, env=env))
    finally:
        mounts.clear()


class TestMount(TreeContract):
    pass
