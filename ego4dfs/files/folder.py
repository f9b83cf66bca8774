"""Directories by descriptor (`openat`), safe from symbolic links that other users created there.

Each file is opened relative to a descriptor. A link is followed only if it leads to a directory,
because a dataset may be on another disk, and if the user, root, or the owner of the top directory
created it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ego4dfs.files.best_effort import optional_call

HIDDEN = ".ego4dfs"
"""Name of the directory for incomplete files, in each directory of copies; no data has it."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 10
_TEMPORARY = re.compile(r".+\.[0-9a-f]{8}\.(new|link)", re.DOTALL)
_UNFINISHED_S = 86400.0  # no file takes longer to write

Content = bytes | Iterable[bytes]
"""What is written to a file: all at once, or in pieces, which need not be in memory together."""


def pieces_of(content: Content) -> Iterable[bytes]:
    """Return the pieces of `content`."""
    return (content,) if isinstance(content, bytes) else content


class Folder:
    """One directory. Safe from several threads. Errors are OSErrors with the full path."""

    def __init__(self, descriptor: int, path: Path, owners: frozenset[int]) -> None:
        """Take over an open descriptor; follow links below it that a user of `owners` created."""
        self.path = path
        self._fd = descriptor
        self._owners = owners
        self._lock = threading.Lock()  # guards the hidden directory's descriptor
        self._hidden: Folder | None = None
        self._removed: list[Folder] = []

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Open a directory that the user named; links in its path are followed."""
        descriptor = os.open(path, _DIRECTORY)
        owners = frozenset({0, os.geteuid(), os.fstat(descriptor).st_uid})
        return cls(descriptor, path, owners)

    def __enter__(self) -> Folder:  # noqa: PYI034 - typing.Self is 3.11
        """Return self; the end of the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory and its hidden one, and remove that if it is empty.

        It is removed here only: others may use its descriptor until then.
        """
        if self._hidden is not None:
            self._hidden.close()
            self.remove_hidden()
        for folder in self._removed:
            folder.close()
        os.close(self._fd)

    def below(self, relative: str, *, make: bool = False) -> Folder:
        """Open a directory below this one, name by name; with `make` create missing ones."""
        first, *rest = [name for name in relative.split("/") if name] or ["."]
        folder = self._step(first, make=make)
        if not rest:
            return folder
        with folder:
            return folder.below("/".join(rest), make=make)

    def create(self, name: str) -> int:
        """Create a file and return its descriptor; the umask determines its mode."""
        with self._named(name):
            return os.open(name, _NEW, 0o666, dir_fd=self._fd)

    def open(self, name: str) -> int:
        """Open a file for reading and writing, unless it is a link or has another hard link."""
        with self._named(name):
            descriptor = os.open(name, _OLD, dir_fd=self._fd)
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
                return descriptor
            os.close(descriptor)
            raise OSError(errno.EEXIST, "is not a file of ego4dfs")

    def open_or_create(self, name: str) -> int:
        """Open a file for reading and writing; create it if there is none."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                return self.open(name)
            with suppress(FileExistsError):
                return self.create(name)
        return self.open(name)

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of a file, or of a link itself; None if there is none."""
        with self._named(name):
            try:
                return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def rename(self, name: str, folder: Folder, new_name: str) -> None:
        """Rename a file, also into another directory; replaces a file of the new name."""
        with folder._named(new_name):
            os.rename(name, new_name, src_dir_fd=self._fd, dst_dir_fd=folder._fd)

    def set_aside(self, name: str, ending: str) -> str:
        """Rename a file to an unused name, its own with `ending`; return the new name."""
        aside, number = f"{name}{ending}", 1
        while self.status(aside) is not None:
            number += 1
            aside = f"{name}{ending}~{number}"
        self.rename(name, self, aside)
        return aside

    def remove(self, name: str) -> None:
        """Remove a file, or a link itself, if there is one."""
        with self._named(name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def set_mtime(self, name: str, mtime_ns: int) -> int | None:
        """Set the mtime of a file if the filesystem allows it; return the mtime it has then.

        Returns None if there is no file. A link is not changed; the mtime is that of its target.
        """
        found = self.status(name)
        if found is None:
            return None
        if stat.S_ISREG(found.st_mode):
            with self._named(name), optional_call("to set times"):
                times = (mtime_ns, mtime_ns)
                os.utime(name, ns=times, dir_fd=self._fd, follow_symlinks=False)
        with self._named(name):
            return os.stat(name, dir_fd=self._fd).st_mtime_ns

    def sync(self) -> None:
        """Sync the names in the directory to disk."""
        with optional_call("to sync directories"):
            os.fsync(self._fd)

    def hidden(self, *, make: bool = False) -> Folder:
        """Return the hidden directory; it is opened once, and closed with this one."""
        with self._lock:
            if self._hidden is None:
                self._hidden = self.below(HIDDEN, make=make)
            return self._hidden

    def names(self) -> list[str]:
        """Return the names in the directory. Raises OSError."""
        return os.listdir(self._fd)  # noqa: PTH208 - a descriptor

    def hidden_names(self) -> list[str]:
        """Return the names of the files in the hidden directory; [] if there is none."""
        try:
            return self.hidden().names()
        except FileNotFoundError:
            return []

    def create_hidden(self, name: str, *, replace: bool = True) -> tuple[Folder, int]:
        """Create a file in the hidden directory; return directory and descriptor.

        A file of this name is replaced, or with `replace=False` raises FileExistsError.
        """
        for _ in range(_TRIES):
            try:
                hidden = self.hidden(make=True)
            except FileNotFoundError:  # another process removed it before it was opened
                continue
            try:
                return hidden, hidden.create(name)
            except FileExistsError:
                if not replace:
                    raise
                hidden.remove(name)
            except FileNotFoundError:
                self._forget_hidden(hidden)
        path = self.path / HIDDEN
        # Where it exists, the name cannot be created: exfat-fuse has this error for `a:b`.
        number = errno.EINVAL if path.is_dir() else errno.ENOENT
        raise OSError(number, os.strerror(number), str(path / name))

    def hide(self, name: str, new_name: str) -> None:
        """Move a file into the hidden directory, under `new_name`."""
        for _ in range(_TRIES):
            hidden = self.hidden(make=True)
            try:
                self.rename(name, hidden, new_name)
            except FileNotFoundError:
                if self.status(name) is None:
                    raise
                self._forget_hidden(hidden)
            else:
                return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / HIDDEN))

    def _forget_hidden(self, hidden: Folder) -> None:
        """Open the hidden directory again at the next use: another process removed it.

        The descriptor stays open until `close`, because another thread may be using it.
        """
        with self._lock:
            if self._hidden is hidden:
                self._hidden = None
                self._removed.append(hidden)

    def remove_hidden(self) -> None:
        """Remove the hidden directory if it is empty."""
        with suppress(OSError):
            os.rmdir(HIDDEN, dir_fd=self._fd)

    def write_atomic(self, name: str, content: Content, *, mtime_ns: int = 0) -> None:
        """Write a temporary file in the hidden directory, sync it, and rename it to `name`.

        Its mode is that of the umask. A filesystem that cannot sync files is accepted.
        """
        temporary = _temporary(name, "new")
        hidden, descriptor = self.create_hidden(temporary, replace=False)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.writelines(pieces_of(content))
                file.flush()
                with optional_call("to sync files"):
                    os.fsync(descriptor)
            if mtime_ns:
                hidden.set_mtime(temporary, mtime_ns)
            hidden.rename(temporary, self, name)
        finally:
            hidden.remove(temporary)

    def remove_unfinished(self, older_than_s: float = _UNFINISHED_S) -> None:
        """Remove temporary files of `write_atomic` and `link_from` in processes that were killed.

        They are known by their names and their age. One that cannot be removed is left.
        """
        before_s = time.time() - older_than_s
        with suppress(OSError):
            for name in filter(_TEMPORARY.fullmatch, self.hidden_names()):
                found = self.hidden().status(name)
                if found is not None and found.st_ctime < before_s:  # the mtime may be set
                    self.hidden().remove(name)

    def link_from(self, name: str, folder: Folder) -> None:
        """Create a hard link to a file of another directory; replaces a file of that name here."""
        temporary = _temporary(name, "link")
        hidden = self.hidden(make=True)
        with self._named(name):
            ends = {"src_dir_fd": folder._fd, "dst_dir_fd": hidden._fd}  # noqa: SLF001 - its own class
            try:
                os.link(name, temporary, follow_symlinks=False, **ends)
                hidden.rename(temporary, self, name)
            finally:
                hidden.remove(temporary)  # rename does nothing if both are links to one file

    def _step(self, name: str, *, make: bool) -> Folder:
        path = self.path / name
        with self._named(name):
            try:
                descriptor = self._enter(name)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):
                    os.mkdir(name, 0o777, dir_fd=self._fd)
                descriptor = self._enter(name)
        return Folder(descriptor, path, self._owners)

    def _enter(self, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            return self._follow(name)

    def _follow(self, name: str) -> int:
        """Open the directory that a link leads to, if one of the owners created the link."""
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            found = os.fstat(link)
            if not stat.S_ISLNK(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if found.st_uid not in self._owners:
                whose = f"is a link that another user made (uid {found.st_uid})"
                raise OSError(errno.ELOOP, f"{whose}; it is not followed")
            return os.open(os.readlink("", dir_fd=link), _DIRECTORY, dir_fd=self._fd)
        finally:
            os.close(link)

    def _named(self, name: str) -> _Named:
        """Return a context that adds the full path to an OSError."""
        return _Named(self.path, name)


def _temporary(name: str, ending: str) -> str:
    """Return a name that no other process has: process ids are equal in two containers."""
    return f"{name}.{secrets.token_hex(4)}.{ending}"


class _Named:
    """Adds the full path to an OSError; a class, because each small file uses a dozen."""

    __slots__ = ("_directory", "_name")

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(self._directory / self._name), None


class Folders:
    """The directories below one root, each opened once. Safe from several threads."""

    def __init__(self, root: Path) -> None:
        """Open directories below `root`, which must exist."""
        self._lock = threading.Lock()  # guards `_open`
        self._open: dict[str, Folder] = {"": Folder.at(root)}

    def folder(self, relative: str) -> Folder:
        """Return a directory by its path below the root; create it if there is none."""
        with self._lock:
            found = self._open.get(relative)
            if found is None:
                found = self._open[relative] = self._open[""].below(relative, make=True)
            return found

    def split(self, path: str) -> tuple[Folder, str]:
        """Split the path of a file below the root into its directory and its name."""
        directory, _, name = path.rpartition("/")
        return self.folder(directory), name

    def close(self) -> None:
        """Remove empty hidden directories, and close all directories."""
        with self._lock:
            for folder in self._open.values():
                folder.remove_hidden()
                folder.close()
            self._open.clear()
