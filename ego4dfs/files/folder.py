"""A directory by its descriptor: what is made, renamed or removed in it is there and nowhere else.

Others may write in a directory of copies, and may plant links there. So each file is opened
relative to a descriptor, and no link is followed but those of directories that the user, root or
the owner of the whole directory has made: a dataset that lies on another disk.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from ego4dfs.files.optional_calls import optional_call

HIDDEN = ".ego4dfs"
"""The directory for files under way, in each directory of copies; no data has this name."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 10


class Folder:
    """One directory. Safe from several threads. Raises OSError that names the whole path."""

    def __init__(self, descriptor: int, path: Path, owners: frozenset[int]) -> None:
        """Own an open descriptor; links that a user of `owners` made are followed below it."""
        self.path = path
        self._fd = descriptor
        self._owners = owners
        self._lock = threading.Lock()  # guards the hidden directory's descriptor
        self._hidden: Folder | None = None
        self._removed: list[Folder] = []

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Open a directory that the user named, links in its path included."""
        descriptor = os.open(path, _DIRECTORY)
        owners = frozenset({0, os.geteuid(), os.fstat(descriptor).st_uid})
        return cls(descriptor, path, owners)

    def __enter__(self) -> Folder:  # noqa: PYI034 - typing.Self is 3.11
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory, and of its hidden one."""
        hidden = [self._hidden] if self._hidden is not None else []
        for folder in (*hidden, *self._removed):
            folder.close()
        os.close(self._fd)

    def below(self, relative: str, *, make: bool = False) -> Folder:
        """Open a directory below this one, step by step, and with `make` create what is missing."""
        first, *rest = [name for name in relative.split("/") if name] or ["."]
        folder = self._step(first, make=make)
        if not rest:
            return folder
        with folder:
            return folder.below("/".join(rest), make=make)

    def create(self, name: str) -> int:
        """Make a new file and return its descriptor; modes are those that the umask allows."""
        with self._named(name):
            return os.open(name, _NEW, 0o666, dir_fd=self._fd)

    def open(self, name: str) -> int:
        """Open a file for reading and writing, unless it is a link or has another name too."""
        with self._named(name):
            descriptor = os.open(name, _OLD, dir_fd=self._fd)
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
                return descriptor
            os.close(descriptor)
            raise OSError(errno.EEXIST, "is not a file of ego4dfs")

    def open_or_create(self, name: str) -> int:
        """Open a file for reading and writing, and make it if there is none."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                return self.open(name)
            with suppress(FileExistsError):
                return self.create(name)
        return self.open(name)

    def status(self, name: str) -> os.stat_result | None:
        """Return what lies at a name, links not followed; None where nothing does."""
        with self._named(name):
            try:
                return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def rename(self, name: str, folder: Folder, new_name: str) -> None:
        """Give a file another name, here or in another directory; a file of that name goes."""
        with folder._named(new_name):
            os.rename(name, new_name, src_dir_fd=self._fd, dst_dir_fd=folder._fd)

    def set_aside(self, name: str, ending: str) -> str:
        """Give a file another name, one that nothing has: its own with `ending`; return it."""
        aside, number = f"{name}{ending}", 1
        while self.status(aside) is not None:
            number += 1
            aside = f"{name}{ending}~{number}"
        self.rename(name, self, aside)
        return aside

    def remove(self, name: str) -> None:
        """Remove a file, if there is one; of a link the link itself."""
        with self._named(name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def date(self, name: str, mtime_ns: int) -> int | None:
        """Set a file's time where that is allowed, and return the time that it has then.

        None where there is no file. A link is left as it is, and the time is that of its target.
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
        """Bring the names in the directory to the disk."""
        with optional_call("to sync directories"):
            os.fsync(self._fd)

    def hidden(self, *, make: bool = False) -> Folder:
        """Return the hidden directory, opened once for all files and closed with this one."""
        with self._lock:
            if self._hidden is None:
                self._hidden = self.below(HIDDEN, make=make)
            return self._hidden

    def hidden_names(self) -> list[str]:
        """Return the names of the files in the hidden directory, if there is one."""
        try:
            return os.listdir(self.hidden()._fd)  # noqa: PTH208, SLF001 - a descriptor of its own class
        except FileNotFoundError:
            return []

    def create_hidden(self, name: str) -> tuple[Folder, int]:
        """Make a file anew in the hidden directory; return that directory and the descriptor."""
        for _ in range(_TRIES):
            hidden = self.hidden(make=True)
            try:
                with suppress(FileExistsError):
                    return hidden, hidden.create(name)
                hidden.remove(name)
                return hidden, hidden.create(name)
            except FileNotFoundError:
                self._forget_hidden(hidden)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / HIDDEN))

    def _forget_hidden(self, hidden: Folder) -> None:
        """Open the hidden directory anew next time: somebody found it empty and removed it.

        It is not closed yet, as another thread may be using the descriptor.
        """
        with self._lock:
            if self._hidden is hidden:
                self._hidden = None
                self._removed.append(hidden)

    def remove_hidden(self) -> None:
        """Remove the hidden directory if nothing is in it."""
        with suppress(OSError):
            os.rmdir(HIDDEN, dir_fd=self._fd)

    def write_atomic(self, name: str, content: bytes, *, mtime_ns: int = 0) -> None:
        """Write a temporary file in the hidden directory, sync it, and rename it to `name`.

        Its mode is that of the umask. A filesystem that cannot sync files is accepted.
        """
        temporary = f"{name}.{os.getpid()}.new"
        hidden, descriptor = self.create_hidden(temporary)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(content)
                file.flush()
                with optional_call("to sync files"):
                    os.fsync(descriptor)
            if mtime_ns:
                hidden.date(temporary, mtime_ns)
            hidden.rename(temporary, self, name)
        finally:
            hidden.remove(temporary)
        self.remove_hidden()

    def share(self, name: str, folder: Folder) -> None:
        """Give a file of another directory a second name in this one; a file of that name goes."""
        temporary = f"{name}.{os.getpid()}.link"
        with self.below(HIDDEN, make=True) as hidden, self._named(name):
            hidden.remove(temporary)
            ends = {"src_dir_fd": folder._fd, "dst_dir_fd": hidden._fd}  # noqa: SLF001 - its own class
            try:
                os.link(name, temporary, follow_symlinks=False, **ends)
                hidden.rename(temporary, self, name)
            finally:
                hidden.remove(temporary)  # where both were one file, rename does nothing
        self.remove_hidden()

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
        """Open the directory that a link leads to, if somebody made it who may."""
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
        """Have errors name the whole path."""
        return _Named(self.path, name)


class _Named:
    """Has an OSError name a whole path; a class, for a dozen are made for each small file."""

    __slots__ = ("_directory", "_name")

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(self._directory / self._name), None


class Folders:
    """The directories below one root, each opened once. Safe from several threads."""

    def __init__(self, root: Path) -> None:
        """Open them below `root`, which is there."""
        self._lock = threading.Lock()  # guards what is open
        self._open: dict[str, Folder] = {"": Folder.at(root)}

    def folder(self, relative: str) -> Folder:
        """Return a directory by its path below the root, made if there is none."""
        with self._lock:
            found = self._open.get(relative)
            if found is None:
                found = self._open[relative] = self._open[""].below(relative, make=True)
            return found

    def split(self, path: str) -> tuple[Folder, str]:
        """Return the directory of a file by its path below the root, and the file's name."""
        directory, _, name = path.rpartition("/")
        return self.folder(directory), name

    def close(self) -> None:
        """Remove hidden directories that are empty, and let go of all."""
        with self._lock:
            for folder in self._open.values():
                folder.remove_hidden()
                folder.close()
            self._open.clear()
