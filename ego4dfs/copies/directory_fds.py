"""The directories of copies by descriptors, so that a mount over them does not hide them.

A symbolic link to a directory, such as a dataset on another disk, is followed if it existed at the
start, before a mount could be its target. As for prefetch, the user, root, or the owner of the
root directory must have created it. Other links are not followed: one could lead into the mount
itself, which would then wait for its own answer.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DEPTH = 3  # v2/components/videos
_NOT_FOLLOWED = (errno.ENOTDIR, errno.ELOOP)


class Directories:
    """Directories below one root, each opened once and kept open. Safe from several threads.

    `report` is called for links that are not followed, with (path, reason).
    """

    def __init__(self, root: Path, report: Callable[[str, str], None]) -> None:
        """Open the root and the targets of links to directories below it. Raises OSError."""
        self._report = report
        self._lock = threading.Lock()  # guards the table
        self._open: dict[str, int] = {"": os.open(root, _OPEN)}
        self._owners = frozenset({0, os.geteuid(), os.fstat(self._open[""]).st_uid})
        self._follow_links("", _DEPTH)

    def below(self, directory: str) -> int:
        """Return the descriptor of a directory, opened name by name. Raises OSError."""
        known = self._open.get(directory)
        if known is not None:
            return known
        if not directory:
            raise OSError(errno.EBADF, "the directory of copies is closed")
        parent, _, name = directory.rpartition("/")
        try:
            descriptor = os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=self.below(parent))
        except OSError as error:
            if error.errno in _NOT_FOLLOWED:
                self._report(
                    directory, "is a link that did not exist at the start, or not a directory"
                )
            elif error.errno != errno.ENOENT:
                self._report(directory, f"cannot be opened ({error.strerror})")
            raise
        return self._keep(directory, descriptor)

    def subdirectories(self, directory: str) -> list[str]:
        """Return the paths of the directories in one, without hidden ones; [] on an error."""
        try:
            with os.scandir(self.below(directory)) as entries:
                names = sorted(entry.name for entry in entries if _may_be_directory(entry))
        except OSError:
            return []
        return [f"{directory}/{name}" if directory else name for name in names]

    def close(self) -> None:
        """Close all descriptors."""
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    def _keep(self, directory: str, descriptor: int) -> int:
        with self._lock:
            first = self._open.setdefault(directory, descriptor)
        if first != descriptor:  # another thread opened it, too
            os.close(descriptor)
        return first

    def _follow_links(self, directory: str, depth: int) -> None:
        """Open the links below a directory, down to `depth` levels."""
        try:
            descriptor = self.below(directory)
            with os.scandir(descriptor) as entries:
                found = [(e.name, e.is_symlink()) for e in entries if _may_be_directory(e)]
        except OSError:
            return  # reported, or removed
        for name, is_link in found:
            path = f"{directory}/{name}" if directory else name
            if is_link:
                self._follow(path, name, descriptor)
            if depth > 1:
                self._follow_links(path, depth - 1)

    def _follow(self, path: str, name: str, parent: int) -> None:
        owner = os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid
        if owner not in self._owners:
            self._report(path, f"is a link that another user made (uid {owner})")
            return
        try:
            self._keep(path, os.open(name, _OPEN, dir_fd=parent))
        except OSError as error:
            self._report(path, f"is a link that cannot be followed ({error.strerror})")


def _may_be_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a directory, or a link that may lead to one."""
    if entry.name.startswith("."):
        return False
    try:
        return entry.is_dir() or (entry.is_symlink() and not entry.is_file())
    except OSError:
        return True
