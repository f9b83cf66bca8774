"""The FUSE operations (getattr, readdir, open, read, ...), translated to calls of the VFS.

There are no write operations: the mount has the option `ro`, so the kernel answers EROFS itself.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ego4dfs.errors import NotFound, ObjectChanged, StoreError
from ego4dfs.mount.kernel_cache import KernelCache, is_below_windows
from ego4dfs.mount.kernel_readahead import KernelReadahead
from ego4dfs.mount.status import StatusFiles
from ego4dfs.reader import VideoWindow
from ego4dfs.vfs import VFS, VIDEO_SUFFIX, DirEntry, Handle, Stat, import_parser

log = logging.getLogger(__name__)

WORKERS = 4096
"""Maximum number of libfuse threads; each request in progress needs one."""
MAX_READS = WORKERS - 128
"""Maximum number of reads in progress: listings, lookups and the status file need free threads
even if many reads wait for the store."""

MAX_NAME_BYTES = 255

READ_SIZE = 128 * 1024
"""st_blksize: Python and cp read in this unit; libfuse 2 always sends requests of this size."""


class _ReadSlots:
    """A limit on calls in progress that may wait for the store: one is held within a `with`.

    Safe from several threads. Raises OSError at once if all are held.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._held == self._limit:
                raise OSError(errno.EIO, f"{self._limit} reads already wait for the store")
            self._held += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._held -= 1


class Operations:
    """The operations of one mount. Called from many libfuse threads at the same time."""

    use_ns = True  # times are whole nanoseconds

    def __init__(
        self,
        vfs: VFS,
        on_start: Callable[[], None],
        caller: Callable[[], int],
        readahead: KernelReadahead,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve `vfs`; `on_start` is called once the kernel has accepted the mount.

        `on_end` is called when the loop has ended, before libfuse frees its memory.
        `caller` returns the thread id of the program for which the present call is made.
        `readahead` is told which files are opened, and how videos were read.
        """
        self._vfs = vfs
        self._on_start, self._on_end = on_start, on_end
        self._caller = caller
        self.is_started = False
        self.owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
        self._status = StatusFiles(vfs)
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, list[tuple[DirEntry, Stat | None]]] = {}
        self._numbers = itertools.count(1)
        self._reads = _ReadSlots(MAX_READS)
        self._kernel = KernelCache()
        self._readahead = readahead
        self._metrics = vfs.session.metrics

    def init(self, path: str) -> None:
        """Record that the kernel has accepted the mount."""
        del path
        self.is_started = True
        self._on_start()

    def destroy(self, path: str) -> None:
        """Say that the loop has ended."""
        del path
        self._on_end()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """Return the attributes of a path."""
        del fh
        status = self._status.stat(path)
        if status is not None:
            return {**attributes(status), **self.owner}
        try:
            # The attributes of a window take its index, which the store may not send soon.
            with self._reads if is_below_windows(path) else nullcontext():
                found = self._vfs.stat(path, self._caller())
        except NotFound:
            if len(path.rpartition("/")[2].encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from None
            raise
        if not self._kernel.record_size(path, found.size):
            found = self._with_confirmed_size(path, found)
        return {**attributes(found), **self.owner}

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """Return the names in a directory, with inode and kind, so that `find` needs no stat.

        What is recorded of the files is read with them: lookups follow, and reading a row for
        each of them takes ten times as long.
        """
        del fh
        for name in (".", ".."):
            yield name, {"st_mode": stat.S_IFDIR}, 0
        for entry, _ in self._vfs.listdir_known(path):
            mode = stat.S_IFDIR if entry.is_dir else stat.S_IFREG
            yield entry.name, {"st_mode": mode, "st_ino": entry.inode}, 0

    def opendir(self, path: str) -> int:
        """Return a handle number for an open directory."""
        del path
        return next(self._numbers)

    def names(self, path: str, fh: int) -> list[tuple[DirEntry, Stat | None]]:
        """Return the names with their known attributes, which the kernel will cache.

        Returns the same list until the directory is released.
        """
        if fh not in self._listings:
            found = self._vfs.listdir_known(path)
            dots = [(DirEntry(name, 1, is_dir=True), None) for name in (".", "..")]
            self._listings[fh] = [*dots, *found]
        return self._listings[fh]

    def attributes_for_listing(
        self, directory: str, name: str, found: Stat | None
    ) -> dict[str, int] | None:
        """Return attributes to send with a name (readdirplus), and record their size.

        None if they are unknown, or the file is open with another size: the listing may be old.
        """
        path = f"{directory.rstrip('/')}/{name}"
        if found is None or not self._kernel.record_size(path, found.size):
            return None
        return {**attributes(found), **self.owner}

    def releasedir(self, path: str, fh: int) -> int:
        """Close an open directory."""
        del path
        self._listings.pop(fh, None)
        return 0

    def open(self, path: str, fi: Any) -> int:
        """Open a file; keep the pages in the kernel's cache only if the version is the same."""
        if path in self._status:
            handle = self._status.open(path)
        else:
            is_video = path.endswith(VIDEO_SUFFIX)
            if is_video:
                import_parser()
            try:
                with self._reads:
                    handle = self._vfs.open(path)
            except BaseException:  # a panic of obstore is no Exception
                self._metrics.add_read_error("open")
                raise
            self._kernel.open(handle, fi)
            window = handle.window
            has_index = isinstance(window, VideoWindow) and window.has_facts
            self._readahead.at_open(is_video=is_video, has_index=has_index)
            self._metrics.add_open_files(1)
        fi.fh = next(self._numbers)
        self._handles[fi.fh] = handle
        if path not in self._status:
            self._metrics.patterns.opened(fi.fh, path, handle.size)
        return 0

    def read_into(self, fh: int, offset: int, view: memoryview) -> int:
        """Fill the kernel's buffer and return how many bytes there were."""
        handle = self._handles[fh]
        if handle.path in self._status:
            return self._status.read_into(handle, offset, view)
        try:
            count = self._read_current(handle, offset, view)
        except BaseException:  # a panic of obstore is no Exception
            self._metrics.add_read_error("read")
            raise
        self._metrics.patterns.read(fh, offset, count)
        return count

    def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
        """Return bytes. The bindings require this method, but sessions call `read_into`."""
        del path
        return self._vfs.read(self._handles[fi.fh], offset, size)

    def release(self, path: str, fi: Any) -> int:
        """Close an open file."""
        del path
        handle = self._handles.pop(fi.fh, None)
        if handle is not None and handle.path not in self._status:
            self._metrics.add_open_files(-1)
            self._metrics.patterns.closed(fi.fh)
        if handle is not None:
            self._kernel.release(handle)
            if isinstance(handle.window, VideoWindow):
                self._readahead.video_closed(reads_windows=handle.window.reads_windows)
        return 0

    def _read_current(self, handle: Handle, offset: int, view: memoryview) -> int:
        if not self._kernel.is_current(handle):
            raise ObjectChanged(f"{handle.path} was replaced, and has been opened again since")
        with self._reads:
            return self._vfs.read_into(handle, offset, view)

    def _with_confirmed_size(self, path: str, found: Stat) -> Stat:
        """Return attributes of an open file for which the kernel has cached another size.

        One of the two sizes may come from a HEAD request only, and an open confirms it. If that
        fails, the kernel's size stays: a smaller one would end reads of the open file early.
        """
        try:
            if found.is_known:
                with self._reads:
                    self._vfs.open(path)
                found = self._vfs.stat(path)
                self._kernel.record_size(path, found.size, replace=True)
                return found
        except (StoreError, OSError) as error:
            log.info("the size of %s cannot be confirmed: %s", path, error)
        return replace(found, size=self._kernel.size(path, found.size))

    def statfs(self, path: str) -> dict[str, int]:
        """Report the objects of known size as used space, and no free space."""
        del path
        known = self._vfs.known_totals()
        unit = 4096
        return {
            "f_bsize": READ_SIZE,
            "f_frsize": unit,
            "f_blocks": -(-known.size_bytes // unit),
            "f_files": known.objects,
            "f_namemax": MAX_NAME_BYTES,
        }

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Return one extended attribute."""
        del position
        if not name.startswith("user."):  # `ls -l` then requests no more ACLs and labels
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        value = self._xattrs(path).get(name) if name.startswith("user.ego4dfs.") else None
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return value.encode("utf-8", "surrogateescape")

    def listxattr(self, path: str) -> list[str]:
        """Return the names of all extended attributes."""
        return [] if path in self._status else list(self._xattrs(path))

    def _xattrs(self, path: str) -> dict[str, str]:
        """Return the URL of the object behind a path, and its ETag and version if known."""
        origin = self._vfs.origin(path)
        if origin is None:
            return {}
        found = {"user.ego4dfs.s3_uri": origin.url}
        if origin.facts is not None:
            found["user.ego4dfs.etag"] = origin.facts.etag
            if origin.facts.version_id:
                found["user.ego4dfs.version_id"] = origin.facts.version_id
        return found


def attributes(found: Stat) -> dict[str, int]:
    """Return the fields of stat(2) for a Stat, without the owner."""
    # Copies get these modes, and must be writable for their owner; writes here fail with EROFS.
    # tar does not open a file of size 0 that is readable for all. A file of unknown size is 0640,
    # so that tar opens it and reports the error.
    file_mode = stat.S_IFREG | (0o644 if found.is_known else 0o640)
    return {
        "st_ino": found.inode,
        "st_mode": stat.S_IFDIR | 0o755 if found.is_dir else file_mode,
        "st_nlink": 2 if found.is_dir else 1,
        "st_size": found.size,
        "st_blocks": -(-found.size // 512),
        "st_blksize": READ_SIZE,
        "st_mtime": found.mtime_ns,
        "st_ctime": found.mtime_ns,
        "st_atime": found.mtime_ns,
    }
