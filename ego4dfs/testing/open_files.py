"""Open files of the faces under test, and the calls that read from each of them."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ego4dfs.errors import Ego4DError, errno_of
from ego4dfs.vfs import VFS


class PageFaultError(OSError):
    """A page of a mapping could not be read; the kernel reports no cause (SIGBUS, or EFAULT)."""


ReadAt = Callable[[int, int], bytes]
"""Called with offset and size; returns the bytes that exist there."""


class OpenFile(Protocol):
    """An open file of a face. `ways` are the calls that read from it, by name."""

    @property
    def size(self) -> int:
        """The size that the open reported."""

    @property
    def ways(self) -> Mapping[str, ReadAt]:
        """The calls that read from this file, by name."""

    def close(self) -> None:
        """Close it."""


class VFSFile:
    """A handle of a VFS, and both of its calls to read."""

    def __init__(self, vfs: VFS, path: str) -> None:
        """Open a path."""
        with as_os_errors(path):
            self._handle = vfs.open(path)
        self._vfs, self._path = vfs, path
        self.size = self._handle.size
        self.ways: Mapping[str, ReadAt] = {"read": self._read, "read_into": self._read_into}

    def close(self) -> None:
        """Do nothing: handles of a VFS hold no resource."""

    def _read(self, offset: int, size: int) -> bytes:
        with as_os_errors(self._path):
            return self._vfs.read(self._handle, offset, size)

    def _read_into(self, offset: int, size: int) -> bytes:
        buffer = bytearray(size)
        with as_os_errors(self._path):
            count = self._vfs.read_into(self._handle, offset, memoryview(buffer))
        return bytes(buffer[:count])


class Descriptor:
    """A file descriptor, and the system calls that read from it.

    Each call is repeated until it returns nothing or fails, as `pread_all` does.
    """

    def __init__(self, path: Path) -> None:
        """Open a path."""
        self._fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._fd).st_size
        self.ways: Mapping[str, ReadAt] = {
            "pread": self._pread,
            "preadv": self._preadv,
            "lseek and read": self._seek_and_read,
            "mmap": self._mmap,
            "pread without cached pages": self._pread_uncached,
        }

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def _pread(self, offset: int, size: int) -> bytes:
        return pread_all(self._fd, size, offset)

    def _pread_uncached(self, offset: int, size: int) -> bytes:
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return self._pread(offset, size)

    def _preadv(self, offset: int, size: int) -> bytes:
        return _until_end(size, lambda done: self._preadv_once(offset + done, size - done))

    def _preadv_once(self, offset: int, size: int) -> bytes:
        first, second = bytearray(size // 3), bytearray(size - size // 3)
        count = os.preadv(self._fd, [first, second], offset)
        return bytes(first + second)[:count]

    def _seek_and_read(self, offset: int, size: int) -> bytes:
        os.lseek(self._fd, offset, os.SEEK_SET)
        return _until_end(size, lambda done: os.read(self._fd, size - done))

    def _mmap(self, offset: int, size: int) -> bytes:
        """Map the file, and write the mapping to memory: a page that fails is EFAULT, no SIGBUS."""
        if not os.fstat(self._fd).st_size:
            return b""
        copy = os.memfd_create("copy")
        try:
            with (
                mmap.mmap(self._fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped,
                memoryview(mapped) as whole,
                whole[offset : offset + size] as view,
            ):
                _write_all(copy, view)
            return os.pread(copy, size, 0)
        finally:
            os.close(copy)


def pread_all(fd: int, size: int, offset: int) -> bytes:
    """Return all bytes of [offset, offset + size) that exist: the kernel may return fewer.

    It does so if an error follows, which the next call raises.
    """
    return _until_end(size, lambda done: os.pread(fd, size - done, offset + done))


def _until_end(size: int, read: Callable[[int], bytes]) -> bytes:
    data = b""
    while len(data) < size and (piece := read(len(data))):
        data += piece
    return data


def _write_all(fd: int, view: memoryview) -> None:
    done = 0
    try:
        while done < len(view):
            done += os.write(fd, view[done:])
    except OSError as error:
        if error.errno == errno.EFAULT:
            raise PageFaultError(errno.EIO, "a page of the mapping cannot be read") from None
        raise


class FsspecFile:
    """A file object of fsspec, and its calls to read."""

    def __init__(self, file: Any) -> None:
        """Read from `file`, which is open."""
        self._file = file
        self.size: int = file.size
        self.ways: Mapping[str, ReadAt] = {
            "seek and read": self._seek_and_read,
            "readinto": self._readinto,
        }

    def close(self) -> None:
        """Close the file object."""
        self._file.close()

    def _seek_and_read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data: bytes = self._file.read(size)
        return data

    def _readinto(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        buffer = bytearray(size)
        return bytes(buffer[: self._file.readinto(buffer)])


class ReadByPath:
    """A file that each read opens and closes."""

    def __init__(self, read: Callable[[str, int, int], bytes], path: str) -> None:
        """Call `read` of a face."""
        self.size = 0
        self.ways: Mapping[str, ReadAt] = {"read": partial(read, path)}

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def as_os_errors(path: str) -> Iterator[None]:
    """Raise errors of ego4dfs as OSErrors with their errnos."""
    try:
        yield
    except Ego4DError as error:
        raise OSError(errno_of(error), str(error), path) from error
