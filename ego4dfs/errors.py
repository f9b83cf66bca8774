"""The exceptions that ego4dfs raises, and the errno of each.

    Ego4DError
    ├── ConfigError            change the command line, the config file or the environment
    ├── ManifestError          a manifest.csv cannot be used at all
    ├── CacheError             the cache directory cannot be used
    ├── MountError             the mountpoint or FUSE cannot be used
    ├── OutputError            copies or a clip cannot be written: directory, disk, or it exists
    ├── NotFound               the tree has no such path
    ├── MediaError             a video has no index, or a feature file no tensor, that can be used
    └── StoreError             one object could not be fetched
        ├── AccessDenied       refused: not licensed, not published, or missing
        │   └── CredentialsRejected   the key itself is expired, unknown or missing
        ├── ObjectMissing      S3 says the object does not exist
        ├── ObjectChanged      the object is not the requested version
        └── StoreUnavailable   no usable answer in time: network, time-out, 5xx

`str(error)` is one line that says what is wrong and where; `error.hint` is the remedy. Passwords in
URLs are masked and unprintable characters escaped in both, because names come from outside.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ego4dfs.text import masked, printable


class Ego4DError(Exception):
    """Base of all errors; `hint` is what the user can do, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(printable(masked(message)))
        self.hint = printable(masked(hint))


class ProcessLimit(BlockingIOError):  # noqa: N818 - the name of the limit
    """No process or thread can be started.

    File operations raise the same errno, EAGAIN, for other reasons.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(errno.EAGAIN, message or os.strerror(errno.EAGAIN))


@contextmanager
def starting_process() -> Iterator[None]:
    """Raise ProcessLimit if the block, which starts a process, fails with EAGAIN."""
    try:
        yield
    except BlockingIOError as error:
        raise ProcessLimit from error


class ConfigError(Ego4DError):
    """A flag, config key or environment variable has an invalid value."""


class ManifestError(Ego4DError):
    """A manifest.csv cannot be parsed."""


class CacheError(Ego4DError):
    """The cache directory cannot be created, read or written."""


class MountError(Ego4DError):
    """The mountpoint, the kernel's FUSE or libfuse cannot be used."""


class OutputError(Ego4DError):
    """A directory for copies or a file cannot be written, is in use, or exists; or disk full."""


class NotFound(Ego4DError):  # noqa: N818 - the field's word
    """The tree has no such path."""


class MediaError(Ego4DError):
    """A video has no usable index: it is no MP4, damaged, fragmented, or beyond a limit.

    Or a feature file (`.pt`) holds no tensor of numbers.
    """


class StoreError(Ego4DError):
    """One object, `url`, could not be fetched from the store."""

    def __init__(self, message: str, *, url: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.url = url


class AccessDenied(StoreError):  # noqa: N818 - S3's own word
    """The store refuses access to this object with this key."""


class CredentialsRejected(AccessDenied):
    """The store rejects the key itself: expired, unknown, wrong secret, or missing."""


class ObjectMissing(StoreError):  # noqa: N818 - a state of the store
    """The store says that the object does not exist."""


class ObjectChanged(StoreError):  # noqa: N818 - a state of the store
    """The object is not the version whose ETag was requested."""


class StoreUnavailable(StoreError):  # noqa: N818 - a state of the store
    """No usable answer in time: connection refused or cut, time-out, throttled, or 5xx."""


_Error = TypeVar("_Error", bound=BaseException)


def detach(error: _Error) -> _Error:
    """Remove what an exception that is kept refers to: its traceback and its context; return it.

    A traceback refers to frames, and those to buffers of MiBs, often in a cycle with the exception.
    Only a full garbage collection frees a cycle, and a mount has few. An exception that is none of
    ours is left as it is: its traceback is needed.
    """
    if isinstance(error, Ego4DError):
        error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def renewed(error: _Error) -> _Error:
    """Return an equal exception, to raise one that is kept: the kept one gets no traceback."""
    if not isinstance(error, Ego4DError):
        return error
    other = type(error).__new__(type(error), *error.args)
    other.__dict__.update(error.__dict__)
    return other


_ERRNOS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, errno.ENOENT),
    (ObjectMissing, errno.ENOENT),
    (AccessDenied, errno.EACCES),
    (ObjectChanged, errno.ESTALE),
    (NotADirectoryError, errno.ENOTDIR),
    (IsADirectoryError, errno.EISDIR),
    (UnicodeDecodeError, errno.ENOENT),  # no path of the tree has such bytes
)


FEW_INODES = "this disk has room, but hardly any inodes are left for more files (see `df -i`)"
_FEW = 100  # an error is reported after what it left half written is removed
_ROOM_BYTES = 1 << 20


def os_error_text(error: OSError) -> str:
    """Return the words for an error of the system as a part of a line: "permission denied".

    A disk without inodes has no space either, for the system, though `df` shows some.
    """
    name = error.filename
    is_named = isinstance(name, (str, os.PathLike)) and Path(name).is_absolute()
    if error.errno == errno.ENOSPC and is_named:
        for directory in Path(name).parents:
            with suppress(OSError, ValueError):  # of what was half written, nothing may be left
                return FEW_INODES if lacks_inodes(directory) else _words(error)
    return _words(error)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def lacks_inodes(directory: str | os.PathLike[str]) -> bool:
    """Return whether a disk has room, but can hardly have more files. Raises OSError."""
    disk = os.statvfs(directory)
    has_room = disk.f_bavail * disk.f_frsize >= _ROOM_BYTES
    return has_room and disk.f_files > 0 and 0 <= disk.f_favail < _FEW  # some count none: -1, or 0


def errno_of(error: Exception) -> int:
    """Return the errno of an error, for the mount and for fsspec; EIO if no other one fits."""
    for kind, number in _ERRNOS:
        if isinstance(error, kind):
            return number
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO
