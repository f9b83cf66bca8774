"""A mirror of the buckets in a directory: `<root>/<bucket>/<key>`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ego4dfs.errors import AccessDenied, ObjectChanged, ObjectMissing, StoreError, StoreUnavailable
from ego4dfs.store.classify import past_end, truncated
from ego4dfs.store.protocol import (
    MAX_TIME_NS,
    Fetched,
    ObjectFacts,
    Sink,
    check_whole,
    place_of,
    stream_by_ranges,
)
from ego4dfs.store.response_checks import check_version
from ego4dfs.store.s3_url import mirror_path

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
_READ_BYTES = 1 << 30  # Linux moves at most 2 GiB - 4 KiB at once


class LocalMirror:
    """Objects that are files below `root`.

    The ETag of a file is made of its inode, time and size, so a replaced file has another one.
    Every read checks it before and after, on one descriptor. Safe from several threads.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def source(self) -> str:
        """The directory, as a URL."""
        return self._root.as_uri()

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        with self._open(url) as descriptor:
            return _facts(descriptor)

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        with self._open(url) as descriptor:
            before = _facts(descriptor)
            check_version(url, before, etag=etag, size=size)
            place = place_of(start, stop, before.size)
            if not place:
                raise past_end(url)
            return _read(descriptor, url, before, place.start, place.stop)

    def stream_range(
        self,
        url: str,
        start: int,
        stop: int,
        sink: Sink,
        *,
        etag: str,
        size: int | None = None,
    ) -> None:
        """See ObjectStore."""
        stream_by_ranges(self, url, range(start, stop), sink, etag=etag, size=size)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        with self._open(url) as descriptor:
            before = _facts(descriptor)
            if unless_etag and before.etag == unless_etag:
                return None
            check_whole(url, before.size)
            return _read(descriptor, url, before, 0, before.size)

    def renew(self, url: str) -> None:
        """Do nothing: there are no connections."""

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    @contextmanager
    def _open(self, url: str) -> Iterator[int]:
        path = self._root.joinpath(*mirror_path(url))
        try:
            # Without O_NONBLOCK the open of a pipe among the files would block.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            if not isinstance(error, PermissionError) and not self._root.is_dir():
                raise StoreUnavailable(
                    f"{url}: no such directory", url=url, hint="check the path given as --source"
                ) from None
            raise _classified(error, url) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ObjectMissing(f"{url}: {path} is not a file", url=url)
            yield descriptor
        except OSError as error:
            raise _classified(error, url) from None
        finally:
            os.close(descriptor)


def _facts(descriptor: int) -> ObjectFacts:
    status = os.fstat(descriptor)
    return ObjectFacts(
        size=status.st_size,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        version_id="",
        mtime_ns=min(status.st_mtime_ns, MAX_TIME_NS),
    )


def _read(descriptor: int, url: str, before: ObjectFacts, start: int, stop: int) -> Fetched:
    data = memoryview(bytearray(stop - start))
    done = 0
    while done < len(data):
        count = os.preadv(descriptor, [data[done : done + _READ_BYTES]], start + done)
        if not count:
            break
        done += count
    if _facts(descriptor) != before:
        raise _changed(url)
    if done < len(data):
        raise truncated(url, done, len(data))
    return Fetched(data, start, before)


def _changed(url: str) -> ObjectChanged:
    return ObjectChanged(f"{url}: the file was replaced since it was first seen", url=url)


def _classified(error: OSError | ValueError, url: str) -> StoreError:
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    if number in _ABSENT:
        return ObjectMissing(f"{url}: no such file in the mirror", url=url)
    if number in {errno.EACCES, errno.EPERM}:
        return AccessDenied(f"{url}: no permission to read the mirror's file", url=url)
    return StoreUnavailable(f"{url}: {os.strerror(number or errno.EIO)}", url=url)
