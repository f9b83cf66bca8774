"""The release of TreeContract on the S3 server, behind a gateway that refuses missing objects."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ego4dfs.store import split_s3_url
from ego4dfs.testing import ContractRelease
from kit.gateway import Gateway
from kit.server import SHARING, new_version


@dataclass(frozen=True)
class Published(ContractRelease):
    """The release, and the gateway in front of it."""

    endpoint_url: str = ""


@pytest.fixture(scope="session")
def contract_release(server) -> Iterator[Published]:
    with Gateway(server.endpoint_url) as gateway:
        gateway.faults.hide_missing = True
        release = Published(new_version(), errno.EACCES, endpoint_url=gateway.url)
        objects = release.objects().items()
        server.put_many(SHARING, [(split_s3_url(url)[1], data) for url, data in objects])
        yield release
