"""Reads of many files at a time, a range of each or all bytes, as methods of the filesystem."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from fsspec.spec import AbstractFileSystem

from ego4dfs.errors import ConfigError
from ego4dfs.filesystem.ahead_of_caller import Reserve, ahead_of_caller
from ego4dfs.filesystem.os_errors import as_os_errors
from ego4dfs.vfs import VFS, BatchReads

MAX_BYTES = 256 << 20
_ON_ERROR = ("raise", "return", "omit")
_LOOKED_UP = 256  # files, by one query

Item = TypeVar("Item")
AnyRange = TypeVar("AnyRange", bound=Sequence[Any])


class ReadMany(AbstractFileSystem):  # type: ignore[misc]
    """The methods of Ego4DFileSystem that read many files."""

    @property
    def vfs(self) -> VFS:
        """The VFS that is read."""
        raise NotImplementedError

    def cat(
        self,
        path: Any,
        recursive: bool = False,  # noqa: FBT001, FBT002
        on_error: str = "raise",
        **kwargs: Any,
    ) -> Any:
        """Return the bytes of a file, or a dict of them by path, read as `read_many` does.

        `path` is one path, a glob pattern, or a list of them; with `recursive`, all files below it.
        With `start` and `end`, those are the bytes of the range in each file. `on_error` is that of
        `read_many`, for files of a dict.
        """
        start, end = kwargs.pop("start", None), kwargs.pop("end", None)
        paths = self.expand_path(path, recursive=recursive, **kwargs)
        if isinstance(path, str | os.PathLike) and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], start, end)
        if recursive:
            paths = [one for one in paths if not self.isdir(one)]
        found = self.read_many([(one, start, end) for one in paths], on_error=on_error)
        return {item[0]: data for item, data in found}

    def read_many(
        self,
        ranges: Iterable[AnyRange],
        *,
        ordered: bool = True,
        on_error: str = "raise",
        max_bytes: int = MAX_BYTES,
    ) -> Iterator[tuple[AnyRange, Any]]:
        """Yield ranges of many files with their bytes, read by many requests at a time.

        A range is a sequence (path, start, stop, ...), as a slice has start and stop: None is the
        start or the end of the file. It is yielded as it is, with `bytes`: in the given order, or
        as they come if not `ordered`. An object of which nothing is known costs one GET request;
        no other file is read ahead. Up to 256 ranges are read ahead of the caller, which take
        `max_bytes` at most; a longer one is read when it is next. Beside them, 64 threads hold at
        most 1 MiB each.

        The error of a range is raised when it would be yielded, and ends the iteration; or it is
        yielded in place of the bytes (`on_error="return"`), or the range is left out ("omit").
        Raises ConfigError for other arguments.
        """
        check_on_error(on_error)
        if max_bytes < 1:
            raise ConfigError(f"max_bytes={max_bytes}: it must be at least 1")
        found = self._read_many(ranges, ordered=ordered, max_bytes=max_bytes)
        return handled(found, on_error)

    def _read_many(
        self, ranges: Iterable[AnyRange], *, ordered: bool, max_bytes: int
    ) -> Generator[tuple[AnyRange, Any]]:
        vfs, pid = self.vfs, os.getpid()
        reads = BatchReads(vfs)
        source, read = self._looked_up(reads, ranges), partial(self._read, reads)
        try:
            yield from ahead_of_caller(source, read, ordered=ordered, max_bytes=max_bytes)
        finally:
            if os.getpid() == pid:  # in a forked child, another thread may hold its lock for ever
                vfs.session.facts.flush()

    def _read(self, reads: BatchReads, item: Sequence[Any], reserve: Reserve) -> bytes:
        path, start, stop = item[:3]
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return reads.read(path, start, stop, reserve)

    def _looked_up(self, reads: BatchReads, items: Iterable[AnyRange]) -> Iterator[AnyRange]:
        source = iter(items)
        while some := list(itertools.islice(source, _LOOKED_UP)):
            reads.look_up(self._strip_protocol(item[0]) for item in some)
            yield from some


def check_on_error(on_error: str) -> None:
    """Raise ConfigError for a value that `read_many` does not take."""
    if on_error not in _ON_ERROR:
        raise ConfigError(f"on_error={on_error!r}: it is one of {', '.join(_ON_ERROR)}")


def handled(found: Generator[tuple[Item, Any]], on_error: str) -> Iterator[tuple[Item, Any]]:
    """Yield what was found, and raise, yield or leave out an Exception that is in its place.

    `found` is closed at the end: the traceback of an error keeps it alive.
    """
    with closing(found):
        for item, data in found:
            if isinstance(data, Exception):
                if on_error == "raise":
                    raise data
                if on_error == "omit":
                    continue
            yield item, data
