"""The layout of the cache directory: one private directory per format version.

<cache_dir>/CACHEDIR.TAG           backup tools skip the directory (bford.info/cachedir)
<cache_dir>/v1/blocks/             block files, and diskcache's index of them
<cache_dir>/v1/blocks/incoming/    files that are being written
<cache_dir>/v1/sources/<id>/       object facts and cached manifests of one source

In a directory with other contents all of it is below <cache_dir>/ego4dfs, so that the tag does not
apply to files of others.
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

from ego4dfs.errors import CacheError, os_error_text
from ego4dfs.files import make_private, read_regular, write_atomic
from ego4dfs.text import human_size

log = logging.getLogger(__name__)

FORMAT = "v1"
"""Name of the on-disk format; a change of block size, key or checksum needs a new one."""

DEFAULT_SHARE = 0.25
"""Default limit of a cache, as a share of the free disk with the present cache included."""

SUBDIRECTORY = "ego4dfs"
"""Name of the cache in a directory with other contents: `v1` there may be a release of Ego4D."""

_TAG_NAME = "CACHEDIR.TAG"
_SOURCE_NAME = "source.txt"
_MAX_NAME_BYTES = 64 << 10
_IGNORED_NAMES = {"lost+found"}
_CONTENTS = ("blocks", "sources")
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Cache of ego4dfs; safe to delete.\n"


def prepare_directory(cache_dir: Path) -> Path:
    """Create missing directories below `cache_dir`; return the one of this format, mode 0700.

    An existing `cache_dir` keeps its permissions; the contents are private in any case.
    Raises CacheError if it cannot be created, entered or written.
    """
    with _cache_errors(cache_dir):
        make_private(cache_dir)
        base = cache_dir if _is_ours(cache_dir) else cache_dir / SUBDIRECTORY
        make_private(base)
        _write_tag(base / _TAG_NAME)
    return private_directory(base / FORMAT)


def private_directory(directory: Path) -> Path:
    """Create a directory with mode 0700, or check an existing one; return it.

    A directory of another user, or a symbolic link, is refused: its contents would be trusted.
    Raises CacheError.
    """
    with _cache_errors(directory):
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
    """Return whether the directory is empty, or holds only a cache of ego4dfs, or our tag."""
    names = {path.name for path in cache_dir.iterdir()} - _IGNORED_NAMES
    if names <= {_TAG_NAME}:
        return True
    if _TAG_NAME in names:
        with suppress(OSError):
            return b"ego4dfs" in read_regular(cache_dir / _TAG_NAME)[0][:1000]
    return names == {FORMAT} and any((cache_dir / FORMAT / name).is_dir() for name in _CONTENTS)


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
        raise PermissionError(13, "is a symbolic link, which another user may have created")
    if status.st_uid != os.geteuid():
        raise PermissionError(13, f"belongs to {_user(status.st_uid)}, not to you")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def source_directory(inner: Path, source: str) -> Path:
    """Return the directory for the facts and manifests of one source, created with mode 0700.

    Each source has its own, because two endpoints may have different objects at the same URL.
    Raises CacheError like `prepare_directory`.
    """
    identifier = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    directory = private_directory(private_directory(inner / "sources") / identifier)
    if _source_name(directory) != source:
        with suppress(OSError):  # only `source_names` reads it
            write_atomic(directory / _SOURCE_NAME, f"{source}\n".encode())
    return directory


def source_names(inner: Path) -> list[str]:
    """Return the names of all sources with a directory; one whose name is unreadable has its id."""
    directories = sorted(inner.glob("sources/*/"))
    return [_source_name(path) or f"{path.name} (its name cannot be read)" for path in directories]


def _source_name(directory: Path) -> str:
    """Return the name of a source as its directory has it, or ''."""
    try:
        content, _ = read_regular(directory / _SOURCE_NAME, max_bytes=_MAX_NAME_BYTES)
        return content.decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def default_max_bytes(directory: Path) -> int:
    """Return the limit of a new cache for which the user gave none. Raises OSError."""
    disk = os.statvfs(directory)
    return int(disk.f_bavail * disk.f_frsize * DEFAULT_SHARE)


@contextmanager
def _cache_errors(directory: Path) -> Iterator[None]:
    """Raise an OSError as a CacheError that names the directory and the remedy."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"cache directory {directory}: {os_error_text(error)}",
            hint="name another one with --cache-dir or EGO4DFS_CACHE_DIR",
        ) from error


def warn_if_larger_than_disk(directory: Path, max_bytes: int) -> None:
    """Warn of a limit that is larger than the disk. Raises OSError."""
    disk = os.statvfs(directory)
    size = disk.f_blocks * disk.f_frsize
    if 0 < size < max_bytes:
        log.warning(
            "the limit of the cache is %s, but its disk has only %s (%s)",
            human_size(max_bytes),
            human_size(size),
            directory,
        )
