"""Fixtures for store tests: buckets, a gateway, stores, and an empty AWS home directory."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from ego4dfs.demo.server import S3Server
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectStore, bucket_limits, open_store, retry
from kit.gateway import Gateway


@dataclass
class Aws:
    """An AWS home of the test's own: no variables, no files, no instance metadata."""

    home: Path
    monkeypatch: pytest.MonkeyPatch = field(repr=False)

    def credentials(self, text: str) -> None:
        self._write("credentials", text)

    def config(self, text: str) -> None:
        self._write("config", text)

    def keys(self, access_key: str, secret_key: str, *, profile: str = "default") -> None:
        self.credentials(
            f"[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        )

    def variables(self, **values: str) -> None:
        for name, value in values.items():
            self.monkeypatch.setenv(name, value)

    def _write(self, name: str, text: str) -> None:
        """Replace a file atomically, as `aws configure` does."""
        path = self.home / ".aws" / name
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(f".{uuid.uuid4().hex}")
        new.write_text(text)
        new.rename(path)


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aws:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "aws-home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Aws(home, monkeypatch)


@pytest.fixture
def gateway(server: S3Server) -> Iterator[Gateway]:
    with Gateway(server.endpoint_url) as running:
        yield running


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def opened(metrics: Metrics) -> Iterator[Callable[..., ObjectStore]]:
    """Open stores that count in `metrics` and are closed when the test ends."""
    with ExitStack() as stack:

        def open_one(**settings: object) -> ObjectStore:
            store = open_store(**{"metrics": metrics, **settings})
            stack.callback(store.close)
            return store

        yield open_one


@pytest.fixture
def no_retry_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry as often as usual, but without the waits in between."""
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.0)
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 0.0)


@dataclass(frozen=True)
class Bucket:
    """One bucket on the real server, and the key prefix that is this test's own."""

    server: S3Server
    name: str
    prefix: str

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{self.prefix}{key}"

    def put(self, key: str, data: bytes) -> str:
        """Write one object with botocore, which can name every key; return its URL."""
        s3_client(self.server).put_object(Bucket=self.name, Key=self.prefix + key, Body=data)
        return self.url(key)


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    server.create_bucket("store-plain")
    return Bucket(server, "store-plain", f"{uuid.uuid4().hex}/")


@pytest.fixture
def url(request: pytest.FixtureRequest, bucket: Bucket) -> str:
    """The URL of an object with the bytes of the test module's DATA."""
    return bucket.put("a.bin", request.module.DATA)


@pytest.fixture
def versioned(server: S3Server) -> Bucket:
    server.create_bucket("store-versioned", versioned=True)
    return Bucket(server, "store-versioned", f"{uuid.uuid4().hex}/")


@pytest.fixture
def licensed(aws: Aws, server: S3Server) -> Aws:
    """The licensee's key in ~/.aws/credentials."""
    aws.keys(server.licensee.access_key, server.licensee.secret_key)
    return aws


@functools.cache
def s3_client(server: S3Server) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.admin.access_key,
        aws_secret_access_key=server.admin.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture(params=["obstore", "s3fs"])
def store(
    request: pytest.FixtureRequest,
    gateway: Gateway,
    licensed: Aws,
    opened: Callable[..., ObjectStore],
) -> ObjectStore:
    """Open the store behind the gateway, once through each transport."""
    return opened(endpoint_url=gateway.url, transport=request.param)
