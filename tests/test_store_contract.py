"""The contract of every kind of store, run on obstore, s3fs, a directory and memory://."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest

from ego4dfs.errors import ObjectMissing, StoreError
from ego4dfs.store import ObjectStore
from ego4dfs.testing import MemoryStore, StoreContract, StoreUnderTest
from ego4dfs.testing.store_contract import DATA, INVALID_URLS
from kit.gateway import Gateway

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

pytestmark = pytest.mark.first_pass

# Nothing but S3 can hold these: a directory has no empty name.
ODD_KEYS = ["a//b", "/after a slash", "tab\tin", "trailing/"]


@pytest.fixture(params=["obstore", "s3fs", "directory", "memory"])
def under_test(request: pytest.FixtureRequest) -> StoreUnderTest:
    if request.param in {"obstore", "s3fs"}:
        return _on_s3(request, request.param)
    return _on_mirror(request, request.param)


@pytest.fixture(params=["obstore", "s3fs"])
def s3(request: pytest.FixtureRequest) -> StoreUnderTest:
    return _on_s3(request, request.param)


@pytest.fixture(params=["directory", "memory"])
def mirror(request: pytest.FixtureRequest) -> StoreUnderTest:
    return _on_mirror(request, request.param)


def _on_s3(request: pytest.FixtureRequest, transport: str) -> StoreUnderTest:
    where: Bucket = request.getfixturevalue("bucket")
    request.getfixturevalue("licensed")
    opened = request.getfixturevalue("opened")
    store = opened(endpoint_url=where.server.endpoint_url, transport=transport)
    return StoreUnderTest(store, where.put, where.url)


def _on_mirror(request: pytest.FixtureRequest, kind: str) -> StoreUnderTest:
    request.getfixturevalue("aws")
    opened = request.getfixturevalue("opened")
    tmp_path: Path = request.getfixturevalue("tmp_path")
    source = tmp_path.as_uri() if kind == "directory" else f"memory://mirror-{uuid.uuid4().hex}"

    filesystem, root = fsspec.url_to_fs(source)

    def put(key: str, data: bytes) -> str:
        """Replace an object as a mirroring tool does: the complete file at once."""
        new = f"{root}/new"
        filesystem.makedirs(f"{root}/cmu/{key}".rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(new, data)
        filesystem.mv(new, f"{root}/cmu/{key}")
        return f"s3://cmu/{key}"

    return StoreUnderTest(opened(source=source), put, lambda key: f"s3://cmu/{key}")


class TestStore(StoreContract):
    pass


class TestMemoryStore(StoreContract):
    """The store that is shipped for tests of others."""

    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        store = MemoryStore()

        def put(key: str, data: bytes) -> str:
            store.put(f"s3://memory/{key}", data)
            return f"s3://memory/{key}"

        return StoreUnderTest(store, put, "s3://memory/{}".format)


def test_a_range_that_starts_at_the_end_is_named_as_the_reason(under_test: StoreUnderTest) -> None:
    for data in (b"", DATA):
        url = under_test.put("a.bin", data)
        with pytest.raises(StoreError, match="at or past the object's end"):
            under_test.store.read_range(url, len(data), len(data) + 1)


@pytest.mark.parametrize("url", INVALID_URLS)
def test_an_invalid_url_is_named_as_the_reason(under_test: StoreUnderTest, url: str) -> None:
    with pytest.raises(StoreError, match="not an s3://bucket/key URL"):
        under_test.store.head(url)


def test_read_refuses_an_object_that_would_fill_the_memory(
    under_test: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = under_test.put("a.bin", DATA)
    for module in ("protocol", "s3fs_s3"):
        monkeypatch.setattr(f"ego4dfs.store.{module}.MAX_WHOLE_BYTES", len(DATA) - 1)
    with pytest.raises(StoreError, match="at most"):
        under_test.store.read(url)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_s3_keys_that_obstore_cannot_express_are_read(s3: StoreUnderTest, key: str) -> None:
    data = b"" if key.endswith("/") else key.encode()  # SeaweedFS keeps no bytes under a "…/"
    url = s3.put(key, data)
    assert s3.store.head(url).size == len(data)
    assert bytes(s3.store.read(url).data) == data


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_a_leading_slash_is_part_of_the_key(
    gateway: Gateway, licensed: Aws, opened: Callable[..., ObjectStore], transport: str
) -> None:
    """By default obstore strips it and requests another object, and so does SeaweedFS."""
    store = opened(endpoint_url=gateway.url, transport=transport)
    with pytest.raises(ObjectMissing):
        store.head("s3://cmu//key")
    assert {path for _, path, _ in gateway.log} == {"/cmu//key"}


@pytest.mark.parametrize("key", ["a/../b", "../../etc/passwd", "./a", "a//b"])
def test_no_key_leads_out_of_a_mirror(mirror: StoreUnderTest, key: str) -> None:
    with pytest.raises(ObjectMissing, match="no mirror can hold"):
        mirror.store.head(f"s3://cmu/{key}")


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_a_versioned_bucket_reports_version_ids(
    versioned: Bucket, licensed: Aws, opened: Callable[..., ObjectStore], transport: str
) -> None:
    store = opened(endpoint_url=versioned.server.endpoint_url, transport=transport)
    first = store.head(versioned.put("a", b"one")).version_id
    second = store.read_range(versioned.put("a", b"two"), 0, 1).facts.version_id
    assert first
    assert second
    assert first != second


def test_an_unversioned_bucket_reports_no_version_ids(s3: StoreUnderTest) -> None:
    assert s3.store.head(s3.put("a", b"one")).version_id == ""


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_the_etag_of_a_multipart_upload_can_be_pinned(
    bucket: Bucket, licensed: Aws, opened: Callable[..., ObjectStore], transport: str
) -> None:
    data = bytes(range(256)) * (12 << 12)
    bucket.server.put(bucket.name, f"{bucket.prefix}parts", data)
    store = opened(endpoint_url=bucket.server.endpoint_url, transport=transport)
    etag = store.head(bucket.url("parts")).etag
    assert "-" in etag
    fetched = store.read_range(bucket.url("parts"), 5_242_870, 5_242_890, etag=etag)
    assert bytes(fetched.data) == data[5_242_870:5_242_890]


def test_a_pipe_in_a_mirror_does_not_block(
    aws: Aws, tmp_path: Path, opened: Callable[..., ObjectStore]
) -> None:
    (tmp_path / "cmu").mkdir()
    os.mkfifo(tmp_path / "cmu" / "pipe")
    with pytest.raises(ObjectMissing, match="not a file"):
        opened(source=str(tmp_path)).read("s3://cmu/pipe")


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
