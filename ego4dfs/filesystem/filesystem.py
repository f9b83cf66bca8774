"""The fsspec face: the same tree as `ego4d://`, read-only, through the same cache.

fs = fsspec.filesystem("ego4d", version="v2_1", datasets=["full_scale"])
fs.ls("v2/full_scale")
with fsspec.open("ego4d://v2/annotations/narration.json", datasets=["annotations"]) as f: ...
"""

from __future__ import annotations

import errno
import os
import threading
from datetime import datetime, timezone
from typing import Any, NoReturn

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.config import resolve
from ego4dfs.datasets import version_directory
from ego4dfs.errors import ManifestError, NotFound, ObjectChanged, StoreError
from ego4dfs.filesystem.names_only import NamesOnlyFileSystem
from ego4dfs.filesystem.os_errors import as_os_errors, refuse_write
from ego4dfs.runtime.forks import renew_lock_in_children
from ego4dfs.runtime.workers import each
from ego4dfs.tree import Directory, ManifestFile, Node, ObjectFile, inode, join
from ego4dfs.vfs import VFS, Handle, Stat, open_vfs

_RANGE_THREADS = 16


class Ego4DFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Ego4D as an fsspec filesystem. Paths are as in a download: `v2/full_scale/<uid>.mp4`.

    Opens lazily: neither credentials nor network are touched before the first use. Safe from
    several threads; after a fork the child opens its own, on the same cache.
    Raises FileNotFoundError, PermissionError, IsADirectoryError and NotADirectoryError as a local
    disk would, OSError for what cannot be had now, and OSError(EROFS) for every write.
    """

    protocol = "ego4d"
    root_marker = ""

    def __init__(self, **options: Any) -> None:
        """Take the options of the command line as keywords, with the same defaults.

        Args:
            **options: version, datasets, benchmarks, universities, video_uids, metadata,
                cache_dir, cache_size, aws_profile_name, endpoint_url, source, transport, and the
                other keys of docs/reference/configuration.md; and fsspec's own.
        """
        ours = {key: value for key, value in options.items() if key not in _FSSPEC_OPTIONS}
        super().__init__(**{key: options[key] for key in options if key in _FSSPEC_OPTIONS})
        self._config = resolve(ours, named="{} of ego4d://".format)
        self._opened: tuple[int, VFS] | None = None
        self.renew_lock()
        renew_lock_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock: in a forked child, another thread of the parent may hold the old one."""
        self._lock = threading.Lock()

    @property
    def vfs(self) -> VFS:
        """The tree behind this filesystem, opened at the first use in this process."""
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = (os.getpid(), open_vfs(self._config, must_match=False))
            return self._opened[1]

    def close(self) -> None:
        """Write what is under way to the cache and let go of connections."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path)).strip("/")

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:  # noqa: FBT001, FBT002
        """List a directory, or the one file at the path. Details of objects cost a HEAD each."""
        del kwargs
        path = self._strip_protocol(path)
        names: list[Any] = NamesOnlyFileSystem(self.vfs).ls(path, detail=False)
        if not detail:
            return names
        with as_os_errors(path):
            found = self.vfs.stat(path)
            if not found.is_dir:
                return [_info(path, found)]
            return [_info(name, self._stat_or_unknown(name)) for name in names]

    def _stat_or_unknown(self, path: str) -> Stat:
        """Return what a path is, of unknown size when it cannot be asked about now."""
        try:
            return self.vfs.stat(path)
        except StoreError:
            return Stat(inode(path), is_dir=False, size=0, mtime_ns=0, is_known=False)

    def isdir(self, path: str) -> bool:
        """Tell whether the path is a directory, without a HEAD."""
        return isinstance(self._node(path), Directory)

    def isfile(self, path: str) -> bool:
        """Tell whether the path is a file, without a HEAD."""
        return isinstance(self._node(path), (ObjectFile, ManifestFile))

    def _node(self, path: str) -> Node | None:
        try:
            return self.vfs.resolve(self._strip_protocol(path))
        except (NotFound, NotADirectoryError, StoreError, ManifestError):
            return None

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size, type, mtime, ino and, for objects, ETag and s3_uri of a path."""
        del kwargs
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return {**_info(path, self.vfs.stat(path)), **self._origin(path)}

    def walk(self, path: str, *args: Any, detail: bool = False, **kwargs: Any) -> Any:
        """Walk as fsspec does; only with `detail` do objects cost a HEAD each."""
        walk = super().walk if detail else NamesOnlyFileSystem(self.vfs).walk
        return walk(path, *args, detail=detail, **kwargs)

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Find as fsspec does; only with `detail` do objects cost a HEAD each."""
        detail = kwargs.get("detail") or args[2:3] == (True,)
        find = super().find if detail else NamesOnlyFileSystem(self.vfs).find
        return find(path, *args, **kwargs)

    def glob(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Glob as fsspec does; only with `detail` do objects cost a HEAD each."""
        glob = super().glob if kwargs.get("detail") else NamesOnlyFileSystem(self.vfs).glob
        return glob(path, *args, **kwargs)

    def du(
        self,
        path: str,
        total: bool = True,  # noqa: FBT001, FBT002
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> Any:
        """Return the bytes below a path, in all or by path; a file of unknown size counts as 0."""
        found = super().du(path, total=False, maxdepth=maxdepth, withdirs=withdirs, **kwargs)
        sizes = {name: size or 0 for name, size in found.items()}
        return sum(sizes.values()) if total else sizes

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Tell whether the manifest lists the path, without a HEAD."""
        del kwargs
        return self._node(path) is not None

    def modified(self, path: str) -> datetime:
        """Return the store's LastModified."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=timezone.utc)

    def ukey(self, path: str) -> str:
        """Return a text that changes when the bytes do."""
        info = self.info(path)
        return str(info.get("ETag") or (info["name"], info["size"], info["mtime"]))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return bytes [start, end); negative positions count from the end."""
        del kwargs
        path = self._strip_protocol(path)
        with as_os_errors(path):
            try:
                return self._read_once(path, start, end)
            except ObjectChanged:  # or its size was wrong: nobody has seen bytes of it yet
                return self._read_once(path, start, end)

    def _read_once(self, path: str, start: int | None, end: int | None) -> bytes:
        first = start or 0
        handle = self.vfs.open(path, first_offset=first if first >= 0 else None)
        begin, stop, _ = slice(start, end).indices(handle.size)
        return self.vfs.read(handle, begin, stop - begin)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Return many ranges, fetched at once; failures in place unless `on_error="raise"`."""
        del max_gap, kwargs
        count = len(paths)
        starts = [starts] * count if isinstance(starts, int) or starts is None else starts
        ends = [ends] * count if isinstance(ends, int) or ends is None else ends
        if len(starts) != count or len(ends) != count:
            raise ValueError("paths, starts and ends must be of one length")
        results = each(
            lambda span: self._range_or_error(*span),
            zip(paths, starts, ends, strict=True),
            threads=_RANGE_THREADS,
            name="ranges",
        )
        for result in results:
            if isinstance(result, BaseException) and on_error == "raise":
                raise result
        return results

    def manifest(self, dataset: str) -> Any:
        """Return the selected rows of a dataset's manifest as a pandas DataFrame.

        Columns: path (here and in a mount), name, uid, s3_uri, benchmarks and row.
        """
        from ego4dfs.catalog.frame import to_frame  # noqa: PLC0415 - it loads pandas

        with as_os_errors(dataset):
            frame = to_frame(self.vfs.session.catalog.listing(dataset))
        directory = join(version_directory(self._config.version), dataset)
        frame.insert(0, "path", directory + "/" + frame["name"])
        return frame

    def created(self, path: str) -> NoReturn:
        """Refuse: S3 keeps no such time."""
        raise OSError(errno.ENOTSUP, "Ego4D's store keeps no creation time", path)

    def _range_or_error(self, path: str, start: int | None, end: int | None) -> bytes | Exception:
        try:
            return self.cat_file(path, start, end)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who chose so
            return error

    def _origin(self, path: str) -> dict[str, str]:
        origin = self.vfs.origin(path)
        if origin is None:
            return {}
        etag = {"ETag": origin.facts.etag} if origin.facts is not None else {}
        return {"s3_uri": origin.url, **etag}

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,  # noqa: FBT001, FBT002
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Ego4DFile:
        del block_size, autocommit, cache_options, kwargs
        if mode != "rb":
            refuse_write(path)
        with as_os_errors(path):
            return Ego4DFile(self, path, self.vfs.open(path))


class Ego4DFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file: reads go straight to the VFS, whose cache and read-ahead serve them."""

    def __init__(self, fs: Ego4DFileSystem, path: str, handle: Handle) -> None:
        """Read `handle` of `fs`."""
        self._handle = handle
        super().__init__(fs, path, "rb", block_size=BLOCK_SIZE, cache_type="none", size=handle.size)

    def readinto(self, b: Any) -> int:
        """Read into a buffer without a copy and return how many bytes there were."""
        view = memoryview(b).cast("B")
        with as_os_errors(self.path):
            count: int = self.fs.vfs.read_into(self._handle, self.loc, view)
        self.loc += count
        return count

    def _fetch_range(self, start: int, end: int) -> bytes:
        with as_os_errors(self.path):
            data: bytes = self.fs.vfs.read(self._handle, start, end - start)
        return data


def _info(path: str, found: Stat) -> dict[str, Any]:
    return {
        "name": path,
        "size": found.size if found.is_known else None,
        "type": "directory" if found.is_dir else "file",
        "mtime": found.mtime_ns / 1e9,
        "ino": found.inode,
        "mode": 0o40755 if found.is_dir else 0o100644,
    }


def _refused(self: Ego4DFileSystem, path: Any = "", *args: Any, **kwargs: Any) -> NoReturn:
    """Refuse to write."""
    del self, args, kwargs
    refuse_write(str(path))


_FSSPEC_OPTIONS = frozenset(
    ("asynchronous", "loop", "skip_instance_cache", "use_listings_cache", "batch_size")
)

for _name in (
    *("mkdir", "makedirs", "rmdir", "rm", "rm_file", "_rm", "delete", "mv", "move", "rename"),
    *("touch", "pipe", "pipe_file", "put", "put_file", "upload", "copy", "cp", "cp_file"),
    *("write_bytes", "write_text"),
):
    setattr(Ego4DFileSystem, _name, _refused)
