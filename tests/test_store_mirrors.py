"""Behaviour that only mirrors have: a directory, or any URL that fsspec opens."""

from __future__ import annotations

import datetime as dt
import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from ego4dfs.demo.server import S3Server
from ego4dfs.errors import (
    AccessDenied,
    ConfigError,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.store import MAX_TIME_NS, ObjectStore, fsspec_mirror, local_mirror
from ego4dfs.store.fsspec_mirror import FsspecMirror

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

pytestmark = pytest.mark.usefixtures("no_retry_waits")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The mirror's file of s3://cmu/a.bin."""
    path = tmp_path / "cmu" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def mirror(file: Path, opened: Callable[..., ObjectStore]) -> ObjectStore:
    return opened(source=str(file.parent.parent))


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}", "{}/"])
def test_a_directory_has_one_name_in_all_spellings(
    file: Path, opened: Callable[..., ObjectStore], form: str
) -> None:
    """Blocks are cached under that name."""
    root = file.parent.parent
    store = opened(source=form.format(root))
    assert (store.source, store.head("s3://cmu/a.bin").size) == (root.as_uri(), 10)


def test_the_tilde_of_a_source_is_expanded(
    file: Path, opened: Callable[..., ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(file.parent.parent))
    assert opened(source="~").head("s3://cmu/a.bin").size == 10


def test_a_time_that_sqlite_cannot_store_is_reduced(
    mirror: ObjectStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = os.stat_result([*file.stat()[:10]], {"st_mtime_ns": 1 << 70})
    monkeypatch.setattr(os, "fstat", lambda _descriptor: future)
    assert mirror.head("s3://cmu/a.bin").mtime_ns == MAX_TIME_NS


def test_a_file_changed_in_place_has_another_etag(mirror: ObjectStore, file: Path) -> None:
    before = mirror.head("s3://cmu/a.bin")
    with file.open("r+b") as changed:
        changed.write(b"X")
    os.utime(file, ns=(before.mtime_ns + 1, before.mtime_ns + 1))
    assert mirror.head("s3://cmu/a.bin").etag != before.etag


def test_a_file_that_changes_during_a_read_is_an_error(
    mirror: ObjectStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halves of the old and the new file are never combined."""
    read = os.preadv

    def read_while_written(*arguments: object) -> int:
        count = read(*arguments)
        file.write_bytes(b"another")
        return count

    monkeypatch.setattr(local_mirror.os, "preadv", read_while_written)
    with pytest.raises(ObjectChanged):
        mirror.read_range("s3://cmu/a.bin", 0, 10)


def test_a_file_replaced_during_a_read_is_read_to_its_end(
    mirror: ObjectStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor stays with the file that was opened."""
    read = os.preadv

    def read_while_replaced(*arguments: object) -> int:
        file.unlink(missing_ok=True)
        file.write_bytes(b"another")
        return read(*arguments)

    monkeypatch.setattr(local_mirror.os, "preadv", read_while_replaced)
    assert bytes(mirror.read("s3://cmu/a.bin").data) == b"0123456789"


def test_an_error_of_a_disk_is_temporary(
    mirror: ObjectStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError(5, "Input/output error")])
    read = os.preadv

    def fail_once(*arguments: object) -> int:
        for failure in failures:
            raise failure
        return read(*arguments)

    monkeypatch.setattr(local_mirror.os, "preadv", fail_once)
    assert bytes(mirror.read("s3://cmu/a.bin").data) == b"0123456789"


def test_a_file_that_may_not_be_read_is_refused(mirror: ObjectStore, file: Path) -> None:
    """Root can read everything, so the test runs as nobody."""
    file.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(AccessDenied):
            mirror.head("s3://cmu/a.bin")
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("key", ["a.bin/below", "x" * 300, "nul\0"])
def test_an_impossible_file_name_is_missing(mirror: ObjectStore, file: Path, key: str) -> None:
    with pytest.raises(ObjectMissing):
        mirror.head(f"s3://cmu/{key}")


def test_a_mirror_on_s3_keeps_s3_s_etag(
    aws: Aws, server: S3Server, bucket: Bucket, opened: Callable[..., ObjectStore]
) -> None:
    aws.variables(**server.environment(server.admin))
    bucket.put("cmu/a.bin", b"0123456789")
    store = opened(source=bucket.url("").rstrip("/"))
    direct = opened().head(bucket.url("cmu/a.bin"))
    assert store.head("s3://cmu/a.bin").etag == direct.etag
    assert bytes(store.read_range("s3://cmu/a.bin", 2, 4, etag=direct.etag).data) == b"23"


def test_an_object_that_changes_during_a_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """No fsspec filesystem can pin a version: the facts are requested again after the bytes."""
    memory = fsspec.filesystem("memory")
    request.addfinalizer(memory.store.clear)
    memory.pipe_file("/changing/cmu/a.bin", b"0123456789")
    store = FsspecMirror("memory://changing")
    call = FsspecMirror._call

    def call_and_replace(
        self: FsspecMirror, url: str, function: object, path: str, **span: int
    ) -> Any:
        answer = call(self, url, function, path, **span)
        if span:
            memory.pipe_file("/changing/cmu/a.bin", b"9876543210")
        return answer

    monkeypatch.setattr(FsspecMirror, "_call", call_and_replace)
    with pytest.raises(ObjectChanged):
        store.read_range("s3://cmu/a.bin", 0, 4)


def test_an_error_of_the_filesystem_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def info(self, path: str) -> object:
            raise ConnectionError(f"secret {path}")

    monkeypatch.setattr(fsspec_mirror, "_filesystem", lambda source, *_: (Failing(), source))
    with pytest.raises(StoreUnavailable, match="ConnectionError") as caught:
        FsspecMirror("ftp://host").head("s3://cmu/a.bin")
    assert "secret" not in str(caught.value)


def test_a_filesystem_without_sizes_is_an_error() -> None:
    with pytest.raises(StoreError, match="size"):
        fsspec_mirror._facts({"type": "file"}, "s3://cmu/a.bin")


@pytest.mark.parametrize(
    "time",
    [
        1_700_000_000.0,
        1_700_000_000,
        "Tue, 14 Nov 2023 22:13:20 GMT",
        dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.timezone.utc),
        dt.datetime(2023, 11, 14, 22, 13, 20),  # noqa: DTZ001 - some filesystems have such
    ],
)
def test_the_time_format_of_each_filesystem_is_read(time: object) -> None:
    facts = fsspec_mirror._facts({"size": 1, "mtime": time}, "s3://cmu/a.bin")
    assert facts.mtime_ns == 1_700_000_000_000_000_000


@pytest.fixture
def web(file: Path) -> Iterator[str]:
    """The mirror on a web server that sends Last-Modified and no ETag."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Handler, directory=str(file.parent.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_object_replaced_on_a_web_server_without_etags_has_another_tag(
    web: str, file: Path, opened: Callable[..., ObjectStore]
) -> None:
    """Its size is the same; only Last-Modified differs."""
    os.utime(file, (1_600_000_000, 1_600_000_000))
    store = opened(source=web)
    before = store.head("s3://cmu/a.bin")
    file.write_bytes(b"9876543210")
    after = store.head("s3://cmu/a.bin")
    assert (before.mtime_ns, before.is_lasting) == (1_600_000_000 * 10**9, True)
    assert after.etag != before.etag


SILENT = "from ego4dfs.store.fsspec_mirror import _facts; print(_facts({'size': 10}, 'u').etag)"


def test_without_etag_and_time_a_tag_ends_with_the_process() -> None:
    """A replaced object may have the same size, and the old cache would be used."""
    facts = fsspec_mirror._facts({"size": 10}, "s3://cmu/a.bin")
    again = fsspec_mirror._facts({"size": 10}, "s3://cmu/a.bin")
    other = subprocess.run(
        [sys.executable, "-c", SILENT], capture_output=True, text=True, check=True, timeout=60
    )
    assert facts == again
    assert not facts.is_lasting
    assert other.stdout.strip() != facts.etag


@pytest.mark.parametrize("password", ["secret", "sec@ret", ""])
def test_the_name_of_a_source_contains_no_password(
    opened: Callable[..., ObjectStore], password: str
) -> None:
    store = opened(source=f"ftp://user:{password}@host/mirror")
    assert store.source == "ftp://host/mirror"
    assert opened(endpoint_url=f"http://user:{password}@host").source == "http://host"


def test_a_mirror_without_a_connection_is_temporarily_unavailable(
    opened: Callable[..., ObjectStore],
) -> None:
    """FTP connects while its filesystem is made."""
    store = opened(source="ftp://user:hunter2@127.0.0.1:9/x")
    with pytest.raises(StoreUnavailable, match="connection refused") as caught:
        store.head("s3://cmu/a.bin")
    assert "hunter2" not in f"{caught.value!r} {caught.value.hint}"


def test_a_filesystem_that_cannot_be_created_is_a_configuration_error(
    opened: Callable[..., ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EOFError("530 hunter2 is not the password")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
    with pytest.raises(
        ConfigError, match=r"'ftp://host/x': cannot be opened \(EOFError\)"
    ) as caught:
        opened(source="ftp://user:hunter2@host/x").head("s3://cmu/a.bin")
    assert "hunter2" not in str(caught.value)
