"""Ego4DFileSystem: the tree of a VFS as the fsspec filesystem `ego4d://`, with the same cache.

fs = fsspec.filesystem("ego4d", version="v2_1", datasets=["full_scale"])
fs.ls("v2/full_scale")
with fsspec.open("ego4d://v2/annotations/narration.json", datasets=["annotations"]) as f: ...
"""

from __future__ import annotations

import errno
import inspect
import os
import threading
from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any, NoReturn

from ego4dfs.catalog.metadata import Metadata, read_metadata
from ego4dfs.config import Config, resolve
from ego4dfs.datasets import METADATA, version_directory
from ego4dfs.errors import StoreError
from ego4dfs.filesystem import description
from ego4dfs.filesystem.file import Ego4DFile
from ego4dfs.filesystem.find_names import FindNames
from ego4dfs.filesystem.local_paths import local_path
from ego4dfs.filesystem.names_only import NamesOnlyFileSystem
from ego4dfs.filesystem.options import PARAMETERS, misspelt, stripped
from ego4dfs.filesystem.os_errors import as_os_errors, refuse_write
from ego4dfs.filesystem.ranges import cat_ranges
from ego4dfs.runtime.forks import renew_lock_in_children
from ego4dfs.store import expect_workers
from ego4dfs.vfs import VFS, Stat, named_file, open_vfs
from ego4dfs.vfs.ranges import read_range
from ego4dfs.vfs.tree import inode, join

AnyPath = str | os.PathLike[str]


class Ego4DFileSystem(FindNames):
    """Ego4D as an fsspec filesystem. Paths are as in a download: `v2/full_scale/<uid>.mp4`.

    Opens lazily: the first use, not the constructor, reads credentials and the network. Safe from
    several threads; after a fork the child opens its own session, on the same cache.
    Raises FileNotFoundError, PermissionError, IsADirectoryError and NotADirectoryError as a local
    disk does, OSError for files that cannot be fetched now, and OSError(EROFS) for every write.
    """

    protocol = "ego4d"
    root_marker = ""

    def __init__(  # noqa: PLR0913 - each option by its name, for help() and completion
        self,
        *,
        version: str | None = None,
        datasets: Collection[str] | None = None,
        benchmarks: Collection[str] | None = None,
        universities: Collection[str] | None = None,
        video_uids: Collection[str] | None = None,
        video_uid_file: AnyPath | None = None,
        clip_uids: Collection[str] | None = None,
        uids_from: AnyPath | None = None,
        splits: Collection[str] | None = None,
        annotations: Collection[str] | None = None,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        allow_missing: bool | None = None,
        metadata: bool | None = None,
        manifest: bool | None = None,
        manifest_override_path: AnyPath | None = None,
        cache_dir: AnyPath | None = None,
        cache_size: str | int | None = None,
        eviction: str | None = None,
        verify: str | None = None,
        hedge: str | None = None,
        copies: AnyPath | None = None,
        aws_profile_name: str | None = None,
        endpoint_url: str | None = None,
        source: AnyPath | None = None,
        transport: str | None = None,
        emulate: str | None = None,
        limit_rate: str | int | None = None,
        limit_requests: str | float | None = None,
        near: str | None = None,
        near_endpoint: str | None = None,
        near_profile: str | None = None,
        fill_near: bool | None = None,
        config_path: AnyPath | None = None,
        output_directory: AnyPath | None = None,
        mountpoint: AnyPath | None = None,
        libfuse: str | int | None = None,
        assume_yes: bool | None = None,
        bypass_existing: bool | None = None,
        bypass_version_check: bool | None = None,
        skip_s3_checks: bool | None = None,
        retry_for: str | float | None = None,
        list_datasets: bool | None = None,
        metrics: str | int | None = None,
        log_format: str | None = None,
        **fsspec_options: Any,
    ) -> None:
        """Take the options of the configuration; None means that an option is not given.

        docs/reference/configuration.md describes each. Raises ConfigError for a wrong one, and for
        a name that is close to one of them.

        Args:
            version: Version of Ego4D: v1, v2 or v2_1.
            datasets: Datasets to show; all known ones by default.
            benchmarks: Only videos and clips of these benchmarks.
            universities: Only files of these universities.
            video_uids: Only files of these videos or clips.
            video_uid_file: A file with such uids, separated by whitespace or commas.
            clip_uids: Only these clips, and the files of the videos that they are cut from.
            uids_from: A JSON or CSV file, on disk or in the tree, with the uids of videos or clips.
            splits: Only videos of these splits: `train`, or of one benchmark `fho:train`.
            annotations: Only annotation files whose type or name contains one of these words.
            include: Only files whose name matches one of these glob patterns.
            exclude: Only files whose name matches none of these glob patterns.
            allow_missing: Warn instead of failing when a uid is in none of the datasets.
            metadata: Show ego4d.json; True by default.
            manifest: Show the manifest.csv of full_scale at the root; False by default.
            manifest_override_path: A local manifest.csv in place of that of the only dataset.
            cache_dir: Directory of the cache.
            cache_size: Limit of the cache, such as `200GiB`.
            eviction: What a full cache evicts: `lru`, or `none` to keep the oldest blocks.
            verify: `auto` to compare whole objects in the cache with their ETags, or `off`.
            hedge: `auto` to send a second request for bytes that are late, or `off`.
            copies: Directory of prefetched copies to read from.
            aws_profile_name: Profile in ~/.aws.
            endpoint_url: URL of an S3 server.
            source: Directory or fsspec URL in place of S3.
            transport: Library that talks to S3: `auto`, `obstore` or `s3fs`.
            emulate: Latency, bandwidth and failures to add, such as `rtt=30ms,fail=503:1%`.
            limit_rate: Most bytes per second of this process, such as `200MB/s`.
            limit_requests: Most requests per second of this process, such as `500/s`.
            near: Near tier, `s3://bucket/prefix`, which is read before S3.
            near_endpoint: URL of its S3 server.
            near_profile: Profile in ~/.aws with its key.
            fill_near: Write there what was fetched from S3; False by default.
            config_path: JSON file with further options.
            output_directory: No effect here, as all below; accepted so that configs can be shared.
            mountpoint: See output_directory.
            libfuse: See output_directory.
            assume_yes: See output_directory.
            bypass_existing: See output_directory.
            bypass_version_check: See output_directory.
            skip_s3_checks: See output_directory.
            retry_for: See output_directory.
            list_datasets: See output_directory.
            metrics: See output_directory.
            log_format: See output_directory.
            **fsspec_options: Options of fsspec itself, such as skip_instance_cache; and of
                libraries, which have no effect.
        """
        arguments = dict(locals())  # before the comprehensions: locals() may differ inside them
        given = {key: value for key, value in arguments.items() if key in PARAMETERS}
        super().__init__(**fsspec_options)
        options = {**given, **misspelt(fsspec_options)}
        self._config = resolve(options, named="{} of ego4d://".format)
        self._opened: tuple[int, VFS] | None = None
        self.renew_lock()
        renew_lock_in_children(self)

    def renew_lock(self) -> None:
        """Make a new lock: in a forked child, the old one may be held by a thread of the parent."""
        self._lock = threading.Lock()

    @property
    def config(self) -> Config:
        """The options, checked, with those of the environment and the config file."""
        return self._config

    @property
    def vfs(self) -> VFS:
        """The VFS, opened at the first use in this process."""
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                expect_workers()
                vfs = open_vfs(self._config, must_match=False, share_manifests=True)
                self._opened = (os.getpid(), vfs)
            return self._opened[1]

    def __repr__(self) -> str:
        return description.as_text(self._config)

    def _repr_html_(self) -> str:
        return description.as_html(self._config)

    def close(self) -> None:
        """Finish writes to the cache and close all connections."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        found = super()._strip_protocol(path)
        return stripped(found) if isinstance(found, str) else found

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:  # noqa: FBT001, FBT002
        """List a directory, or one file. Details cost a HEAD request per object of unknown size."""
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
        """Return the attributes of a path, with unknown size if the store cannot be reached."""
        try:
            return self.vfs.stat(path)
        except StoreError:
            return Stat(inode(path), is_dir=False, size=0, mtime_ns=0, is_known=False)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size, type, mtime, ino and, for objects, ETag and s3_uri of a path."""
        del kwargs
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return {**_info(path, self.vfs.stat(path)), **self._origin(path)}

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

    def modified(self, path: str) -> datetime:
        """Return the LastModified time of the store."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=timezone.utc)

    def ukey(self, path: str) -> str:
        """Return a string that changes when the content changes."""
        info = self.info(path)
        return str(info.get("ETag") or (info["name"], info["size"], info["mtime"]))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return bytes [start, end); negative positions count from the end."""
        del kwargs
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return read_range(self.vfs, path, start, end)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Return many ranges; errors are returned in their place unless `on_error="raise"`.

        Each file is opened once. What several ranges need is fetched once, in parts, whatever
        `max_gap` is.
        """
        del max_gap, kwargs
        results = cat_ranges(self.vfs, [self._strip_protocol(path) for path in paths], starts, ends)
        for result in results:
            if isinstance(result, Exception) and on_error == "raise":
                raise result
        return results

    def manifest(self, dataset: str) -> Any:
        """Return the selected rows of a dataset's manifest as a pandas DataFrame.

        Columns: path (as in a mount), name, uid, s3_uri, benchmarks, parent_video_uid, start_s,
        end_s and row; then what ego4d.json says of the video or the clip, such as duration_s and
        scenarios, and all other columns of the manifest. Reads ego4d.json; with `metadata=False`
        its columns are empty.
        """
        from ego4dfs.catalog.dataframe import to_frame  # noqa: PLC0415 - loads pandas

        with as_os_errors(dataset):
            session, config = self.vfs.session, self._config
            described = Metadata()
            if config.metadata:
                described = read_metadata(named_file(session, config, METADATA))
            frame = to_frame(session.catalog.listing(dataset), described)
        directory = join(version_directory(config.version), dataset)
        frame.insert(0, "path", directory + "/" + frame["name"])
        return frame

    def local_path(self, path: str) -> str:
        """Return a path on this machine with these bytes: of a copy, or in a mount.

        Raises OSError if there is none, with what to do.
        """
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return local_path(self.vfs, path, self._config.copies)

    def created(self, path: str) -> NoReturn:
        """Raise OSError: S3 has no creation time."""
        raise OSError(errno.ENOTSUP, "Ego4D's store keeps no creation time", path)

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
    """Raise OSError(EROFS)."""
    del self, args, kwargs
    refuse_write(str(path))


# fsspec's metaclass has a signature of its own, which help() and completion would show.
_signature = inspect.signature(Ego4DFileSystem.__init__)
Ego4DFileSystem.__signature__ = _signature.replace(
    parameters=list(_signature.parameters.values())[1:]
)

for _name in (
    *("mkdir", "makedirs", "rmdir", "rm", "rm_file", "_rm", "delete", "mv", "move", "rename"),
    *("touch", "pipe", "pipe_file", "put", "put_file", "upload", "copy", "cp", "cp_file"),
    *("write_bytes", "write_text"),
):
    setattr(Ego4DFileSystem, _name, _refused)
