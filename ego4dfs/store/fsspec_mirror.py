"""A mirror of the buckets at any fsspec URL: `<source>/<bucket>/<key>`."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from ego4dfs.errors import (
    AccessDenied,
    ConfigError,
    ObjectChanged,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.runtime.deadline import ATTEMPT_S
from ego4dfs.store.classify import (
    Answer,
    NoConnection,
    Unreachable,
    error_of,
    foreign,
    past_end,
    truncated,
)
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.protocol import (
    MAX_OBJECT_BYTES,
    MAX_TIME_NS,
    Fetched,
    ObjectFacts,
    Sink,
    check_whole,
    place_of,
    stream_by_ranges,
)
from ego4dfs.store.response_checks import check_version, etag_of, is_web_page
from ego4dfs.store.s3_url import mirror_path
from ego4dfs.text import masked

_ETAGS = ("ETag", "etag", "e_tag", "md5Hash", "md5", "checksum", "Content-MD5", "Digest")
_TIMES = (
    "LastModified",
    "Last-Modified",
    "mtime",
    "last_modified",
    "modified",
    "updated",
    "created",
)
# Where a filesystem has neither ETag nor time, a replaced object of the same size looks the same.
# Then the ETag is made for this process only, so that its blocks are never used by a later one.
_SALT = os.urandom(16).hex()


class FsspecMirror:
    """Objects of one fsspec filesystem.

    fsspec cannot pin a version, so every read fetches the facts before and after; a change in
    between raises ObjectChanged. Safe from several threads where the filesystem is. `_lock` is
    held while the filesystem is created, which may connect and hang; the wait for it is bounded.
    """

    def __init__(self, source: str, network: NetworkSettings | None = None) -> None:
        self._source = source.rstrip("/")
        self._network = network or NetworkSettings()
        self._lock = threading.Lock()
        self._made: tuple[Any, str] | None = None

    @property
    def source(self) -> str:
        """The URL as given, without a password."""
        return masked(self._source)

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        filesystem, path = self._at(url)
        return _facts(self._call(url, filesystem.info, path), url)

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        before = self.head(url)
        check_version(url, before, etag=etag, size=size)
        place = place_of(start, stop, before.size)
        if not place:
            raise past_end(url)
        return self._read(url, before, place.start, place.stop)

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
        before = self.head(url)
        if unless_etag and before.etag == unless_etag:
            return None
        check_whole(url, before.size)
        return self._read(url, before, 0, before.size)

    def renew(self, url: str) -> None:
        """Create a new filesystem at the next call: the connections may be broken."""
        del url
        self.close()

    def close(self) -> None:
        """Drop the filesystem."""
        self._made = None

    def _read(self, url: str, before: ObjectFacts, start: int, stop: int) -> Fetched:
        filesystem, path = self._at(url)
        data = b""
        # Request one byte more: an object that has it is larger than its facts say.
        end = stop + (stop == before.size)
        if end > start:
            # By name: s3fs puts another argument between path and start.
            data = self._call(url, filesystem.cat_file, path, start=start, end=end)
        after = self.head(url)
        if after.etag != before.etag:
            raise _changed(url)
        if len(data) > stop - start:
            raise StoreError(
                f"{url}: the mirror reports {before.size} bytes, but sends more", url=url
            )
        if len(data) != stop - start:
            raise truncated(url, len(data), stop - start)
        return Fetched(memoryview(data), start, before)

    def _at(self, url: str) -> tuple[Any, str]:
        segments = mirror_path(url)
        filesystem, root = self._made or self._make(url)
        return filesystem, "/".join([root.rstrip("/"), *segments])

    def _make(self, url: str) -> tuple[Any, str]:
        if not self._lock.acquire(timeout=ATTEMPT_S):
            raise StoreUnavailable(f"{url}: the mirror cannot be opened in time", url=url)
        try:
            made = self._made or _filesystem(self._source, url, self._network)
            self._made = made
        finally:
            self._lock.release()
        return made

    def _call(self, url: str, function: Any, path: str, **span: int) -> Any:
        try:
            return function(path, **span)
        except Exception as error:  # noqa: BLE001 - each filesystem raises its own
            raise _classified(error, url) from None


def _filesystem(source: str, url: str, network: NetworkSettings) -> tuple[Any, str]:
    """Create the filesystem, which may connect; `url` is the object for error messages."""
    from fsspec.core import url_to_fs  # noqa: PLC0415

    from ego4dfs.store.fsspec_options import options_for  # noqa: PLC0415

    try:
        made: tuple[Any, str] = url_to_fs(
            source,
            skip_instance_cache=True,
            use_listings_cache=False,
            **options_for(source, network),
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(f"source {source!r}: {error}") from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise NoConnection(f"{url}: the mirror cannot be opened: {reason}", url=url) from None
    except Exception as error:  # noqa: BLE001 - each raises its own, and may quote passwords
        raise ConfigError(
            f"source {source!r}: cannot be opened ({type(error).__name__})",
            hint="check the URL, with its user and password",
        ) from None
    return made


def _facts(info: Mapping[str, Any], url: str) -> ObjectFacts:
    if info.get("type") == "directory":
        raise ObjectMissing(f"{url}: a directory in the mirror, not an object", url=url)
    if is_web_page(str(info.get("mimetype", ""))) and not url.endswith((".html", ".htm")):
        raise foreign(url, "it is a web page")
    size = info.get("size")
    if size is None:
        raise StoreError(f"{url}: the mirror does not report its size", url=url)
    if int(size) > MAX_OBJECT_BYTES:
        raise foreign(url, "it has no valid size")
    time_ns = next((_nanoseconds(info[name]) for name in _TIMES if info.get(name)), 0)
    mtime_ns = min(time_ns, MAX_TIME_NS)
    given = next((str(info[name]) for name in _ETAGS if info.get(name)), "")
    is_lasting = bool(given or mtime_ns)
    seed = f"{info.get('ino')} {mtime_ns} {size}" + ("" if is_lasting else _SALT)
    # In a form that no ETag of bytes has: it is never compared with them.
    derived = f"derived-{hashlib.sha256(seed.encode()).hexdigest()[:32]}"
    version_id = str(info.get("VersionId") or info.get("version_id") or "")
    etag = etag_of(given) or derived
    return ObjectFacts(int(size), etag, version_id, mtime_ns, is_lasting=is_lasting)


def _nanoseconds(time: Any) -> int:
    """Return a time of a filesystem in ns since the epoch; 0 when it cannot be parsed."""
    if isinstance(time, str):
        try:
            time = parsedate_to_datetime(time)
        except ValueError:
            return 0
    if isinstance(time, datetime):
        aware = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        since = aware - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    return int(time * 1_000_000_000) if isinstance(time, (int, float)) else 0


def _changed(url: str) -> ObjectChanged:
    return ObjectChanged(f"{url}: the object was replaced since it was first seen", url=url)


def _classified(error: BaseException, url: str) -> StoreError:
    if isinstance(error, StoreError):
        return error
    # fsspec raises FileNotFoundError for every failed connection to a web server.
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _classified(error.__cause__, url)
    status = getattr(error, "status", 0)
    if status in {404, 410} or isinstance(
        error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    ):
        return ObjectMissing(f"{url}: no such object in the mirror", url=url)
    if status == 407:
        return error_of(Answer(407), url)
    if isinstance(error, PermissionError) or status in {401, 403}:
        return AccessDenied(f"{url}: the mirror refused it", url=url)
    kind = Unreachable if _is_unreachable(error) else StoreUnavailable
    return kind(f"{url}: the mirror failed ({type(error).__name__})", url=url)


def _is_unreachable(error: BaseException) -> bool:
    """Return whether the error means that nothing answered."""
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    return any(kind.__name__ == "ClientConnectionError" for kind in type(error).__mro__)
