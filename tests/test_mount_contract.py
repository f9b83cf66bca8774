"""The kernel's mount keeps the contract of the tree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ego4dfs.testing import DATASETS, DirectoryFace, TreeContract
from kit.contract import Published
from kit.mounts import Mounts
from kit.server import environment

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def face(
    server, contract_release: Published, tmp_path_factory, libfuse, transport
) -> Iterator[DirectoryFace]:
    """One mount for all tests of the contract: they only read."""
    own = tmp_path_factory.mktemp("contract")
    endpoint = {"AWS_ENDPOINT_URL": contract_release.endpoint_url}
    env = environment(server, own / "home", transport, **endpoint)
    mounts = Mounts(own, libfuse)
    try:
        arguments = ("--version", contract_release.version, "--datasets", *DATASETS)
        yield DirectoryFace(mounts(*arguments, env=env))
    finally:
        mounts.clear()


class TestMount(TreeContract):
    pass
