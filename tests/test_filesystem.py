"""The fsspec face: the contract of the tree, and what fsspec's users call."""

from __future__ import annotations

import fsspec
import pytest

from ego4dfs.testing import DATASETS, FsspecFace, TreeContract
from kit.contract import Published


@pytest.fixture
def face(licensee, contract_release: Published):
    fs = fsspec.filesystem(
        "ego4d",
        version=contract_release.version,
        datasets=list(DATASETS),
        endpoint_url=contract_release.endpoint_url,
        skip_instance_cache=True,
    )
    yield FsspecFace(fs)
    fs.close()


class TestFilesystem(TreeContract):
    pass
