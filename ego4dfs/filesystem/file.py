"""Ego4DFile: an open file of the fsspec filesystem, read through the VFS."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.filesystem.os_errors import as_os_errors
from ego4dfs.vfs import Handle

_FIRST_FILL_BYTES = 16 << 10  # after a seek; PART_SIZE is a multiple of it


class Ego4DFile(io.BufferedReader):
    """An open file: one version of an object, which is read as a buffered local file is.

    Reads of more than `PART_SIZE` bytes go around the buffer, so `readinto` copies once. The buffer
    is filled to the end of a part at most: it makes no request that the read itself does not make.
    Has the attributes of fsspec's files too. Safe from several threads, as `io.BufferedReader` is.
    """

    blocksize = BLOCK_SIZE
    """What readers of blocks should read at a time, in bytes."""
    autocommit = True

    def __init__(self, fs: AbstractFileSystem, path: str, handle: Handle) -> None:
        """Read `handle` of the VFS of `fs`."""
        self.fs = fs
        self.path = path
        self.size = handle.size
        super().__init__(_RawFile(fs, path, handle), max(1, min(PART_SIZE, handle.size)))

    @property
    def closed(self) -> bool:
        """Whether the file is closed. Caches of fsspec set it to True after `close`."""
        return super().closed

    @closed.setter
    def closed(self, value: bool) -> None:
        if value:
            super().close()

    @property
    def name(self) -> str:
        """The name that a library has given it; at first there is none, as it is no local path."""
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value

    @property
    def loc(self) -> int:
        """The position, as `tell` gives it."""
        return self.tell()

    @property
    def full_name(self) -> str:
        """The path with its protocol."""
        return str(self.fs.unstrip_protocol(self.path))

    @cached_property
    def details(self) -> dict[str, Any]:
        """What `fs.info` says of the path."""
        found: dict[str, Any] = self.fs.info(self.path)
        return found

    def info(self) -> dict[str, Any]:
        """Return `details`."""
        return self.details

    def read1(self, size: int = -1, /) -> bytes:
        """Return some bytes, from one read of the VFS at most; text files are read by this."""
        if 0 < size < PART_SIZE:
            self.peek(1)  # io.BufferedReader would read `size` bytes, and buffer none
        return super().read1(size)

    def readuntil(self, char: bytes = b"\n", blocks: int | None = None) -> bytes:
        """Return the bytes up to and with the next `char`, or to the end of the file.

        `blocks` is how many bytes are searched at a time.
        """
        found = bytearray()
        while part := self.read(blocks or _FIRST_FILL_BYTES):
            searched = max(0, len(found) - len(char) + 1)
            found += part
            at = found.find(char, searched)
            if at >= 0:
                stop = at + len(char)
                self.seek(stop - len(found), os.SEEK_CUR)
                return bytes(found[:stop])
        return bytes(found)

    def commit(self) -> None:
        """Do nothing: nothing was written."""

    discard = commit

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Ego4DFile], tuple[Any, ...]]:
        """Pickle as the path and the position: the copy opens the file anew."""
        return _reopen, (self.fs, self.path, self.tell())

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Return bytes [start, end): fsspec's `blockcache` calls this."""
        raw: _RawFile = self.raw  # type: ignore[assignment]
        return raw.read_range(start, end)


AbstractBufferedFile.register(Ego4DFile)  # libraries test for it


class _RawFile(io.RawIOBase):
    """A handle of the VFS, with a position."""

    mode = "rb"

    def __init__(self, fs: AbstractFileSystem, path: str, handle: Handle) -> None:
        """Begin at position 0."""
        self._fs = fs
        self._path = path
        self._handle = handle
        self._position = 0
        self._filled_to = 0  # where the last fill of a buffer ended
        self._fill_bytes = _FIRST_FILL_BYTES

    def readable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, which may be after the end, and return it."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._handle.size}
        if whence not in base:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if base[whence] + offset < 0:
            raise ValueError("seek before the start of the file")
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer without a copy, and return the number of bytes.

        A buffer of at most `PART_SIZE` bytes may get fewer than it could: after a seek few are
        needed, and none of the next part.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        if len(view) <= PART_SIZE:
            view = view[: self._next_fill()]
        with as_os_errors(self._path):
            count: int = self._fs.vfs.read_into(self._handle, self._position, view)
        self._position += count
        self._filled_to = self._position
        return count

    def readall(self) -> bytes:
        """Return the bytes from the position to the end."""
        self._check_open()
        data = self.read_range(self._position, max(self._position, self._handle.size))
        self._position += len(data)
        return data

    def read_range(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop), and leave the position."""
        with as_os_errors(self._path):
            data: bytes = self._fs.vfs.read(self._handle, start, stop - start)
        return data

    def _next_fill(self) -> int:
        """Return how many bytes to read into a buffer: more, the longer a run is sequential."""
        is_sequential = self._position == self._filled_to
        grown = 4 * self._fill_bytes if is_sequential and self._position else _FIRST_FILL_BYTES
        self._fill_bytes = min(PART_SIZE, grown)
        return self._fill_bytes - self._position % self._fill_bytes

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")


def _reopen(fs: AbstractFileSystem, path: str, position: int) -> Ego4DFile:
    file: Ego4DFile = fs.open(path)
    file.seek(position)
    return file
