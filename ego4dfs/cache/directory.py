"""Where the cache lives: one private directory per format version.

<cache_dir>/CACHEDIR.TAG           backup tools leave the directory out (bford.info/cachedir)
<cache_dir>/v1/blocks/             block files and diskcache's index of them
<cache_dir>/v1/sources/<id>/       facts and kept manifests of one source
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ego4dfs.errors import CacheError

log = logging.getLogger(__name__)

FORMAT = "v1"
"""Name of the on-disk format; another block size, key or checksum is another format."""

DEFAULT_SHARE = 0.25
"""Share of the free disk, what is cached already included, that a cache takes if not told."""

_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Cache of ego4dfs; safe to delete.\n"


def prepare_directory(cache_dir: Path) -> Path:
    """Create what is missing below `cache_dir` and return the directory of this format, 0700.

    A `cache_dir` that exists keeps its own permissions; what is inside is private all the same.
    Raises CacheError when it cannot be created, entered or written.
    """
    inner = cache_dir / FORMAT
    with _usable(cache_dir):
        if not cache_dir.exists():
            cache_dir.mkdir(parents=True, mode=0o700)
        inner.mkdir(mode=0o700, exist_ok=True)
        inner.chmod(0o700)
        tag = cache_dir / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_text(_TAG)
        if not os.access(inner, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "not readable and writable by you")
    return inner


def source_directory(inner: Path, source: str) -> Path:
    """Return the directory for the facts and manifests of one source, created 0700.

    Two endpoints may hold different objects under the same URL, so each has its own.
    Raises CacheError like `prepare_directory`.
    """
    directory = inner / "sources" / hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    with _usable(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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
