"""Copies of files on disk, many at a time, as methods of the filesystem."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.filesystem.ahead_of_caller import Reserve, ahead_of_caller
from ego4dfs.filesystem.names_only import NamesOnlyFileSystem
from ego4dfs.filesystem.os_errors import as_os_errors
from ego4dfs.filesystem.read_many import ReadMany
from ego4dfs.filesystem.whole_files import complete_or_absent
from ego4dfs.runtime.deadline import CLOSE_S
from ego4dfs.vfs import VFS, BatchReads
from ego4dfs.vfs.ranges import read_file

_Pair = tuple[str, Any]


class GetMany(ReadMany):
    """The methods of Ego4DFileSystem that copy files to disk."""

    def get_file(self, rpath: str, lpath: Any = None, *args: Any, **kwargs: Any) -> None:
        """Copy one file to disk as fsspec does; its name appears when all bytes are there."""
        if not _is_path(lpath) or kwargs.get("outfile") is not None or self.isdir(rpath):
            super().get_file(rpath, lpath, *args, **kwargs)
            return
        with complete_or_absent(os.fspath(lpath)) as place:
            super().get_file(rpath, place, *args, **kwargs)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,  # noqa: FBT001, FBT002
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files to disk, 64 at a time; the paths and names are those of fsspec.

        An unknown object of up to 1 MiB costs one GET request. A file is written as it arrives, so
        each one takes 1 MiB of memory, and gets its name when it is complete. If several files have
        one target, the last one is copied. Raises the first error that occurs, once the other
        copies have ended without a file, or after CLOSE_S. The calls of `callback`, in any thread,
        are one at a time if the targets are paths.
        """
        names = _Pairs(self.vfs)
        names.get(rpath, lpath, recursive=recursive, maxdepth=maxdepth, **kwargs)
        pairs = [(source, target) for target, source in names.found.items()]
        callback.set_size(len(pairs))
        copies = _Copies(self, callback)
        source = self._looked_up(BatchReads(self.vfs), pairs)
        found = ahead_of_caller(source, copies.copy, ordered=False, max_bytes=1, close_s=CLOSE_S)
        try:
            for _, error in found:
                if error is not None:
                    raise error
                with copies.lock:
                    callback.relative_update()
        finally:
            copies.stop()
            found.close()
            self.vfs.session.facts.flush()


class _Pairs(NamesOnlyFileSystem):
    """Finds out what `get` copies, by fsspec's own rules: `found` has the source of each target."""

    def __init__(self, vfs: VFS) -> None:
        super().__init__(vfs)
        self.found: dict[Any, str] = {}

    def get_file(self, rpath: str, lpath: Any, **_: Any) -> None:
        self.found.pop(lpath, None)
        self.found[lpath] = self._strip_protocol(rpath)


class _Copies:
    """Copies files for one call of `get`, each in a thread."""

    def __init__(self, fs: GetMany, callback: Callback) -> None:
        self._fs = fs
        self._callback = callback
        self._is_stopped = False
        self.lock = threading.Lock()  # held for each call of a callback

    def stop(self) -> None:
        """Let copies that are not complete end without a file."""
        self._is_stopped = True

    def copy(self, pair: _Pair, reserve: Reserve) -> None:
        """Copy one file."""
        del reserve  # a buffer of one block for each thread is little
        if self._is_stopped:
            return
        source, target = pair
        with self._child(source, target) as child:
            if not _is_path(target) or self._fs.isdir(source):
                self._fs.get_file(source, target, callback=child)
                return
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)  # noqa: PTH103, PTH120
            with complete_or_absent(target) as place, open(place, "wb") as file:  # noqa: PTH123
                self._write(source, file, child)

    def _write(self, source: str, file: Any, child: Callback) -> None:
        def opened(size: int) -> None:
            with self.lock:
                child.set_size(size)

        with as_os_errors(source):
            for chunk in read_file(self._fs.vfs, source, BLOCK_SIZE, opened):
                file.write(chunk)
                with self.lock:
                    child.relative_update(len(chunk))
                if self._is_stopped:
                    raise InterruptedError("another file could not be copied")

    @contextmanager
    def _child(self, source: str, target: Any) -> Iterator[Callback]:
        with self.lock:
            child = self._callback.branched(source, target)
            child.__enter__()
        try:
            yield child
        finally:
            with self.lock:
                child.__exit__(None, None, None)


def _is_path(target: Any) -> bool:
    return isinstance(target, str | os.PathLike)
