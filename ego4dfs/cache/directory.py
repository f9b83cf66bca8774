"""Where the cache lives: one private directory per format version.

<cache_dir>/CACHEDIR.TAG           backup tools leave the directory out (bford.info/cachedir)
<cache_dir>/v1/blocks/             block files and diskcache's index of them
<cache_dir>/v1/sources/<id>/       facts and kept manifests of one source

In a directory that holds other things all of it is below <cache_dir>/ego4dfs: the tag is no mark
on what is not ours.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ego4dfs.errors import CacheError
from ego4dfs.files import make_private

log = logging.getLogger(__name__)

FORMAT = "v1"
"""Name of the on-disk format; another block size, key or checksum is another format."""

DEFAULT_SHARE = 0.25
"""Share of the free disk, what is cached already included, that a cache takes if not told."""

BESIDE_OTHERS = "ego4dfs"
"""Where a cache lives in a directory that holds other things: `v1` may be a release of Ego4D."""

_TAG_NAME = "CACHEDIR.TAG"
_OF_ANY_DISK = {"lost+found"}
_PARTS = ("blocks", "sources")
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Cache of ego4dfs; safe to delete.\n"


def prepare_directory(cache_dir: Path) -> Path:
    """Create what is missing below `cache_dir` and return the directory of this format, 0700.

    A `cache_dir` that exists keeps its own permissions; what is inside is private all the same.
    Raises CacheError when it cannot be created, entered or written.
    """
    with _usable(cache_dir):
        make_private(cache_dir)
        base = cache_dir if _is_ours(cache_dir) else cache_dir / BESIDE_OTHERS
        make_private(base)
        _write_tag(base / _TAG_NAME)
    return private_directory(base / FORMAT)


def private_directory(directory: Path) -> Path:
    """Create a directory of ours if need be, and return it; it is 0700 then.

    One that somebody else could have put there, or that is a link, is refused: what is read from
    it is believed. Raises CacheError.
    """
    with _usable(directory):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        _check_owner(os.lstat(directory))
        directory.chmod(0o700)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _check_owner(os.fstat(fd))
        finally:
            os.close(fd)
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "not readable and writable by you")
    return directory


def _is_ours(cache_dir: Path) -> bool:
    """Tell whether nothing but a cache of ours is there, or a tag says that it began so."""
    names = {path.name for path in cache_dir.iterdir()} - _OF_ANY_DISK
    if names <= {_TAG_NAME}:
        return True
    if _TAG_NAME in names:
        with suppress(OSError):
            return b"ego4dfs" in (cache_dir / _TAG_NAME).read_bytes()[:1000]
    return names == {FORMAT} and any((cache_dir / FORMAT / part).is_dir() for part in _PARTS)


def _write_tag(tag: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        fd = os.open(tag, flags, 0o644)
        try:
            os.write(fd, _TAG.encode())
        finally:
            os.close(fd)


def _check_owner(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise PermissionError(13, "is a link, which somebody else may have put there")
    if status.st_uid != os.geteuid():
        raise PermissionError(13, f"belongs to {_user(status.st_uid)}, not to you")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def source_directory(inner: Path, source: str) -> Path:
    """Return the directory for the facts and manifests of one source, created 0700.

    Two endpoints may hold different objects under the same URL, so each has its own.
    Raises CacheError like `prepare_directory`.
    """
    identifier = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    directory = private_directory(private_directory(inner / "sources") / identifier)
    with _usable(directory):
        name = directory / "source.txt"
        if not name.exists():
            name.write_text(source + "\n")
    return directory


def share_of_disk(directory: Path) -> int:
    """Return the bound of a new cache that nobody gave one."""
    disk = os.statvfs(directory)
    return int(disk.f_bavail * disk.f_frsize * DEFAULT_SHARE)


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Turn what the disk says into an error that names the directory and the remedy."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"cache directory {directory}: {(error.strerror or str(error)).lower()}",
            hint="name another one with --cache-dir or EGO4DFS_CACHE_DIR",
        ) from error


def doubt_limit(directory: Path, max_bytes: int) -> None:
    """Warn of a limit that cannot be reached: the disk would fill up first."""
    disk = os.statvfs(directory)
    size = disk.f_blocks * disk.f_frsize
    if 0 < size < max_bytes:
        log.warning(
            "the cache may take %d GiB, but its whole disk has %d GiB (%s)",
            max_bytes >> 30,
            size >> 30,
            directory,
        )
