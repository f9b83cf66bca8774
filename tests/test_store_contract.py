"""The contract of every kind of store, run on obstore, s3fs, a directory and memory://."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest

from ego4dfs.errors import ObjectChanged, ObjectMissing, StoreError
from ego4dfs.store import ObjectStore
from kit.gateway import Gateway

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

pytestmark = pytest.mark.first_pass

DATA = bytes(range(256)) * 40
KEYS = [
    "space in/a name.mp4",
    "plus+and+plus",
    "hash#tag",
    "percent%20and%2Fand%",
    "tilde~star*",
    "question?and&amp=;,",
    "quote'and\"and`",
    "bräcket[naïve]日本.csv",
    "deep/" + "d/" * 40 + "x",
    "colon:at@back\\slash",
]
LONG = bytes(range(256)) * 3000 + b"end"
# Nothing but S3 can hold these: a directory has no empty name.
ODD_KEYS = ["a//b", "/after a slash", "tab\tin", "trailing/"]


@dataclass
class Place:
    """A store, and a way to put an object where the store reads it."""

    store: ObjectStore
    put: Callable[[str, bytes], str]
    url: Callable[[str], str]


@pytest.fixture(params=["obstore", "s3fs", "directory", "memory"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param in {"obstore", "s3fs"}:
        return _on_s3(request, request.param)
    return _on_mirror(request, request.param)


@pytest.fixture(params=["obstore", "s3fs"])
def s3(request: pytest.FixtureRequest) -> Place:
    return _on_s3(request, request.param)


@pytest.fixture(params=["directory", "memory"])
def mirror(request: pytest.FixtureRequest) -> Place:
    return _on_mirror(request, request.param)


def _on_s3(request: pytest.FixtureRequest, transport: str) -> Place:
    where: Bucket = request.getfixturevalue("bucket")
    request.getfixturevalue("licensed")
    opened = request.getfixturevalue("opened")
    store = opened(endpoint_url=where.server.endpoint_url, transport=transport)
    return Place(store, where.put, where.url)


def _on_mirror(request: pytest.FixtureRequest, kind: str) -> Place:
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

    return Place(opened(source=source), put, lambda key: f"s3://cmu/{key}")


def test_head_reports_size_etag_and_time(place: Place) -> None:
    before_s = int(time.time()) - 1
    facts = place.store.head(place.put("a.bin", DATA))
    assert facts.size == len(DATA)
    assert facts.etag
    assert '"' not in facts.etag
    assert before_s <= facts.mtime_ns / 1e9 <= time.time() + 2


def test_head_and_get_report_the_same_facts(place: Place) -> None:
    url = place.put("a.bin", DATA)
    assert place.store.head(url) == place.store.read_range(url, 7, 9).facts


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, len(DATA)), (100, 200), (len(DATA) - 1, len(DATA)), (255, 257)],
)
def test_a_range_has_exactly_the_requested_bytes(place: Place, start: int, stop: int) -> None:
    fetched = place.store.read_range(place.put("a.bin", DATA), start, stop)
    assert (bytes(fetched.data), fetched.start) == (DATA[start:stop], start)


@pytest.mark.parametrize("start", [0, 5, len(DATA) - 1])
def test_a_range_past_the_end_is_truncated(place: Place, start: int) -> None:
    fetched = place.store.read_range(place.put("a.bin", DATA), start, 10 * len(DATA))
    assert bytes(fetched.data) == DATA[start:]


@pytest.mark.parametrize("start", [len(DATA), len(DATA) + 1])
def test_a_range_that_starts_at_the_end_is_refused(place: Place, start: int) -> None:
    url = place.put("a.bin", DATA)
    with pytest.raises(StoreError, match="at or past the object's end") as caught:
        place.store.read_range(url, start, start + 1)
    assert type(caught.value) is StoreError


def test_an_empty_object_has_facts_and_can_be_read_whole(place: Place) -> None:
    url = place.put("empty", b"")
    assert place.store.head(url).size == 0
    assert bytes(place.store.read(url).data) == b""


def test_an_empty_object_has_no_range(place: Place) -> None:
    url = place.put("empty", b"")
    with pytest.raises(StoreError, match="at or past the object's end"):
        place.store.read_range(url, 0, 1)


def test_a_pinned_range_is_of_the_pinned_version(place: Place) -> None:
    url = place.put("a.bin", DATA)
    etag = place.store.head(url).etag
    assert bytes(place.store.read_range(url, 3, 9, etag=etag).data) == DATA[3:9]


def test_a_pinned_read_of_a_replaced_object_is_an_error(place: Place) -> None:
    """An object replaced by one of the same size is noticed, and no byte of it returned."""
    url = place.put("a.bin", DATA)
    etag = place.store.head(url).etag
    place.put("a.bin", DATA[::-1])
    with pytest.raises(ObjectChanged):
        place.store.read_range(url, 0, 10, etag=etag)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, len(LONG)), (1, 600_000), (len(LONG) - 1, len(LONG))]
)
def test_a_streamed_range_arrives_whole_and_in_order(place: Place, start: int, stop: int) -> None:
    url = place.put("long.bin", LONG)
    got = bytearray()

    def sink(offset: int, data: memoryview) -> None:
        assert offset == start + len(got)
        got.extend(data)

    etag = place.store.head(url).etag
    place.store.stream_range(url, start, stop, sink, etag=etag)
    assert got == LONG[start:stop]


def test_a_stream_of_a_replaced_object_is_an_error(place: Place) -> None:
    url = place.put("a.bin", DATA)
    etag = place.store.head(url).etag
    place.put("a.bin", DATA[::-1])
    with pytest.raises(ObjectChanged):
        place.store.stream_range(url, 0, 10, lambda *_: pytest.fail("got bytes"), etag=etag)


def test_an_error_of_a_sink_does_not_count_as_an_answer(place: Place) -> None:
    url = place.put("a.bin", DATA)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(OSError, match="no space left"):
        place.store.stream_range(url, 0, 10, full, etag=place.store.head(url).etag)


def test_a_replaced_object_has_another_etag(place: Place) -> None:
    first = place.store.head(place.put("a.bin", DATA))
    second = place.store.head(place.put("a.bin", DATA[::-1]))
    assert first.etag != second.etag


def test_a_missing_object_is_reported_as_missing(place: Place) -> None:
    url = place.url("not/there")
    for where in (url, "s3://no-such-bucket-here/key"):
        for ask in (place.store.head, place.store.read, lambda u: place.store.read_range(u, 0, 1)):
            with pytest.raises(ObjectMissing) as caught:
                ask(where)
            assert caught.value.url == where


def test_a_prefix_is_not_an_object(place: Place) -> None:
    place.put("directory/a.bin", DATA)
    with pytest.raises(ObjectMissing):
        place.store.head(place.url("directory"))


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_used_verbatim(place: Place, key: str) -> None:
    url = place.put(key, key.encode())
    assert place.store.head(url).size == len(key.encode())
    assert bytes(place.store.read_range(url, 0, 1000).data) == key.encode()
    assert bytes(place.store.read(url).data) == key.encode()


def test_a_key_with_an_escape_is_not_the_key_without(place: Place) -> None:
    place.put("a b", b"plain")
    with pytest.raises(ObjectMissing):
        place.store.head(place.url("a%20b"))


def test_read_returns_the_whole_object(place: Place) -> None:
    fetched = place.store.read(place.put("a.bin", DATA))
    assert (bytes(fetched.data), fetched.start, fetched.facts.size) == (DATA, 0, len(DATA))


def test_read_refuses_an_object_that_would_fill_the_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place.put("a.bin", DATA)
    for module in ("protocol", "s3fs_s3"):
        monkeypatch.setattr(f"ego4dfs.store.{module}.MAX_WHOLE_BYTES", len(DATA) - 1)
    with pytest.raises(StoreError, match="at most"):
        place.store.read(url)


def test_read_returns_none_while_the_etag_is_the_same(place: Place) -> None:
    url = place.put("a.bin", DATA)
    etag = place.store.read(url).facts.etag
    assert place.store.read(url, unless_etag=etag) is None


def test_read_returns_the_object_after_it_was_replaced(place: Place) -> None:
    url = place.put("a.bin", DATA)
    etag = place.store.read(url).facts.etag
    place.put("a.bin", b"new")
    assert bytes(place.store.read(url, unless_etag=etag).data) == b"new"


@pytest.mark.parametrize(
    "url",
    [
        *["", "s3://", "s3://bucket", "s3://bucket/", "http://a/b", "a/b", "s3:///key"],
        *["s3://a b/k", "s3://x@evil/k", "s3://a#/k", "s3://a?/k", "s3://../k", "s3://a..b/k"],
        *["s3://a\nb/k", "s3://[::1]/k", "s3://bücket/k", "s3://a%2F/k", "s3://a:80/k"],
    ],
)
def test_an_invalid_object_url_is_refused(place: Place, url: str) -> None:
    with pytest.raises(StoreError, match="not an s3://bucket/key URL"):
        place.store.head(url)


def test_source_does_not_change(place: Place) -> None:
    before = place.store.source
    place.store.head(place.put("a.bin", DATA))
    assert place.store.source == before != ""


@pytest.mark.parametrize("key", ODD_KEYS)
def test_s3_keys_that_obstore_cannot_express_are_read(s3: Place, key: str) -> None:
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
def test_no_key_leads_out_of_a_mirror(mirror: Place, key: str) -> None:
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


def test_an_unversioned_bucket_reports_no_version_ids(s3: Place) -> None:
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
