"""The private file that leads a browser to an address with a token, and files of dead processes."""

from __future__ import annotations

import fcntl
import html
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_NAME = "ego4dfs-browse-{}.html"
_PAGE = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={}">\n'
_SNAPS = (Path("/snap/bin"), Path("/var/lib/snapd/snap/bin"))


@contextmanager
def redirect_file(url: str, cache_dir: Path) -> Iterator[Path]:
    """Yield a file that only this user can read and that leads to `url`; remove it at the end.

    It is locked meanwhile, so that another process knows that it is in use. Files of processes that
    were killed are removed. Raises OSError.
    """
    directories = _directories(cache_dir)
    for directory in directories:
        _remove_dead(directory)
    path, fd = _created(directories)
    try:
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
            file.write(_PAGE.format(html.escape(url)))
            file.flush()
            yield path
    finally:
        path.unlink(missing_ok=True)


def _directories(cache_dir: Path) -> list[Path]:
    """Return where the file may be, the best one first.

    A browser that is a snap, as in Ubuntu, has its own /tmp, and sees no hidden directory of the
    home directory: the cache is one. The address cannot be an argument instead, even with a code
    that counts once: all users see arguments, and another one could be first.
    """
    found = [cache_dir]
    if any(directory.is_dir() for directory in _SNAPS):
        with suppress(RuntimeError):  # this user has no home directory
            found.insert(0, Path.home())
    return found


def _created(directories: list[Path]) -> tuple[Path, int]:
    """Return a new file, locked. Raises the error of the last directory."""
    for directory in directories[:-1]:
        with suppress(OSError):
            return _locked(directory)
    return _locked(directories[-1])


def _locked(directory: Path) -> tuple[Path, int]:
    while True:
        path = directory / _NAME.format(secrets.token_hex(8))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a filesystem without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # else another process took it for one of a dead process
            return path, fd
        os.close(fd)


def _remove_dead(directory: Path) -> None:
    """Remove the files that no process has locked."""
    for path in directory.glob(_NAME.format("?" * 16)):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)  # as locks on NFS need
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError as error:  # it is in use
            log.debug("%s: %s", path, error)
        finally:
            os.close(fd)
